"""Spherical-harmonics light: basis, rotation, lamps, and the two encodings of colour.

Convention: a light is nine coefficients of incoming radiance per colour channel, [..., 9, 3], of
the real orthonormal spherical harmonics in the order (l, m) ascending: 1, y, z, x, xy, yz, 3z^2-1,
xz, x^2-y^2. Directions point towards the light, in camera space (x right, y up, z to the viewer).
The shading of a surface is the irradiance under it; Lambert's 1/pi is absorbed in the light's
scale, as in the paper.

Colours: photographs and albedo are gamma-encoded sRGB, treated as linear. Light probes are linear;
only `light_sources.load_light` brings the two together, by `encode_light`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Added to the ambient coefficient of every channel, outside the code (the paper's section 7).
AMBIENT_OFFSET = 0.7
# Constants of the nine functions, orthonormal on the sphere.
SH_CONSTANTS = (
    math.sqrt(1 / (4 * math.pi)),
    *(math.sqrt(3 / (4 * math.pi)),) * 3,
    math.sqrt(15 / (4 * math.pi)),
    math.sqrt(15 / (4 * math.pi)),
    math.sqrt(5 / (16 * math.pi)),
    math.sqrt(15 / (4 * math.pi)),
    math.sqrt(15 / (16 * math.pi)),
)
# What convolution with the clamped cosine makes of each band (Ramamoorthi and Hanrahan 2001, A_l).
COSINE_LOBE = (math.pi, *(2 * math.pi / 3,) * 3, *(math.pi / 4,) * 5)
# The same with the lobe folded in: the H_b of Eq. 4.
LAMBERT_CONSTANTS = tuple(k * a for k, a in zip(SH_CONSTANTS, COSINE_LOBE))
# Mean irradiance to which light probes and presets are exposed: the built-in skin then is about as bright as
# faces in photographs. Code zero itself, under the ambient offset, is darker (0.62).
DEFAULT_EXPOSURE = 0.8


def sh_basis(normals: Tensor) -> Tensor:
    """The nine functions H_b of Eq. 4, cosine lobe folded in: irradiance of unit coefficients.

    Args:
        normals: [..., 3] unit vectors.

    Returns:
        [..., 9].

    Raises:
        ValueError: the last dimension is not 3.
    """
    return _evaluate("sh_basis", normals, LAMBERT_CONSTANTS)


def sh_basis_radiance(directions: Tensor) -> Tensor:
    """The nine orthonormal functions themselves, without the lobe: radiance of unit coefficients.

    Args:
        directions: [..., 3] unit vectors.

    Returns:
        [..., 9].

    Raises:
        ValueError: the last dimension is not 3.
    """
    return _evaluate("sh_basis_radiance", directions, SH_CONSTANTS)


def _evaluate(who: str, directions: Tensor, constants: tuple[float, ...]) -> Tensor:
    if directions.ndim < 1 or directions.shape[-1] != 3:
        raise ValueError(
            f"{who}: directions are {list(directions.shape)}, expected [..., 3] unit vectors"
        )
    x, y, z = directions.unbind(-1)
    functions = [
        torch.ones_like(x), y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y
    ]  # fmt: skip
    return torch.stack(functions, dim=-1) * directions.new_tensor(constants)


def total_light(light: Tensor) -> Tensor:
    """Add the ambient offset to a code's light.

    Code zero is lit from everywhere: irradiance 0.7 * 0.886 = 0.62 on every normal.

    Args:
        light: [..., 9, 3], as in a code.

    Returns:
        [..., 9, 3], complete, as shaders take it.

    Raises:
        ValueError: the last dimensions are not [9, 3].
    """
    check_light("total_light", light)
    offset = light.new_zeros(9, 1)
    offset[0] = AMBIENT_OFFSET
    return light + offset


def ambient_light(irradiance: float = DEFAULT_EXPOSURE) -> Tensor:
    """White light [9, 3] that shades every normal by `irradiance`."""
    light = torch.zeros(9, 3)
    light[0] = irradiance / LAMBERT_CONSTANTS[0]
    return light


def directional_light(towards: Tensor) -> Tensor:
    """Distant white light from one direction, of irradiance 1 on a surface that faces it.

    Order 2 only approximates the clamped cosine: at cosine t a surface gets
    (3 + 16 t + 15 t^2) / 32, which is 17/16 where it faces the light, 1/16 where it faces away, and
    falls to -0.04 in between.

    Args:
        towards: [..., 3] direction to the light; any length but zero.

    Returns:
        [..., 9, 3].

    Raises:
        ValueError: the last dimension is not 3.
    """
    basis = sh_basis_radiance(F.normalize(towards, dim=-1))
    return basis[..., None].expand(*basis.shape, 3).clone()


def rotate_sh(coefficients: Tensor, rotation_matrix: Tensor) -> Tensor:
    """Turn a light: what came from direction d comes from R d afterwards. Exact, in float64 inside.

    Args:
        coefficients: [..., 9, 3], of radiance or of irradiance.
        rotation_matrix: [..., 3, 3]; leading dimensions broadcast against those of `coefficients`.

    Returns:
        [..., 9, 3] in the coefficients' dtype.

    Raises:
        ValueError: the last dimensions are not [9, 3] and [3, 3].
    """
    check_light("rotate_sh", coefficients, "coefficients")
    if rotation_matrix.ndim < 2 or rotation_matrix.shape[-2:] != (3, 3):
        raise ValueError(
            f"rotate_sh: rotation_matrix is {list(rotation_matrix.shape)}, expected [..., 3, 3]"
        )
    # The twelve corners of an icosahedron integrate polynomials to degree 5 exactly (a spherical
    # 5-design), and projecting order 2 on order 2 needs degree 4.
    corners = icosahedron().to(coefficients.device)
    turned = sh_basis_radiance(corners @ rotation_matrix.double())  # rows R^T d, [..., 12, 9]
    matrix = (4 * math.pi / 12) * (sh_basis_radiance(corners).mT @ turned)  # [..., 9, 9]
    return (matrix @ coefficients.double()).to(coefficients.dtype)


def icosahedron() -> Tensor:
    """The directions of an icosahedron's corners, float64 [12, 3]: the evenest 12 there are."""
    golden = (1 + math.sqrt(5)) / 2
    pairs = [(s, t * golden) for s in (-1, 1) for t in (-1, 1)]
    corners = [p for a, b in pairs for p in ((0, a, b), (a, b, 0), (b, 0, a))]
    return F.normalize(torch.tensor(corners, dtype=torch.float64), dim=-1)


def srgb_to_linear(color: Tensor) -> Tensor:
    """Decode sRGB values of any shape into linear light (IEC 61966-2-1); odd below zero."""
    size = color.abs()
    power = ((size.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(size <= 0.04045, size / 12.92, power) * color.sign()


def linear_to_srgb(color: Tensor) -> Tensor:
    """Encode linear light of any shape as sRGB values; undoes `srgb_to_linear`."""
    size = color.abs()
    power = 1.055 * size.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(size <= 0.0031308, size * 12.92, power) * color.sign()


def check_light(who: str, light: Tensor, name: str = "light") -> None:
    """Raise ValueError unless light is [..., 9, 3]; `who` begins the message."""
    if light.ndim < 2 or light.shape[-2:] != (9, 3):
        raise ValueError(f"{who}: {name} is {list(light.shape)}, expected [..., 9, 3]")
