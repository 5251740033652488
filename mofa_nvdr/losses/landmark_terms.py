"""Landmark terms next to the paper's: a detector's dense points, and how far eyes and mouths are open.

The second is as in DECA (Feng et al. 2021, Sec. 4.1) and SMIRK (Retsinas et al. 2024): of a pair of points
the way from one to the other counts, which an error of place does not change.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mofa_nvdr.face.dense_landmarks import DENSE_OPENINGS, NUM_DENSE, OVAL
from mofa_nvdr.face.landmarks import OPENINGS, PAPER_46

# mm: about the median spread; points that scatter less are not counted for much more, as the detector errs
# by as much in photographs.
_SPREAD = 2.0


def aligned(projected: Tensor, target: Tensor, weight: Tensor, unit: float) -> Tensor:
    """Weighted sum of squared distances between points, [B].

    Args:
        projected: [B, N, 2] pixels.
        target: [B, N, 2] pixels; NaN where there is none, which does not count.
        weight: [B, N] or [N].
        unit: pixels that count as 1.
    """
    known = target.isfinite().all(-1)
    target = torch.where(known[..., None], target, projected.detach())
    return (((projected - target) / unit).square().sum(-1) * weight * known).sum(1)


def dense_weights(spread: Tensor) -> Tensor:
    """How much each dense landmark counts: 1 / (1 + (spread / 2 mm)^2), scaled to a sum of 46.

    That is the inverse of a variance: of the point about its place, and of the detector in a photograph. The
    face's oval, which slides over the skin as the head turns, does not count. As the sum is that of the
    paper's 46 landmarks, a weight of the term means the same for both sets.

    Args:
        spread: [478] mm, of `face.dense_landmarks.DenseLandmarks`; 0 where a point has no place.

    Returns:
        [478].
    """
    counted = spread > 0
    counted[list(OVAL)] = False
    weight = counted / (1 + (spread / _SPREAD).square())
    return weight * (len(PAPER_46) / weight.sum().clamp(min=1e-6))


def openings(points: Tensor) -> Tensor:
    """From the upper to the lower points of lids and inner lips, [B, 7, 2].

    Args:
        points: [B, 68, 2] or [B, 478, 2], whose seven pairs are at the same places.
    """
    pairs = DENSE_OPENINGS if points.shape[1] == NUM_DENSE else OPENINGS
    upper, lower = torch.tensor(pairs, device=points.device).T
    return points[:, lower] - points[:, upper]


def opening_alignment(projected: Tensor, target: Tensor, confidence: Tensor, unit: float) -> Tensor:
    """How far the openings of eyelids and inner lips differ from landmarks': squared, a sum, [B].

    Args:
        projected: [B, 68, 2] pixels, of the model.
        target: [B, 68, 2] pixels; NaN where there is none.
        confidence: [B, 68] in [0, 1] of the target; the less sure point of a pair counts.
        unit: pixels that count as 1.
    """
    upper, lower = torch.tensor(OPENINGS, device=target.device).T
    weight = torch.minimum(confidence[:, upper], confidence[:, lower])
    return aligned(openings(projected), openings(target), weight, unit)


def dense_opening_alignment(
    projected: Tensor, dense: Tensor, known: Tensor, target: Tensor, unit: float
) -> Tensor:
    """`opening_alignment` with dense landmarks.

    Lower lids, which move over the eyeball, may have no place on the model: there its 68 landmarks, which lie
    on the lids' edges, stand in for both points of the pair.

    Args:
        projected: [B, 68, 2] pixels, of the model.
        dense: [B, 478, 2] pixels, of the model.
        known: [478] bool, which of these have a place.
        target: [B, 478, 2] pixels; NaN where there is none.
        unit: pixels that count as 1.
    """
    has_both = known[torch.tensor(DENSE_OPENINGS, device=known.device)].all(1)
    own = torch.where(has_both[:, None], openings(dense), openings(projected))
    return aligned(own, openings(target), torch.ones_like(own[0, :, 0]), unit)
