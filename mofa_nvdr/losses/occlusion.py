"""Which pixels show the face, and which something in front of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mofa_nvdr.losses.color_distance import known_photo
from mofa_nvdr.render.blur import blurred

# Of a channel of the photograph about the rendering.
_LEAST_VARIANCE, _MOST_VARIANCE = 0.03**2, 0.09**2
_MEDIAN_SQUARED = 2.366  # of a squared normal vector of three numbers
_SMOOTH = 2.5 / 120  # deviation over which neighbours share what is in front of them, in sides
INLIERS = 0.9
"""Share of the face's pixels that are expected to show it."""


def inlier_probability(
    squared_distance: Tensor, variance: Tensor | float, inliers: float = INLIERS
) -> Tensor:
    """Probability that a pixel shows the face: a Gaussian of colour against anything at all.

    Of a pixel that shows the face the colour scatters about the rendered one by a normal distribution; of
    another it is any colour, each as likely.

    Args:
        squared_distance: of photograph and rendering in RGB, any shape.
        variance: of one channel of the photograph about the rendering; broadcast.
        inliers: prior share of inliers, in (0, 1).

    Returns:
        In [0, 1], of the shape of `squared_distance`.

    Raises:
        ValueError: a share that is not between 0 and 1.
    """
    if not 0 < inliers < 1:
        raise ValueError(f"inlier_probability: inliers is {inliers}, expected between 0 and 1")
    variance = torch.as_tensor(variance).to(squared_distance)
    log_odds = (
        math.log(inliers / (1 - inliers))
        - 1.5 * (2 * math.pi * variance).log()
        - squared_distance / (2 * variance)
    )
    return log_odds.sigmoid()


def visibility(
    squared: Tensor, mask: Tensor, scatter: Tensor, rounds: int = 3
) -> tuple[Tensor, Tensor]:
    """Where photographs show the faces that were rendered, and how far colours scatter there.

    Args:
        squared: distance of photograph and rendering in RGB, squared, [B, S, S].
        mask: 1 where there is a face and a photograph, [B, S, S].
        scatter: factors of the variance, [B or 1, S or 1, S or 1].
        rounds: of probabilities by the variance, and the variance by the probabilities (EM).

    Returns:
        Probabilities [B, S, S], smooth over neighbouring pixels, and the variance of one channel [B].
    """
    own = squared / scatter
    # To begin with by the median, which occluders of less than half a face do not move.
    inside = torch.where(mask > 0, own, torch.nan).flatten(1)
    variance = inside.nanmedian(1).values.nan_to_num(_MOST_VARIANCE) / _MEDIAN_SQUARED
    variance = variance.clamp(_LEAST_VARIANCE, _MOST_VARIANCE)
    sigma = _SMOOTH * squared.shape[-1]
    # Neighbours decide together: a lone pixel is noise.
    area = blurred(mask[:, None], sigma).clamp(min=1e-3)
    smooth = (blurred((own * mask)[:, None], sigma) / area)[:, 0]
    visible = mask
    for _ in range(rounds):
        visible = inlier_probability(smooth, variance[:, None, None])
        weight = visible * mask
        total = weight.flatten(1).sum(1)
        mean = (own * weight).flatten(1).sum(1) / (3 * total.clamp(min=1))
        # Of a face that nothing shows the scatter stays what it was.
        mean = torch.where(total < 1, variance, mean)
        variance = mean.clamp(_LEAST_VARIANCE, _MOST_VARIANCE)
    return visible, variance


@torch.no_grad()
def visible_weight(image: Tensor, photo: Tensor, mask: Tensor) -> Tensor:
    """How likely each pixel of a photograph shows the rendered face, for `losses.mofa.photometric_raster`.

    Args:
        image: the rendering [B, 3, S, S].
        photo: [B, 3, S, S]; NaN where there is none.
        mask: [B, 1, S, S], above 0 where the rendering shows a face.

    Returns:
        [B, 1, S, S] in [0, 1], without a gradient.
    """
    photo, known = known_photo(photo, None)
    squared = (image - photo).square().sum(1)
    inside = ((mask > 0) & known)[:, 0].to(squared)
    return visibility(squared, inside, squared.new_ones(1, 1, 1))[0][:, None]
