"""Which detected mouths are shut, and the edges of a face model's lips that meet then.

The landmark network sees a gap between the lips of most shut mouths, the wider the thicker the lips: its
points lie on the lips' red, not on their edges. On 56 mouths that are shut by eye it is 0.10 of both lips'
height on average (deviation 0.09), on 152 that are not 0.37 (median). A mesh that follows it shows a line of
teeth.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mofa_nvdr.apply.learn_form import closed_and_open
from mofa_nvdr.apply.learn_lips import touching
from mofa_nvdr.face.dense_landmarks import DENSE_INNER_LIPS, NUM_DENSE
from mofa_nvdr.face.model import FaceModel

# Gaps, of the height of both lips: up to the first a mouth is shut, from the second on it is not. Below 0.2
# are 51 of the 56 and 12 of the 152, slits of a few pixels; below 0.25 are 55 and 20.
_SHUT, _OPEN = 0.2, 0.25
_BORDERS = (0, 17)  # the upper lip's upper border and the lower one's lower border, in the middle
_EVERY = 3  # of the edges' vertices: they lie 0.7 mm apart


def lip_edges(model: FaceModel) -> Tensor:
    """Vertices int64 [K, 2] of the upper and the lower lip's edge that are in one place on the mean face.

    None of a model whose mouth is open, or that has no expression jawOpen.
    """
    pairs = touching(model)
    if not len(pairs):
        return pairs
    across = model.mean_shape[pairs[:, 0], 0].argsort()
    pairs = pairs[across][::_EVERY]
    heights = closed_and_open(model)[:, 4][pairs]  # with an open jaw
    return torch.where(heights[:, :1] > heights[:, 1:], pairs, pairs.flip(1))


def lips_down(marks: Tensor) -> Tensor:
    """Unit vectors [B, 2] from the upper to the lower lip of 478 detected points [B, 478, 2]."""
    top, bottom = marks[:, list(_BORDERS)].unbind(1)
    return torch.nn.functional.normalize(bottom - top, dim=1)


def shut_share(marks: Tensor) -> Tensor:
    """How far detected mouths count as shut, [B] from 0 to 1.

    Args:
        marks: [B, N, 2] px. Only those of the network whose points these gaps are of, N = 478, can be shut;
            0 of others, and where one of the points is unknown.
    """
    if marks.shape[1] != NUM_DENSE:
        return marks.new_zeros(len(marks))
    top, bottom = marks[:, list(_BORDERS)].unbind(1)
    down = bottom - top
    upper, lower = torch.tensor(DENSE_INNER_LIPS, device=marks.device).T
    gap = (marks[:, lower] - marks[:, upper]).mean(1)
    # Along the lips' height, so that heads may be tilted; twice the length divides: a share of the height.
    share = (gap * down).sum(1) / down.square().sum(1)
    return ((_OPEN - share) / (_OPEN - _SHUT)).clamp(0, 1).nan_to_num(0.0)
