"""Lambertian shading under distant spherical-harmonics light: the paper's Eq. 4.

One function for a G-buffer [B, H, W, 3] and for vertices [B, V, 3]:

    sh_lambert = albedo * sh_irradiance(normal, light)

`sh_irradiance` is computed with its own backward formula, `sh_irradiance_ref` and `sh_lambert_ref`
are the same in plain torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mofa_nvdr.dr.bands import Band, bands_of_images, forward_bands, gradient_bands
from mofa_nvdr.dr.parallel import compiles, run_on_threads
from mofa_nvdr.scene.lighting import LAMBERT_CONSTANTS, sh_basis
from mofa_nvdr.shaders.gbuffer_kernels import shade_rows, shade_rows_backward
from mofa_nvdr.shaders.sh_kernels import (
    irradiance,
    irradiance_backward,
    lambert,
    lambert_backward,
)
from mofa_nvdr.shaders.shader import Kernels, Parameter, Shader

# Rows: the monomials 1, x, y, z, xy, yz, z^2, xz, x^2 - y^2. Columns: the coefficients of a light.
_TO_QUADRIC = torch.zeros(9, 9, dtype=torch.float64)
for _row, _column, _factor in (
    (0, 0, 1), (0, 6, -1), (1, 3, 1), (2, 1, 1), (3, 2, 1), (4, 4, 1), (5, 5, 1), (6, 6, 3),
    (7, 7, 1), (8, 8, 1),
):  # fmt: skip
    _TO_QUADRIC[_row, _column] = _factor * LAMBERT_CONSTANTS[_column]


def sh_lambert(normal: Tensor, albedo: Tensor, light: Tensor) -> Tensor:
    """Shade a G-buffer or vertices under distant light given as spherical harmonics.

    Convention: camera-space normals; coefficients are incoming radiance, orthonormal, in the order
    1, y, z, x, xy, yz, 3z^2-1, xz, x^2-y^2, complete (`lighting.total_light` adds a code's ambient
    offset); the cosine lobe is applied here. A light with only light[:, 0] = c shades every normal
    by 0.886 c.

    Args:
        normal: unit normals [B, ..., 3]; empty pixels may hold any finite vector, the caller masks.
        albedo: RGB reflectance in [0, 1], shaped as `normal`.
        light: coefficients [B, 9, 3], any sign.

    Returns:
        Colour [B, ..., 3] in the inputs' dtype, not clamped: it can leave [0, 1]. Differentiable
        once in normal (a free vector: its length is not normalised here), albedo and light.

    Raises:
        ValueError: shapes disagree.
        TypeError: dtypes disagree.

    Source: Tewari et al. 2017, Eq. 4, B = 3 bands.
    """
    _check("sh_lambert", normal, light, albedo)
    if compiles(normal, albedo, light):
        return _CompiledLambert.apply(normal, albedo, light)
    return albedo * _irradiance(normal, light)


def sh_irradiance(normal: Tensor, light: Tensor) -> Tensor:
    """Irradiance alone, the G-buffer's "shading": the sum of Eq. 4 without the albedo.

    Args:
        normal: unit normals [B, ..., 3].
        light: coefficients [B, 9, 3].

    Returns:
        [B, ..., 3], not clamped: order 2 can go a little below zero. Differentiable once.

    Raises:
        ValueError: shapes disagree.
        TypeError: dtypes disagree.
    """
    _check("sh_irradiance", normal, light)
    return _irradiance(normal, light)


def sh_lambert_ref(normal: Tensor, albedo: Tensor, light: Tensor) -> Tensor:
    """`sh_lambert` in plain torch, as Eq. 4 is printed; differentiable as often as one likes."""
    return albedo * sh_irradiance_ref(normal, light)


def sh_irradiance_ref(normal: Tensor, light: Tensor) -> Tensor:
    """`sh_irradiance` in plain torch: the nine functions of every normal, times the light."""
    return torch.einsum("b...k,bkc->b...c", sh_basis(normal), light)


def _irradiance(normal: Tensor, light: Tensor) -> Tensor:
    compiled = normal.device.type == "cpu" and normal.dtype == torch.float32
    return (_CompiledIrradiance if compiled else _Irradiance).apply(normal, light)


class _CompiledLambert(torch.autograd.Function):
    """Albedo times irradiance, one compiled pass: float32 on the CPU."""

    @staticmethod
    def forward(ctx: Any, normal: Tensor, albedo: Tensor, light: Tensor) -> Tensor:
        coefficients = quadric(light).contiguous()
        saved = (*(t.flatten(1, -2).contiguous() for t in (normal, albedo)), coefficients)
        out = torch.empty_like(saved[0])
        *arrays, target = (t.detach().numpy() for t in (*saved, out))
        run_on_threads(
            lambert,
            [
                (*(a[b] for a in arrays), start, stop, target[b])
                for b, start, stop in forward_bands(*out.shape[:2])
            ],
        )
        ctx.save_for_backward(*saved)
        return out.view(normal.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        saved = ctx.saved_tensors
        outs = [torch.empty_like(t) for t in saved[:2]]
        arrays = [t.detach().numpy() for t in (*saved, grad.flatten(1, -2).contiguous())]
        bands = gradient_bands(*saved[0].shape[:2])
        sums = np.empty((len(bands), 9, 3))
        targets = [t.numpy() for t in outs]
        run_on_threads(
            lambert_backward,
            [
                (*(a[b] for a in arrays), start, stop, *(t[b] for t in targets), own)
                for (b, start, stop), own in zip(bands, sums)
            ],
        )
        of_normal, of_albedo = (t.view(grad.shape) for t in outs)
        return of_normal, of_albedo, light_of_sums(sums, bands)


def light_of_sums(sums: np.ndarray, bands: list[Band]) -> Tensor:
    """The gradient of the light [B, 9, 3], from those of the quadric that `gradient_bands` added up."""
    totals = np.stack([sums[rows].sum(0) for rows in bands_of_images(bands)])
    return quadric_backward(torch.from_numpy(totals).float())


class _CompiledIrradiance(torch.autograd.Function):
    """Irradiance as a quadric in the normal, one compiled pass: float32 on the CPU."""

    @staticmethod
    def forward(ctx: Any, normal: Tensor, light: Tensor) -> Tensor:
        coefficients = quadric(light).contiguous()
        flat = normal.flatten(1, -2).contiguous()
        out = torch.empty_like(flat)
        arrays = [t.detach().numpy() for t in (flat, coefficients, out)]
        run_on_threads(
            irradiance,
            [
                (arrays[0][b], arrays[1][b], start, stop, arrays[2][b])
                for b in range(flat.shape[0])
                for start, stop in _halves(flat.shape[1])
            ],
        )
        ctx.save_for_backward(flat, coefficients)
        return out.view(normal.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        flat, coefficients = ctx.saved_tensors
        grad_normal = torch.empty_like(flat)
        grad_flat = grad.flatten(1, -2).contiguous()
        sums = np.empty((flat.shape[0], 2, 9, 3))
        arrays = [t.detach().numpy() for t in (flat, coefficients, grad_flat, grad_normal)]
        run_on_threads(
            irradiance_backward,
            [
                (*(a[b] for a in arrays[:3]), start, stop, arrays[3][b], sums[b, half])
                for b in range(flat.shape[0])
                for half, (start, stop) in enumerate(_halves(flat.shape[1]))
            ],
        )
        grad_light = quadric_backward(torch.from_numpy(sums.sum(1)).float())
        return grad_normal.view(grad.shape), grad_light


def _halves(count: int) -> list[tuple[int, int]]:
    """Two fixed shares with sums of their own: the bits must not follow the number of threads."""
    return [(0, count // 2), (count // 2, count)]


class _Irradiance(torch.autograd.Function):
    """Irradiance as a quadric in the normal, nine planes of monomials times nine rows of numbers.

    Planes [B, 9, P] rather than [B, P, 9] keep every elementwise step on contiguous memory.
    """

    @staticmethod
    def forward(ctx: Any, normal: Tensor, light: Tensor) -> Tensor:
        monomials = _monomials(normal.flatten(1, -2).mT)
        coefficients = quadric(light)
        ctx.save_for_backward(monomials, coefficients)
        return torch.bmm(monomials.mT, coefficients).view(normal.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        monomials, coefficients = ctx.saved_tensors
        grad_flat = grad.flatten(1, -2)  # [B, P, 3]
        grad_normal = grad_light = None
        if ctx.needs_input_grad[1]:
            grad_light = quadric_backward(torch.bmm(monomials, grad_flat))
        if ctx.needs_input_grad[0]:
            # d loss / d monomial, then the monomials' derivatives by x, y, z.
            planes = torch.bmm(coefficients[:, 1:], grad_flat.mT)  # [B, 8, P]
            _, x, y, z, *_ = monomials.unbind(1)
            gx, gy, gz, gxy, gyz, gzz, gxz, gdiff = planes.unbind(1)
            gx.addcmul_(y, gxy).addcmul_(z, gxz).addcmul_(x, gdiff, value=2)
            gy.addcmul_(x, gxy).addcmul_(z, gyz).addcmul_(y, gdiff, value=-2)
            gz.addcmul_(y, gyz).addcmul_(x, gxz).addcmul_(z, gzz, value=2)
            grad_normal = planes[:, :3].mT.contiguous().view(grad.shape)
        return grad_normal, grad_light


def _monomials(normal: Tensor) -> Tensor:
    """1, x, y, z, xy, yz, z^2, xz, x^2 - y^2 of normals [B, 3, P] -> [B, 9, P]."""
    batch, _, count = normal.shape
    planes = normal.new_empty(batch, 9, count)
    planes[:, 0] = 1
    planes[:, 1:4] = normal
    _, x, y, z, *products = planes.unbind(1)
    for out, a, b in zip(products, (x, y, z, x, x), (y, z, z, z, x)):
        torch.mul(a, b, out=out)
    products[4].addcmul_(y, y, value=-1)
    return planes


def quadric(light: Tensor) -> Tensor:
    """Coefficients [B, 9, 3] of the light -> of the monomials; 3z^2 - 1 goes to z^2 and to 1."""
    return _TO_QUADRIC.to(light) @ light


def quadric_backward(grad: Tensor) -> Tensor:
    """The transpose of `quadric`."""
    return _TO_QUADRIC.to(grad).mT @ grad


@dataclass(frozen=True)
class ShLambert(Shader):
    """The shader of `sh_lambert`; its light is the tensor of coefficients."""

    name = "sh_lambert"
    parameters = (
        Parameter("light", (("B", 9, 3),), "SH coefficients of the incoming radiance, complete"),
    )
    uses_position = False
    kernels = Kernels(
        shade_rows,
        shade_rows_backward,
        inputs=lambda normals, albedo, positions, light: ((normals, albedo), (light,)),
        prepare=quadric,
        restore=quadric_backward,
    )

    def colors(self, normal: Tensor, albedo: Tensor, position: Tensor, light: Tensor) -> Tensor:
        """Albedo times irradiance; the position is not used."""
        return sh_lambert(normal, albedo, light)

    def shading(self, normal: Tensor, position: Tensor, light: Tensor) -> Tensor:
        """The irradiance."""
        return sh_irradiance(normal, light)


def _check(who: str, normal: Tensor, light: Tensor, albedo: Tensor | None = None) -> None:
    if normal.ndim < 3 or normal.shape[-1] != 3:
        raise ValueError(f"{who}: normal is {list(normal.shape)}, expected [B, ..., 3]")
    if albedo is not None and albedo.shape != normal.shape:
        raise ValueError(
            f"{who}: albedo is {list(albedo.shape)}, expected {list(normal.shape)} (as normal)"
        )
    if light.shape != (normal.shape[0], 9, 3):
        raise ValueError(
            f"{who}: light is {list(light.shape)}, expected [B, 9, 3] with B = {normal.shape[0]} "
            "(from normal)"
        )
    dtypes = {t.dtype for t in (normal, albedo, light) if t is not None}
    if len(dtypes) > 1:
        raise TypeError(
            f"{who}: inputs are {', '.join(sorted(map(str, dtypes)))}, expected one dtype"
        )
