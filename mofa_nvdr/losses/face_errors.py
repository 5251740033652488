"""How far faces are from known ones: measures of the MoFA paper (Sec. 6), not terms of a loss."""

from __future__ import annotations

import torch
from torch import Tensor

from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.losses.mofa import landmark_error
from mofa_nvdr.render.decoder import FaceDecoder, Geometry
from mofa_nvdr.scene.similarity import similarity


def centred_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean distance [B] of points [B, N, 3] to others, in their unit: the paper's geometric error.

    Translation and isotropic scale are compensated, by least squares; the rotation is not (Sec. 6).
    """
    a, b = a.double(), b.double()
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    scale = (a * b).sum((1, 2)) / a.square().sum((1, 2)).clamp(min=1e-12)
    return (scale[:, None, None] * a - b).norm(dim=2).mean(1)


def similar_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean distance [B] of points [B, N, 3] after the similarity that brings them closest: form alone."""
    errors = []
    for one, other in zip(a.double().cpu().numpy(), b.double().cpu().numpy()):
        scale, turn, shift = similarity(one, other)
        moved = torch.from_numpy(scale * one @ turn.T + shift - other)
        errors.append(moved.norm(dim=1).mean())
    return torch.stack(errors)


def expression_way(decoder: FaceDecoder, code: FaceCode) -> Tensor:
    """How far expressions alone move each vertex of the frontal region, [B, N, 3] mm."""
    model, index = decoder.model, decoder.model.frontal_mask.nonzero()[:, 0]
    still = torch.zeros_like(code.shape)
    rest = model.vertices(still, torch.zeros_like(code.expression), index)
    return model.vertices(still, code.expression, index) - rest


def face_errors(
    decoder: FaceDecoder, code: FaceCode, true: FaceCode, geometry: Geometry, truth: Geometry
) -> dict[str, Tensor]:
    """Errors of faces whose codes are known, over the vertices of the frontal region, on the CPU.

    Args:
        decoder: of both.
        code: of B faces.
        true: theirs.
        geometry: the decoder's of `code`.
        truth: that of `true`.

    Returns:
        Each [B]. geometry: mm in camera space, translation and scale compensated; form: mm after the
        similarity that brings both closest; expression: mm between what both expressions do to the average
        face; landmarks: px at 240, the paper's 46; albedo and light: root mean square.
    """
    model, index = decoder.model, decoder.model.frontal_mask.nonzero()[:, 0]
    own, known = geometry.vertices[:, index], truth.vertices[:, index]
    albedo = model.albedo(code.albedo, index) - model.albedo(true.albedo, index)
    moved = expression_way(decoder, code) - expression_way(decoder, true)
    away = landmark_error(decoder.landmarks(geometry), decoder.landmarks(truth))
    errors = {
        "geometry": centred_distance(own, known),
        "form": similar_distance(own, known),
        "expression": moved.norm(dim=2).mean(1),
        "landmarks": away * (240 / decoder.camera.size[1]),
        "albedo": albedo.square().mean((1, 2)).sqrt(),
        "light": (code.light - true.light).square().mean((1, 2)).sqrt(),
    }
    return {name: values.cpu() for name, values in errors.items()}
