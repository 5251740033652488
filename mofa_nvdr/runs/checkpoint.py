"""Checkpoints: the whole state of a training run in one .safetensors file, written atomically.

Weights, optimizer and the random states of torch, NumPy and Python are tensors; what else a run needs to
resume (the step, the place in the epoch, the best so far) is JSON in the file's header. So are the
facts needed to use the encoder (networks.spec.EncoderSpec), apart from the options of its training.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mofa_nvdr.networks.spec import EncoderSpec
from mofa_nvdr.system.budget import Budget, words_of
from mofa_nvdr.system.files import replacing, replacing_by_library

FORMAT = "mofa-nvdr checkpoint 1"
BEST = "best.safetensors"
CORRECTIVES = "correctives/"
"""How names of what a face model learned begin."""

_NAME = re.compile(r"checkpoint-(\d+)\.safetensors")


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or another run's; the message names the file."""


def checkpoint_path(folder: Path, step: int) -> Path:
    """The file of the checkpoint after `step` steps in a run folder."""
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
    teacher: torch.nn.Module | None = None,
    correctives: torch.nn.Module | None = None,
) -> None:
    """Write weights, optimizer state, the random states and JSON metadata; atomic.

    `teacher`: another encoder that the run depends on, under "teacher/". `correctives`: a face model that
    learns, under "correctives/".

    Raises:
        OSError: the folder cannot be written, or the disk is full; an older checkpoint is untouched.
    """
    tensors = {f"encoder/{k}": v.detach().cpu() for k, v in encoder.state_dict().items()}
    for prefix, more in (("teacher/", teacher), (CORRECTIVES, correctives)):
        if more is not None:
            tensors |= {f"{prefix}{k}": v.detach().cpu() for k, v in more.state_dict().items()}
    if optimizer is not None:
        state = optimizer.state_dict()["state"]
        for index, entries in state.items():
            for key, value in entries.items():
                tensors[f"optimizer/{index}/{key}"] = torch.as_tensor(value).detach().cpu()
    write_checkpoint(path, tensors | _random_states(), metadata)


