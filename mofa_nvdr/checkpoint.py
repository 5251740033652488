"""Checkpoints: the whole state of a training run in one .safetensors file, written atomically."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FORMAT = "mofa-nvdr checkpoint 1"
_NAME = re.compile(r"checkpoint-(\d+)\.safetensors")


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or another run's; the message names the file."""


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint after `step` steps lies in a run folder."""
    return folder / f"checkpoint-{step:08d}.safetensors"


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a run folder, oldest first."""
    found = [p for p in folder.glob("checkpoint-*.safetensors") if _NAME.fullmatch(p.name)]
    return sorted(found)


def save_checkpoint(
    path: Path,
    encoder: torch.nn.Module,
    optimizer: torch.optim.Optimizer | None,
    metadata: dict[str, Any],
) -> None:
    """Write weights, optimizer state, torch's random state and JSON metadata; atomic.

    Raises:
        OSError: the folder cannot be written, or the disk is full; an older checkpoint is untouched.
    """
    tensors = {f"encoder/{k}": v.detach().cpu() for k, v in encoder.state_dict().items()}
    if optimizer is not None:
        state = optimizer.state_dict()["state"]
        for index, entries in state.items():
            for key, value in entries.items():
                tensors[f"optimizer/{index}/{key}"] = torch.as_tensor(value).detach().cpu()
    tensors["random/torch"] = torch.get_rng_state()
    tensors = {key: value.contiguous().clone() for key, value in tensors.items()}
    temporary = path.with_name(path.name + ".tmp")
    try:
        save_file(tensors, temporary, {"format": FORMAT, "metadata": json.dumps(metadata)})
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except SafetensorError as error:
        raise OSError(f"{path}: cannot write the checkpoint ({error})") from None
    finally:
        temporary.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a checkpoint.

    Raises:
        CheckpointError: not a readable checkpoint.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint ({error})") from None
    if header.get("format") != FORMAT:
        raise CheckpointError(f"{path}: the file's metadata does not say {FORMAT!r}")
    return tensors, json.loads(header["metadata"])


def find_checkpoint(run: str | Path) -> Path:
    """The newest checkpoint of a run folder, or the file itself.

    Raises:
        CheckpointError: no such file or folder, or a folder without checkpoints.
    """
    path = Path(run)
    if path.is_file():
        return path
    if not path.is_dir():
        raise CheckpointError(f"--checkpoint {run}: no such run folder or checkpoint file")
    found = list_checkpoints(path)
    if not found:
        raise CheckpointError(f"--checkpoint {run}: no checkpoint-*.safetensors in this folder")
    return found[-1]


def restore_encoder(encoder: torch.nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load the encoder's weights and running averages."""
    prefix = "encoder/"
    encoder.load_state_dict(
        {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
    )


def restore_training(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load the optimizer's state and torch's random state."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer/"):
            _, index, key = name.split("/")
            state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    torch.set_rng_state(tensors["random/torch"])
