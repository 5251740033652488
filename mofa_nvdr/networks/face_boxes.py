"""Boxes of faces by MediaPipe's detectors (BlazeFace, Bazarevsky et al. 2019) in plain torch.

A detector sees a square: the picture is brought into it whole, with black around it. For each anchor, a
cell of one of its maps, it gives a score, a box and six points: the subject's right eye, left eye, nose,
mouth, right and left ear. Coordinates are pixels, x right and y down, a pixel's centre at + 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mofa_nvdr.networks.graph import GraphNetwork

POINTS = 6
RIGHT_EYE, LEFT_EYE, NOSE, MOUTH = range(4)
COLUMNS = 4 + 2 * POINTS + 1  # left, top, right, bottom; points; score


@dataclass(frozen=True)
class DetectorSpec:
    """Which anchors a network has.

    Attributes:
        size: side of its square image, px; it takes other multiples of 32 too.
        maps: (pixels of a cell, anchors in each) of each map, in the order of the network's rows.
    """

    size: int
    maps: tuple[tuple[int, int], ...]


SPECS = {
    "front": DetectorSpec(128, ((8, 2), (16, 6))),
    "back": DetectorSpec(256, ((16, 2), (32, 6))),
    "full_range": DetectorSpec(192, ((4, 1),)),
}


@dataclass(frozen=True)
class Letterbox:
    """How a picture lies in a detector's square: square = picture * scale + (left, top).

    Attributes:
        scale: px of the square for one of the picture.
        left, top: px of the square.
    """

    scale: float
    left: float
    top: float

    def to_picture(self, rows: Tensor) -> Tensor:
        """Rows [N, COLUMNS] in px of the square -> px of the picture."""
        shift = rows.new_tensor([self.left, self.top]).repeat((COLUMNS - 1) // 2)
        return torch.cat([(rows[:, :-1] - shift) / self.scale, rows[:, -1:]], 1)


def letterbox(picture: Tensor, size: int, share: float = 1.0) -> tuple[Tensor, Letterbox]:
    """A picture whole and in the middle of a black square, antialiased.

    Args:
        picture: bytes [3, H, W].
        size: side of the square, px.
        share: of the square's side that the picture's longer side takes; below 1 for faces that fill the
            picture.

    Returns:
        Floats [3, size, size] in [-1, 1], and how to come back.
    """
    height, width = picture.shape[1:]
    scale = share * size / max(height, width)
    h, w = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (size - h) // 2, (size - w) // 2
    square = picture.new_zeros((3, size, size), dtype=torch.float32) - 1
    square[:, top : top + h, left : left + w] = resize(picture, h, w) / 127.5 - 1
    return square, Letterbox(scale, left, top)


def resize(picture: Tensor, height: int, width: int) -> Tensor:
    """Bytes [3, H, W] to floats [3, height, width] of the same range, antialiased."""
    # Bytes stay bytes on the CPU: four times as fast there, and not known to other devices.
    if picture.device.type != "cpu":
        picture = picture.float()
    return F.interpolate(picture[None], (height, width), mode="bilinear", antialias=True)[0].float()


class BoxDetector:
    """Boxes of faces in squares of a batch.

    Args:
        network: one of SPECS.
        spec: its anchors.
    """

    def __init__(self, network: GraphNetwork, spec: DetectorSpec) -> None:
        self.network, self.spec = network, spec
        self._anchors: dict[tuple[int, torch.device], Tensor] = {}

    def __call__(self, squares: Tensor, least: float) -> list[Tensor]:
        """For each square the rows [N, COLUMNS], in its pixels, with a score of at least `least`.

        Args:
            squares: [B, 3, S, S] in [-1, 1] of the network's precision, S a multiple of 32.
            least: in (0, 1).
        """
        side = squares.shape[-1]
        boxes, scores = self.network(squares.to(memory_format=torch.channels_last))
        boxes, scores = boxes.float(), scores.float()[..., 0].sigmoid()
        anchors = self._anchors_of(side, squares.device)
        pairs = boxes.unflatten(-1, (-1, 2))  # [B, A, 2 + POINTS, 2]: centre, size, points
        centre, half = pairs[:, :, :1] + anchors, pairs[:, :, 1:2] / 2
        places = torch.cat([centre - half, centre + half, pairs[:, :, 2:] + anchors], 2)
        rows = torch.cat([places.flatten(2), scores[..., None]], 2)
        return [
            found[kept] for found, kept in zip(rows, (scores >= least) & (half > 0).all(-1)[..., 0])
        ]

    def _anchors_of(self, side: int, device: torch.device) -> Tensor:
        """Middles [A, 1, 2] of the cells, px."""
        if (side, device) not in self._anchors:
            middles = []
            for cell, repeats in self.spec.maps:
                axis = (torch.arange(side // cell, device=device) + 0.5) * cell
                y, x = torch.meshgrid(axis, axis, indexing="ij")
                middles.append(torch.stack([x, y], -1).reshape(-1, 2).repeat_interleave(repeats, 0))
            self._anchors[side, device] = torch.cat(middles)[:, None]
        return self._anchors[side, device]


def overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union [N, M] of boxes [N, 4] and [M, 4]: left, top, right, bottom."""
    low = torch.maximum(boxes[:, None, :2], others[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:4], others[None, :, 2:4])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = [(b[:, 2:4] - b[:, :2]).prod(-1) for b in (boxes, others)]
    return shared / (areas[0][:, None] + areas[1] - shared).clamp(min=1e-9)


def merge(rows: Tensor, overlap: float = 0.3) -> Tensor:
    """One row for each face: the mean of those that overlap the surest, weighted by their scores.

    BlazeFace's own way (its section 4.2), which is steadier than to keep the surest.

    Args:
        rows: [N, COLUMNS].
        overlap: intersection over union from which two boxes show one face.
    """
    merged = []
    rows = rows[rows[:, -1].argsort(descending=True)]
    while len(rows):
        same = overlaps(rows[:1], rows)[0] > overlap
        same[0] = True
        weights = rows[same, -1:]
        place = (rows[same, :-1] * weights).sum(0) / weights.sum()
        merged.append(torch.cat([place, rows[0, -1:]]))
        rows = rows[~same]
    return torch.stack(merged) if merged else rows
