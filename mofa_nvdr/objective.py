"""What a training step minimises: encoder -> code -> decoder -> losses.mofa_loss, by the configuration."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mofa_nvdr.config import TrainConfig
from mofa_nvdr.data.sampling import Batch
from mofa_nvdr.decoder import FaceDecoder
from mofa_nvdr.encoder import Encoder, build_encoder
from mofa_nvdr.face_code import CodeLayout
from mofa_nvdr.face_model import FaceModel
from mofa_nvdr.losses import (
    LossWeights,
    code_distance,
    landmark_alignment,
    mofa_loss,
    photometric_raster,
    photometric_vertex,
)
from mofa_nvdr.stages import StageClock


def make_encoder(config: TrainConfig, layout: CodeLayout) -> Encoder:
    """The configured encoder with its output scales."""
    scale = {
        "shape": config.scale_shape,
        "expression": config.scale_expression,
        "albedo": config.scale_albedo,
        "rotation": config.scale_rotation,
        "translation_xy": config.scale_xy,
        "translation_z": config.scale_z,
        "light": config.scale_light,
    }
    size: int | str = config.encoder_size or "default"
    return build_encoder(config.encoder, layout, config.encoder_weights or None, scale, size)


def make_decoder(config: TrainConfig, model: FaceModel) -> FaceDecoder:
    """The configured decoder; with render_mode "both" its own mode is "raster"."""
    return FaceDecoder(
        model,
        config.image_size,
        "raster" if config.render_mode == "both" else config.render_mode,
        config.raster_gradient,
        outline="edges" if config.outline_gradient else "none",
    )


def loss_terms(
    config: TrainConfig,
    encoder: nn.Module,
    decoder: FaceDecoder,
    batch: Batch,
    step: int,
    clock: StageClock | None = None,
) -> dict[str, Tensor]:
    """One forward pass: the loss and its terms (losses.mofa_loss) for a batch at a step.

    With render_mode "both", `photometric` is the weighted sum of photometric_raster and
    photometric_vertex, which are there too. While the warm start lasts the loss is
    losses.code_distance, and the terms are NaN.

    Args:
        config: weights, modes, and when what is free.
        encoder: images to codes.
        decoder: of `make_decoder`.
        batch: this process's share of the step's batch.
        step: from 1.
        clock: is told when the encoder is through, and shown the codes.
    """
    device = next(encoder.parameters()).device
    photo, target = batch.images.to(device), batch.target.to(device)
    predicted = encoder(photo)
    if clock is not None:
        clock.lap("encoder_forward")
        clock.watch(predicted)
    layout = decoder.model.layout
    code = layout.unpack(_hold_back(config, predicted, layout, step))
    if step <= config.warm_start_steps:
        assert batch.codes is not None
        true = layout.unpack(batch.codes.to(device))
        unknown = torch.tensor(math.nan, device=device)  # nothing is rendered
        names = [*_photometric_names(config), "landmark", "regularizer", "pose_prior"]
        return {"loss": code_distance(code, true).mean(), **dict.fromkeys(names, unknown)}

    geometry = decoder.geometry(code)
    parts: dict[str, Tensor] = {}
    if config.render_mode in ("raster", "both"):
        parts["photometric_raster"] = photometric_raster(decoder.rasterize(geometry), target)
    if config.render_mode in ("vertex", "both"):
        v = decoder.sample_vertices(geometry)
        parts["photometric_vertex"] = photometric_vertex(
            v.positions, v.colors, v.front_facing, target
        )
    if config.render_mode == "both":
        photometric = (
            config.weight_raster * parts["photometric_raster"]
            + config.weight_vertex * parts["photometric_vertex"]
        )
    else:
        (photometric,) = parts.values()

    unit = config.landmark_unit * config.image_size / 240
    landmark = landmark_alignment(
        decoder.landmarks(geometry), batch.landmarks.to(device), batch.confidence.to(device), unit
    )
    terms = mofa_loss(code, photometric, landmark, _weights(config, step))
    if config.render_mode == "both":
        # Before their sum: of a term that is not finite the guard names the first.
        terms = {"loss": terms["loss"], **{k: v.mean() for k, v in parts.items()}, **terms}
    return terms


def not_finite(terms: dict[str, Tensor], gradient_norm: Tensor) -> str:
    """Which term, or else the gradient, is not a finite number; empty: all are."""
    if torch.isfinite(terms["loss"]) and torch.isfinite(gradient_norm):
        return ""
    if torch.isfinite(terms["loss"]):
        return f"the gradient's norm is {gradient_norm.item()}"
    # In a warm start only the loss itself is there, the terms are NaN.
    known = [name for name in terms if name != "loss" and not torch.isfinite(terms[name])]
    name = known[0] if 0 < len(known) < len(terms) - 1 else "loss"
    return f"the {name} is {terms[name].item()}"


def _photometric_names(config: TrainConfig) -> list[str]:
    both = ["photometric_raster", "photometric_vertex"] if config.render_mode == "both" else []
    return [*both, "photometric"]


def _weights(config: TrainConfig, step: int) -> LossWeights:
    with_landmarks = config.landmark_steps == 0 or step <= config.landmark_steps
    return LossWeights(
        photometric=config.weight_photometric,
        landmark=config.weight_landmark if with_landmarks else 0.0,
        regularizer=config.weight_regularizer,
        albedo=config.weight_albedo,
        expression=config.weight_expression,
        pose_prior=config.weight_pose_prior,
    )


def _hold_back(config: TrainConfig, vector: Tensor, layout: CodeLayout, step: int) -> Tensor:
    """Zero the parts of the code that are not free yet: light and albedo first, then pose, then shape."""
    held = ["rotation", "translation"] if step <= config.pose_from_step else []
    held += ["shape", "expression"] if step <= config.shape_from_step else []
    if not held:
        return vector
    free = torch.ones_like(vector[:1])
    for part in held:
        free[:, layout.slices[part]] = 0
    return vector * free
