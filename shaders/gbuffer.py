"""The G-buffer of a rasterized mesh and its shading: normals and albedo per pixel, light -> the picture.

`shade_mesh` is one compiled pass on the CPU in float32; `shade_mesh_ref` is the same in steps, for every
device and dtype, and says what is computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mofa_nvdr.shaders.gbuffer_kernels import shade_rows, shade_rows_backward, split_sums
from mofa_nvdr.shaders.sh_lambert import quadric, quadric_backward, sh_irradiance
from torch import Tensor
from torch.autograd.function import once_differentiable

from mofa_nvdr import dr as default_dr
from mofa_nvdr.dr.bands import bands_of_images, forward_bands, gradient_bands
from mofa_nvdr.dr.parallel import compiles, run, workspace


@dataclass(frozen=True)
class GBuffer:
    """What each pixel sees; row 0 at the top, zeros where no triangle is.

    Attributes:
        albedo: [B, 3, H, W]. normal: [B, 3, H, W] unit. shading: [B, 3, H, W] irradiance.
        depth: [B, 1, H, W] distance along the viewing axis, mm.
        triangle_ids: [B, H, W] int64 index into the triangles, -1 where none is.
    """

    albedo: Tensor
    normal: Tensor
    shading: Tensor
    depth: Tensor
    triangle_ids: Tensor


def make_gbuffer(
    normals: Tensor,
    albedo: Tensor,
    vertices: Tensor,
    rast: Tensor,
    triangles: Tensor,
    light: Tensor,
    dr: ModuleType = default_dr,
) -> GBuffer:
    """Interpolate a mesh over its rasterization; as `shade_mesh`, with vertices [B, V, 3] in camera space."""
    attributes = torch.cat([normals, albedo, -vertices[..., 2:]], dim=-1).contiguous()
    buffer, _ = dr.interpolate(attributes, rast, triangles)
    covered = rast.detach()[..., 3:] > 0
    # Empty pixels get a normal that can be normalised; nothing shows there.
    facing = torch.tensor([0.0, 0.0, 1.0], dtype=buffer.dtype, device=buffer.device)
    normal = F.normalize(torch.where(covered, buffer[..., :3], facing), dim=-1)
    nothing = buffer.new_zeros(())
    shading = torch.where(covered, sh_irradiance(normal, light), nothing)
    normal = torch.where(covered, normal, nothing)
    planes = (buffer[..., 3:6], normal, shading, buffer[..., 6:])
    one, two, three, four = (p.flip(1).permute(0, 3, 1, 2).contiguous() for p in planes)
    return GBuffer(one, two, three, four, rast.detach()[..., 3].flip(1).long() - 1)


def shade_mesh(
    normals: Tensor,
    albedo: Tensor,
    rast: Tensor,
    triangles: Tensor,
    light: Tensor,
    dr: ModuleType = default_dr,
) -> tuple[Tensor, Tensor]:
    """Interpolate normals and albedo over the pixels, shade them, and turn the rows over.

    Args:
        normals: [B, V, 3]; their interpolation is normalised per pixel.
        albedo: [B, V, 3] RGB.
        rast: [B, H, W, 4] of `dr.rasterize` for these triangles, row 0 at the bottom.
        triangles: [T, 3] int32.
        light: [B, 9, 3] SH coefficients (sh_lambert).
        dr: the module with nvdiffrast's verbs.

    Returns:
        image [B, 3, H, W], mask [B, 1, H, W]: 1 where a triangle is. Row 0 at the top, zeros where nothing
        is drawn. Differentiable once in normals, albedo, light, and u and v of rast; the mask
        has no gradient. The same bits for every thread count.

    Source: Tewari et al. 2017, Eq. 4.
    """
    if dr is not default_dr or not compiles(normals, albedo, rast, light):
        return shade_mesh_ref(normals, albedo, rast, triangles, light, dr)
    return _Shade.apply(normals, albedo, rast, triangles, light)


def shade_mesh_ref(
    normals: Tensor,
    albedo: Tensor,
    rast: Tensor,
    triangles: Tensor,
    light: Tensor,
    dr: ModuleType = default_dr,
) -> tuple[Tensor, Tensor]:
    """The twin of `shade_mesh` in steps: the G-buffer, then albedo times irradiance."""
    buffer = make_gbuffer(normals, albedo, normals, rast, triangles, light, dr)
    image = buffer.albedo * buffer.shading  # Eq. 4
    return image, (buffer.triangle_ids[:, None] >= 0).to(image.dtype)


class _Shade(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, normals: Tensor, albedo: Tensor, rast: Tensor, triangles: Tensor, light: Tensor
    ) -> tuple[Tensor, Tensor]:
        batch, height, width, _ = rast.shape
        image, mask = torch.empty(batch, 3, height, width), torch.empty(batch, 1, height, width)
        coefficients = quadric(light).contiguous()
        saved = (normals.contiguous(), albedo.contiguous(), rast, triangles, coefficients)
        by_vertex, colors, raster, tri, quadrics = (t.detach().numpy() for t in saved)
        image_array, mask_array = image.numpy(), mask.numpy()
        items = [
            (by_vertex[b], colors[b], raster[b], tri, quadrics[b], start, stop, image_array[b],
             mask_array[b])
            for b, start, stop in forward_bands(batch, height)
        ]  # fmt: skip
        run(shade_rows, items)
        ctx.save_for_backward(*saved)
        ctx.mark_non_differentiable(mask)
        return image, mask

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_image: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        by_vertex, colors, raster, tri, quadrics = (t.detach().numpy() for t in saved)
        batch, height = raster.shape[:2]
        bands = gradient_bands(batch, height)
        light_sums = np.empty((len(bands), 9, 3))
        with_rast = ctx.needs_input_grad[2]
        grad_rast = torch.empty_like(saved[2]) if with_rast else None
        rast_out = raster if grad_rast is None else grad_rast.numpy()
        given = grad_image.contiguous().numpy()
        grad_normals, grad_albedo = (torch.empty_like(t) for t in saved[:2])
        with workspace(len(bands), by_vertex.shape[1], 8) as sums:
            items = [
                (by_vertex[b], colors[b], raster[b], tri, quadrics[b], given[b], start, stop,
                 with_rast, rast_out[b], sums[band], light_sums[band])
                for band, (b, start, stop) in enumerate(bands)
            ]  # fmt: skip
            run(shade_rows_backward, items)
            spans = bands_of_images(bands)
            outs = zip(spans, grad_normals.numpy(), grad_albedo.numpy())
            run(split_sums, [(sums[rows], *out) for rows, *out in outs])
        of_images = np.stack([light_sums[rows].sum(0) for rows in spans])
        grad_light = quadric_backward(torch.from_numpy(of_images).float())
        return grad_normals, grad_albedo, grad_rast, None, grad_light
