"""Which device a command runs on, and its memory."""

from __future__ import annotations

import os

import pytest
import torch

from mofa_nvdr.system import device


class TestResolveDevice:
    @pytest.mark.parametrize(
        ("gpu", "nvdiffrast", "auto"),
        [(False, True, "cpu"), (True, False, "cpu"), (True, True, "cuda")],
    )
    def test_auto_needs_both(self, monkeypatch, gpu, nvdiffrast, auto):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(device, "has_nvdiffrast", lambda: nvdiffrast)
        assert device.resolve_device("auto") == torch.device(auto)
        assert device.resolve_device("cpu") == torch.device("cpu")

    def test_what_is_asked_for_is_not_replaced(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(device, "has_nvdiffrast", lambda: False)
        assert device.resolve_device("cuda") == torch.device("cuda")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(
            RuntimeError, match="--device cuda: torch sees no CUDA GPU here; use --de"
        ):
            device.resolve_device("cuda")

    @pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", ""])
    def test_unknown(self, name):
        with pytest.raises(
            ValueError, match=f"--device is '{name}', expected auto, cpu, cuda or cuda:N"
        ):
            device.resolve_device(name)

    def test_one_of_several_gpus(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        assert device.resolve_device("cuda:1") == torch.device("cuda", 1)
        with pytest.raises(
            RuntimeError, match="--device cuda:2: torch sees 2 CUDA GPUs here, from c"
        ):
            device.resolve_device("cuda:2")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(
            RuntimeError, match="--device cuda:1: torch sees no CUDA GPU here; use -"
        ):
            device.resolve_device("cuda:1")

    @pytest.mark.parametrize("name", ["mps", "mps:0"])
    def test_what_runs_where_on_a_mac(self, name):
        with pytest.raises(
            ValueError,
            match=f"--device {name}: the decoder runs on CPUs and CUDA GPUs only; give -",
        ):
            device.resolve_device(name)


def test_the_current_gpu(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for name in ("cpu", "cuda", "cuda:1"):
        device.make_current(torch.device(name))
    assert chosen == [torch.device("cuda", 1)]


class _Doubler:
    """Products of matrices, as autocast would do them, by tensor or by dataclass."""

    @device.in_full_precision
    def product(self, a, b):
        a = a if isinstance(a, torch.Tensor) else a.real
        return a @ b


class TestAutocast:
    def test_off_inside(self):
        a = torch.ones(3, 3)
        holder = type("Holder", (), {})()
        holder.real = a
        with torch.autocast("cpu", torch.bfloat16):
            assert (a @ a).dtype == torch.bfloat16
            with device.without_autocast("cpu"):
                assert (a @ a).dtype == torch.float32
            assert (a @ a).dtype == torch.bfloat16
            assert _Doubler().product(a, a).dtype == torch.float32
            assert _Doubler().product(a=a, b=a).dtype == torch.float32
            assert _Doubler().product(holder, a).dtype == torch.float32
            with device.without_autocast("meta"):  # has no autocast
                pass
        assert _Doubler.product.__name__ == "product"

    def test_what_is_no_tensor_reaches_the_method(self):
        with pytest.raises(AttributeError, match="'str' object has no attribute 'real'"):
            _Doubler().product("a", 1)
        with pytest.raises(TypeError, match="missing 2 required positional arguments"):
            _Doubler().product()

    def test_nothing_is_switched_where_it_is_off(self, monkeypatch):
        """Exporters trace the encoder, and cannot trace the switch."""

        def fail(*_, **__):
            raise AssertionError

        monkeypatch.setattr(torch, "autocast", fail)
        with device.without_autocast("cpu"):
            pass


class TestMemory:
    def test_freed_memory_is_kept_unless_the_user_decides(self, monkeypatch):

        called = []

        class Library:
            def mallopt(self, parameter, value):
                called.append((parameter, value))
                return 1

        monkeypatch.setattr(device.ctypes, "CDLL", lambda _: Library())
        monkeypatch.setattr(device.sys, "platform", "linux")
        for name in [n for n in os.environ if n.startswith("MALLOC_") or n == "GLIBC_TUNABLES"]:
            monkeypatch.delenv(name)
        assert device.keep_freed_memory()
        assert called == [(-1, -1), (-4, 0)]
        monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
        assert not device.keep_freed_memory() and len(called) == 2
        monkeypatch.delenv("MALLOC_ARENA_MAX")
        monkeypatch.setattr(device.ctypes, "CDLL", lambda _: object())
        assert not device.keep_freed_memory()
        assert device.peak_memory() > 100 << 20  # torch alone is more
