"""Chips: the faces of pictures, upright and of one size, as dlib's recognition network was trained on them.

Differentiable in the pictures and in the landmarks.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

SIZE = 150  # px of a chip's side
_PADDING = 0.25  # of the face's own square, on each side

INDEX = (*range(27, 55), *range(60, 65))
"""The landmarks that place a chip: without jaw, brows and lower lip, which move most."""

# Where they are in an average face's square, x and y in its sides. Source: the average shape that dlib cuts
# chips by (get_face_chip_details), rounded to a thousandth, 0.1 px.
_PLACES = (
    (0.490, 0.203), (0.490, 0.307), (0.490, 0.410), (0.490, 0.516), (0.367, 0.587), (0.426, 0.609),
    (0.490, 0.628), (0.554, 0.609), (0.613, 0.587), (0.122, 0.216), (0.187, 0.179), (0.266, 0.180),
    (0.335, 0.232), (0.261, 0.245), (0.183, 0.244), (0.646, 0.232), (0.714, 0.180), (0.793, 0.179),
    (0.859, 0.216), (0.798, 0.244), (0.719, 0.245), (0.254, 0.780), (0.341, 0.745), (0.429, 0.727),
    (0.490, 0.743), (0.551, 0.727), (0.639, 0.745), (0.726, 0.780), (0.290, 0.785), (0.428, 0.779),
    (0.490, 0.785), (0.552, 0.779), (0.690, 0.785),
)  # fmt: skip


def chip_similarity(landmarks: Tensor) -> Tensor:
    """The turn, scale and shift [B, 2, 3] that bring a chip's px closest to a picture's, in least squares.

    Convention: x right, y down from the top left corner, a pixel's centre at + 0.5, in chips and pictures.

    Args:
        landmarks: iBUG's 68 points, px of the picture, [B, 68, 2].

    Raises:
        ValueError: another shape.
    """
    if landmarks.ndim != 3 or landmarks.shape[1:] != (68, 2):
        raise ValueError(f"landmarks are {list(landmarks.shape)}, expected [B, 68, 2]")
    points = landmarks[:, list(INDEX)]
    places = (points.new_tensor(_PLACES) + _PADDING) * (SIZE / (1 + 2 * _PADDING))
    middle, origin = points.mean(1, keepdim=True), places.mean(0)
    a, b = points - middle, places - origin
    # Umeyama's least squares of a = scale * turn(b) in the plane: one complex quotient.
    norm = b.square().sum()
    cos = (a * b).sum((1, 2)) / norm
    sin = (a[..., 1] * b[:, 0] - a[..., 0] * b[:, 1]).sum(1) / norm
    x = middle[:, 0, 0] - cos * origin[0] + sin * origin[1]
    y = middle[:, 0, 1] - sin * origin[0] - cos * origin[1]
    return torch.stack([torch.stack([cos, -sin, x], 1), torch.stack([sin, cos, y], 1)], 1)


def cut_chips(images: Tensor, landmarks: Tensor, samples: int = 2) -> Tensor:
    """Chips [B, 3, 150, 150] of the faces of pictures; beyond a picture's edges its edge pixels go on.

    A face's square, from brow to chin, is 100 px of its chip.

    Args:
        images: [B, 3, H, W], RGB, row 0 at the top; half precision is sampled as float32.
        landmarks: iBUG's 68 points of one face each, px of the picture, [B, 68, 2].
        samples: a side, in each px of a chip: 2 is right for faces of up to about 400 px, 1, which takes a
            quarter of the time, for up to about 200 px; larger ones must be reduced first.

    Returns:
        Chips on the images' device. Differentiable in images and landmarks.

    Raises:
        ValueError: shapes disagree, the images are no floats, or samples is less than 1.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(
            f"cut_chips: images are {list(images.shape)} {images.dtype}, expected floats [B, 3, H, W]"
        )
    if landmarks.shape[0] != images.shape[0] or samples < 1:
        raise ValueError(
            f"cut_chips: landmarks are {list(landmarks.shape)} for {len(images)} images, {samples} samples a "
            "px; expected [B, 68, 2] and at least 1"
        )
    images = images if images.dtype == torch.float64 else images.float()
    turn = chip_similarity(landmarks.to(images))[:, :, :, None, None]
    axis = (torch.arange(SIZE * samples, device=images.device, dtype=images.dtype) + 0.5) / samples
    y, x = axis[:, None], axis[None, :]
    # Products by hand: autocast would make a matrix product of places half precise.
    places = turn[:, :, 0] * x + turn[:, :, 1] * y + turn[:, :, 2]  # [B, 2, n, n]
    height, width = images.shape[2:]
    # grid_sample's -1 and 1 are the outer edges of the outermost pixels.
    grid = torch.stack([places[:, 0] * (2 / width) - 1, places[:, 1] * (2 / height) - 1], -1)
    chips = F.grid_sample(images, grid, "bilinear", "border", align_corners=False)
    return chips if samples == 1 else F.avg_pool2d(chips, samples)
