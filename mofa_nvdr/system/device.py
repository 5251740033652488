"""Which device a command runs on."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

from mofa_nvdr.dr.context import has_nvdiffrast

_Method = TypeVar("_Method", bound=Callable[..., Any])


def resolve_device(name: str) -> torch.device:
    """The device of "auto", "cpu", "cuda" or "cuda:N"; only "auto" may choose the CPU by itself.

    Raises:
        ValueError: another name. "mps" is one: the decoder does not run there.
        RuntimeError: a CUDA GPU that torch does not see.
    """
    if name == "mps" or name.startswith("mps:"):
        raise ValueError(
            f"--device {name}: the decoder runs on CPUs and CUDA GPUs only; give --device cpu (in a program "
            'the encoder alone may be there, its codes come back with code.to("cpu"))'
        )
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", name):
        raise ValueError(f"--device is {name!r}, expected auto, cpu, cuda or cuda:N")
    if name == "auto":
        usable = torch.cuda.is_available() and has_nvdiffrast()
        return torch.device("cuda" if usable else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(
            f"--device {name}: torch sees no CUDA GPU here; use --device auto or cpu"
        )
    if device.index is not None and device.index >= (count := torch.cuda.device_count()):
        raise RuntimeError(
            f"--device {name}: torch sees {count} CUDA {'GPU' if count == 1 else 'GPUs'} here, from cuda:0 on"
        )
    return device


def multiplies_bfloat16() -> bool:
    """Whether this machine's CPU has instructions for products of bfloat16; False where torch can't tell."""
    tell: Callable[[], dict[str, Any]] = getattr(
        torch.cpu, "get_capabilities", dict
    )  # not in every torch
    capabilities = tell()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def make_current(device: torch.device) -> None:
    """Let "cuda:N" be what torch means by "cuda": its random state and its memory are asked for without N."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


def without_autocast(kind: str) -> contextlib.AbstractContextManager[object]:
    """A block that computes in its tensors' own numbers, inside of torch.autocast too.

    Args:
        kind: the device's type, "cpu" or "cuda".
    """
    # Only where it is on: exporters can't trace the switch.
    if kind not in ("cpu", "cuda") or not torch.is_autocast_enabled(kind):
        return contextlib.nullcontext()
    return torch.autocast(kind, enabled=False)


def in_full_precision(method: _Method) -> _Method:
    """A method or function that computes on its first tensor's device without autocast.

    The tensor may be in a dataclass.

    Geometry in millimetres and positions in pixels need more than the three digits of bfloat16.
    """

    @functools.wraps(method)
    def call(*args: Any, **more: Any) -> Any:
        given = [*args, *more.values()]
        held = [part for value in given[1:] for part in getattr(value, "__dict__", {}).values()]
        tensors = (t for t in [*given, *held] if isinstance(t, torch.Tensor))
        # What is no tensor is for the method itself to refuse.
        device = next((t.device.type for t in tensors), "cpu")
        with without_autocast(device):
            return method(*args, **more)

    return cast(_Method, call)


def peak_memory() -> int:
    """Most bytes of memory that this process has had so far; 0 where the system doesn't tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10  # Linux counts in KiB


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed memory for the next allocation; whether it will.

    By default every large tensor is requested from the system again, which clears it page by page: a third of
    a training step of AlexNet on a CPU (docs/benchmarks.md). For programs of our own, since the whole
    process is affected. Settings in the environment (MALLOC_*, GLIBC_TUNABLES) stay.
    """
    own = [name for name in os.environ if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES"]
    if own or sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    trim_threshold, mmap_max = -1, -4  # of malloc.h
    return bool(mallopt(trim_threshold, -1) and mallopt(mmap_max, 0))
