"""A trained encoder for another face model of the same mesh: its last layer says the other model's codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from mofa_nvdr.face.code_map import PartMap, code_map
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.face.model_reference import ModelReference
from mofa_nvdr.networks.encoder import HEAD_PARTS
from mofa_nvdr.runs.checkpoint import (
    CORRECTIVES,
    CheckpointError,
    find_checkpoint,
    read_checkpoint,
    spec_of,
    write_checkpoint,
)
from mofa_nvdr.runs.shipped import shipped_encoder
from mofa_nvdr.system.files import check_model_out
from mofa_nvdr.system.notes import say
from mofa_nvdr.system.origins import KEY, check_free, content_hash, origin

_HEAD = "encoder/head."


def save_translated_encoder(
    face_model: str | Path,
    out: str | Path,
    run: str | Path = "",
    own_face_model: str = "",
    overwrite: bool = False,
) -> Path:
    """Write an encoder of a face model that was trained with another one of the same mesh.

    The last layer is linear and so is the way from one model's codes to the other's (`face.code_map`), so
    that the network says the nearest face that the other model has; nothing is trained.

    Args:
        face_model: whose codes are wanted, as FaceModel.load takes it.
        out: .safetensors file of the encoder.
        run: run folder (its newest checkpoint) or checkpoint; empty: the encoder that ships with the package.
        own_face_model: the face model of `run`; empty: where it says.
        overwrite: replace a file that is there, whatever it was made from.

    Returns:
        The encoder's path.

    Raises:
        ValueError: no checkpoint, one with correctives, face models of other meshes, or `out` is no
            .safetensors file in a folder, or another's.
        OSError: the folder cannot be written.
    """
    path = Path(out)
    check_model_out(path)
    source = find_checkpoint(run, "--checkpoint") if str(run) else shipped_encoder()
    tensors, metadata = read_checkpoint(source)
    if any(key.startswith(CORRECTIVES) for key in tensors):
        raise CheckpointError(
            f"{source}: a run whose face model learned too; make an ordinary one of it first (mofa-nvdr "
            "model from-run RUN --out MODEL.safetensors) and give MODEL_encoder.safetensors"
        )
    spec = spec_of(source, metadata, tensors)
    own, _ = spec.face_model.load(own_face_model, source.parent, f"{source}: trained with")
    other = FaceModel.load(face_model)
    maps = code_map(own, other)
    made_from = origin("model encoder", own.hash, other.hash, content_hash(source))
    check_free(out, [path], made_from, overwrite)
    spec = replace(
        spec,
        layout=other.layout,
        face_model=ModelReference.of(other, str(face_model)),
    )
    kept = {key: value for key, value in tensors.items() if key.startswith("encoder/")}
    kept |= translated_head(kept, maps)
    facts = {"step": metadata.get("step", 0), "encoder": spec.to_json(), KEY: made_from}
    write_checkpoint(path, kept, facts)
    shape, expression, albedo = (maps[part].left for part in ("shape", "expression", "albedo"))
    say(
        f"{path}: an encoder of {other.name} {other.hash}; of people of {own.name} {own.hash} it leaves "
        f"{shape:.2f} mm of shape, {expression:.2f} mm of expression and {albedo:.3f} of albedo (rms)"
    )
    return path


def translated_head(
    tensors: Mapping[str, Tensor], maps: Mapping[str, PartMap]
) -> dict[str, Tensor]:
    """What changes of an encoder's last layer where some parts of its codes go through affine maps.

    Args:
        tensors: of a checkpoint.
        maps: of parts of HEAD_PARTS.

    Returns:
        The tensors that are others, in the checkpoint's names and number types.
    """
    sizes = [len(tensors[f"{_HEAD}parts.{part}.bias"]) for part in HEAD_PARTS]
    scales = dict(zip(HEAD_PARTS, tensors[f"{_HEAD}scale"].split(sizes)))
    changed = {}
    for part, step in maps.items():
        weight, bias = (tensors[f"{_HEAD}parts.{part}.{name}"] for name in ("weight", "bias"))
        old = scales[part]
        # One unit of the output means what it meant: a part's scale is one number.
        unit = old.mean() if len(old) else old.new_ones(())
        scales[part] = unit.expand(len(step.offset)).clone()
        matrix = step.matrix * (old / unit)
        changed[f"{_HEAD}parts.{part}.weight"] = (matrix @ weight.float()).to(weight.dtype)
        moved = matrix @ bias.float() + step.offset / unit
        changed[f"{_HEAD}parts.{part}.bias"] = moved.to(bias.dtype)
    return changed | {f"{_HEAD}scale": torch.cat([scales[part] for part in HEAD_PARTS])}
