"""The colours of light sources by their temperature."""

from __future__ import annotations

import torch
from torch import Tensor

from mofa_nvdr.scene.light_sources import LUMINANCE
from mofa_nvdr.scene.lighting import linear_to_srgb

# Of linear sRGB by XYZ, IEC 61966-2-1.
_RGB_OF_XYZ = (
    (3.2406, -1.5372, -0.4986),
    (-0.9689, 1.8758, 0.0415),
    (0.0557, -0.2040, 1.0570),
)


def black_body_color(kelvin: Tensor) -> Tensor:
    """RGB of a glowing black body against daylight of 6500 K, [..., 3]: gamma-encoded, at luminance 1.

    It multiplies gamma-encoded albedo, as the lights of codes do. White is 1; a lamp of 2850 K is about
    (1.3, 0.94, 0.5).

    Args:
        kelvin: temperatures, 1667 to 25000.

    Raises:
        ValueError: a temperature beyond these.

    Source: Kim et al. 2002, cubic splines for the Planckian locus; below 1e-3 in x and y.
    """
    if not ((kelvin >= 1667) & (kelvin <= 25000)).all():
        raise ValueError(
            f"black_body_color: {kelvin.min():g} to {kelvin.max():g} K, expected 1667 to 25000"
        )
    t = 1000 / kelvin
    x = torch.where(
        kelvin < 4000,
        ((-0.2661239 * t - 0.2343589) * t + 0.8776956) * t + 0.179910,
        ((-3.0258469 * t + 2.1070379) * t + 0.2226347) * t + 0.240390,
    )
    warm = ((-0.9549476 * x - 1.37418593) * x + 2.09137015) * x - 0.16748867
    warmest = ((-1.1063814 * x - 1.34811020) * x + 2.18555832) * x - 0.20219683
    cool = ((3.0817580 * x - 5.87338670) * x + 3.75112997) * x - 0.37001483
    y = torch.where(kelvin < 2222, warmest, torch.where(kelvin < 4000, warm, cool))
    xyz = torch.stack([x / y, torch.ones_like(x), (1 - x - y) / y], -1)
    linear = (xyz @ kelvin.new_tensor(_RGB_OF_XYZ).T).clamp(min=0)
    linear = linear / (linear @ kelvin.new_tensor(LUMINANCE))[..., None]
    return linear_to_srgb(linear)
