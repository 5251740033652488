"""What a training step minimises: encoder -> code -> decoder -> losses.mofa_loss, by the configuration."""

from __future__ import annotations

import dataclasses
import math
from typing import cast

import torch
from torch import Tensor, nn

from mofa_nvdr.data.sampling import Batch
from mofa_nvdr.face.code import CodeLayout, FaceCode
from mofa_nvdr.losses.consistency import (
    Placement,
    mean_placement_anchor,
    mirror_consistency,
)
from mofa_nvdr.losses.known_faces import FacePoints, code_distance, decoded_distance
from mofa_nvdr.losses.mofa import (
    LossWeights,
    landmark_alignment,
    mofa_loss,
    photometric_raster,
    photometric_vertex,
)
from mofa_nvdr.networks.encoder import Encoder
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.runs.config import TrainConfig
from mofa_nvdr.scene.lighting import icosahedron, sh_basis, total_light
from mofa_nvdr.system import distributed
from mofa_nvdr.training.stages import StageClock

# Beside the landmarks so many vertices, evenly spaced over the mesh, say where a known face is.
_MORE_POINTS = 252


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
    `known_face_distance`, and the terms are NaN. Terms of consistency.py are there where their weights
    are not 0: "anchor", "mirror", and "synthetic" of the rendered faces beside the batch.

    Args:
        config: weights, modes, and when what is free.
        encoder: images to codes.
        decoder: of `make_decoder`.
        batch: this process's share of the step's batch; for weight_anchor of `with_teacher`.
        step: from 1.
        clock: is told when the encoder is through, and shown the codes.
    """
    warm = step <= config.warm_start_steps
    device = next(encoder.parameters()).device
    photo, target = batch.images.to(device), batch.target.to(device)
    groups = {"photo": photo}
    if config.weight_mirror > 0 and not warm:
        groups["mirror"] = photo.flip(3)
    if batch.rendered is not None:
        groups["rendered"] = batch.rendered.images.to(device)
    codes = _encode_together(encoder, groups)
    predicted = codes["photo"]
    if clock is not None:
        clock.lap("encoder_forward")
        clock.watch(predicted)
    layout = decoder.model.layout
    code = layout.unpack(_hold_back(config, predicted, layout, step))
    if warm:
        assert batch.codes is not None
        true = layout.unpack(batch.codes.to(device))
        unknown = torch.tensor(math.nan, device=device)  # nothing is rendered
        names = [*_photometric_names(config), "landmark", "regularizer", "pose_prior"]
        names += _consistency_weights(config)
        loss = known_face_distance(config, decoder, code, true).mean()
        return {"loss": loss, **dict.fromkeys(names, unknown)}

    code = dataclasses.replace(
        code,
        shape=_gain(code.shape, config.gain_shape),
        expression=_gain(code.expression, config.gain_expression),
    )
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
    codes = {name: _hold_back(config, vector, layout, step) for name, vector in codes.items()}
    return _add_consistency(config, decoder, batch, codes, step, terms)


def known_face_distance(
    config: TrainConfig, decoder: FaceDecoder, code: FaceCode, true: FaceCode
) -> Tensor:
    """Distance of predicted to known codes of rendered faces, [B].

    losses.code_distance, and weight_decoded times consistency.decoded_distance of the landmarks and of
    vertices evenly spaced over the mesh.
    """
    distance = code_distance(code, true)
    if config.weight_decoded == 0:
        return distance
    predicted, there = _face_points(decoder, code), _face_points(decoder, true)
    decoded = decoded_distance(predicted, there, config.image_size)
    return distance + config.weight_decoded * decoded


def _face_points(decoder: FaceDecoder, code: FaceCode) -> FacePoints:
    landmarks = decoder.model.landmarks.long()
    stride = max(1, decoder.model.num_vertices // _MORE_POINTS)
    spaced = torch.arange(0, decoder.model.num_vertices, stride, device=landmarks.device)
    index = torch.cat([landmarks, spaced])
    form = decoder.model.vertices(code.shape, code.expression, index)
    points = decoder.place(code, form)
    light = total_light(code.light)
    normals = icosahedron().to(light)
    return FacePoints(
        landmarks=decoder.camera.project(points[:, : len(landmarks)]),
        points=points,
        form=form,
        albedo=decoder.model.albedo(code.albedo, index),
        # A camera before the face does not see what turns away.
        irradiance=sh_basis(normals[normals[:, 2] >= 0]) @ light,
    )


def _encode_together(encoder: nn.Module, groups: dict[str, Tensor]) -> dict[str, Tensor]:
    """One pass of the encoder over several groups of images [N, 3, S, S].

    One, so that BatchNorm has the same statistics for a photograph and its mirror image, and that
    DistributedDataParallel exchanges gradients once. The groups are interleaved evenly: then the images of
    several processes, one process after the other, stand in the order in which one process has them,
    which Dropout's masks are drawn in.
    """
    if len(groups) == 1:
        return {name: encoder(images) for name, images in groups.items()}
    own = cast(Encoder, getattr(encoder, "module", encoder))  # without DistributedDataParallel
    groups = {name: own.resize(images) for name, images in groups.items()}
    counts = [len(images) for images in groups.values()]
    common = math.lcm(*counts)
    places = [(2 * k + 1) * (common // n) for n in counts for k in range(n)]
    order = sorted(range(len(places)), key=places.__getitem__)
    images = torch.cat(list(groups.values()))[order]
    back = sorted(range(len(order)), key=order.__getitem__)
    return dict(zip(groups, encoder(images)[back].split(counts)))


def _add_consistency(
    config: TrainConfig,
    decoder: FaceDecoder,
    batch: Batch,
    codes: dict[str, Tensor],
    step: int,
    terms: dict[str, Tensor],
) -> dict[str, Tensor]:
    """The terms of `_consistency_weights` and the loss with them, by codes as they are decoded."""
    weights = _consistency_weights(config)
    if not weights:
        return terms
    layout, more = decoder.model.layout, {}
    device = codes["photo"].device
    if "anchor" in weights:
        assert batch.teacher_codes is not None
        teacher = _hold_back(config, batch.teacher_codes.to(device), layout, step)
        more["anchor"] = mean_placement_anchor(
            _placement(decoder, codes["photo"]),
            _placement(decoder, teacher),
            config.image_size,
            batch.teacher_offset,
        )
    if "mirror" in weights:
        more["mirror"] = mirror_consistency(
            _placement(decoder, codes["photo"]),
            _placement(decoder, codes["mirror"]),
            config.image_size,
        ).mean()
    if "synthetic" in weights:
        assert batch.rendered is not None and batch.rendered.codes is not None
        true = layout.unpack(batch.rendered.codes.to(device))
        code = layout.unpack(codes["rendered"])
        more["synthetic"] = known_face_distance(config, decoder, code, true).mean()
    loss = terms["loss"] + sum(weights[name] * term for name, term in more.items())
    return {**terms, "loss": loss, **more}


def _gain(x: Tensor, gain: float) -> Tensor:
    """The same values; what sets an image's gradient [B, N] apart from the batch's mean is multiplied.

    The mean keeps its length: with it, all faces would soon have one expression, and smaller, nearer heads.
    """
    if gain == 1:
        return x
    apart = x - distributed.batch_mean(x.mean(0))
    return x + (gain - 1) * (apart - apart.detach())


def _placement(decoder: FaceDecoder, vector: Tensor) -> Placement:
    code = decoder.model.layout.unpack(vector)
    points = decoder.points(code, decoder.model.landmarks.long())
    return Placement(decoder.camera.project(points), points, code.rotation)


def _consistency_weights(config: TrainConfig) -> dict[str, float]:
    """The terms beside losses.mofa_loss that are on, with their weights."""
    weights = {
        "anchor": config.weight_anchor,
        "mirror": config.weight_mirror,
        "synthetic": config.weight_synthetic,
    }
    return {name: weight for name, weight in weights.items() if weight > 0}


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
