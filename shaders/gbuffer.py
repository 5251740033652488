"""The pass that shades a rasterized G-buffer: normals and albedo per pixel, light -> the picture.

`shade_gbuffer` is one compiled pass on the CPU in float32; `shade_gbuffer_ref` is the same in plain
torch, for every device and dtype, and says what is computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mofa_nvdr.shaders.sh_kernels import shade_rows, shade_rows_backward
from mofa_nvdr.shaders.sh_lambert import quadric, quadric_backward, sh_irradiance
from torch import Tensor
from torch.autograd.function import once_differentiable

from mofa_nvdr.dr.parallel import run

# Bands of rows with sums of their own for the light's gradient: fixed, so that the bits don't follow
# the number of threads.
_BANDS = 2

Shaded = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def shade_gbuffer(buffer: Tensor, rast: Tensor, light: Tensor) -> Shaded:
    """Shade interpolated normals and albedo under spherical-harmonics light, and turn the rows over.

    Args:
        buffer: [B, H, W, C], of `dr.interpolate`, row 0 at the bottom: normal (any length), albedo RGB,
            and C - 6 >= 0 further channels, which are passed on.
        rast: [B, H, W, 4] of `dr.rasterize`: says which pixels are covered; no gradient.
        light: [B, 9, 3] SH coefficients (sh_lambert).

    Returns:
        image, albedo, normal (unit), shading (irradiance): [B, 3, H, W]; the rest [B, C - 6, H, W]; mask
        [B, 1, H, W]. Row 0 at the top, zeros where nothing is drawn. Differentiable once in buffer and
        light.

    Source: Tewari et al. 2017, Eq. 4.
    """
    if buffer.device.type != "cpu" or buffer.dtype != torch.float32 or light.dtype != torch.float32:
        return shade_gbuffer_ref(buffer, rast, light)
    return _Shade.apply(buffer, rast, light)


def shade_gbuffer_ref(buffer: Tensor, rast: Tensor, light: Tensor) -> Shaded:
    """The twin of `shade_gbuffer` in plain torch."""
    covered = rast.detach()[..., 3:] > 0
    mask = covered.to(buffer.dtype)
    # Empty pixels get a normal that can be normalised; nothing shows there.
    facing = torch.tensor([0.0, 0.0, 1.0], dtype=buffer.dtype, device=buffer.device)
    normal = F.normalize(torch.where(covered, buffer[..., :3], facing), dim=-1)
    albedo = buffer[..., 3:6] * mask
    shading = sh_irradiance(normal, light) * mask
    image = albedo * shading  # Eq. 4
    planes = (image, albedo, normal * mask, shading, buffer[..., 6:] * mask, mask)
    one, two, three, four, five, six = (p.flip(1).permute(0, 3, 1, 2).contiguous() for p in planes)
    return one, two, three, four, five, six


class _Shade(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, buffer: Tensor, rast: Tensor, light: Tensor) -> Shaded:
        batch, height, width, channels = buffer.shape
        coefficients = quadric(light).contiguous()
        image, albedo, normal, shading = (torch.empty(batch, 3, height, width) for _ in range(4))
        rest = torch.empty(batch, channels - 6, height, width)
        mask = torch.empty(batch, 1, height, width)
        arrays = [t.numpy() for t in (image, albedo, normal, shading, rest, mask)]
        inputs = [t.detach().contiguous().numpy() for t in (buffer, rast, coefficients)]
        items = [
            (*(a[b] for a in inputs), start, stop, *(a[b] for a in arrays))
            for b in range(batch)
            for start, stop in _bands(height)
        ]
        run(shade_rows, items)
        ctx.save_for_backward(buffer, rast, coefficients)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(mask)
        return image, albedo, normal, shading, rest, mask

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor, None, Tensor]:
        buffer, rast, coefficients = ctx.saved_tensors
        batch, height = buffer.shape[:2]
        nothing = np.empty((batch, 0, 0, 0), np.float32)
        given = [nothing if g is None else g.contiguous().numpy() for g in grads[:5]]
        inputs = [t.detach().contiguous().numpy() for t in (buffer, rast, coefficients)]
        grad_buffer = torch.empty_like(buffer, memory_format=torch.contiguous_format)
        sums = np.empty((batch, _BANDS, 9, 3))
        out = grad_buffer.numpy()
        items = [
            (*(a[b] for a in inputs), *(g[b] for g in given), start, stop, out[b], sums[b, band])
            for b in range(batch)
            for band, (start, stop) in enumerate(_bands(height))
        ]
        run(shade_rows_backward, items)
        grad_light = quadric_backward(torch.from_numpy(sums.sum(1)).float())
        return grad_buffer, None, grad_light


def _bands(height: int) -> list[tuple[int, int]]:
    middle = height // 2
    return [(0, middle), (middle, height)]
