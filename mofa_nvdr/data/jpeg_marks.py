"""What JPEG leaves of a picture: blocks, ringing, coarse colours; without a file, on any device."""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Steps of the coefficients at quality 50, rows from slow to fast downwards: ITU-T T.81, tables K.1 and K.2.
_BRIGHTNESS = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_COLOR = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99, *[99] * 32,
)  # fmt: skip
# Brightness and two differences of colour, from RGB: ITU-T T.871.
_FROM_RGB = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def with_jpeg_marks(picture: Tensor, quality: float) -> Tensor:
    """A picture as it comes back from a JPEG file with colours at half the size.

    Args:
        picture: [3, H, W] RGB in [0, 1].
        quality: 1 to 100, on the scale of the Independent JPEG Group's library.

    Returns:
        [3, H, W] in [0, 1]. No gradient: coefficients are rounded.

    Source: ITU-T T.81, the baseline process. What is left out changes less than a grey level: the rounding to
    bytes before and after.
    """
    height, width = picture.shape[1:]
    basis, steps, from_rgb, to_rgb = (t.to(picture) for t in _constants())
    scale = 50 / quality if quality < 50 else 2 - quality / 50
    steps = (steps * scale + 0.5).floor_().clamp_(1, 255)
    padded = F.pad(picture[None], (0, -width % 16, 0, -height % 16), "replicate")[0]
    planes = (255 * from_rgb @ padded.flatten(1)).view(padded.shape)
    bright = _quantized(planes[:1] - 128, basis, steps[0]) + 128
    colors = _quantized(F.avg_pool2d(planes[1:], 2), basis, steps[1])
    colors = F.interpolate(colors[None], scale_factor=2, mode="bilinear", align_corners=False)[0]
    back = (to_rgb / 255 @ torch.cat([bright, colors]).flatten(1)).view(padded.shape)
    return back[:, :height, :width].clamp(0, 1)


def _quantized(planes: Tensor, basis: Tensor, steps: Tensor) -> Tensor:
    """Planes [C, H, W] with the coefficients of their blocks rounded to whole steps [64]."""
    count, height, width = planes.shape
    blocks = planes.view(count, height // 8, 8, width // 8, 8).transpose(2, 3).reshape(-1, 64)
    coefficients = (blocks @ basis.T).div_(steps).round_().mul_(steps)
    blocks = (coefficients @ basis).view(count, height // 8, width // 8, 8, 8)
    return blocks.transpose(2, 3).reshape(count, height, width)


@functools.cache
def _constants() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cosines of a block [64, 64], steps at quality 50 [2, 64], colours there and back [3, 3]."""
    k = torch.arange(8, dtype=torch.float64)
    cosines = torch.cos(math.pi / 8 * k[:, None] * (k + 0.5)) / 2  # rows: from slow to fast
    cosines[0] *= math.sqrt(0.5)
    from_rgb = torch.tensor(_FROM_RGB, dtype=torch.float64)
    steps = torch.tensor([_BRIGHTNESS, _COLOR], dtype=torch.float64)
    return torch.kron(cosines, cosines), steps, from_rgb, torch.linalg.inv(from_rgb)
