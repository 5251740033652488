"""The G-buffer of a rasterized mesh and its shading: normals and albedo per pixel, light -> the picture.

`shade_mesh` is one compiled pass on the CPU in float32, for shaders that have kernels; `shade_mesh_ref` is
the same in steps, for every shader, device and dtype, and says what is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mofa_nvdr import dr as default_dr
from mofa_nvdr.dr.bands import bands_of_images, forward_bands, gradient_bands
from mofa_nvdr.dr.buffers import unwritten
from mofa_nvdr.dr.context import check_triangles, common_device
from mofa_nvdr.dr.parallel import compiles, run_on_threads
from mofa_nvdr.dr.rasterize_kernels import rasterize_band
from mofa_nvdr.dr.vertex_sums import sum_by_vertex
from mofa_nvdr.shaders.gbuffer_kernels import camera_to_clip, clip_to_camera
from mofa_nvdr.shaders.sh_lambert import ShLambert
from mofa_nvdr.shaders.shader import Kernels, Shader

_COLUMNS = 8  # of a vertex's sums: six numbers, and two that fill its cache line
_SH_LAMBERT = ShLambert()


@dataclass(frozen=True)
class GBuffer:
    """What each pixel sees; row 0 at the top, zeros where no triangle is.

    Attributes:
        albedo: [B, C, H, W], C = 3 but for a shader that takes any number. normal: [B, 3, H, W] unit.
        shading: [B, 3, H, W] what multiplies the albedo: irradiance.
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
    light: Any,
    dr: ModuleType = default_dr,
    shader: Shader = _SH_LAMBERT,
) -> GBuffer:
    """Interpolate a mesh over its rasterization; as `shade_mesh_ref`, vertices [B, V, 3] in camera space."""
    values = shader.values("make_gbuffer", light)
    points = _interpolate(normals, albedo, vertices, rast, triangles, values, dr, shader, True)
    nothing = rast.new_zeros(())
    shading = shader.shading(points.normal, points.position, **points.parameters)
    shading = torch.where(points.covered, shading, nothing)
    normal = torch.where(points.covered, points.normal, nothing)
    color = torch.where(points.covered, points.albedo, nothing)
    planes = (color, normal, shading, points.depth)
    one, two, three, four = (upright(plane) for plane in planes)
    return GBuffer(one, two, three, four, rast.detach()[..., 3].flip(1).long() - 1)


@dataclass(frozen=True)
class _Points:
    """What pixels [B, H, W, .] see, row 0 at the bottom; something harmless where no triangle is."""

    covered: Tensor
    normal: Tensor
    albedo: Tensor
    position: Tensor
    depth: Tensor
    parameters: dict[str, Tensor]


def _interpolate(
    normals: Tensor | None,
    albedo: Tensor,
    vertices: Tensor,
    rast: Tensor,
    triangles: Tensor,
    values: dict[str, Tensor],
    dr: ModuleType,
    shader: Shader,
    with_depth: bool,
) -> _Points:
    by_vertex = shader.by_vertex(values)
    of_pixels_already = albedo.ndim == 4
    columns = [
        vertices[..., :0] if normals is None else normals,
        vertices[..., :0] if of_pixels_already else albedo,
        -vertices[..., 2:] if with_depth else vertices[..., :0],
    ]
    columns.append(vertices if shader.uses_position else vertices[..., :0])
    columns += [
        value.flatten(2) if value.ndim > 2 else value[..., None] for value in by_vertex.values()
    ]
    attributes = torch.cat(columns, dim=-1).contiguous()
    if attributes.shape[-1]:
        buffer, _ = dr.interpolate(attributes, rast, triangles)
    else:
        buffer = rast[..., :0]
    normal, color, depth, position, *own = buffer.split([c.shape[-1] for c in columns], dim=-1)
    color = albedo if of_pixels_already else color
    covered = rast.detach()[..., 3:] > 0
    # Empty pixels get a normal that can be normalised and a place in front of the eye; nothing shows there.
    facing = buffer.new_tensor([0.0, 0.0, 1.0])
    if normals is None:
        normal = facing.expand(*covered.shape[:3], 3)
    else:
        normal = F.normalize(torch.where(covered, normal, facing), dim=-1)
    if shader.uses_position:
        position = torch.where(covered, position, -facing)
    shapes = [value.shape[2:] for value in by_vertex.values()]
    of_pixels = [value.view(*value.shape[:3], *shape) for value, shape in zip(own, shapes)]
    parameters = {**values, **dict(zip(by_vertex, of_pixels))}
    return _Points(covered, normal, color, position, depth, parameters)


def upright(plane: Tensor) -> Tensor:
    """[B, H, W, C], row 0 at the bottom -> [B, C, H, W], row 0 at the top."""
    return plane.flip(1).permute(0, 3, 1, 2).contiguous()


