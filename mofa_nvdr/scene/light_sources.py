"""Where light comes from: light probes (.hdr, .exr), presets, files of nine coefficients."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.scene.lighting import (
    AMBIENT_OFFSET,
    COSINE_LOBE,
    DEFAULT_EXPOSURE,
    LAMBERT_CONSTANTS,
    ambient_light,
    check_light,
    directional_light,
    linear_to_srgb,
    sh_basis,
    sh_basis_radiance,
    srgb_to_linear,
)
from mofa_nvdr.scene.probe_files import is_probe, read_probe

# Relative luminance of linear Rec. 709 (sRGB) primaries.
LUMINANCE = (0.2126, 0.7152, 0.0722)
_Vector = tuple[float, float, float]


def _grey(value: float) -> _Vector:
    return (value, value, value)


# Presets: irradiance from everywhere, and lamps: (towards, irradiance of a surface that faces it).
PRESETS: dict[str, tuple[float, list[tuple[_Vector, _Vector]]]] = {
    "ambient": (DEFAULT_EXPOSURE, []),
    "front": (0.30, [((0, 0.2, 1), _grey(0.45))]),
    "key_left": (0.22, [((-1, 0.5, 0.8), _grey(0.75))]),
    "key_right": (0.22, [((1, 0.5, 0.8), _grey(0.75))]),
    "side_left": (0.10, [((-1, 0.3, 0.65), _grey(1.0))]),
    "side_right": (0.10, [((1, 0.3, 0.65), _grey(1.0))]),
    "top": (0.22, [((0, 1, 0.35), _grey(0.85))]),
    "below": (0.22, [((0, -1, 0.6), _grey(0.75))]),
    "rim": (0.20, [((-1, 0.3, -0.5), _grey(0.8)), ((1, 0.3, -0.5), _grey(0.8))]),
    "warm_cool": (
        0.20,
        [((-1, 0.3, 0.6), (0.80, 0.55, 0.35)), ((1, 0.3, 0.6), (0.30, 0.45, 0.75))],
    ),
}


def panorama_directions(height: int, width: int) -> Tensor:
    """Directions of an equirectangular panorama's pixel centres, float64 [H, W, 3].

    Convention: the camera is in the middle of the panorama and looks at its centre. So the centre column is
    along -z (behind the face), the left and right edge along +z (behind the camera), the quarter
    right of the centre along +x; row 0 is up, +y.
    """
    return _directions(height, width, range(height))


def _directions(height: int, width: int, rows: range) -> Tensor:
    """The same of some rows that follow each other."""
    row = torch.arange(rows.start, rows.stop, dtype=torch.float64)
    elevation = (math.pi * (0.5 - (row + 0.5) / height))[:, None]
    azimuth = 2 * math.pi * ((torch.arange(width, dtype=torch.float64) + 0.5) / width - 0.5)
    flat = elevation.cos()
    y = elevation.sin().expand(len(rows), width)
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
    radiance = torch.as_tensor(image).cpu()
    if radiance.ndim != 3 or radiance.shape[2] != 3 or 0 in radiance.shape:
        raise ValueError(f"light_from_probe: image is {list(radiance.shape)}, expected [H, W, 3]")
    if not torch.isfinite(radiance).all():
        raise ValueError("light_from_probe: image holds values that are not finite")
    height, width = radiance.shape[:2]
    edges = torch.arange(height + 1, dtype=torch.float64) * (math.pi / height)  # from +y down
    solid_angle = (edges[:-1].cos() - edges[1:].cos()) * (2 * math.pi / width)  # [H], of one pixel
    light = torch.zeros(9, 3, dtype=torch.float64)
    # In bands of rows: the nine functions of a large panorama at once would fill the memory.
    for row in range(0, height, 64):
        band = slice(row, row + 64)
        directions = _directions(height, width, range(height)[band])
        weights = sh_basis_radiance(directions) * solid_angle[band, None, None]
        light += weights.flatten(0, 1).mT @ radiance[band].double().flatten(0, 1)
    return light


def normalize_exposure(light: Tensor, irradiance: float = DEFAULT_EXPOSURE) -> Tensor:
    """Scale a light so that its irradiance, averaged over all normals, has a given luminance.

    Probes come in arbitrary units. The average over all normals does not change when the light is
    turned around the face, and needs the ambient coefficient alone.

    Args:
        light: [..., 9, 3], complete.
        irradiance: mean irradiance to reach; the default is DEFAULT_EXPOSURE, 0.8 (code zero has 0.62).

    Returns:
        [..., 9, 3]; the colour is kept.

    Raises:
        ValueError: the last dimensions are not [9, 3], or the mean irradiance is not above zero.
    """
    check_light("normalize_exposure", light)
    mean = LAMBERT_CONSTANTS[0] * (light[..., 0, :] @ light.new_tensor(LUMINANCE))
    if not (mean > 0).all():
        raise ValueError(
            f"normalize_exposure: light has a mean irradiance of {mean.min().item():g}, "
            "expected more than 0"
        )
    return light * (irradiance / mean)[..., None, None]


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
    return _recoded("encode_light", light, linear_to_srgb)


def decode_light(light: Tensor) -> Tensor:
    """Undo `encode_light`: a light that shades gamma-encoded albedo -> the linear one.

    The irradiance is decoded, normal by normal, and projected again on order 2. What order 2 cannot hold of
    it is lost: 0.5 to 8 % of the mean irradiance (root mean square over all normals; fits of 16 portraits).

    Args:
        light: [9, 3].

    Returns:
        [9, 3] linear.

    Raises:
        ValueError: not [9, 3].
    """
    return _recoded("decode_light", light, srgb_to_linear)


def _recoded(who: str, light: Tensor, curve: Callable[[Tensor], Tensor]) -> Tensor:
    """A light [9, 3] whose irradiance is that of another after a curve, normal by normal."""
    if light.shape != (9, 3):
        raise ValueError(f"{who}: light is {list(light.shape)}, expected [9, 3]")
    irradiance = sh_basis(panorama_directions(64, 128).to(light)) @ light
    bent = light_from_probe(curve(irradiance.clamp(min=0)))
    return (bent / torch.tensor(COSINE_LOBE, dtype=bent.dtype)[:, None]).to(light)


def light_presets() -> dict[str, Tensor]:
    """Named lights, [9, 3] float32, exposed for an average face.

    Complete: no ambient offset is to be added. Left and right are the picture's: key_left brightens
    the picture's left.
    """
    # Written for a light of the ambient offset, exposed as DEFAULT_EXPOSURE asks.
    gain = DEFAULT_EXPOSURE / (AMBIENT_OFFSET * LAMBERT_CONSTANTS[0])
    lights = {}
    for name, (ambient, lamps) in PRESETS.items():
        light = ambient_light(ambient)
        for towards, color in lamps:
            light = light + directional_light(torch.tensor(towards)) * torch.tensor(color)
        lights[name] = gain * light if lamps else light
    return lights


def load_light(spec: str) -> Tensor:
    """The complete light, [9, 3] float32, that a preset's name or a panorama (.hdr, .exr) stands for.

    A panorama is projected (`light_from_probe`), encoded for gamma-encoded albedo (`encode_light`)
    and exposed to a mean irradiance of DEFAULT_EXPOSURE, 0.8 (`normalize_exposure`).

    Raises:
        ValueError: neither a preset nor a readable panorama, or a panorama without light.
    """
    presets = light_presets()
    if spec in presets:
        return presets[spec]
    if not is_probe(spec):
        raise ValueError(
            f"{spec}: neither a light probe (.hdr, .exr) nor a preset; presets are {', '.join(presets)}"
        )
    image = read_probe(spec)
    linear_exposure = srgb_to_linear(torch.tensor(DEFAULT_EXPOSURE)).item()
    try:
        # Encoding is not linear: it needs the right exposure before, and changes it a little.
        light = normalize_exposure(light_from_probe(image), linear_exposure)
        return normalize_exposure(encode_light(light)).float()
    except ValueError as error:
        raise ValueError(f"{spec}: {error}") from None
