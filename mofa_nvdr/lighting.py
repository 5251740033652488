"""Spherical-harmonics light: basis, rotation, light probes, presets.

Convention: a light is nine coefficients of incoming radiance per colour channel, [..., 9, 3], of
the real orthonormal spherical harmonics in the order (l, m) ascending: 1, y, z, x, xy, yz, 3z^2-1,
xz, x^2-y^2. Directions point towards the light, in camera space (x right, y up, z to the viewer).
The shading of a surface is the irradiance under it; Lambert's 1/pi is absorbed in the light's
scale, as in the paper.

Colours: photographs and albedo are gamma-encoded sRGB, treated as linear. Light probes are linear;
only `load_light` brings the two together, by `encode_light`.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr.hdr import read_hdr

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
# Relative luminance of linear Rec. 709 (sRGB) primaries.
_LUMINANCE = (0.2126, 0.7152, 0.0722)


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
    _check_light("total_light", light)
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
    _check_light("rotate_sh", coefficients, "coefficients")
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


def panorama_directions(height: int, width: int) -> Tensor:
    """Directions of an equirectangular panorama's pixel centres, float64 [H, W, 3].

    Convention: the camera stands in the panorama and looks at its centre. So the centre column lies
    along -z (behind the face), the left and right edge along +z (behind the camera), the quarter
    right of the centre along +x; row 0 is up, +y.
    """
    elevation = (
        math.pi * (0.5 - (torch.arange(height, dtype=torch.float64) + 0.5) / height)[:, None]
    )
    azimuth = 2 * math.pi * ((torch.arange(width, dtype=torch.float64) + 0.5) / width - 0.5)
    flat = elevation.cos()
    y = elevation.sin().expand(height, width)
    return torch.stack([flat * azimuth.sin(), y, -flat * azimuth.cos()], dim=-1)


def light_from_probe(image: Tensor | np.ndarray) -> Tensor:
    """Project a light probe on the nine functions, by integration over the sphere.

    Every pixel counts with the exact solid angle of its row; the functions are taken at its centre,
    which costs about 5e-4 of the light at 64 rows and falls with the square of the rows.

    Args:
        image: [H, W, 3] equirectangular linear radiance, placed as `panorama_directions` says.

    Returns:
        [9, 3] float64 coefficients of radiance.

    Raises:
        ValueError: not [H, W, 3], or values that are not finite.
    """
    radiance = torch.as_tensor(image).to("cpu", torch.float64)
    if radiance.ndim != 3 or radiance.shape[2] != 3 or 0 in radiance.shape:
        raise ValueError(f"light_from_probe: image is {list(radiance.shape)}, expected [H, W, 3]")
    if not torch.isfinite(radiance).all():
        raise ValueError("light_from_probe: image holds values that are not finite")
    height, width = radiance.shape[:2]
    edges = torch.arange(height + 1, dtype=torch.float64) * (math.pi / height)  # from +y down
    solid_angle = (edges[:-1].cos() - edges[1:].cos()) * (2 * math.pi / width)  # [H], of one pixel
    directions = panorama_directions(height, width)
    light = torch.zeros(9, 3, dtype=torch.float64)
    # In bands of rows: the nine functions of a large panorama at once would fill the memory.
    for row in range(0, height, 64):
        band = slice(row, row + 64)
        weights = sh_basis_radiance(directions[band]) * solid_angle[band, None, None]
        light += weights.flatten(0, 1).mT @ radiance[band].flatten(0, 1)
    return light


def normalize_exposure(light: Tensor, irradiance: float = DEFAULT_EXPOSURE) -> Tensor:
    """Scale a light so that its irradiance, averaged over all normals, has a given luminance.

    Probes come in arbitrary units. The average over all normals does not change when the light is
    turned around the face, and needs the ambient coefficient alone.

    Args:
        light: [..., 9, 3], complete.
        irradiance: mean irradiance to reach; the default is that of the ambient offset.

    Returns:
        [..., 9, 3]; the colour is kept.

    Raises:
        ValueError: the last dimensions are not [9, 3], or the mean irradiance is not above zero.
    """
    _check_light("normalize_exposure", light)
    mean = LAMBERT_CONSTANTS[0] * (light[..., 0, :] @ light.new_tensor(_LUMINANCE))
    if not (mean > 0).all():
        raise ValueError(
            f"normalize_exposure: light has a mean irradiance of {mean.min().item():g}, "
            "expected more than 0"
        )
    return light * (irradiance / mean)[..., None, None]


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


def encode_light(light: Tensor) -> Tensor:
    """Turn a linear light into one that shades gamma-encoded albedo.

    A linear surface shows albedo * irradiance; encoded, that is nearly encoded albedo * encoded
    irradiance (exactly so, were sRGB a pure power). So the irradiance is encoded, normal by normal,
    negative lobes of order 2 cut off, and projected again: softer shadows and paler colour than in
    linear numbers.

    Args:
        light: [9, 3] linear.

    Returns:
        [9, 3].

    Raises:
        ValueError: not [9, 3].
    """
    if light.shape != (9, 3):
        raise ValueError(f"encode_light: light is {list(light.shape)}, expected [9, 3]")
    irradiance = sh_basis(panorama_directions(64, 128).to(light)) @ light
    encoded = light_from_probe(linear_to_srgb(irradiance.clamp(min=0)))
    return (encoded / torch.tensor(COSINE_LOBE, dtype=encoded.dtype)[:, None]).to(light)


def light_presets() -> dict[str, Tensor]:
    """Named lights, [9, 3] float32, exposed for an average face.

    Complete: no ambient offset is to be added. Left and right are the picture's: key_left brightens
    the picture's left.
    """

    def lamp(x: float, y: float, z: float, *color: float) -> Tensor:
        return directional_light(torch.tensor([x, y, z])) * torch.tensor(color)

    lights = {
        "front": ambient_light(0.30) + lamp(0, 0.2, 1, 0.45, 0.45, 0.45),
        "key_left": ambient_light(0.22) + lamp(-1, 0.5, 0.8, 0.75, 0.75, 0.75),
        "key_right": ambient_light(0.22) + lamp(1, 0.5, 0.8, 0.75, 0.75, 0.75),
        "top": ambient_light(0.22) + lamp(0, 1, 0.35, 0.85, 0.85, 0.85),
        "below": ambient_light(0.22) + lamp(0, -1, 0.6, 0.75, 0.75, 0.75),
        "rim": ambient_light(0.20)
        + lamp(-1, 0.3, -0.5, 0.8, 0.8, 0.8)
        + lamp(1, 0.3, -0.5, 0.8, 0.8, 0.8),
        "warm_cool": ambient_light(0.20)
        + lamp(-1, 0.3, 0.6, 0.80, 0.55, 0.35)
        + lamp(1, 0.3, 0.6, 0.30, 0.45, 0.75),
    }
    # Written for a light of the ambient offset, exposed as DEFAULT_EXPOSURE asks.
    gain = DEFAULT_EXPOSURE / (AMBIENT_OFFSET * LAMBERT_CONSTANTS[0])
    return {"ambient": ambient_light(), **{name: gain * light for name, light in lights.items()}}


def load_light(spec: str) -> Tensor:
    """The complete light, [9, 3] float32, that a preset's name or an .hdr panorama stands for.

    A panorama is projected (`light_from_probe`), encoded for gamma-encoded albedo (`encode_light`)
    and exposed to the mean irradiance of the ambient offset (`normalize_exposure`).

    Raises:
        ValueError: neither a preset nor a readable .hdr file, or a panorama without light.
    """
    presets = light_presets()
    if spec in presets:
        return presets[spec]
    if Path(spec).suffix.lower() not in (".hdr", ".pic", ".rgbe"):
        raise ValueError(
            f"{spec}: neither an .hdr light probe nor a preset; presets are {', '.join(presets)}"
        )
    image = read_hdr(spec)
    linear_exposure = srgb_to_linear(torch.tensor(DEFAULT_EXPOSURE)).item()
    try:
        # Encoding is not linear: it needs the right exposure before, and changes it a little.
        light = normalize_exposure(light_from_probe(image), linear_exposure)
        return normalize_exposure(encode_light(light)).float()
    except ValueError as error:
        raise ValueError(f"{spec}: {error}") from None


def _check_light(who: str, light: Tensor, name: str = "light") -> None:
    if light.ndim < 2 or light.shape[-2:] != (9, 3):
        raise ValueError(f"{who}: {name} is {list(light.shape)}, expected [..., 9, 3]")