def draw_mesh(
    vertices: Tensor,
    triangles: Tensor,
    normals: Tensor,
    albedo: Tensor,
    light: Any,
    size: tuple[int, int],
    clip_matrix: Sequence[Sequence[float]],
    shader: Shader = _SH_LAMBERT,
    positions: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Clip space, `dr.rasterize` and `shade_mesh` in one, for float32 on the CPU.

    Each band of rows is shaded while it is in the cache; the vertices' gradients go back in one pass.

    Args:
        vertices: [B, V, 3] camera space, looking down -z.
        triangles: [T, 3] int32.
        normals: [B, V, 3]; this and the following as in `shade_mesh`.
        albedo: [B, V, 3].
        light: what the shader takes.
        size: (height, width).
        clip_matrix: [4, 4] numbers, which times (x, y, z, 1) are clip space: the camera's.
        shader: one with kernels.
        positions: [B, V, 3] what the shader sees as the vertices' places; None: the vertices.

    Returns:
        image [B, 3, H, W] and mask [B, 1, H, W] of `shade_mesh`, and rast [B, H, W, 4]. Differentiable
        once, in vertices too, as far as nvdiffrast's rasterization is.

    Raises:
        RuntimeError: the triangles' shape, dtype, device or memory layout is not as above.
        ValueError: the shader has no kernels.
    """
    if shader.kernels is None:
        raise ValueError(
            f"draw_mesh: shader {shader.name} has no kernels, expected one with; use shade_mesh"
        )
    common_device("draw_mesh", vertices=vertices, triangles=triangles)
    check_triangles("draw_mesh", triangles)
    places = vertices if positions is None else positions
    inputs = shader.kernels.inputs(normals, albedo, places, **shader.values("draw_mesh", light))
    return _Draw.apply(
        vertices, None, (len(vertices), *size), np.array(clip_matrix), triangles, shader.kernels,
        len(inputs[0]), *inputs[0], *inputs[1],
    )  # fmt: skip


def _clip_space(points: np.ndarray, clip_matrix: np.ndarray) -> np.ndarray:
    """[V, 3] -> [V, 4], with memory of its own: made where it is used, while that is in the cache."""
    pos = np.empty((len(points), 4), np.float32)
    camera_to_clip(points, clip_matrix, pos)
    return pos


def shade_mesh(
    normals: Tensor,
    albedo: Tensor,
    rast: Tensor,
    triangles: Tensor,
    light: Any,
    dr: ModuleType = default_dr,
    shader: Shader = _SH_LAMBERT,
    positions: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Interpolate normals and albedo over the pixels, shade them, and turn the rows over.

    Args:
        normals: [B, V, 3]; their interpolation is normalised per pixel.
        albedo: [B, V, 3] RGB.
        rast: [B, H, W, 4] of `dr.rasterize` for these triangles, row 0 at the bottom.
        triangles: [T, 3] int32.
        light: what the shader takes; for `ShLambert` [B, 9, 3] SH coefficients.
        dr: the module with nvdiffrast's verbs.
        shader: what makes colours from normals, albedo and light.
        positions: [B, V, 3] camera space, mm; not needed by a shader that does not use them.

    Returns:
        image [B, 3, H, W], mask [B, 1, H, W]: 1 where a triangle is. Row 0 at the top, zeros where nothing
        is drawn. Differentiable once in normals, albedo, light, positions, and u and v of rast; the mask
        has no gradient. The same bits for every thread count.

    Raises:
        ValueError: the shader uses positions and there are none.

    Source: for ShLambert, Tewari et al. 2017, Eq. 4.
    """
    if positions is None:
        if shader.uses_position:
            raise ValueError(
                f"shade_mesh: positions is None, expected [B, V, 3] (the shader {shader.name} uses them)"
            )
        positions = normals
    values = shader.values("shade_mesh", light)
    if (
        dr is not default_dr
        or shader.kernels is None
        or not compiles(normals, albedo, rast, positions, *values.values())
    ):
        return shade_mesh_ref(normals, albedo, rast, triangles, light, dr, shader, positions)
    rast = rast.contiguous()
    of_vertices, of_images = shader.kernels.inputs(normals, albedo, positions, **values)
    image, mask, _ = _Draw.apply(
        None, rast, tuple(rast.shape[:3]), np.empty((0, 0)), triangles, shader.kernels, len(of_vertices),
        *of_vertices, *of_images,
    )  # fmt: skip
    return image, mask


def shade_mesh_ref(
    normals: Tensor | None,
    albedo: Tensor,
    rast: Tensor,
    triangles: Tensor,
    light: Any,
    dr: ModuleType = default_dr,
    shader: Shader = _SH_LAMBERT,
    positions: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The twin of `shade_mesh` in steps: interpolation, then the shader's colours of every pixel.

    It takes more: albedo of as many channels as the shader does, or of pixels already, [B, H, W, C] with
    row 0 at the bottom; normals may be None for a shader that does not use them, with positions.
    """
    values = shader.values("shade_mesh", light)
    places = normals if positions is None else positions
    assert places is not None
    points = _interpolate(normals, albedo, places, rast, triangles, values, dr, shader, False)
    colors = shader.colors(
        points.normal, points.albedo, points.position, **points.parameters
    )  # Eq. 4
    image = upright(torch.where(points.covered, colors, colors.new_zeros(())))
    return image, upright(points.covered.to(image.dtype))


class _Draw(torch.autograd.Function):
    """Rasterize the vertices and shade, band by band; or shade `rast` if that is given instead.

    The inputs are those of a shader's kernels: `count` tensors of vertices, then those of images.
    """

    @staticmethod
    def forward(
        ctx: Any,
        vertices: Tensor | None,
        rast: Tensor | None,
        size: tuple[int, int, int],
        clip_matrix: np.ndarray,
        triangles: Tensor,
        kernels: Kernels,
        count: int,
        *inputs: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch, height, width = size
        image, mask = (unwritten(batch, channels, height, width) for channels in (3, 1))
        drawn = unwritten(batch, height, width, 4) if rast is None else rast
        of_vertices = [t.contiguous() for t in inputs[:count]]
        of_images = [kernels.prepare(t).contiguous() for t in inputs[count:]]
        saved = (drawn, triangles, *of_vertices, *of_images)
        raster, tri, *arrays = (t.detach().numpy() for t in saved)
        points = None if vertices is None else vertices.detach().contiguous().numpy()
        image_array, mask_array = image.numpy(), mask.numpy()
        no_db, nothing_in_front = (
            np.empty((height, width, 0), np.float32),
            np.empty((0, 0), np.int64),
        )

        def draw(b: int, start: int, stop: int) -> None:
            if points is not None:
                pos = _clip_space(points[b], clip_matrix)
                rasterize_band(
                    pos, tri, 0, len(tri), height, width, start, stop, nothing_in_front, raster[b],
                    no_db,
                )  # fmt: skip
            kernels.shade(
                *(a[b] for a in arrays), raster[b], tri, start, stop, image_array[b], mask_array[b]
            )

        run_on_threads(draw, forward_bands(batch, height))
        ctx.save_for_backward(vertices, *saved)
        ctx.clip_matrix, ctx.kernels, ctx.count = clip_matrix, kernels, count
        ctx.mark_non_differentiable(mask)
        ctx.set_materialize_grads(False)
        return image, mask, drawn

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_image: Tensor | None, _: Tensor, grad_drawn: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        kernels, count = ctx.kernels, ctx.count
        vertices, drawn, *saved = ctx.saved_tensors
        raster, tri, *arrays = (t.detach().numpy() for t in (drawn, *saved))
        of_vertices, of_images = saved[1 : count + 1], saved[count + 1 :]
        batch, height, width, _ = raster.shape
        bands = gradient_bands(batch, height)
        image_sums = [np.zeros((len(bands), *t.shape[1:])) for t in of_images]
        if grad_image is None:
            grad_image = drawn.new_zeros(batch, 3, height, width)
        given = grad_image.contiguous().numpy()
        nothing, no_pos = np.empty((0, 0, 0), np.float32), np.empty((0, 0), np.float32)
        no_sums = np.empty((0, 0))
        with_drawn = grad_drawn is not None
        of_drawn = nothing if grad_drawn is None else grad_drawn.contiguous().numpy()
        with_vertices, with_rast = ctx.needs_input_grad[:2]
        grad_rast = unwritten(*drawn.shape) if with_rast else None
        rast_out = nothing if grad_rast is None else grad_rast.numpy()
        grads = [torch.empty_like(t) for t in of_vertices]
        groups = [(_COLUMNS, [t.numpy() for t in grads[:2]])]
        groups += [(-(-t.shape[2] // 4) * 4, [t.numpy()]) for t in grads[2:]]
        grad_vertices = None
        if with_vertices:
            grad_vertices, points = torch.empty_like(of_vertices[0]), vertices.contiguous().numpy()
            groups.append((4, [grad_vertices.numpy()]))

        def add(band: int, *sums: np.ndarray) -> None:
            b, start, stop = bands[band]
            pos = _clip_space(points[b], ctx.clip_matrix) if with_vertices else no_pos
            kernels.shade_backward(
                pos, *(a[b] for a in arrays), raster[b], tri, given[b],
                of_drawn[b] if with_drawn else nothing, start, stop, with_rast,
                rast_out[b] if with_rast else nothing, *sums, *(() if with_vertices else (no_sums,)),
                *(t[band] for t in image_sums),
            )  # fmt: skip
            if with_vertices:
                clip_to_camera(sums[-1], ctx.clip_matrix)

        sum_by_vertex(add, bands, *groups)
        rows = bands_of_images(bands)
        of_image = [np.stack([t[r].sum(0) for r in rows]) for t in image_sums]
        grad_lights = [kernels.restore(torch.from_numpy(t).float()) for t in of_image]
        if grad_rast is not None and grad_drawn is not None:
            grad_rast += grad_drawn
        return grad_vertices, grad_rast, None, None, None, None, None, *grads, *grad_lights
