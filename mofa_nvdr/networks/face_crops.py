"""Turned squares of a picture, cut antialiased for a network, and the way back for its points.

A square is (x, y, side, roll): its centre and side in px of the picture, and by how much its upright is
turned, in radians, positive from x to y (clockwise as seen).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from mofa_nvdr.networks.face_boxes import resize

# A picture is reduced to this many px for one of the crop, which sampling in between then softens.
_FINER = 1.25


def cut_squares(picture: Tensor, squares: Tensor, size: int) -> Tensor:
    """Crops [N, 3, size, size] of a picture; beyond its edges its edge pixels go on.

    Args:
        picture: bytes [3, H, W].
        squares: [N, 4] on the picture's device.
        size: side of the crops, px.

    Returns:
        Floats from 0 to 255.
    """
    axis = (torch.arange(size, device=picture.device) + 0.5) / size - 0.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    grid = torch.stack([x, y], -1)
    crops = []
    for square in squares:
        part, box = _part(picture, square.tolist(), size)
        left, top, width, height = box
        places = turn(grid * square[2], square[3]) + square[:2]
        # grid_sample's -1 and 1 are the outer edges of the outermost pixels.
        places = (places - places.new_tensor([left, top])) * places.new_tensor(
            [2 / width, 2 / height]
        ) - 1
        crops.append(
            F.grid_sample(part[None], places[None], "bilinear", "border", align_corners=False)[0]
        )
    return torch.stack(crops) if crops else picture.new_zeros((0, 3, size, size)).float()


def _part(
    picture: Tensor, square: list[float], size: int
) -> tuple[Tensor, tuple[int, int, int, int]]:
    """What of a picture a square shows, about as fine as its crop: floats [3, h, w].

    Returns:
        The part, and its left, top, width and height in the picture.
    """
    x, y, side, roll = square
    reach = side * (abs(math.cos(roll)) + abs(math.sin(roll))) / 2 + 2 + side / size
    height, width = picture.shape[1:]
    left = min(max(0, math.floor(x - reach)), width - 1)
    top = min(max(0, math.floor(y - reach)), height - 1)
    right, bottom = max(left + 1, math.ceil(x + reach)), max(top + 1, math.ceil(y + reach))
    part = picture[:, top:bottom, left:right]
    box = (left, top, part.shape[2], part.shape[1])
    scale = _FINER * size / side
    if scale >= 1:
        return part.float(), box
    h, w = (max(1, round(n * scale)) for n in part.shape[1:])
    return resize(part, h, w), box


def to_picture(points: Tensor, squares: Tensor, size: int) -> Tensor:
    """Points [N, P, 2 or 3] in px of crops -> px of the picture; a depth is scaled alike."""
    scale = (squares[:, 2] / size)[:, None, None]
    flat = turn((points[..., :2] - size / 2) * scale, squares[:, 3, None]) + squares[:, None, :2]
    return torch.cat([flat, points[..., 2:] * scale], -1)


def turn(points: Tensor, angle: Tensor) -> Tensor:
    """Points [..., 2] turned about the origin, from x to y."""
    cos, sin = angle.cos(), angle.sin()
    x, y = points[..., 0], points[..., 1]
    return torch.stack([x * cos - y * sin, x * sin + y * cos], -1)
