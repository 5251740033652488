"""A small face model that is its own mirror image, with places of 478 landmarks: one can learn from it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.face.dense_landmarks import DENSE_MIRROR, NUM_DENSE, DenseLandmarks
from mofa_nvdr.face.model import FaceModel
from tests.helpers.small_face import small_face

ROWS = 16
_EYES = {36: 4, 45: 11}  # columns of the eyes' outer corners
_DENSE_EYES = {33: 36, 263: 45}


def symmetric_face(regions: bool = False) -> FaceModel:
    """The cap with even and odd modes in turn; with regions: "skin", and "mouth" at two rows of vertices."""
    plain = small_face(ROWS)
    arrays = {name: value.numpy().copy() for name, value in plain.named_buffers()}
    mirror = arrays["mirror_index"]
    height = arrays["mean_shape"][:, 1:]
    arrays["mean_albedo"] = 0.5 + 0.12 * np.sin(height * 0.05 + [[0.5, 1.5]]).mean(1, keepdims=True)
    arrays["mean_albedo"] = arrays["mean_albedo"] * np.array([1.1, 0.9, 0.8])
    for name, across in (
        ("shape_basis", (-1, 1, 1)), ("expression_basis", (-1, 1, 1)), ("albedo_basis", (1, 1, 1)),
    ):  # fmt: skip
        signs = np.where(np.arange(len(arrays[name])) % 2, -1, 1)[:, None, None]
        arrays[name] = (arrays[name] + signs * arrays[name][:, mirror] * across) / 2**0.5
    for number, column in _EYES.items():
        arrays["landmarks"][number] = (ROWS // 2 - 4) * ROWS + column
    names: list[str] = []
    if regions:
        row = np.arange(ROWS * ROWS) // ROWS
        arrays["regions"], names = np.isin(row, (10, 11)).astype(np.uint8), ["skin", "mouth"]
    model = FaceModel(arrays, {"name": "cap", "licence": "own work"}, region_names=names)
    model.place_dense_landmarks(_places(model))
    return model


def _places(model: FaceModel) -> DenseLandmarks:
    generator = torch.Generator().manual_seed(7)
    vertices = torch.zeros(NUM_DENSE, 3, dtype=torch.long)
    weights, spread = torch.full((NUM_DENSE, 3), 1 / 3), torch.full((NUM_DENSE,), 2.0)
    for k, other in enumerate(DENSE_MIRROR):
        if other < k:
            continue
        corners = model.triangles[torch.randint(len(model.triangles), (1,), generator=generator)[0]]
        share = torch.rand(3, generator=generator) + 0.1
        if other == k:  # between a vertex and the one across
            corners, share = torch.tensor([corners[0], corners[0], corners[0]]), torch.ones(3)
            corners[1:] = model.mirror_index[corners[0].long()]
            share = torch.tensor([2.0, 1.0, 1.0])
        if k in _DENSE_EYES:
            corners = model.landmarks[_DENSE_EYES[k]].expand(3)
        vertices[k], weights[k] = corners.long(), share / share.sum()
        vertices[other], weights[other] = model.mirror_index[vertices[k]], weights[k]
        if other == k:
            vertices[k] = corners.long()
        if 150 <= k < 160:  # points without a place, and their twins
            spread[[k, other]] = 0
    return DenseLandmarks(vertices, weights, spread)


def smooth_bump(model: FaceModel, height: tuple[float, float, float], seed: int = 3) -> Tensor:
    """A change [V, 3] of vertices' values that is smooth and the same on both sides, of about this size."""
    x, y = model.mean_shape[:, 0:1].abs(), model.mean_shape[:, 1:2]
    phase = torch.rand(3, generator=torch.Generator().manual_seed(seed))
    return torch.tensor(height) * torch.cos(x / 40 + phase) * torch.sin(y / 45 + 2 * phase)


def changed(model: FaceModel, **arrays: Tensor) -> FaceModel:
    """The model with other arrays."""
    every = {name: value.numpy() for name, value in (dict(model.named_buffers()) | arrays).items()}
    return FaceModel(every, dict(model.metadata), region_names=model.region_names)
