"""Pictures under a Gaussian."""

from __future__ import annotations

import functools

import torch
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


@functools.lru_cache(maxsize=8)
def blur_matrix(size: int, sigma: float) -> Tensor:
    """The same Gaussian along one axis, with zeros beyond the edges, as a matrix.

    M X M^T is the picture X [..., S, S] under it: for a deviation that is a good part of the picture's side a
    product of matrices is far less work than a convolution.

    Returns:
        float32 [size, size], on the CPU.
    """
    reach = max(1, round(3 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    offset = torch.arange(size)[None] - torch.arange(size)[:, None] + reach
    inside = (offset >= 0) & (offset <= 2 * reach)
    return torch.where(inside, kernel[offset.clamp(0, 2 * reach)], 0.0).float()
