"""The faces of a clip drawn over its frames."""

from __future__ import annotations

import numpy as np
import torch

from mofa_nvdr.apply.drawn_mouth import inner_mouth, shaded_mouth
from mofa_nvdr.apply.photo_frame import FACE
from mofa_nvdr.apply.photo_pictures import SOFT, soft_mask
from mofa_nvdr.data.crops.framing import crop_from_landmarks
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.intrinsics_camera import IntrinsicsCamera

_MARGIN = 0.12  # of the box around the landmarks, beyond which no frontal face reaches
_FOREHEAD = 0.6  # box heights above the brows
_LARGEST = 1024  # px at which a face is drawn; larger ones are enlarged


@torch.no_grad()
def draw_over(
    pixels: np.ndarray, model: FaceModel, camera: Camera, code: FaceCode, landmarks68: np.ndarray
) -> np.ndarray:
    """A frame with one face drawn over it, soft at its outline.

    Args:
        pixels: bytes [H, W, 3].
        model: the face model.
        camera: of the frame.
        code: one face, [1, ...].
        landmarks68: [68, 2] px, about which the face is drawn.

    Returns:
        Bytes [H, W, 3], another array; the frame itself where the face is outside.
    """
    height, width = pixels.shape[:2]
    left, top, right, bottom = _box(landmarks68, height, width)
    if right - left < 2 or bottom - top < 2:
        return pixels
    shrink = max(1.0, max(right - left, bottom - top) / _LARGEST)
    size = round((bottom - top) / shrink), round((right - left) / shrink)
    focal = camera.focal_px / shrink
    part = IntrinsicsCamera(
        size, focal, focal, (width / 2 - left) / shrink, (height / 2 - top) / shrink,
        near=camera.near, far=camera.far, position=camera.position,
    )  # fmt: skip
    decoder = FaceDecoder(model, camera=part, smooth_edge=True)
    face = decoder.rasterize(decoder.geometry(code))
    side = crop_from_landmarks(landmarks68).side / shrink
    alpha = soft_mask(face.mask, SOFT * side)
    image = shaded_mouth(face, inner_mouth(model), FACE * side)
    both = torch.cat([image.clamp(0, 1), alpha], 1)
    if shrink > 1:
        both = torch.nn.functional.interpolate(
            both, (bottom - top, right - left), mode="bilinear", align_corners=False
        )
    drawn, alpha = both[0, :3].permute(1, 2, 0), both[0, 3, :, :, None]
    result = pixels.copy()
    under = torch.from_numpy(result[top:bottom, left:right]).float() / 255
    mixed = torch.lerp(under, drawn, alpha)
    result[top:bottom, left:right] = (mixed * 255).round().to(torch.uint8).numpy()
    return result


def _box(marks: np.ndarray, height: int, width: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom px of the part of a frame in which a face can be."""
    low, high = marks.min(0), marks.max(0)
    side = float((high - low).max())
    margin = np.array([_MARGIN, _MARGIN]) * side
    low, high = low - margin - [0, _FOREHEAD * side], high + margin
    # Heads lie and hang, too: the forehead is above the brows, wherever those are.
    up = marks[17:27].mean(0) - marks[8]
    crown = marks[17:27].mean(0) + _FOREHEAD * up
    low, high = np.minimum(low, crown - side / 2), np.maximum(high, crown + side / 2)
    left, top = (int(max(0, np.floor(v))) for v in low)
    right, bottom = int(min(width, np.ceil(high[0]))), int(min(height, np.ceil(high[1])))
    return left, top, right, bottom
