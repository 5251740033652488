"""One project's numbers in another's terms: light, camera space, landmarks.

Every converter has its formula in its docstring, works on tensors of any leading dimensions, and is
differentiable. Codes and checkpoints of Deep3DFaceRecon are in `deep3d_codes`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from mofa_nvdr.compat.inputs import floating, number

_ROOT3, _ROOT8 = math.sqrt(3), math.sqrt(8)
_PI = math.pi
_Entry = TypeVar("_Entry")


@dataclass(frozen=True)
class _LightConvention:
    """Place k of ours is `factors[k]` times coefficient `order[k]` of the peer, plus `offset` before."""

    factors: tuple[float, ...]
    order: tuple[int, ...] = tuple(range(9))
    flat: bool = False  # 27 numbers, nine of each channel
    offset: float = 0.0  # that the peer's shading adds to coefficient 0


_LIGHTS = {
    "ours": _LightConvention((1.0,) * 9),
    "deep3d": _LightConvention(
        (1, -_ROOT3, _ROOT3, -_ROOT3, _ROOT8, -_ROOT8, _ROOT8, -_ROOT8, _ROOT8),
        flat=True,
        offset=0.8,
    ),
    "deca": _LightConvention((1 / _PI, *(1.0,) * 8), order=(0, 2, 3, 1, 4, 6, 8, 5, 7)),
    "focus": _LightConvention(
        (1 / _PI, 1.5 / _PI, -1.5 / _PI, -1.5 / _PI, *(-4 / _PI,) * 2, *(4 / _PI,) * 3), flat=True
    ),
    "ramamoorthi": _LightConvention((1.0,) * 9),
    "irradiance": _LightConvention((1 / _PI, *(1.5 / _PI,) * 3, *(4 / _PI,) * 5)),
}
LIGHTS = tuple(_LIGHTS)

# Axes in ours (x right, y up, towards the viewer) and millimetres per unit.
_CAMERAS = {
    "ours": (1.0, 1.0, 1.0),
    "deep3d": (100.0, 100.0, -100.0),
    "focus": (1.0, -1.0, -1.0),
    "opencv": (1.0, -1.0, -1.0),
    "pytorch3d": (-1.0, 1.0, -1.0),
}
CAMERAS = tuple(_CAMERAS)

# (shift of x, sign of y, shift of y): ours = (x + shift, sign y + shift), those of sign -1 plus the height.
_LANDMARKS = {
    "ours": (0.0, 1.0, 0.0),
    "deep3d": (0.0, -1.0, 0.0),
    "deep3d_saved": (0.0, 1.0, 1.0),
    "focus": (0.5, 1.0, 0.5),
    "pixel_index": (0.5, 1.0, 0.5),
}
LANDMARKS = tuple(_LANDMARKS)


def convert_light(coefficients: Tensor, source: str, target: str = "ours") -> Tensor:
    """Spherical-harmonics light of one project as another's: both shade every normal alike.

    | name | shape | ours[k] = |
    |---|---|---|
    | ours | [..., 9, 3] | complete light of the shaders: incoming radiance, order (l, m) |
    | deep3d | [..., 27] | (gamma[k] + 0.8 for k = 0) times 1, -r3, r3, -r3, r8, -r8, r8, -r8, r8 |
    | deca | [..., 9, 3] | entries 0, 2, 3, 1, 4, 6, 8, 5, 7, the first times 1 / pi |
    | focus | [..., 27] | times 1, 3/2, -3/2, -3/2, -4, -4, 4, 4, 4, all by pi |
    | ramamoorthi | [..., 9, 3] | the same: L_lm, in axes x right, y up, z to the viewer |
    | irradiance | [..., 9, 3] | E_lm = A_l L_lm: divided by pi, 2 pi/3 (three times), pi/4 (five times) |

    with r3 and r8 the roots of 3 and 8. Deep3D's holds for 3DDFA-V3 too, DECA's for SMIRK, EMOCA and
    photometric_optimization. FOCUS's axes point down and away from the viewer; what its code adds to the
    ambient coefficient is part of it here, while Deep3D's 0.8 is not part of gamma. The light of our codes
    is `ours` less `lighting.AMBIENT_OFFSET` in the ambient coefficient.

    Args:
        coefficients: in the shape of the source.
        source: one of LIGHTS.
        target: one of LIGHTS.

    Returns:
        In the shape of the target.

    Raises:
        ValueError: an unknown name, or another shape.
        TypeError: not a tensor of floats.

    Source: the conversions were derived from what each project's code computes, and are tested on random
    normals; Ramamoorthi and Hanrahan 2001, "An Efficient Representation for Irradiance Environment Maps".
    """
    given, wanted = (_named("convert_light", _LIGHTS, name) for name in (source, target))
    floating("convert_light", "coefficients", coefficients)  # whole numbers would lose the factors
    expected = (27,) if given.flat else (9, 3)
    if coefficients.shape[-len(expected) :] != expected:
        raise ValueError(
            f"convert_light: coefficients are {list(coefficients.shape)}, expected [..., "
            f"{', '.join(map(str, expected))}] of {source}"
        )
    light = coefficients.unflatten(-1, (3, 9)).mT if given.flat else coefficients
    ambient = light.new_zeros(9, 1)
    ambient[0] = given.offset
    light = (light + ambient)[..., list(given.order), :]
    ratio = [a / b for a, b in zip(given.factors, wanted.factors)]
    light = light * light.new_tensor(ratio)[:, None]
    back = [wanted.order.index(k) for k in range(9)]
    ambient = light.new_zeros(9, 1)
    ambient[0] = wanted.offset
    light = light[..., back, :] - ambient
    return light.mT.flatten(-2) if wanted.flat else light


def convert_points(points: Tensor, source: str, target: str = "ours") -> Tensor:
    """Points in camera space, in another project's axes and unit; exact: signs and powers of ten.

    | name | axes | unit | ours = |
    |---|---|---|---|
    | ours | x right, y up, z to the viewer | mm | |
    | deep3d | x right, y up, z away (`to_camera`'s output) | dm | 100 x, 100 y, -100 z |
    | focus, opencv | x right, y down, z away | mm | x, -y, -z |
    | pytorch3d | x left, y up, z away | the caller's | -x, y, -z |

    Args:
        points: [..., 3].
        source: one of CAMERAS.
        target: one of CAMERAS.

    Raises:
        ValueError: an unknown name, or another shape.
        TypeError: not a tensor of floats.
    """
    given, wanted = (_named("convert_points", _CAMERAS, name) for name in (source, target))
    floating("convert_points", "points", points)
    if points.ndim < 1 or points.shape[-1] != 3:
        raise ValueError(f"convert_points: points are {list(points.shape)}, expected [..., 3]")
    return points * points.new_tensor([a / b for a, b in zip(given, wanted)])


def convert_landmarks(points: Tensor, height: int, source: str, target: str = "ours") -> Tensor:
    """Landmarks in pixels, in another project's frame.

    | name | frame | ours = |
    |---|---|---|
    | ours | x right, y down, (0, 0) the top left corner, a pixel's centre at + 0.5 | |
    | deep3d | y up from the bottom edge (its model's output) | x, height - y |
    | deep3d_saved | as its files hold them: row = height - 1 - y | x, y + 1 |
    | focus, pixel_index | a pixel's centre at its index | x + 0.5, y + 0.5 |

    Args:
        points: [..., 2].
        height: of the picture in pixels.
        source: one of LANDMARKS.
        target: one of LANDMARKS.

    Raises:
        ValueError: an unknown name, or another shape.
        TypeError: points that are not a tensor, or a height that is no number.
    """
    given, wanted = (_named("convert_landmarks", _LANDMARKS, name) for name in (source, target))
    if not isinstance(points, Tensor):
        raise TypeError(
            f"convert_landmarks: points is a {type(points).__name__}, expected a torch.Tensor"
        )
    number("convert_landmarks", "height", height)
    if points.ndim < 1 or points.shape[-1] != 2:
        raise ValueError(f"convert_landmarks: points are {list(points.shape)}, expected [..., 2]")
    x, y = points.unbind(-1)
    for (shift, sign, up), inverse in ((given, False), (wanted, True)):
        fixed = up + (height if sign < 0 else 0)
        x = x - shift if inverse else x + shift
        y = (y - fixed) * sign if inverse else sign * y + fixed
    return torch.stack([x, y], dim=-1)


def _named(who: str, table: dict[str, _Entry], name: str) -> _Entry:
    if name not in table:
        raise ValueError(f"{who}: unknown convention {name!r}, expected one of {', '.join(table)}")
    return table[name]
