"""Codes of random people: shape, expression, pose and light as in portraits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.data.crop_tables import DataError
from mofa_nvdr.data.synthetic.habits import ExpressionHabits
from mofa_nvdr.face.code import CodeLayout, FaceCode
from mofa_nvdr.scene.light_sources import load_light
from mofa_nvdr.scene.lighting import AMBIENT_OFFSET, directional_light, rotate_sh, total_light
from mofa_nvdr.scene.pose import axis_angle_to_matrix


@dataclass(frozen=True)
class CodePrior:
    """Distributions from which random faces are drawn; zero-mean normal unless said otherwise.

    The spreads of the pose are those of 10,000 portraits in the training framing, from a fit of the mean
    face to their landmarks; normal numbers of the pose are cut at 2.5 standard deviations.
    """

    shape: float = 0.8  # standard deviations of the face model
    expression: float = 0.7  # of a model without named blendshapes
    neutral: float = 0.3  # share of the faces with a quarter of the expression
    unnamed: float = 0.3  # deviations, added to named blendshapes (habits.py)
    albedo: float = 1.0
    pitch: float = math.radians(13)
    yaw: float = math.radians(14)
    aside: float = 0.15  # share of the faces that turn 1.7 times as far
    roll: float = math.radians(6)
    sideways: float = 12.0  # mm, x and y
    depth: float = 69.0  # mm
    exposure: float = 1.45  # median of the light against code zero's: photographs are brighter
    ambient: float = 0.15  # of the logarithm of the ambient light
    tint: float = 0.05  # of each channel of the ambient light, and twice as much of the key light
    key: tuple[float, float] = (0.0, 0.8)  # strength of one directional light, uniform
    key_azimuth: float = math.radians(50)
    key_elevation: float = math.radians(25)  # about 20 degrees above
    second: float = 0.08  # of each second-order coefficient, in units of the ambient light
    probes: float = 0.5  # share of the lights that come from probes where there are any

    def with_pose(self, spread: float) -> CodePrior:
        """The same with all deviations of rotation and translation times `spread`."""
        names = ("pitch", "yaw", "roll", "sideways", "depth")
        return replace(self, **{name: spread * getattr(self, name) for name in names})


def random_codes(
    layout: CodeLayout,
    count: int,
    generator: np.random.Generator | Sequence[np.random.Generator],
    prior: CodePrior | None = None,
    lights: Sequence[Tensor] = (),
    habits: ExpressionHabits | None = None,
) -> FaceCode:
    """Draw face codes on the CPU.

    Args:
        layout: sizes of the code.
        count: number of faces of each generator.
        generator: source of randomness; of several each draws faces of its own, to the last bit those that it
            draws alone.
        prior: distributions.
        lights: complete lights [9, 3] (`light_sources.load_light`) for a share `prior.probes` of the faces,
            each turned about the vertical axis at random and as bright as the prior says.
        habits: of the face model's named blendshapes; None: normal coefficients.

    Returns:
        Codes of all B faces, float32.
    """
    p = prior or CodePrior()
    generators = [generator] if isinstance(generator, np.random.Generator) else list(generator)

    # Before they are rounded, in float64: sines of a number alone and of one in a row have other last bits.
    def normal(*shape: int) -> Tensor:
        drawn = [g.standard_normal((count, *shape), np.float32) for g in generators]
        return torch.from_numpy(np.concatenate(drawn)).double()

    def uniform(*shape: int) -> Tensor:
        drawn = [g.random((count, *shape), np.float32) for g in generators]
        return torch.from_numpy(np.concatenate(drawn)).double()

    rotation = normal(3).clamp(-2.5, 2.5) * torch.tensor([p.pitch, p.yaw, p.roll])
    rotation[:, 1] *= 1 + 0.7 * (uniform() < p.aside)
    translation = normal(3).clamp(-2.5, 2.5) * torch.tensor([p.sideways] * 2 + [p.depth])
    strength = p.key[0] + (p.key[1] - p.key[0]) * uniform(1, 1)
    azimuth = p.key_azimuth * normal()
    elevation = math.radians(20) + p.key_elevation * normal()
    towards_key = torch.stack(
        [
            elevation.cos() * azimuth.sin(),
            elevation.sin(),
            elevation.cos() * azimuth.cos(),
        ],
        dim=1,
    )
    light = strength * directional_light(towards_key)
    light = light * (1 + 2 * p.tint * normal(1, 3)).clamp(min=0)
    level = p.exposure * (p.ambient * normal(1)).exp()  # [B, 1]
    ambient = AMBIENT_OFFSET * (level * (1 + p.tint * normal(3)) - 1)
    # What the key light adds on average is taken from the ambient light: faces stay well exposed.
    light[:, 0] += ambient - 0.5 * light[:, 0]
    light[:, 4:] += p.second * AMBIENT_OFFSET * level[..., None] * normal(5, 1)

    # Drawn without probes too: the other parts of a code do not depend on them.
    which, turn, tilt = uniform(2), 2 * math.pi * uniform(), 0.15 * normal()
    if lights:
        turned = torch.stack([tilt, turn, 0 * turn], dim=1)
        chosen = torch.stack(
            [lights[int(k)] for k in (which[:, 1] * len(lights)).tolist()]
        ).double()
        chosen = rotate_sh(chosen, axis_angle_to_matrix(turned)) * level[..., None]
        chosen = chosen - total_light(torch.zeros(9, 3).double())
        light = torch.where((which[:, 0] < p.probes)[:, None, None], chosen, light)
    amount = torch.where(uniform(1) < p.neutral, 0.25, 1.0)
    shape, expression = normal(layout.num_shape), normal(layout.num_expression)
    if habits is None:
        expression = p.expression * expression
    else:
        each = [g for g in generators for _ in range(count)]
        expression = p.unnamed * expression + habits.draw(each)
    return FaceCode(
        shape=p.shape * shape,
        expression=amount * expression,
        albedo=p.albedo * normal(layout.num_albedo),
        rotation=rotation,
        translation=translation,
        light=light,
    ).map(Tensor.float)


def load_lights(folder: str) -> list[Tensor]:
    """Complete lights [9, 3] of all .hdr probes in a folder, in the order of their names.

    Raises:
        DataError: no such folder, or no .hdr file in it.
        ValueError: a file that is no light probe.
    """
    if not Path(folder).is_dir():
        raise DataError(f"{folder}: no such folder of .hdr light probes")
    files = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() == ".hdr")
    if not files:
        raise DataError(f"{folder}: no .hdr light probes in this folder")
    return [load_light(str(path)) for path in files]
