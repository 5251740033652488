"""Linear light: nine coefficients for what comes from everywhere, lamps for what comes from one side.

`light_sources` has lights that shade gamma-encoded albedo, as codes do; here is light as a camera measures
it, for photographs in linear numbers. Directions as in `lighting`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr.scene.light_sources import (
    LUMINANCE,
    PRESETS,
    decode_light,
    light_from_probe,
)
from mofa_nvdr.scene.lighting import ambient_light, check_light, rotate_sh
from mofa_nvdr.scene.pose import axis_angle_to_matrix

_FRONT = math.radians(60)  # a light whose middle is further round than this is turned
_TURNED_TO = math.radians(40)  # to here, on its own side: where photographers put a main light
_LEAST_SIDED = 0.05  # below, a light comes from all sides alike, and is never turned


@dataclass(frozen=True)
class Illumination:
    """Distant linear light.

    Attributes:
        sh: [9, 3] coefficients of radiance.
        directions: [K, 3] towards lamps, unit.
        colors: [K, 3] irradiance of each lamp on a surface that faces it.
    """

    sh: Tensor
    directions: Tensor
    colors: Tensor

    @staticmethod
    def of_sh(sh: Tensor) -> Illumination:
        """Nine coefficients alone.

        Raises:
            ValueError: not [9, 3].
        """
        check_light("Illumination.of_sh", sh)
        return Illumination(sh.float(), torch.zeros(0, 3), torch.zeros(0, 3))

    def rotated(self, matrix: Tensor) -> Illumination:
        """What came from d comes from R d; exact."""
        return Illumination(
            rotate_sh(self.sh, matrix), self.directions @ matrix.T.to(self.directions), self.colors
        )

    def turned(self, angle: float) -> Illumination:
        """Turned about the vertical, radians: from the camera to the picture's right, and on behind."""
        return self.rotated(axis_angle_to_matrix(torch.tensor([[0.0, angle, 0.0]]))[0])

    def mirrored(self) -> Illumination:
        """Left and right exchanged."""
        signs = torch.ones(9)
        signs[[3, 4, 7]] = -1  # x, xy, xz
        return Illumination(
            self.sh * signs[:, None], self.directions * torch.tensor([-1.0, 1, 1]), self.colors
        )

    def grey(self) -> Illumination:
        """The same without colours, of the same luminance."""
        weights = torch.tensor(LUMINANCE)
        return replace(
            self,
            sh=(self.sh @ weights)[:, None].expand(9, 3).contiguous(),
            colors=(self.colors @ weights)[:, None].expand(-1, 3).contiguous(),
        )

    def middle(self) -> tuple[float, float]:
        """Where the light comes from on average about the vertical.

        Returns:
            azimuth in radians, 0 from the camera and positive from the picture's right; and how far it comes
            from there, 0 (from all sides alike) to 1.
        """
        x, _, z = self._mean_direction()
        return math.atan2(x, z), math.hypot(x, z)

    def upright(self) -> float:
        """How far the light comes from above, 0 to 1, or from below, 0 to -1."""
        return self._mean_direction()[1]

    def _mean_direction(self) -> tuple[float, float, float]:
        """Where the light comes from: the mean of directions by luminance, of a length up to 1."""
        weights = torch.tensor(LUMINANCE)
        first = (self.sh @ weights)[1:4][[2, 0, 1]] * math.sqrt(4 * math.pi / 3)  # x, y, z
        total = (self.sh @ weights)[0] * math.sqrt(4 * math.pi)
        lamps = self.colors @ weights
        first = first + (self.directions * lamps[:, None]).sum(0)
        x, y, z = (first / (total + lamps.sum()).clamp(min=1e-12)).tolist()
        return x, y, z

    def turn_to_front(self) -> float:
        """The angle for `turned` that brings a light from behind or aside before the face; 0: it is there."""
        azimuth, sided = self.middle()
        if sided < _LEAST_SIDED or abs(azimuth) <= _FRONT:
            return 0.0
        return math.copysign(_TURNED_TO, azimuth) - azimuth


def preset_illumination(name: str) -> Illumination:
    """A preset as linear light: its lamps as lamps, what comes from everywhere as the rest.

    Raises:
        KeyError: no preset of this name.
    """
    ambient, lamps = PRESETS[name]
    directions = torch.tensor([place for place, _ in lamps]).view(-1, 3)
    colors = torch.tensor([color for _, color in lamps]).view(-1, 3)
    return Illumination(ambient_light(ambient), F.normalize(directions, dim=1), colors)


def probe_illumination(panorama: Tensor) -> Illumination:
    """A light probe [H, W, 3], linear, as `light_from_probe` takes it, at unit mean luminance.

    Raises:
        ValueError: as `light_from_probe`, or it holds no light.
    """
    light = light_from_probe(panorama)
    mean = float(light[0] @ light.new_tensor(LUMINANCE))
    if not mean > 0:
        raise ValueError("the panorama is black: expected light in it")
    return Illumination.of_sh((light / mean).float())


def code_illumination(light: Tensor, color: bool = False) -> Illumination:
    """A complete light of a code, which shades gamma-encoded albedo, as linear light.

    Args:
        light: [9, 3], the ambient offset included.
        color: with its colours; of photographs they say little more than what skin and light leave open
            between them.
    """
    linear = Illumination.of_sh(decode_light(light))
    return linear if color else linear.grey()