def write_checkpoint(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and JSON metadata as `read_checkpoint` reads them; atomic.

    Raises:
        OSError: the folder cannot be written, or the disk is full; an older file is untouched.
    """
    tensors = {key: value.contiguous().clone() for key, value in tensors.items()}
    try:
        with replacing_by_library(path) as temporary:
            text = json.dumps(metadata)
            header = {"format": FORMAT, "metadata": text, "crc32": _checksum(tensors, text)}
            save_file(tensors, temporary, header)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
        _sync_folder(path.parent)
    except SafetensorError as error:
        raise OSError(f"{path}: cannot write the checkpoint ({error})") from None


def cycle_path(folder: Path, cycle: int) -> Path:
    """The checkpoint at the end of a cycle of bootstrapping, which stays; 0: before the first one."""
    return folder / f"cycle-{cycle:02d}.safetensors"


def keep_as(path: Path, name: str) -> None:
    """Make another name in its folder the same file as a checkpoint; it stays when the checkpoint goes.

    Raises:
        OSError: the folder cannot be written.
    """
    with replacing(path.with_name(name)) as temporary:
        temporary.unlink(missing_ok=True)
        try:
            os.link(path, temporary)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, temporary)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a checkpoint.

    Raises:
        CheckpointError: not a readable checkpoint, or not the bytes that were written.
    """
    with _opened(path) as file:
        header = file.metadata() or {}
        metadata = _metadata(path, header)
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    # Earlier checkpoints have no checksum.
    if "crc32" in header and header["crc32"] != _checksum(tensors, header["metadata"]):
        raise CheckpointError(f"{path}: not a readable checkpoint (its checksum does not fit)")
    return tensors, metadata


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata of a checkpoint alone.

    Raises:
        CheckpointError: not a readable checkpoint.
    """
    with _opened(path) as file:
        return _metadata(path, file.metadata() or {})


def spec_of(path: Path, metadata: dict[str, Any], tensors: dict[str, Tensor]) -> EncoderSpec:
    """The facts needed to use the encoder of a checkpoint, which was read from `path`.

    Raises:
        CheckpointError: of a newer version, or edited.
    """
    try:
        return EncoderSpec.of_checkpoint(metadata, tensors)
    except (AttributeError, ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a checkpoint that this version can read ({words_of(error)})"
        ) from error


def find_checkpoint(run: str | Path, option: str = "--checkpoint") -> Path:
    """The newest checkpoint of a run folder, or the file itself; messages begin with `option`.

    Raises:
        CheckpointError: no such file or folder, or a folder without checkpoints.
    """
    path = Path(run)
    if path.is_file():
        return path
    if not path.is_dir():
        raise CheckpointError(f"{option} {run}: no such run folder or checkpoint file")
    found = list_checkpoints(path)
    if not found:
        raise CheckpointError(f"{option} {run}: no checkpoint-*.safetensors in this folder")
    return found[-1]


def restore_encoder(
    encoder: torch.nn.Module, tensors: dict[str, Tensor], prefix: str = "encoder/"
) -> None:
    """Load the encoder's weights and running averages; prefix "teacher/": the teacher's."""
    encoder.load_state_dict(
        {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
    )


def restore_training(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load the optimizer's state and the random states.

    Raises:
        ValueError, TypeError, KeyError, RuntimeError, ArithmeticError: they do not fit, or are edited.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer/"):
            _, index, key = name.split("/")
            state.setdefault(int(index), {})[key] = value
    _check_moments(optimizer, state)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    _restore_random_states(tensors)


def _check_moments(optimizer: torch.optim.Optimizer, state: dict[int, dict[str, Tensor]]) -> None:
    """Torch finds out in the middle of the first step that a moment fits no parameter."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, entries in state.items():
        if not 0 <= index < len(parameters):
            raise ValueError(f"optimizer/{index}, but there are {len(parameters)} parameters")
        for key, value in entries.items():
            expected = torch.Size() if key == "step" else parameters[index].shape
            if value.shape != expected or not value.is_floating_point():
                raise ValueError(
                    f"optimizer/{index}/{key} is {value.dtype} {list(value.shape)}, expected floats "
                    f"{list(expected)}"
                )
    kinds = {frozenset(entries) for entries in state.values()}
    if len(kinds) > 1:
        raise ValueError("parts of the optimizer's state are missing")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        Budget(path, error=CheckpointError)
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint ({words_of(error)})") from None


def _metadata(path: Path, header: dict[str, str]) -> dict[str, Any]:
    if header.get("format") != FORMAT:
        raise CheckpointError(f"{path}: the file's metadata does not say {FORMAT!r}")
    try:
        metadata = json.loads(header["metadata"])
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint ({words_of(error)})") from None
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{path}: not a readable checkpoint (its metadata is no table)")
    return metadata


def _checksum(tensors: dict[str, Tensor], metadata: str) -> str:
    """CRC-32 of the bytes of all tensors, in the order of their names, and of the metadata."""
    value = zlib.crc32(metadata.encode("utf-8"))
    for name in sorted(tensors):
        value = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, value)
    return f"{value:08x}"


def _random_states() -> dict[str, Tensor]:
    """The states of the generators that a run may draw from, without a pickle."""
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, words, next_gauss = random.getstate()
    # Both may hold the second half of a pair of normal numbers.
    halves = [has_gauss, gauss, next_gauss is not None, next_gauss or 0.0]
    states = {
        "random/torch": torch.get_rng_state(),
        "random/numpy": torch.tensor([*map(int, keys), position]),
        "random/python": torch.tensor([version, *words]),
        "random/halves": torch.tensor(halves, dtype=torch.float64),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["random/cuda"] = torch.cuda.get_rng_state()
    return states


def _restore_random_states(tensors: dict[str, Tensor]) -> None:
    torch.set_rng_state(tensors["random/torch"])
    if "random/cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random/cuda"])
    if "random/numpy" in tensors:  # an earlier checkpoint has only torch's
        *keys, position = tensors["random/numpy"].tolist()
        version, *words = tensors["random/python"].tolist()
        has_gauss, gauss, has_next, next_gauss = tensors["random/halves"].tolist()
        state = ("MT19937", np.array(keys, np.uint32), position, int(has_gauss), gauss)
        np.random.set_state(state)
        random.setstate((version, tuple(words), next_gauss if has_next else None))


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power failure, if the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
