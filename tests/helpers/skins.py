"""A small face with a layout and parts, and photographs of it whose skin is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.render.pictures import to_uint8
from mofa_nvdr.scene.camera import Camera
from tests.helpers.portraits import WALL, mirrored_cap

SIDE = 160  # px of photographs
_MARGIN = 20


def laid_out_cap(rows: int = 24) -> FaceModel:
    """The mirrored cap with texture coordinates, triangles that are symmetric too, and ARKit's jawOpen."""
    plain = mirrored_cap(rows)
    arrays = {name: value.numpy().copy() for name, value in plain.named_buffers()}
    mean = arrays["mean_shape"][:, :2]
    arrays["uv"] = 0.02 + 0.96 * (mean - mean.min(0)) / np.ptp(mean, axis=0)
    index = np.arange(rows * rows).reshape(rows, rows)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    left = np.arange(rows - 1) < (rows - 1) / 2
    one = np.stack([np.stack([a, c, b], -1), np.stack([b, c, d], -1)], 2)
    other = np.stack([np.stack([a, d, b], -1), np.stack([a, c, d], -1)], 2)
    arrays["triangles"] = np.where(left[None, :, None, None], one, other).reshape(-1, 3)
    arrays["mean_albedo"] = np.full_like(arrays["mean_albedo"], 0.5) * [1.2, 0.9, 0.75]
    arrays["albedo_basis"] *= 0
    named = {"jawOpen": np.array([1.0, 0, 0]), "cheekPuff": np.array([0.0, 1, 0.5])}
    return FaceModel(arrays, {"name": "cap", "licence": "own work"}, named)


def spots(model: FaceModel) -> Tensor:
    """Albedo [V, 3] of a person with a birthmark on the left cheek, and a lighter chin."""
    albedo = model.mean_albedo.clone()
    x, y = model.mean_shape[:, 0], model.mean_shape[:, 1]
    mark = (-((x - 30) ** 2 + (y + 5) ** 2) / 10**2).exp()
    return albedo * (1 - 0.4 * mark[:, None])


@torch.no_grad()
def skin_photo(
    model: FaceModel,
    albedo: Tensor,
    turn: float = 0.0,
    light: Tensor | None = None,
    shine: float = 0.0,
) -> tuple[np.ndarray, FaceParameters]:
    """A photograph, uint8 [H, W, 3], and the face in it as a fit would have it: without the spots.

    Args:
        model: the cap.
        albedo: [V, 3] of the person.
        turn: of the head to its left, radians.
        light: [9, 3] of the code; None: the ambient offset alone.
        shine: white that is added on the forehead.
    """
    code = model.layout.zeros().replace(rotation=torch.tensor([[0.0, turn, 0.0]]))
    if light is not None:
        code = code.replace(light=light[None])
    size = SIDE - 2 * _MARGIN
    decoder = FaceDecoder(model, size, frontal_only=False)
    geometry = replace(decoder.geometry(code), albedo=albedo[None])
    face = decoder.rasterize(geometry)
    picture = face.image
    if shine:
        y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        far = ((x - 0.5 * size) ** 2 + (y - 0.32 * size) ** 2) / (0.06 * size) ** 2
        picture = picture + shine * (-far).exp()
    wall = torch.tensor(WALL).view(1, 3, 1, 1) / 255
    shown = torch.where(face.mask > 0, picture, wall).clamp(0, 1)
    photo = np.full((SIDE, SIDE, 3), WALL, np.uint8)
    photo[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] = to_uint8(shown)[0]
    crop = np.array([_MARGIN, _MARGIN, size], float)
    parameters = FaceParameters(code, Camera(size), crop, (model.name, model.hash), "face.png")
    return photo, parameters
