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

    @pytest.mark.parametrize("name", ["gpu", "cuda:0", ""])
    def test_unknown(self, name):
        with pytest.raises(
            ValueError, match=f"--device is '{name}', expected one of auto, cpu, cuda"
        ):
            device.resolve_device(name)


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
