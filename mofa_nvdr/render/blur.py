"""Pictures under a Gaussian."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor


def blurred(picture: Tensor, sigma: float, border: str = "replicate") -> Tensor:
    """A picture under a Gaussian, cut off at three deviations.

    Not kornia's, which is the same and takes a second to import: every reconstruction blurs.

    Args:
        picture: [B, C, H, W].
        sigma: deviation, px; 0: the picture as it is.
        border: what is beyond the edges, of F.pad: "replicate", "reflect" or "constant" (zeros).

    Returns:
        [B, C, H, W].
    """
    if sigma <= 0:
        return picture
    weights = _gaussian(sigma).tolist()
    # One by one, a picture stays in the cache; its bits do not depend on the others.
    return torch.cat([_summed(_summed(p, weights, 2, border), weights, 3, border)
                      for p in picture.split(1)])  # fmt: skip


def _summed(picture: Tensor, weights: list[float], axis: int, border: str) -> Tensor:
    """Weighted sums of shifted pictures: several times as fast as a convolution of so few planes."""
    reach, length = len(weights) // 2, picture.shape[axis]
    padding = [0, 0, reach, reach] if axis == 2 else [reach, reach, 0, 0]
    padded = F.pad(picture, padding, border)
    total = weights[reach] * padded.narrow(axis, reach, length)
    for k in range(reach):  # the same weight on both sides
        both = padded.narrow(axis, k, length) + padded.narrow(axis, 2 * reach - k, length)
        total.add_(both, alpha=weights[k])
    return total


@functools.lru_cache(maxsize=8)
def blur_matrix(size: int, sigma: float) -> Tensor:
    """The same Gaussian along one axis, with zeros beyond the edges, as a matrix.

    M X M^T is the picture X [..., S, S] under it: for a deviation that is a good part of the picture's side a
    product of matrices is far less work than a convolution.

    Returns:
        float32 [size, size], on the CPU.
    """
    kernel = _gaussian(sigma)
    reach = len(kernel) // 2
    offset = torch.arange(size)[None] - torch.arange(size)[:, None] + reach
    inside = (offset >= 0) & (offset <= 2 * reach)
    return torch.where(inside, kernel[offset.clamp(0, 2 * reach)], 0.0).float()


def _gaussian(sigma: float) -> Tensor:
    """Weights [2 R + 1] of the pixels around one, float64."""
    reach = max(1, round(3 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / sigma) ** 2)
    return kernel / kernel.sum()
