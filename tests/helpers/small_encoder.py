"""An encoder small enough for many runs a second, with all that makes a state: BatchNorm and dropout."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.networks.encoder import Encoder
from mofa_nvdr.runs.options import TrainConfig


class SmallTrunk(nn.Sequential):
    """Two convolutions and a dropout: [B, 3, H, W] to [B, 16]."""

    IMAGE_MEAN: ClassVar[tuple[float, float, float]] = (0.5, 0.5, 0.5)
    IMAGE_STD: ClassVar[tuple[float, float, float]] = (0.25, 0.25, 0.25)
    NUM_FEATURES: ClassVar[int] = 16
    MIN_SIZE: ClassVar[int] = 16
    CHANNELS_LAST: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 8, 5, 4, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, 2, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5),
        )  # fmt: skip


def small_encoder(config: TrainConfig, layout: CodeLayout) -> Encoder:
    """In place of objective.make_encoder; weights from torch's generator."""
    scale = {"rotation": 0.1, "light": 0.2, "shape": 0.2, "expression": 0.2}
    encoder = Encoder(SmallTrunk(), layout, scale)
    for part in encoder.head.parts.values():
        torch.nn.init.normal_(part.weight, std=0.02)
    return encoder
