"""The encoder of another run, for one that begins with it (`--init`)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.face.correctives import CorrectedFaceModel
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.networks.encoder import Encoder
from mofa_nvdr.networks.weights import first_names
from mofa_nvdr.runs.checkpoint import CORRECTIVES, find_checkpoint, read_checkpoint, spec_of
from mofa_nvdr.runs.options import ConfigError, TrainConfig
from mofa_nvdr.scene.camera import Camera

_MORE = "encoder/trunk.refinements."  # of CompactDeep


def read_initial(
    config: TrainConfig, encoder: Encoder, model: FaceModel, camera: Camera
) -> tuple[Path, int, dict[str, Tensor]]:
    """The checkpoint that encoder.init names, once it is certain that the encoder can take it.

    Args:
        config: of the new run.
        encoder: of the new run, with any weights.
        model: what the new run's codes are of.
        camera: of the new run: an encoder without an input size sees what it sees.

    Returns:
        The file, its step, and the tensors of its encoder, for checkpoint.restore_encoder: weights, running
        averages and output scales; and what its face model learned. Of an encoder of the base level the
        outputs for correctives are zero.

    Raises:
        ValueError: not there, not readable, or of another network, input size, code or face model; the
            message says what the new run would have to be.
    """
    given = config.encoder.init
    path = find_checkpoint(given, "--init")
    tensors, metadata = read_checkpoint(path)
    spec = spec_of(path, metadata, tensors)
    size, own_size = spec.input_size or spec.camera.size[0], encoder.input_size or camera.size[0]
    begins_as = getattr(encoder.trunk, "BEGINS_AS", config.encoder.network)
    if spec.trunk not in (config.encoder.network, begins_as) or size != own_size:
        way_out = f"--encoder.network {spec.trunk} " + (
            f"--encoder.size {size}" if spec.input_size else f"--data.image-size {size}"
        )
        raise ConfigError(
            f"--init {given}: its encoder is {spec.trunk} at {size} px, this run's "
            f"{config.encoder.network} at {own_size} px; give {way_out}"
        )
    # A run of the base level, for one that learns correctives on top of it.
    below = isinstance(model, CorrectedFaceModel) and spec.layout == model.base_layout
    learned = {name: value for name, value in tensors.items() if name.startswith(CORRECTIVES)}
    if spec.layout != encoder.layout and learned:
        counts = (len(learned[f"{CORRECTIVES}{part}_correctives"]) for part in ("shape", "albedo"))
        way_out = " ".join(f"--correctives.{p} {n}" for p, n in zip(("shape", "albedo"), counts))
        raise ConfigError(
            f"--init {given}: it has learned correctives; give {way_out}, or the encoder of `mofa-nvdr model "
            "from-run` with its face model"
        )
    if spec.layout != encoder.layout and not below:
        theirs, ours = (
            ", ".join(f"{count} {part}" for part, count in list(layout.sizes.items())[:3])
            for layout in (spec.layout, encoder.layout)
        )
        raise ConfigError(
            f"--init {given}: its code has {theirs}, this face model's {ours}; give its own as "
            "--face-model"
        )
    spec.face_model.check(model, f"--init {given}: its codes are of")
    found = {name: value for name, value in tensors.items() if name.startswith("encoder/")}
    if spec.trunk != config.encoder.network:  # what the other network lacks begins as the identity
        own = {f"encoder/{name}": value for name, value in encoder.state_dict().items()}
        found = {**{k: v for k, v in own.items() if k.startswith(_MORE)}, **found}
    if below and spec.layout != encoder.layout:
        found = _widened(encoder, found, spec.layout)
    differences = _differences(encoder, found)
    if differences:
        raise ConfigError(
            f"--init {given}: {path.name} is not a {spec.trunk} that this version can read "
            f"({differences})"
        )
    return path, int(metadata["step"]), found | learned


def _widened(encoder: Encoder, found: dict[str, Tensor], layout: CodeLayout) -> dict[str, Tensor]:
    """Tensors of an encoder of the base level's layout with the new one's outputs behind them, still zero."""
    own = {f"encoder/{name}": value.cpu() for name, value in encoder.state_dict().items()}
    result = dict(found)
    for part in ("shape", "albedo"):
        for kind in ("weight", "bias"):
            name = f"encoder/head.parts.{part}.{kind}"
            if name in found and found[name].shape[1:] == own[name].shape[1:]:
                result[name] = torch.cat([found[name], own[name][len(found[name]) :]])
    scale = own["encoder/head.scale"].clone()
    for part, place in layout.slices.items():
        start = encoder.layout.slices[part].start
        scale[start : start + place.stop - place.start] = found["encoder/head.scale"][place]
    return result | {"encoder/head.scale": scale}


def _differences(encoder: Encoder, found: dict[str, Tensor]) -> str:
    """What a checkpoint lacks, or has in another shape, in a few words; empty: nothing."""
    own = {f"encoder/{name}": value.shape for name, value in encoder.state_dict().items()}
    wrong = [name for name in own if name not in found or found[name].shape != own[name]]
    wrong += [name for name in found if name not in own]
    return f"{len(wrong)} other weights: {first_names(wrong)}" if wrong else ""
