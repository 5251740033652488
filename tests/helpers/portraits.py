"""Photographs of a small face whose parameters are known: a rendered cap in front of a wall."""

from __future__ import annotations

import numpy as np
import torch

from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.camera import Camera
from tests.helpers.landmarked_photographs import frontal_68
from tests.helpers.small_face import small_face

WALL = (90, 120, 160)


def mirrored_cap(rows: int = 24) -> FaceModel:
    """The small cap with its landmarks where those of faces are, the same on both sides."""
    plain = small_face(rows)
    arrays = {name: value.numpy().copy() for name, value in plain.named_buffers()}
    column = (rows - 1) / 2 + 0.38 * rows * frontal_68()[:, 0]
    row = (rows - 1) / 2 + 0.38 * rows * (frontal_68()[:, 1] - 0.1)
    index = row.round().clip(0, rows - 1) * rows + column.round().clip(0, rows - 1)
    arrays["landmarks"] = index.astype(np.int32)
    mirror = arrays["mirror_index"].astype(np.int64)
    arrays["mean_albedo"] = (arrays["mean_albedo"] + arrays["mean_albedo"][mirror]) / 2
    return FaceModel(arrays, {"name": "cap"})


def portrait(
    model: FaceModel,
    height: int = 96,
    width: int = 96,
    crop: tuple[float, float, float] = (16.0, 16.0, 64.0),
    light: torch.Tensor | None = None,
) -> tuple[np.ndarray, FaceParameters]:
    """A photograph, uint8 [H, W, 3], of the average face, and its parameters.

    Args:
        model: of the face.
        height, width: of the photograph, px.
        crop: left, top and side in it.
        light: [9, 3] of the code; None: the ambient offset alone.
    """
    code = model.layout.zeros(1)
    if light is not None:
        code = code.replace(light=light[None])
    size = round(crop[2])
    decoder = FaceDecoder(model, size, frontal_only=False)
    with torch.no_grad():
        face = decoder(code)
    photo = np.full((height, width, 3), WALL, np.uint8)
    inside = face.mask[0, 0].numpy() > 0
    pixels = (face.image[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    top, left = round(crop[1]), round(crop[0])
    rows = slice(max(0, -top), min(size, height - top))
    columns = slice(max(0, -left), min(size, width - left))
    part = photo[max(0, top) : max(0, top) + rows.stop - rows.start,
                 max(0, left) : max(0, left) + columns.stop - columns.start]  # fmt: skip
    np.copyto(part, pixels[rows, columns], where=inside[rows, columns, None])
    face_model = (model.name, model.hash)
    return photo, FaceParameters(code, Camera(size), np.array(crop), face_model, "face.png")
