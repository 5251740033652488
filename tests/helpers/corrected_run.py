"""The checkpoint of a run with correctives, without a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mofa_nvdr.face.correctives import CorrectedFaceModel
from mofa_nvdr.face.model_reference import ModelReference
from mofa_nvdr.networks.encoder import Encoder
from mofa_nvdr.runs.build import encoder_spec, make_encoder
from mofa_nvdr.runs.checkpoint import checkpoint_path, save_checkpoint
from mofa_nvdr.scene.camera import Camera
from tests.helpers.symmetric_face import symmetric_face
from tests.helpers.training import small_config


def corrected_run(folder: Path, observed: int = 3) -> tuple[Path, CorrectedFaceModel, Encoder]:
    """A run folder, its face model of both levels, and its encoder in evaluation mode.

    Args:
        folder: gets base.safetensors and run/.
        observed: batches whose codes the model has seen.
    """
    base, file = symmetric_face(regions=True), folder / "base.safetensors"
    base.save(file)
    changes: dict[str, Any] = {"encoder.network": "compact"}
    config = small_config(str(file), folder / "run", **changes)
    model = CorrectedFaceModel(base, 3, 2)
    torch.manual_seed(0)
    encoder = make_encoder(config, model.layout).eval()
    for part in encoder.head.parts.values():
        torch.nn.init.normal_(part.weight, std=0.02)
        torch.nn.init.normal_(part.bias, std=0.2)
    with torch.no_grad():
        model.shape_correctives.mul_(1.3)
        encoder.head.scale.mul_(0.5)
        for _ in range(observed):
            model.observe(model.layout.unpack(encoder(torch.rand(8, 3, 64, 64))))
    run = folder / "run"
    run.mkdir()
    spec = encoder_spec(config, encoder, ModelReference.of(base, str(file)), Camera(64))
    facts = {"step": 7, "encoder": spec.to_json(), "sampler": {"num_train": 12}}
    save_checkpoint(checkpoint_path(run, 7), encoder, None, facts, correctives=model)
    return run, model, encoder
