"""Faces in their photographs, for people: overlays with a soft outline, masks, and sheets of many."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr.apply.drawn_mouth import inner_mouth, shaded_mouth
from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.apply.photo_camera import crop_camera
from mofa_nvdr.apply.photo_frame import FACE
from mofa_nvdr.data.crops.framing import Crop
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.blur import blurred
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.render.pictures import geometry_picture, sheet, to_uint8
from mofa_nvdr.render.renderer import Rendering
from mofa_nvdr.scene.intrinsics_camera import IntrinsicsCamera

_FINE = 2  # rendered pixels across one of the photograph: their mean has no steps
_MOST = 1536  # rendered pixels across a crop; those of larger faces are enlarged
SOFT = 0.014  # deviation of the outline's softening, sides of the crop
_CELL = 128  # px of a picture of the sheet
_MOST_CELLS = 300  # faces of a sheet
_PAPER = 0.13


def soft_mask(mask: Tensor, sigma: float) -> Tensor:
    """How far a face covers its pixels, [B, 1, H, W]: 0 at its outline, rising to 1 inside.

    Args:
        mask: [B, 1, H, W] in [0, 1].
        sigma: deviation of the Gaussian in px; 1 is reached about two deviations from the outline.
    """
    inside = (2 * blurred(mask, sigma) - 1).clamp(0, 1)
    return inside * inside * (3 - 2 * inside) * mask


def soft_overlay(photo: Tensor, rendering: Rendering, inner: Tensor) -> Tensor:
    """The rendered faces over their crops, with soft outlines and mouths that lips shade.

    Args:
        photo: [B, 3, S, S] in [0, 1].
        rendering: of their faces, some times as large.
        inner: of `drawn_mouth.inner_mouth`.

    Returns:
        [B, 3, H, W] at the rendering's size.
    """
    size = rendering.mask.shape[2:]
    photo = F.interpolate(photo, size, mode="bilinear", align_corners=False).clamp(0, 1)
    alpha = soft_mask(rendering.mask, SOFT * photo.shape[-1])
    image = shaded_mouth(rendering, inner, FACE * photo.shape[-1])
    return photo + alpha * (image.clamp(0, 1) - photo)


class PhotoPainter:
    """Draws faces into the photographs that they were found in.

    Args:
        model: their face model.
    """

    def __init__(self, model: FaceModel) -> None:
        self._model, self._inner = model, inner_mouth(model)

    @torch.no_grad()
    def paint(self, photo: np.ndarray, faces: Sequence[FaceParameters]) -> np.ndarray:
        """Draw faces over a photograph, in place, those that are farther away first.

        Args:
            photo: bytes [H, W, 3].
            faces: of it.

        Returns:
            bytes [H, W]: how far each pixel shows a face now.
        """
        height, width = photo.shape[:2]
        covered = np.zeros((height, width), np.uint8)
        for one in sorted(faces, key=lambda one: float(one.crop[2])):
            crop = Crop(*map(float, one.crop))
            x0, y0 = max(0, math.floor(crop.left)), max(0, math.floor(crop.top))
            x1 = min(width, math.ceil(crop.left + crop.side))
            y1 = min(height, math.ceil(crop.top + crop.side))
            if x1 <= x0 or y1 <= y0:
                continue
            color, alpha = self._region(one, crop, (x0, y0, x1, y1), (height, width))
            part = torch.from_numpy(photo[y0:y1, x0:x1]).permute(2, 0, 1)[None].float() / 255
            photo[y0:y1, x0:x1] = to_uint8(part + alpha * (color - part))[0]
            patch = (alpha[0, 0] * 255).round().to(torch.uint8).numpy()
            covered[y0:y1, x0:x1] = np.maximum(covered[y0:y1, x0:x1], patch)
        return covered

    def _region(
        self,
        one: FaceParameters,
        crop: Crop,
        box: tuple[int, int, int, int],
        size: tuple[int, int],
    ) -> tuple[Tensor, Tensor]:
        """Colour [1, 3, h, w] and opacity [1, 1, h, w] of a face in a box of its photograph."""
        x0, y0, x1, y1 = box
        scale = min(_FINE, _MOST / crop.side)
        fine = max(1, round((y1 - y0) * scale)), max(1, round((x1 - x0) * scale))
        by_y, by_x = fine[0] / (y1 - y0), fine[1] / (x1 - x0)
        whole = crop_camera(one.camera, crop, size)
        camera = IntrinsicsCamera(
            fine, whole.fx * by_x, whole.fy * by_y, (whole.cx - x0) * by_x, (whole.cy - y0) * by_y,
            near=whole.near, far=whole.far, position=whole.position,
        )  # fmt: skip
        decoder = FaceDecoder(self._model, camera=camera, smooth_edge=True)
        face = decoder.rasterize(decoder.geometry(one.code))
        image = shaded_mouth(face, self._inner, FACE * crop.side * scale)
        both = torch.cat([image.clamp(0, 1) * face.mask, face.mask], 1)
        target = (y1 - y0, x1 - x0)
        if fine[0] >= target[0]:
            both = F.interpolate(both, target, mode="area")
        else:
            both = F.interpolate(both, target, mode="bilinear", align_corners=False)
        mask = both[:, 3:]
        # The rendering has no colour beyond its outline, and takes none from there.
        color = both[:, :3] / mask.clamp(min=1e-3)
        return color, soft_mask(mask, SOFT * crop.side)


def sheet_cells(photo: Tensor, rendering: Rendering, inner: Tensor) -> np.ndarray:
    """Of each face its crop, the overlay and the bare surface side by side, bytes [B, 128, 384, 3].

    Args:
        photo: [B, 3, S, S] in [0, 1].
        rendering: as `soft_overlay` takes it.
        inner: the same.
    """
    drawn = soft_overlay(photo, rendering, inner)
    alpha = soft_mask(rendering.mask, SOFT * drawn.shape[-1])
    clay = _PAPER + alpha * (geometry_picture(rendering) - _PAPER)
    large = F.interpolate(photo, drawn.shape[2:], mode="bilinear", align_corners=False)
    row = torch.cat([large, drawn, clay], 3)
    size = (_CELL, 3 * _CELL)
    return to_uint8(F.interpolate(row, size, mode="bilinear", align_corners=False, antialias=True))


def contact_sheet(cells: Sequence[np.ndarray]) -> np.ndarray:
    """One picture of `sheet_cells`, about as high as wide; of the first 300 faces."""
    every = np.stack(list(cells)[:_MOST_CELLS])
    columns = max(1, round(math.sqrt(len(every) / 3)))
    return sheet(every, columns)
