"""Several groups of images through the encoder in one pass."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from mofa_nvdr.networks.encoder import Encoder


def encode_together(encoder: nn.Module, groups: dict[str, Tensor]) -> dict[str, Tensor]:
    """One pass of the encoder over several groups of images [N, 3, S, S].

    One, so that BatchNorm has the same statistics for a photograph and its mirror image, and that
    DistributedDataParallel exchanges gradients once. The groups are interleaved evenly: then the images of
    several processes, one process after the other, are in the order in which one process has them,
    which Dropout's masks are drawn in.
    """
    if len(groups) == 1:
        return {name: encoder(images) for name, images in groups.items()}
    own = cast(Encoder, getattr(encoder, "module", encoder))  # without DistributedDataParallel
    groups = {name: own.resize(images) for name, images in groups.items()}
    counts = [len(images) for images in groups.values()]
    common = math.lcm(*counts)
    places = [(2 * k + 1) * (common // n) for n in counts for k in range(n)]
    order = sorted(range(len(places)), key=places.__getitem__)
    images = torch.cat(list(groups.values()))[order]
    back = sorted(range(len(order)), key=order.__getitem__)
    return dict(zip(groups, encoder(images)[back].split(counts)))
