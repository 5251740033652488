"""What a run with corrective modes has learned, as an ordinary face model and an encoder of its codes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mofa_nvdr.apply.translated_encoder import translated_head
from mofa_nvdr.face.code_map import PartMap
from mofa_nvdr.face.correctives import CorrectedFaceModel
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.face.model_reference import ModelReference
from mofa_nvdr.runs.checkpoint import (
    CORRECTIVES,
    CheckpointError,
    find_checkpoint,
    read_checkpoint,
    restore_encoder,
    spec_of,
    write_checkpoint,
)
from mofa_nvdr.system.budget import words_of
from mofa_nvdr.system.files import check_model_out
from mofa_nvdr.system.notes import say
from mofa_nvdr.system.origins import KEY, check_free, content_hash, origin

_ENCODER = "_encoder.safetensors"


def save_learned_model(
    run: str | Path,
    out: str | Path,
    face_model: str = "",
    licence: str = "",
    name: str = "",
    overwrite: bool = False,
) -> tuple[FaceModel, Path]:
    """Write the face model of a run with correctives, and its encoder.

    Modes behind those of the base model have the size of one deviation of their coefficient over the latest
    batches of the training, and the mean is in the mean face, as in any face model; the encoder's last layer
    is changed to match, so that a photograph's face is the same.

    Args:
        run: run folder, whose newest checkpoint is taken, or checkpoint.
        out: .safetensors file of the face model; the encoder is next to it, as OUT_encoder.safetensors.
        face_model: that was corrected, as FaceModel.load takes it; empty: where the run says.
        licence: of the photographs: a note in the file.
        name: of the model; empty: the file's.
        overwrite: replace files that are there, whatever they were made from.

    Returns:
        The model, and the encoder's path.

    Raises:
        ValueError: no checkpoint, one that has learned no correctives yet, or `out` is no .safetensors file
            in a folder, or another's.
        OSError: the folder cannot be written.
    """
    path = Path(out)
    check_model_out(path)
    source = find_checkpoint(run, "model from-run")
    tensors, metadata = read_checkpoint(source)
    learned = {
        key.removeprefix(CORRECTIVES): value
        for key, value in tensors.items()
        if key.startswith(CORRECTIVES)
    }
    if not learned:
        raise CheckpointError(
            f"{source}: a run without correctives: its face model is the one that it was trained with; train "
            "with --config multi_level"
        )
    spec = spec_of(source, metadata, tensors)
    base, _ = spec.face_model.load(face_model, source.parent, f"{source}: trained with")
    model = _model(source, base, learned)
    if not int(model.batches):
        raise CheckpointError(
            f"{source}: of step {metadata.get('step')}, when its correctives had not begun to learn; train "
            "it on"
        )
    made_from = origin("model from-run", base.hash, content_hash(source), name, licence)
    encoder_path = path.with_name(path.stem + _ENCODER)
    check_free(out, [path, encoder_path], made_from, overwrite)

    title = name or path.stem
    joined = model.joined(_metadata(model, base, metadata, title, licence, made_from))
    joined.save(path)
    # Read again: its hash is of what the file holds.
    joined = FaceModel.load(path)
    found = replace(
        spec, layout=joined.layout, face_model=ModelReference.of(joined, str(path))
    ).to_json()
    kept = {key: value for key, value in tensors.items() if key.startswith("encoder/")}
    kept |= translated_head(kept, _behind(model))
    facts = {"step": metadata.get("step", 0), "encoder": found, KEY: made_from}
    write_checkpoint(encoder_path, kept, facts)
    size = path.stat().st_size / 1e6
    say(
        f"{joined.name} {joined.hash}: {path} ({size:.0f} MB), {len(model.shape_correctives)} correctives of "
        f"geometry and {len(model.albedo_correctives)} of reflectance; its encoder: {encoder_path}"
    )
    return joined, encoder_path


def _model(source: Path, base: FaceModel, learned: dict[str, Tensor]) -> CorrectedFaceModel:
    """Both levels as the run had them."""
    try:
        counts = [len(learned[f"{part}_correctives"]) for part in ("shape", "albedo")]
        model = CorrectedFaceModel(base, *counts)
        restore_encoder(model, learned, "")
    except (KeyError, RuntimeError, TypeError, ValueError) as error:  # edited
        raise CheckpointError(
            f"{source}: not a checkpoint that this version can read ({words_of(error, 300)})"
        ) from error
    return model


def _behind(model: CorrectedFaceModel) -> dict[str, PartMap]:
    """Codes of both levels to those of the joined model: correctives less their mean, in deviations."""
    mean, deviation = model.coefficient_range
    maps = {}
    count = len(model.shape_correctives)
    for part, some in (("shape", slice(count)), ("albedo", slice(count, None))):
        one = torch.ones(model.base_layout.sizes[part])
        factor = torch.cat([one, 1 / deviation[some]])
        offset = torch.cat([0 * one, -mean[some] / deviation[some]])
        maps[part] = PartMap(torch.diag(factor), offset, 0.0)
    return maps


def _metadata(
    model: CorrectedFaceModel,
    base: FaceModel,
    facts: dict[str, Any],
    name: str,
    licence: str,
    made_from: str,
) -> dict[str, str]:
    sampler = facts.get("sampler")
    photographs = sampler.get("num_train") if isinstance(sampler, dict) else None
    seen = f"{photographs} photographs" if photographs else "rendered faces"
    return {
        "name": name,
        "version": "1",
        "licence": licence or "that of the photographs, and of the model that was corrected",
        "source": f"mofa-nvdr model from-run: {len(model.shape_correctives)} correctives of geometry and "
        f"{len(model.albedo_correctives)} of reflectance, learned from {seen} in {facts.get('step')} steps, "
        f"on {base.name} {base.hash} ({base.metadata.get('licence', 'no licence given')})",
        KEY: made_from,
    }
