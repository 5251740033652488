"""Heads drawn as coloured discs, and stand-ins for the landmark networks that know such heads.

A head is a red disc with a green dot for the subject's right eye and a blue one for the left, above its
middle. The stand-ins see only the pixels that the real networks would see, so what they give goes all the
way back to the picture: through squares, turns, margins and scales.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from mofa_nvdr.face.dense_landmarks import DENSE_MIRROR, MIDDLE
from mofa_nvdr.networks.face_boxes import SPECS, BoxDetector
from mofa_nvdr.networks.landmark_detector import LandmarkDetector

EYE_X, EYE_Y, EYE_SIZE = 0.4, -0.3, 0.15  # in radii of the disc


def draw_head(
    picture: np.ndarray, x: float, y: float, radius: float, roll: float = 0.0
) -> dict[str, np.ndarray]:
    """Draw a head into bytes [H, W, 3]; the places of its eyes, "right" and "left", in px."""
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]] + 0.5
    inside = np.hypot(columns - x, rows - y) < radius
    picture[inside] = (255, 0, 0)
    eyes = {}
    for name, side, color in (("right", -1, (0, 255, 0)), ("left", 1, (0, 0, 255))):
        a, b = side * EYE_X * radius, EYE_Y * radius
        eye = np.array(
            [
                x + a * math.cos(roll) - b * math.sin(roll),
                y + a * math.sin(roll) + b * math.cos(roll),
            ]
        )
        picture[np.hypot(columns - eye[0], rows - eye[1]) < EYE_SIZE * radius] = color
        eyes[name] = eye
    return eyes


def _spot(image: Tensor, channel: int) -> Tensor | None:
    """The middle (x, y) of what has one channel's colour in an image [3, H, W] in [0, 1], px."""
    others = [k for k in range(3) if k != channel]
    weight = (image[channel] - image[others].amax(0) - 0.2).clamp(min=0)
    if weight.sum() < 0.5:
        return None
    height, width = weight.shape
    x = (weight.sum(0) * (torch.arange(width) + 0.5)).sum() / weight.sum()
    y = (weight.sum(1) * (torch.arange(height) + 0.5)).sum() / weight.sum()
    return torch.stack([x, y])


def _disc(image: Tensor) -> tuple[Tensor, float] | None:
    """The middle and radius of the head in an image with one."""
    covered = image.amax(0) > 0.5
    if not covered.any():
        return None
    places = covered.nonzero().flip(1) + 0.5
    return places.mean(0), math.sqrt(len(places) / math.pi)


class _StandIn(nn.Module):
    def __init__(self, see: Callable[[Tensor], tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.see = see

    def lower(self, dtype: torch.dtype) -> _StandIn:
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found = [self.see(image.float()) for image in images]
        return tuple(torch.stack(values) for values in zip(*found))


def _parts(image: Tensor) -> list[tuple[int, int]]:
    """Columns of an image that hold one head each: heads of one picture stand next to one another."""
    columns = (image.amax(0) > 0.5).any(0).tolist()
    parts, start = [], None
    for k, full in enumerate([*columns, False]):
        if full and start is None:
            start = k
        if not full and start is not None:
            parts.append((start, k))
            start = None
    return [part for part in parts if part[1] - part[0] > 4]


def _boxes(image: Tensor) -> tuple[Tensor, Tensor]:
    """As full_range: rows of boxes and scores, at the cell of each head whose eyes are about level."""
    image = image / 2 + 0.5
    cell = SPECS["full_range"].maps[0][0]
    across = image.shape[2] // cell
    boxes, scores = torch.zeros(across**2, 16), torch.full((across**2, 1), -9.0)
    for start, end in _parts(image):
        part = torch.zeros_like(image)
        part[:, :, start:end] = image[:, :, start:end]
        disc, right, left = _disc(part), _spot(part, 1), _spot(part, 2)
        if disc is None or right is None or left is None:
            continue
        along = left - right
        # As the real one it is less sure of tilted heads, and knows none that lie.
        tilt = abs(math.atan2(float(along[1]), float(along[0])))
        if tilt > math.radians(70):
            continue
        (x, y), radius = disc
        n = int(y // cell) * across + int(x // cell)
        middle = torch.tensor([(n % across + 0.5) * cell, (n // across + 0.5) * cell])
        places = [disc[0], right, left, disc[0], disc[0], disc[0], disc[0]]
        rows = [place - middle for place in places]
        boxes[n] = torch.cat([rows[0], torch.tensor([2 * radius, 2 * radius]), *rows[1:]])
        scores[n] = 4 - 4 * tilt
    return boxes, scores


def _mesh(image: Tensor) -> tuple[Tensor, Tensor]:
    disc, right, left = _disc(image), _spot(image, 1), _spot(image, 2)
    if disc is None or right is None or left is None:
        return torch.zeros(1404), torch.tensor([-9.0])
    if right[0] > left[0]:  # a mirror image: the real one knows no colours
        right, left = left, right
    middle, radius = disc
    # The outline, its twins opposite to each other.
    angle, mirror = torch.zeros(468), torch.tensor(DENSE_MIRROR[:468])
    one_side = (mirror > torch.arange(468)).nonzero()[:, 0]
    angle[one_side] = torch.linspace(0.5, 1.5, len(one_side)) * math.pi
    angle[mirror[one_side]] = math.pi - angle[one_side]
    angle[list(MIDDLE)] = torch.tensor([0.5, -0.5]).repeat(len(MIDDLE) // 2) * math.pi
    points = torch.stack([angle.cos() * radius, angle.sin() * radius, angle.sin() * radius], 1)
    points[:, :2] += middle
    points[33, :2], points[263, :2] = right, left
    points[133, :2] = right + (left - right) / 4
    points[362, :2] = left - (left - right) / 4
    points[:, :2] -= 0.5  # the real one counts from the middle of the first pixel
    return points.flatten(), torch.tensor([6.0])


def _iris(image: Tensor) -> tuple[Tensor, Tensor]:
    """The middle of the dot that is there; left eyes come mirrored."""
    spot = next(s for s in (_spot(image, 1), _spot(image, 2), torch.zeros(2)) if s is not None)
    return torch.zeros(213), torch.cat([spot, torch.zeros(1)]).repeat(5)


def stand_in_detector() -> LandmarkDetector:
    """A LandmarkDetector of heads drawn here."""
    return LandmarkDetector(
        {"full_range": _StandIn(_boxes), "landmarks": _StandIn(_mesh), "iris": _StandIn(_iris)}
    )


def stand_in_boxes() -> BoxDetector:
    """A BoxDetector of heads drawn here."""
    return BoxDetector(_StandIn(_boxes), SPECS["full_range"])
