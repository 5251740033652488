"""Two lamps at random, and how skin shines under them: faces lit as Genova et al. 2018 light theirs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.scene.camera import DEFAULT_POSITION
from mofa_nvdr.scene.color_temperature import black_body_color
from mofa_nvdr.shaders.phong import PhongLight

# Common sources, K: a tungsten bulb, halogen, a warm and a cool fluorescent tube, morning, flash, noon,
# an overcast sky, shade.
SOURCES = (2700, 3000, 3500, 4200, 4800, 5500, 6000, 6500, 7500)


@dataclass(frozen=True)
class LampPrior:
    """Distributions from which two lamps are drawn; uniform unless said otherwise. Ours: the paper has none.

    Attributes:
        distance: mm from the face.
        azimuth: largest angle to either side of the camera, radians.
        elevation: angles above the face, radians.
        exposure: what white skin that faces both lamps gets, the median.
        spread: of its logarithm, normal.
        ambient: share of the light that comes from everywhere.
        balance: how much of a source's colour the camera's white balance takes away.
        perturbed: largest relative change of each channel of each lamp.
        specular: c of `skin_highlights`.
        shininess: exponent of the highlights.
    """

    distance: tuple[float, float] = (2000.0, 5000.0)
    azimuth: float = math.radians(70)
    elevation: tuple[float, float] = (math.radians(-10), math.radians(60))
    exposure: float = 1.45
    spread: float = 0.15
    ambient: tuple[float, float] = (0.3, 0.6)
    balance: tuple[float, float] = (0.5, 0.9)
    perturbed: float = 0.05
    specular: float = 0.15
    shininess: tuple[float, float] = (8.0, 24.0)


def random_lamps(
    count: int, generator: np.random.Generator, prior: LampPrior | None = None
) -> PhongLight:
    """Draw light and shininess of `count` images on the CPU, float32; highlights are `skin_highlights`'.

    Both lamps of an image have one colour temperature, of `SOURCES`, a little perturbed each.
    """
    p = prior or LampPrior()

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.from_numpy(generator.random(shape, np.float32))

    azimuth, elevation = uniform(-p.azimuth, p.azimuth, count, 2), uniform(*p.elevation, count, 2)
    flat = elevation.cos()
    towards = torch.stack([flat * azimuth.sin(), elevation.sin(), flat * azimuth.cos()], -1)
    places = torch.tensor(DEFAULT_POSITION) + uniform(*p.distance, count, 2, 1) * towards
    kelvin = torch.tensor(SOURCES, dtype=torch.float32)[
        torch.from_numpy(generator.integers(len(SOURCES), size=count))
    ]
    left = 1 - uniform(*p.balance, count, 1)
    color = black_body_color(kelvin) ** left  # [B, 3]
    level = p.exposure * torch.from_numpy(
        np.exp(p.spread * generator.standard_normal((count, 1), np.float32))
    )
    ambient = uniform(*p.ambient, count, 1)
    first = uniform(0.2, 0.8, count, 1)
    share = torch.cat([first, 1 - first], 1)[..., None]  # [B, 2, 1]
    lamps = (level * (1 - ambient) * color)[:, None] * share
    return PhongLight(
        positions=places,
        colors=lamps * uniform(1 - p.perturbed, 1 + p.perturbed, count, 2, 3),
        ambient=level * ambient * color,
        shininess=uniform(*p.shininess, count),
    )


def skin_highlights(albedo: Tensor, specular: float = LampPrior.specular) -> Tensor:
    """Colours of highlights by the albedo of the same points: c (1 - albedo), of any shape.

    Source: the heuristic of Genova et al. 2018, section 3.2.1, as it is remembered: the text that we have
    lost the formula.
    """
    return specular * (1 - albedo)
