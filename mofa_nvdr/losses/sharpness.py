"""How sharp a picture is next to another of the same, and whether its edges are where the other's are."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr.losses.color_distance import sum_pixels


def gradient_sums(picture: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    """Sums of products of two pictures' gradients within a mask; `sharpness` and `edge_agreement` take them.

    Gradients are central differences of all three channels, at the pixels whose eight neighbours are in the
    mask and in the picture too: the outline of the mask does not count.

    Args:
        picture: [B, 3, H, W].
        reference: [B, 3, H, W], the photograph, or what else the picture should be.
        mask: [B, 1, H, W], 1 where pictures are compared.

    Returns:
        [B, 3]: of the picture with itself (its gradient energy), of the reference with itself, and of both.

    Raises:
        ValueError: shapes disagree.
    """
    want = [len(picture), 1, *picture.shape[2:]]
    if picture.shape != reference.shape or list(mask.shape) != want:
        raise ValueError(
            f"gradient_sums: picture is {list(picture.shape)}, reference {list(reference.shape)}, mask "
            f"{list(mask.shape)}; expected two pictures of one shape and a mask {want}"
        )
    inside = 1 - F.max_pool2d(1 - F.pad((mask > 0).to(picture), (1, 1, 1, 1)), 3, stride=1)
    inside = inside[:, 0, 1:-1, 1:-1]  # the pixels that have differences
    sums = []
    for a, b in ((picture, picture), (reference, reference), (picture, reference)):
        product = sum((p * q).sum(1) for p, q in zip(_differences(a), _differences(b)))
        sums.append(sum_pixels(product * inside))
    return torch.stack(sums, 1)


def sharpness(sums: Tensor) -> float:
    """Gradient energy of all pictures in units of their references'; NaN where these have no gradient.

    1: as much detail as in the reference, wherever it is; a blurred picture has less.

    Args:
        sums: [B, 3] of `gradient_sums`.
    """
    own, reference, _ = sums.double().sum(0).tolist()
    return own / reference if reference > 0 else math.nan


def edge_agreement(sums: Tensor) -> float:
    """Correlation of all pictures' gradients with their references': 1 where every edge is in its place.

    Args:
        sums: [B, 3] of `gradient_sums`.

    Returns:
        In [-1, 1]; NaN where either has no gradient.
    """
    own, reference, both = sums.double().sum(0).tolist()
    return both / math.sqrt(own * reference) if own * reference > 0 else math.nan


def _differences(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Across and down, [B, 3, H - 2, W - 2] each."""
    across = (picture[:, :, 1:-1, 2:] - picture[:, :, 1:-1, :-2]) / 2
    return across, (picture[:, :, 2:, 1:-1] - picture[:, :, :-2, 1:-1]) / 2
