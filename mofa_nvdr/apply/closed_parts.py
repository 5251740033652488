"""Eyes and mouths of a photograph that close: what lay around the opening must not be stretched over it.

The skin of a lid that closes is hardly seen in a photograph of an open eye: a few pixels of fold, lashes and
paint. Skin from around is continued there instead, smoothly, and a line drawn where the lids or lips meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from mofa_nvdr.apply.photo_frame import grown, smooth_step
from mofa_nvdr.apply.ratio_image import filled
from mofa_nvdr.render.blur import blurred

_CLOSES = (
    0.45,
    0.3,
)  # share of its area that an opening loses before it counts as closing, and the way there
_LEAST = 2e-4  # faces squared of an opening
_MARGIN = 16  # px around what is painted over, from which skin is continued
_SOFT = 0.006  # faces, deviation of a blur of what is painted over


@dataclass(frozen=True)
class _Kind:
    """An opening of a face.

    Attributes:
        lines: of landmarks, as pairs whose middles it goes through.
        around: faces around the opening that are not to be seen when it is closed.
        width, dark: of the line, faces; and the share of light that it takes.
    """

    lines: Sequence[tuple[int, int]]
    around: float
    width: float
    dark: float


# The mouth, the eye at -x and the other one: lids meet at the lower one's edge.
_KINDS = (
    _Kind(((60, 60), (61, 67), (62, 66), (63, 65), (64, 64)), 0.012, 0.007, 0.5),
    _Kind(((36, 36), (41, 41), (40, 40), (39, 39)), 0.03, 0.012, 0.6),
    _Kind(((42, 42), (47, 47), (46, 46), (45, 45)), 0.03, 0.012, 0.6),
)


@dataclass(frozen=True)
class ClosedParts:
    """What is painted over: [1, h, w] each, the share of skin from around, and of the lines' darkness."""

    skin: Tensor
    line: Tensor

    def __call__(self, picture: Tensor) -> Tensor:
        """A warped part of a photograph [3, h, w] with closed lids and lips."""
        where = (self.skin[0] > 0).nonzero()
        if not len(where):
            return picture * (1 - self.line)
        # Skin is continued from around what is painted over, not from the other end of the picture.
        (top, left), (bottom, right) = where.amin(0).tolist(), where.amax(0).tolist()
        rows = slice(max(0, top - _MARGIN), bottom + 1 + _MARGIN)
        columns = slice(max(0, left - _MARGIN), right + 1 + _MARGIN)
        out, skin = picture.clone(), self.skin[:, rows, columns]
        part = picture[:, rows, columns]
        out[:, rows, columns] = torch.lerp(part, filled(part, 1 - skin[0]), skin)
        return out * (1 - self.line)


class OpenParts:
    """The openings of a face in a photograph.

    Args:
        openings: [3, h, w], where mouth and eyes are open in it.
        face: px that a face is wide.
    """

    def __init__(self, openings: Tensor, face: float) -> None:
        self._face = face
        self._grown = [
            grown(opening, kind.around * face) for kind, opening in zip(_KINDS, openings)
        ]
        self._areas = [float(opening.sum()) for opening in openings]

    def closed(self, openings: Tensor, places: Tensor, marks: Tensor) -> ClosedParts | None:
        """What to paint over where openings close; None: none does.

        Args:
            openings: [3, h, w], where mouth and eyes are open now.
            places: [h, w, 2] in [-1, 1], where each pixel is in the photograph.
            marks: [68, 2] landmarks now, px.
        """
        least = _LEAST * self._face**2
        skin = torch.zeros_like(openings[:1])
        line = torch.zeros_like(skin)
        for kind, near, area, opening in zip(_KINDS, self._grown, self._areas, openings):
            if area < least:
                continue
            lost = 1 - float(opening.sum()) / area
            share = float(smooth_step(torch.tensor((lost - _CLOSES[0]) / _CLOSES[1])))
            if not share:
                continue
            from_there = F.grid_sample(near[None, None], places[None], align_corners=False)[0]
            # What little is left of an opening that is nearly closed is an error of the fit.
            skin = torch.maximum(skin, share * from_there * (1 - opening * (1 - share)))
            line = torch.maximum(line, share * kind.dark * self._line(kind, marks, skin.shape[1:]))
        if not bool(skin.any()):
            return None
        soft = max(_SOFT * self._face, 0.6)
        return ClosedParts(torch.maximum(skin, blurred(skin[None], soft)[0]), line)

    def _line(self, kind: _Kind, marks: Tensor, size: torch.Size) -> Tensor:
        """[1, h, w], 1 in the middle of the line."""
        index = torch.tensor(kind.lines)
        points = _rounded(marks[index].mean(1))
        canvas = Image.new("L", (size[1], size[0]))
        width = max(1, round(kind.width * self._face))
        flat = [tuple(point) for point in points.tolist()]
        ImageDraw.Draw(canvas).line(flat, fill=255, width=width, joint="curve")
        drawn = torch.from_numpy(np.array(canvas)).float()[None, None] / 255
        return blurred(drawn, max(0.5, 0.4 * width))[0].clamp(max=1)


def _rounded(points: Tensor, count: int = 24) -> Tensor:
    """A smooth curve [count, 2] between points [N, 2]: theirs, blurred a little, the ends kept."""
    fine = F.interpolate(points.T[None], size=count, mode="linear", align_corners=True)
    soft = F.avg_pool1d(F.pad(fine, (3, 3), mode="replicate"), 7, 1)
    return torch.cat([fine[..., :1], soft[..., 1:-1], fine[..., -1:]], 2)[0].T
