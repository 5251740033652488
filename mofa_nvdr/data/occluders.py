"""Something in front of faces, which covers an exact share of each: for measuring what that does."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr.data.random_numbers import Draws, random_generator

_STREAM = (
    7  # of a seed: 0 to 6 are those of training (augmentation.py, reframing.py, synthetic/faces.py)
)
_LONGER = 2.0  # how much longer than wide a box is at most
_GRAIN = 8  # places a side between which a filling's texture is interpolated


class Occluders:
    """A turned box before each face of a batch, as large as is asked for.

    Each box has its own middle on the face, turn, proportions, colour and texture, a function of the seed
    and the face's place; of two shares the smaller one's box is a part of the larger one's.

    Args:
        face: [B, 1, H, W], more than 0 where pixels show a face.
        seed: of the boxes.
        places: number [B] of each face.

    Raises:
        ValueError: shapes disagree, or a picture shows no face.
    """

    def __init__(self, face: Tensor, seed: int, places: Sequence[int]) -> None:
        if face.ndim != 4 or face.shape[1] != 1 or len(face) != len(places):
            raise ValueError(
                f"Occluders: face is {list(face.shape)}, expected [B, 1, H, W] of {len(places)} places"
            )
        shown = face[:, 0] > 0
        if not shown.flatten(1).any(1).all():
            raise ValueError("Occluders: a picture without a face")
        draws = Draws([random_generator(seed, _STREAM, place) for place in places], face.device)
        where, turn = draws.uniform(), draws.uniform(0, math.pi)
        longer = draws.uniform(-1, 1) * (math.log(_LONGER) / 2)
        color = draws.color(0.05, 0.9)
        self.filling = grainy(color, draws.random(3, _GRAIN, _GRAIN), face.shape[2:])
        self._reach = torch.stack(
            [_reach(own, *drawn) for own, *drawn in zip(shown, where, turn, longer)]
        )
        self._sorted = [r[own].sort().values for r, own in zip(self._reach, shown)]

    def cover(self, images: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """Pictures with the boxes in front of them.

        Args:
            images: [B, 3, H, W].
            share: of each face's pixels that is covered, in [0, 1].

        Returns:
            [B, 3, H, W], and [B, 1, H, W] 1 where a box is, else 0.

        Raises:
            ValueError: another share.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"Occluders: share is {share:g}, expected 0 to 1")
        ends = [own[: round(share * len(own))] for own in self._sorted]
        limit = torch.stack([end[-1] if len(end) else -self._reach.new_ones(()) for end in ends])
        boxes = (self._reach <= limit[:, None, None])[:, None]
        return torch.where(boxes, self.filling.to(images), images), boxes.to(images)


def grainy(color: Tensor, texture: Tensor, size: Sequence[int]) -> Tensor:
    """Surfaces [B, 3, H, W] of a colour with some texture, as an occluder's are.

    Args:
        color: [B, 3].
        texture: [B, 3, h, w] in [0, 1].
        size: H and W.
    """
    grain = F.interpolate(texture - 0.5, tuple(size), mode="bilinear", align_corners=False)
    return (color[:, :, None, None] + 0.3 * grain).clamp(0, 1)


def _reach(shown: Tensor, where: Tensor, turn: Tensor, longer: Tensor) -> Tensor:
    """How large the box must be to reach each pixel [H, W]."""
    rows, columns = shown.nonzero(as_tuple=True)
    middle = min(int(where * len(rows)), len(rows) - 1)
    # Off the pixel's middle: opposite pixels would be equally far.
    y = torch.arange(shown.shape[0], device=shown.device)[:, None] - (rows[middle].double() + 0.2)
    x = torch.arange(shown.shape[1], device=shown.device) - (columns[middle].double() + 0.3)
    u, v = turn.cos() * x + turn.sin() * y, turn.cos() * y - turn.sin() * x
    stretch = longer.double().exp()
    return torch.maximum(u.abs() / stretch, v.abs() * stretch)
