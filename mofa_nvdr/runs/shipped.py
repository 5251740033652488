"""The encoder that comes with the package: which file it is, and how one is made of a run.

It is a checkpoint like a run's (checkpoint.py), of the encoder alone: weights in half precision, which an
encoder takes as float32, and what is a number a channel as it was. assets/encoder.md says how it was trained.
"""

from __future__ import annotations

import importlib.resources
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from mofa_nvdr import __version__
from mofa_nvdr.networks.on_request import cache_folder
from mofa_nvdr.runs.checkpoint import (
    CheckpointError,
    find_checkpoint,
    read_checkpoint,
    spec_of,
    write_checkpoint,
)
from mofa_nvdr.system.origins import content_hash

SHIPPED_FILE = "encoder.safetensors"
SHIPPED_FACE = "portraits"
"""The face model of its codes."""
_MOST_BYTES = 12_000_000
_SIZE = 240  # px of the crops that its codes are of, as the paper's
_PREFIX = "encoder/"


def shipped_encoder() -> Path:
    """The file of the shipped encoder.

    Raises:
        CheckpointError: this installation has none; the message says what to give instead.
    """
    path = Path(str(importlib.resources.files("mofa_nvdr.assets") / SHIPPED_FILE))
    if not path.is_file():
        raise CheckpointError(
            f"no encoder comes with this installation ({path} is missing); install it again, or give "
            "--checkpoint RUN"
        )
    return path


def shipped_onnx() -> Path:
    """Where the shipped encoder is for ONNX Runtime, once apply.onnx_export has exported it."""
    name = f"encoder-{__version__}-{content_hash(shipped_encoder())[:16]}.onnx"
    return cache_folder() / "encoders" / name


def write_encoder(run: str | Path, path: str | Path) -> int:
    """Make an encoder file of a run, as the package ships one; returns its size in bytes.

    Args:
        run: run folder (its newest checkpoint) or checkpoint file.
        path: .safetensors file, written atomically.

    Raises:
        ValueError: no checkpoint, one of another face model than the shipped one, or weights that half
            precision cannot hold or that take more than 12 MB; nothing is written then.
    """
    source = find_checkpoint(run, "make_encoder")
    tensors, metadata = read_checkpoint(source)
    spec = spec_of(source, metadata, tensors)
    if spec.face_model.name != SHIPPED_FACE:
        raise ValueError(
            f"{source}: trained with face model {spec.face_model}, expected {SHIPPED_FACE}"
        )
    kept = {k: _half(source, k, v) for k, v in tensors.items() if k.startswith(_PREFIX)}
    size = sum(tensor.numel() * tensor.element_size() for tensor in kept.values())
    if size > _MOST_BYTES:
        raise ValueError(
            f"{source}: its encoder takes {size / 1e6:.1f} MB, expected at most "
            f"{_MOST_BYTES / 1e6:.0f} MB; train a lighter network"
        )
    # Pictures are as large as its user expects them; the encoder shrinks what it sees itself.
    spec = replace(spec, camera=spec.camera.resized(_SIZE))
    write_checkpoint(Path(path), kept, {"step": metadata["step"], "encoder": spec.to_json()})
    return Path(path).stat().st_size


def _half(source: Path, name: str, tensor: Tensor) -> Tensor:
    """Matrices and kernels in half precision; averages, biases and scales are few and may be large."""
    if tensor.ndim < 2 or not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    if not torch.isfinite(half).all():
        raise ValueError(f"{source}: {name} has numbers that half precision cannot hold")
    return half
