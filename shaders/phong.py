"""Phong's reflection model under point lights: per pixel, or per vertex by the same function.

    phong = albedo * (ambient + sum_l color_l max(0, n . l))
            + specular * sum_l color_l [n . l > 0] max(0, r . v) ** shininess,     r = 2 (n . l) n - l

with l towards the light, v towards the eye. No attenuation with distance, no cast shadows, not clamped.

`phong` is compiled for float32 on the CPU, forward and backward; `phong_ref` is the same in plain torch.

Source: Phong 1975, "Illumination for Computer Generated Pictures"; as the illumination model of a
differentiable renderer of faces: Genova et al. 2018, "Unsupervised Training for 3D Morphable Model
Regression", section on rendering.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mofa_nvdr.dr.parallel import compiles, run_on_threads
from mofa_nvdr.shaders.phong_kernels import (
    NO_LENGTH,
    NO_SHINE,
    phong_points,
    phong_points_backward,
    phong_rows,
    phong_rows_backward,
)
from mofa_nvdr.shaders.shader import Kernels, Parameter, Shader, at_points


@dataclass(frozen=True, eq=False)
class PhongLight:
    """What lights a batch of images, and how their surfaces shine.

    Attributes:
        positions: [B, L, 3] point lights in camera space, mm; L may be 0.
        colors: [B, L, 3] RGB, what a white surface that faces the light gets.
        ambient: [B, 3] RGB from everywhere; None: black.
        specular: [B, 3] colour of the highlights, or [B, V, 3] one for each vertex; None: no highlights.
        shininess: [B] or [B, V] exponent of the highlights, at least 0; given with specular.
    """

    positions: Tensor
    colors: Tensor
    ambient: Tensor | None = None
    specular: Tensor | None = None
    shininess: Tensor | None = None


def phong(
    normal: Tensor,
    albedo: Tensor,
    position: Tensor,
    light: PhongLight,
    distant_eye: bool = False,
) -> Tensor:
    """Shade a G-buffer or vertices under point lights.

    Convention: camera space, mm; the eye is the origin. A light, or the eye, nearer than 1e-6 mm has no
    direction, and lights nothing. There is no highlight where r . v is at most 1e-6, for any shininess
    (0 ** 0 is 0 here): otherwise the power's slope would have no bound.

    Args:
        normal: unit normals [B, ..., 3]; their length is not normalised here.
        albedo: RGB, shaped as `normal`.
        position: camera space, mm, shaped as `normal`.
        light: specular is [B, 3] or [B, ..., 3], shininess [B] or [B, ...]: for each image or each point.
        distant_eye: the eye is infinitely far along +z, as an orthographic camera's is.

    Returns:
        Colour [B, ..., 3], not clamped. Differentiable in everything (float32 on the CPU: once). The same
        bits for every thread count.

    Raises:
        ValueError: shapes disagree, or one of specular and shininess is given without the other.
        TypeError: dtypes disagree.

    Source: see the module.
    """
    _check(normal, albedo, position, light)
    if not compiles(normal):
        return phong_ref(normal, albedo, position, light, distant_eye)
    inputs = _inputs_from_afar if distant_eye else _inputs
    (*points, extra), of_images = inputs(normal, albedo, position, **_parts(light))
    flat = [t.flatten(1, -2) for t in (*points, extra)]
    colors: Tensor = _Phong.apply(*flat, *of_images)
    return colors.view(normal.shape)


def phong_ref(
    normal: Tensor,
    albedo: Tensor,
    position: Tensor,
    light: PhongLight,
    distant_eye: bool = False,
) -> Tensor:
    """`phong` in plain torch: every device and dtype, differentiable as often as one likes."""
    color = albedo * _shading(normal, position, light)
    if light.specular is None or light.shininess is None:
        return color
    view = normal.new_tensor([0.0, 0.0, 1.0]) if distant_eye else _direction(-position)
    specular = at_points(light.specular, normal)
    shininess = at_points(light.shininess[..., None], normal)
    for place, lamp in _lamps(light, normal):
        towards = _direction(place - position)
        cosine = _dot(normal, towards)
        mirror = 2 * cosine * _dot(normal, view) - _dot(towards, view)
        seen = (cosine > 0) & (mirror > NO_SHINE)
        # Where nothing is seen the power is of 1: its slopes are finite, and masked.
        power = torch.where(seen, mirror, torch.ones_like(mirror)) ** shininess
        color = color + specular * lamp * torch.where(seen, power, torch.zeros_like(power))
    return color


def _shading(normal: Tensor, position: Tensor, light: PhongLight) -> Tensor:
    """What multiplies the albedo: ambient and diffuse light, in plain torch."""
    total = torch.zeros_like(normal)
    if light.ambient is not None:
        total = total + at_points(light.ambient, normal)
    for place, lamp in _lamps(light, normal):
        total = total + lamp * _dot(normal, _direction(place - position)).clamp(min=0)
    return total


def _lamps(light: PhongLight, points: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Place and colour of each light, to go with points [B, ..., 3]."""
    pairs = zip(light.positions.unbind(1), light.colors.unbind(1))
    return [(at_points(place, points), at_points(color, points)) for place, color in pairs]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1, keepdim=True)


