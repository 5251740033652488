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
from mofa_nvdr.shaders.gbuffer_kernels import (
    camera_to_clip,
    clip_to_camera,
    shade_rows,
    shade_rows_backward,
)
from mofa_nvdr.shaders.sh_lambert import quadric, quadric_backward, sh_irradiance
from torch import Tensor
from torch.autograd.function import once_differentiable

from mofa_nvdr import dr as default_dr
from mofa_nvdr.dr.bands import bands_of_images, forward_bands, gradient_bands
from mofa_nvdr.dr.context import check_triangles, common_device
from mofa_nvdr.dr.parallel import compiles, run
from mofa_nvdr.dr.rasterize_kernels import rasterize_band
from mofa_nvdr.dr.vertex_sums import sum_by_vertex

_COLUMNS = 8  # of a vertex's sums: six numbers, and two that fill its cache line


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


def draw_mesh(
    vertices: Tensor,
    triangles: Tensor,
    normals: Tensor,
    albedo: Tensor,
    light: Tensor,
    size: tuple[int, int],
    clip_coefficients: tuple[float, float, float, float],
) -> tuple[Tensor, Tensor, Tensor]:
    """Clip space, `dr.rasterize` and `shade_mesh` in one, for float32 on the CPU.

    Each band of rows is shaded while it is hot, and what the vertices' places get goes back in one pass.

    Args:
        vertices: [B, V, 3] camera space, looking down -z.
        triangles: [T, 3] int32.
        normals: [B, V, 3]; this and the following as in `shade_mesh`.
        albedo: [B, V, 3].
        light: [B, 9, 3].
        size: (height, width).
        clip_coefficients: (sx, sy, sz, tz) of clip space (sx x, sy y, sz z + tz, -z).

    Returns:
        image [B, 3, H, W] and mask [B, 1, H, W] of `shade_mesh`, and rast [B, H, W, 4]. Differentiable
        once, in vertices too, as far as nvdiffrast's rasterization is.

    Raises:
        RuntimeError: the triangles' shape, dtype, device or memory layout is not as above.
    """
    common_device("draw_mesh", vertices=vertices, triangles=triangles)
    check_triangles("draw_mesh", triangles)
    return _Draw.apply(
        vertices, None, (len(vertices), *size), clip_coefficients, normals, albedo, triangles, light
    )


def _clip_space(points: np.ndarray, clip_coefficients: tuple[float, ...]) -> np.ndarray:
    """[V, 3] -> [V, 4], with memory of its own: made where it is used, while that is hot."""
    pos = np.empty((len(points), 4), np.float32)
    camera_to_clip(points, *clip_coefficients, pos)
    return pos


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
    rast = rast.contiguous()
    image, mask, _ = _Draw.apply(
        None, rast, tuple(rast.shape[:3]), (), normals, albedo, triangles, light
    )
    return image, mask


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


class _Draw(torch.autograd.Function):
    """Rasterize the vertices and shade, band by band; or shade `rast` where that is given instead."""

    @staticmethod
    def forward(
        ctx: Any,
        vertices: Tensor | None,
        rast: Tensor | None,
        size: tuple[int, int, int],
        clip_coefficients: tuple[float, ...],
        normals: Tensor,
        albedo: Tensor,
        triangles: Tensor,
        light: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch, height, width = size
        image, mask = (normals.new_empty(batch, channels, height, width) for channels in (3, 1))
        drawn = normals.new_empty(batch, height, width, 4) if rast is None else rast
        coefficients = quadric(light).contiguous()
        saved = (normals.contiguous(), albedo.contiguous(), drawn, triangles, coefficients)
        by_vertex, colors, raster, tri, quadrics = (t.detach().numpy() for t in saved)
        points = None if vertices is None else vertices.detach().contiguous().numpy()
        image_array, mask_array = image.numpy(), mask.numpy()
        no_db, nothing_in_front = (
            np.empty((height, width, 0), np.float32),
            np.empty((0, 0), np.int64),
        )

        def draw(b: int, start: int, stop: int) -> None:
            if points is not None:
                pos = _clip_space(points[b], clip_coefficients)
                rasterize_band(
                    pos, tri, 0, len(tri), height, width, start, stop, nothing_in_front, raster[b],
                    no_db,
                )  # fmt: skip
            shade_rows(
                by_vertex[b], colors[b], raster[b], tri, quadrics[b], start, stop,
                image_array[b], mask_array[b],
            )  # fmt: skip

        run(draw, forward_bands(batch, height))
        ctx.save_for_backward(vertices, *saved)
        ctx.clip_coefficients = clip_coefficients
        ctx.mark_non_differentiable(mask)
        ctx.set_materialize_grads(False)
        return image, mask, drawn

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_image: Tensor | None, _: Tensor, grad_drawn: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        vertices, *saved = ctx.saved_tensors
        by_vertex, colors, raster, tri, quadrics = (t.detach().numpy() for t in saved)
        batch, height, width, _ = raster.shape
        bands = gradient_bands(batch, height)
        light_sums = np.zeros((len(bands), 9, 3))
        if grad_image is None:
            grad_image = saved[0].new_zeros(batch, 3, height, width)
        given = grad_image.contiguous().numpy()
        nothing, no_pos = np.empty((0, 0, 0), np.float32), np.empty((0, 0), np.float32)
        no_sums = np.empty((0, 0))
        with_drawn = grad_drawn is not None
        of_drawn = nothing if grad_drawn is None else grad_drawn.contiguous().numpy()
        with_vertices, with_rast = ctx.needs_input_grad[:2]
        grad_rast = torch.empty_like(saved[2]) if with_rast else None
        rast_out = nothing if grad_rast is None else grad_rast.numpy()
        grad_normals, grad_albedo = (torch.empty_like(t) for t in saved[:2])
        groups = [(_COLUMNS, [grad_normals.numpy(), grad_albedo.numpy()])]
        grad_vertices = None
        if with_vertices:
            grad_vertices, points = torch.empty_like(saved[0]), vertices.contiguous().numpy()
            groups.append((4, [grad_vertices.numpy()]))

        def add(band: int, sums: np.ndarray, pos_sums: np.ndarray = no_sums) -> None:
            b, start, stop = bands[band]
            pos = _clip_space(points[b], ctx.clip_coefficients) if with_vertices else no_pos
            shade_rows_backward(
                pos, by_vertex[b], colors[b], raster[b], tri, quadrics[b], given[b],
                of_drawn[b] if with_drawn else nothing, start, stop, with_rast,
                rast_out[b] if with_rast else nothing, sums, pos_sums, light_sums[band],
            )  # fmt: skip
            if with_vertices:
                clip_to_camera(pos_sums, *ctx.clip_coefficients[:2])

        sum_by_vertex(add, bands, *groups)
        of_images = np.stack([light_sums[rows].sum(0) for rows in bands_of_images(bands)])
        grad_light = quadric_backward(torch.from_numpy(of_images).float())
        if grad_rast is not None and grad_drawn is not None:
            grad_rast += grad_drawn
        return grad_vertices, grad_rast, None, None, grad_normals, grad_albedo, None, grad_light
