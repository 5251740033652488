"""Pictures under a Gaussian."""

from __future__ import annotations

from torch import Tensor


def blurred(picture: Tensor, sigma: float, border: str = "replicate") -> Tensor:
    """A picture under a Gaussian, by kornia.

    Args:
        picture: [B, C, H, W].
        sigma: deviation, px; 0: the picture as it is.
        border: what is beyond the edges, of kornia.filters: "replicate" or "constant" (zeros).

    Returns:
        [B, C, H, W].
    """
    if sigma <= 0:
        return picture
    from kornia.filters import gaussian_blur2d  # here: importing kornia takes a second

    side = 2 * max(1, round(3 * sigma)) + 1
    return gaussian_blur2d(picture, side, (sigma, sigma), border_type=border)
