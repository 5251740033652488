"""How a batch of images is shared out to threads: whole images, and bands of rows of the odd ones.

A band is (image, first row, end row). Whole images are least work; the images that don't divide evenly
are cut, so that no thread waits for another's last image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

Band = tuple[int, int, int]

_FEW_IMAGES = 4  # below, two threads have work for half an image each


def forward_bands(num_images: int, height: int) -> list[Band]:
    """Bands for work in which no sum crosses pixels: their number follows the threads, and changes no bit."""
    num_threads = torch.get_num_threads()
    uneven = num_images % num_threads
    bands: list[Band] = []
    for image in range(num_images):
        pieces = num_threads if image >= num_images - uneven else 1
        bands += _pieces(image, height, max(1, min(pieces, height)))
    return bands


def gradient_bands(num_images: int, height: int) -> list[Band]:
    """Bands with sums of their own: two for each of a few images and for the last of an odd number.

    Their number follows from the shapes alone: the order of the sums must not follow the machine.
    """
    bands: list[Band] = []
    for image in range(num_images):
        odd = image == num_images - 1 and num_images % 2 == 1
        bands += _pieces(image, height, 2 if odd or num_images < _FEW_IMAGES else 1)
    return bands


def bands_of_images(bands: list[Band]) -> list[slice]:
    """Which of the bands, in their order, belong to image 0, 1, ..."""
    images = [image for image, _, _ in bands]
    starts = [images.index(image) for image in range(images[-1] + 1)]
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(images)])]


def band_items(
    bands: Sequence[Band],
    inputs: Sequence[np.ndarray],
    constants: Sequence[Any],
    outputs: Sequence[np.ndarray],
) -> list[tuple[Any, ...]]:
    """The arguments of a kernel for every band: inputs of its image, constants, its rows, outputs.

    Args:
        bands: of `forward_bands` or `gradient_bands`.
        inputs: [N, ...] each.
        constants: the same for all bands.
        outputs: [N, ...] each, of which a band fills its rows.

    Returns:
        for each band (*inputs[image], *constants, start, stop, *outputs[image]), as
        `parallel.run_on_threads` takes them.
    """
    return [
        (*(a[image] for a in inputs), *constants, start, stop, *(a[image] for a in outputs))
        for image, start, stop in bands
    ]


def _pieces(image: int, height: int, count: int) -> list[Band]:
    """Bands of about equal height; some are empty when there are fewer rows than bands."""
    edges = [height * piece // count for piece in range(count + 1)]
    return [(image, start, stop) for start, stop in zip(edges[:-1], edges[1:])]