def _direction(vector: Tensor) -> Tensor:
    """The unit vector; zero, without a gradient, where there is no length."""
    squared = _dot(vector, vector)
    short = squared <= NO_LENGTH
    inverse = torch.where(short, torch.ones_like(squared), squared).rsqrt()
    return vector * torch.where(short, torch.zeros_like(squared), inverse)


def _parts(light: PhongLight) -> dict[str, Tensor]:
    """The parts that are given, by name."""
    given = {part.name: getattr(light, part.name) for part in fields(light)}
    return {name: value for name, value in given.items() if value is not None}


def _inputs(
    normal: Tensor,
    albedo: Tensor,
    position: Tensor,
    positions: Tensor,
    colors: Tensor,
    ambient: Tensor | None = None,
    specular: Tensor | None = None,
    shininess: Tensor | None = None,
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """What the kernels take: normal, albedo and `extra` of points; lights [B, L, 6] and constants."""
    constants = [normal.new_zeros(len(normal), 3) if ambient is None else ambient]
    extra = [position]
    if specular is not None and shininess is not None:
        if specular.ndim == position.ndim:
            extra.append(specular)
            specular = torch.zeros_like(constants[0])
        if shininess.ndim == position.ndim - 1:
            extra.append(shininess[..., None])
            shininess = torch.zeros_like(constants[0][:, 0])
        constants += [specular, shininess[:, None]]
    lights = torch.cat([positions, colors], dim=-1)
    joined = torch.cat(extra, dim=-1) if len(extra) > 1 else position
    return (normal, albedo, joined), (lights, torch.cat(constants, dim=-1))


def _inputs_from_afar(
    normal: Tensor, albedo: Tensor, position: Tensor, **parts: Tensor
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """As `_inputs`; an eighth constant tells the kernels that the eye is infinitely far along +z."""
    of_points, (lights, constants) = _inputs(normal, albedo, position, **parts)
    if constants.shape[1] > 3:  # only highlights ask for the eye
        constants = torch.cat([constants, torch.ones_like(constants[:, :1])], dim=1)
    return of_points, (lights, constants)


@dataclass(frozen=True)
class Phong(Shader):
    """The shader of `phong`; its light is a `PhongLight`."""

    name = "phong"
    parameters = (
        Parameter("positions", (("B", "L", 3),), "point lights, camera space, mm"),
        Parameter("colors", (("B", "L", 3),), "their RGB"),
        Parameter("ambient", (("B", 3),), "RGB from everywhere", optional=True),
        Parameter("specular", (("B", 3), ("B", "V", 3)), "RGB of the highlights", optional=True),
        Parameter("shininess", (("B",), ("B", "V")), "exponent, at least 0", optional=True),
    )
    kernels = Kernels(phong_rows, phong_rows_backward, _inputs)

    def colors(
        self, normal: Tensor, albedo: Tensor, position: Tensor, *_: Any, **parameters: Any
    ) -> Tensor:
        """`phong` of a light's parts."""
        return phong(normal, albedo, position, PhongLight(**parameters))

    def shading(self, normal: Tensor, position: Tensor, *_: Any, **parameters: Any) -> Tensor:
        """Ambient and diffuse light."""
        return _shading(normal, position, PhongLight(**parameters))

    def check(self, who: str, light: Any, points: Tensor) -> dict[str, Tensor]:
        """As every shader's; also, specular and shininess come together."""
        values = super().check(who, light, points)
        _check_pair(who, values.get("specular"), values.get("shininess"))
        return values

    def for_distant_eye(self) -> Shader:
        """The same model with parallel lines of sight."""
        return _PhongFromAfar()


@dataclass(frozen=True)
class _PhongFromAfar(Phong):
    """Phong under an orthographic camera."""

    kernels = Kernels(phong_rows, phong_rows_backward, _inputs_from_afar)

    def colors(
        self, normal: Tensor, albedo: Tensor, position: Tensor, *_: Any, **parameters: Any
    ) -> Tensor:
        """`phong` of a light's parts."""
        return phong(normal, albedo, position, PhongLight(**parameters), distant_eye=True)


class _Phong(torch.autograd.Function):
    """The compiled pass over points: float32 on the CPU."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        saved = [t.contiguous() for t in tensors]
        ctx.save_for_backward(*saved)
        out = torch.empty_like(saved[0])
        arrays, colors = [t.detach().numpy() for t in saved], out.numpy()
        items = [
            (*(a[b] for a in arrays), start, stop, colors[b])
            for b, _, start, stop in _halves(saved[0])
        ]
        run_on_threads(phong_points, items)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        saved = ctx.saved_tensors
        of_points = [torch.empty_like(t) for t in saved[:3]]
        sums = [np.zeros((len(t), 2, *t.shape[1:])) for t in saved[3:]]
        arrays = [t.detach().numpy() for t in (*saved, grad.contiguous())]
        outs = [t.numpy() for t in of_points]
        items = [
            (*(a[b] for a in arrays), start, stop, *(o[b] for o in outs), *(t[b, h] for t in sums))
            for b, h, start, stop in _halves(saved[0])
        ]
        run_on_threads(phong_points_backward, items)
        return (*of_points, *(torch.from_numpy(total.sum(1)).float() for total in sums))


def _halves(points: Tensor) -> list[tuple[int, int, int, int]]:
    """(image, half, start, stop): two fixed shares with sums of their own, whatever the number of threads."""
    batch, count = points.shape[:2]
    shares = [(0, 0, count // 2), (1, count // 2, count)]
    return [(b, *share) for b in range(batch) for share in shares]


def _check_pair(who: str, specular: Tensor | None, shininess: Tensor | None) -> None:
    if (specular is None) != (shininess is None):
        absent, present = ("specular", "shininess")[:: 1 if specular is None else -1]
        raise ValueError(
            f"{who}: light.{absent} is None, expected a tensor (light.{present} is given); give both "
            "or neither"
        )


def _check(normal: Tensor, albedo: Tensor, position: Tensor, light: PhongLight) -> None:
    if normal.ndim < 3 or normal.shape[-1] != 3:
        raise ValueError(f"phong: normal is {list(normal.shape)}, expected [B, ..., 3]")
    for name, value in (("albedo", albedo), ("position", position)):
        if value.shape != normal.shape:
            raise ValueError(
                f"phong: {name} is {list(value.shape)}, expected {list(normal.shape)} (as normal)"
            )
    parts = _parts(light)
    batch, points = normal.shape[0], normal.shape[:-1]
    lamps = (batch, *light.positions.shape[1:2], 3)
    expected: dict[str, tuple[str, list[tuple[int, ...]]]] = {
        "positions": ("[B, L, 3]", [lamps]),
        "colors": ("[B, L, 3] as the positions", [lamps]),
        "ambient": ("[B, 3]", [(batch, 3)]),
        "specular": ("[B, 3] or as normal", [(batch, 3), (*points, 3)]),
        "shininess": ("[B] or as normal without its last size", [(batch,), tuple(points)]),
    }
    for name, value in parts.items():
        text, shapes = expected[name]
        if tuple(value.shape) not in shapes:
            raise ValueError(
                f"phong: light.{name} is {list(value.shape)}, expected {text} with B = {batch} "
                "(from normal)"
            )
    _check_pair("phong", light.specular, light.shininess)
    dtypes = {t.dtype for t in (normal, albedo, position, *parts.values())}
    if len(dtypes) > 1:
        raise TypeError(
            f"phong: inputs are {', '.join(sorted(map(str, dtypes)))}, expected one dtype"
        )
