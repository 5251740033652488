"""Published weights files into a trunk: read without running them, compared key by key."""

from __future__ import annotations

import logging
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mofa_nvdr.networks.trunks import Trunk, VGGFace
from mofa_nvdr.system.budget import Budget, printable, words_of

logger = logging.getLogger(__name__)

_IMAGENET_CLASSES = 1000
_NAMED = 5  # differences of each kind in a message


class _Refused(ValueError):
    """A weights file that is not even opened; one line that names it."""


def load_trunk_weights(trunk: Trunk, path: str | Path) -> None:
    """Fill a trunk from a file with torchvision's keys; its classification layer is left out.

    A classification layer of any size is left out, and a note (logging, level INFO) says so. The
    weights must have been trained with the trunk's input statistics, which no file records; where
    the number of classes shows that they were not (VGG-16 of ImageNet), a warning says so.

    Raises:
        ValueError: the file is missing, unreadable, or its keys or shapes are another network's;
            one line says how many, and names the first of each kind. Of a checkpoint it says to use --init.
    """
    weights = read_weights(path)
    if any(key.startswith("encoder/head.") for key in weights):
        raise ValueError(
            f"{path}: a checkpoint of a run, not the weights of a trunk; --init takes its whole encoder"
        )
    fill_trunk(trunk, weights, path)


def fill_trunk(trunk: Trunk, weights: dict[str, Tensor], path: str | Path) -> None:
    """Fill a trunk from weights with torchvision's keys, as `load_trunk_weights`.

    Raises:
        ValueError: keys or shapes are another network's; `path` begins the message.
    """
    names = getattr(trunk, "OTHER_NAMES", {})
    state = {}
    for key, value in weights.items():
        layer, _, kind = key.rpartition(".")
        state[f"{names.get(layer, layer)}.{kind}" if layer else key] = value
    last_layer = {key: state[key] for key in state if key.startswith(f"{trunk.LAST_LAYER}.")}
    for key in last_layer:
        del state[key]
    own = trunk.state_dict()
    counters = {key for key in own if key.endswith(".num_batches_tracked")}  # old files lack them
    problems = {
        "missing": sorted(own.keys() - state.keys() - counters),
        "unexpected": sorted(state.keys() - own.keys()),
        "of another shape": [
            f"{key} {list(state[key].shape)} instead of {list(own[key].shape)}"
            for key in own
            if key in state and state[key].shape != own[key].shape
        ],
        "not plain numbers": [
            f"{key} ({_kind(state[key])})"
            for key in own
            if key in state and not _is_plain(state[key], like=own[key])
        ],
        # Of those that fit only: an absurd shape must not be walked through.
        "not finite": [
            key
            for key in own
            if key in state
            and state[key].shape == own[key].shape
            and _is_plain(state[key], like=own[key])
            and not state[key].isfinite().all()
        ],
    }
    found = [f"{len(keys)} {kind}: {first_names(keys)}" for kind, keys in problems.items() if keys]
    if found:
        raise ValueError(f"{path}: not the weights of {type(trunk).__name__}; " + "; ".join(found))
    trunk.load_state_dict(state, strict=False)
    if last_layer:
        logger.info(
            "%s: left out the classification layer (%s); the code's last layer starts at zero",
            path,
            ", ".join(f"{key} {list(last_layer[key].shape)}" for key in sorted(last_layer)),
        )
    bias = last_layer.get(f"{trunk.LAST_LAYER}.bias")
    if bias is not None and isinstance(trunk, VGGFace) and len(bias) == _IMAGENET_CLASSES:
        logger.warning(
            "%s: %d classes: these look like ImageNet's weights of VGG-16, but vgg_face gives them "
            "the input that VGG-Face's expect (0 to 255, less the mean face colour)",
            path,
            len(bias),
        )


def first_names(keys: list[str]) -> str:
    """The first of them, and how many there are more."""
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return printable(", ".join(keys[:_NAMED])) + more


def _is_plain(value: Tensor, like: Tensor) -> bool:
    """Whether a tensor is dense and of the right kind: real numbers, or integers for a counter."""
    dense = value.layout == torch.strided and not value.is_quantized and not value.is_meta
    return (
        dense and value.is_floating_point() == like.is_floating_point() and not value.is_complex()
    )


def _kind(value: Tensor) -> str:
    words = [] if value.layout == torch.strided else [str(value.layout)]
    return " ".join([*words, str(value.dtype)]).replace("torch.", "")


def read_weights(path: str | Path, entry: str | None = None) -> dict[str, Tensor]:
    """The tensors of a .safetensors, .pth or .pt file by name; no pickled code is run.

    Args:
        path: the file.
        entry: the part of a checkpoint of several networks that is wanted; None: the file is one network's.

    Raises:
        ValueError: missing, unreadable, without that entry, or with other things in it.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such weights file")
    try:
        Budget(path, error=_Refused)
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        elif path.suffix in (".pth", ".pt"):
            _check_container(path)
            with warnings.catch_warnings():
                # torch's doubts about other pickles; whether it could read one shows in what follows.
                warnings.filterwarnings("ignore", "Detected pickle protocol")
                state = torch.load(path, map_location="cpu", weights_only=True)
        else:
            raise _Refused(f"{path}: unknown kind of weights file, expected .safetensors or .pth")
    except _Refused:
        raise
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: cannot read the weights: {words_of(error)}") from error
    except Exception as error:  # torch.load raises whatever zip, pickle and its own reader raise
        raise ValueError(
            f"{path}: not a file of plain tensors, or damaged ({type(error).__name__})"
        ) from error
    if entry is not None:
        if not isinstance(state, dict) or entry not in state:
            held = ", ".join(map(str, state)) if isinstance(state, dict) else type(state).__name__
            raise ValueError(f"{path}: no entry {entry!r} in this file; it holds {printable(held)}")
        state = state[entry]
    if not isinstance(state, dict) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()
    ):
        raise ValueError(
            f"{path}: expected a state dict (names to tensors), got {type(state).__name__}"
            " with other things in it; save `network.state_dict()`"
        )
    return dict(state)


def _check_container(path: Path) -> None:
    """Refuse what torch.load would unpack beyond the file's own bytes, or to another place on the disk.

    Raises:
        ValueError: neither torch's archive nor a pickle, or an archive whose members are compressed.
    """
    with open(path, "rb") as file:
        start = file.read(2)
    if start == b"PK":
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            budget = Budget(path, error=_Refused)
            budget.members(len(members))
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise _Refused(f"{path}: its members are compressed, which torch does not write")
            budget.take("the archive", sum(member.file_size for member in members))
    elif start[:1] != b"\x80":  # torch unpacks old tar archives into a folder of their choice
        raise _Refused(f"{path}: not a file of plain tensors, or damaged")
