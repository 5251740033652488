"""Which device a command runs on."""

from __future__ import annotations

import ctypes
import os
import sys

import torch

from mofa_nvdr.dr.context import has_nvdiffrast

DEVICES = ("auto", "cpu", "cuda")


def resolve_device(name: str) -> torch.device:
    """The device of "auto", "cpu" or "cuda"; only "auto" may choose the CPU by itself.

    Raises:
        ValueError: another name.
        RuntimeError: "cuda" where torch sees no CUDA GPU.
    """
    if name not in DEVICES:
        raise ValueError(f"--device is {name!r}, expected one of {', '.join(DEVICES)}")
    if name == "auto":
        usable = torch.cuda.is_available() and has_nvdiffrast()
        return torch.device("cuda" if usable else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("--device cuda: torch sees no CUDA GPU here; use --device auto or cpu")
    return torch.device(name)


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
