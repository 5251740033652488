"""Which device a command runs on."""

from __future__ import annotations

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
