"""Vertex mode under spherical-harmonics light, in one compiled pass over each image (Eq. 5 of the paper).

Where the vertices project, what colour they have, and which of them face the eye.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mofa_nvdr.dr.bands import forward_bands, gradient_bands
from mofa_nvdr.dr.parallel import compiles, jit, run_on_threads
from mofa_nvdr.scene.projection import (
    Pinhole,
    project_pinhole_ref,
    project_rows,
    project_rows_backward,
)
from mofa_nvdr.shaders.sh_kernels import lambert, lambert_backward
from mofa_nvdr.shaders.sh_lambert import light_of_sums, quadric, sh_lambert_ref


def shade_vertices(
    vertices: Tensor, normals: Tensor, albedo: Tensor, light: Tensor, counted: Tensor, lens: Pinhole
) -> tuple[Tensor, Tensor, Tensor]:
    """Positions, colours and the front-facing set of vertices seen through a pinhole.

    Args:
        vertices: [B, V, 3] camera space, mm.
        normals: [B, V, 3].
        albedo: [B, V, 3].
        light: [B, 9, 3] SH coefficients, complete.
        counted: [V] bool, the vertices that may be in the front-facing set.
        lens: the camera's.

    Returns:
        positions [B, V, 2] px and colors [B, V, 3], differentiable (float32 on the CPU: once); front_facing
        [B, V] bool. The same bits for every thread count on the CPU.
    """
    if not compiles(vertices, normals, albedo, light):
        return shade_vertices_ref(vertices, normals, albedo, light, counted, lens)
    positions, colors, facing = _ShadeVertices.apply(
        vertices, normals, albedo, light, counted, lens
    )
    return positions, colors, facing


def shade_vertices_ref(
    vertices: Tensor, normals: Tensor, albedo: Tensor, light: Tensor, counted: Tensor, lens: Pinhole
) -> tuple[Tensor, Tensor, Tensor]:
    """The twin of `shade_vertices` in plain torch."""
    facing = (normals.detach() * -vertices.detach()).sum(-1) > 0
    colors = sh_lambert_ref(normals, albedo, light)
    return project_pinhole_ref(vertices, lens), colors, facing & counted


class _ShadeVertices(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        vertices: Tensor,
        normals: Tensor,
        albedo: Tensor,
        light: Tensor,
        counted: Tensor,
        lens: Pinhole,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.numbers = lens.numbers()
        saved = [t.contiguous() for t in (vertices, normals, albedo, quadric(light))]
        batch, count = vertices.shape[:2]
        outs = (
            vertices.new_empty(batch, count, 2),
            vertices.new_empty(batch, count, 3),
            torch.empty(batch, count, dtype=torch.bool),
        )
        points, unit, colors, q = (t.detach().numpy() for t in saved)
        places, shaded, facing = (t.numpy() for t in outs)
        may_count = counted.numpy()

        def shade(b: int, start: int, stop: int) -> None:
            project_rows(points[b, start:stop], ctx.numbers, places[b, start:stop])
            _faces_eye(points[b], unit[b], may_count, start, stop, facing[b])
            lambert(unit[b], colors[b], q[b], start, stop, shaded[b])

        run_on_threads(shade, forward_bands(batch, count))
        ctx.save_for_backward(*saved)
        ctx.mark_non_differentiable(outs[2])
        ctx.set_materialize_grads(False)
        return outs

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_positions: Tensor | None, grad_colors: Tensor | None, _: Any
    ) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        batch, count = saved[0].shape[:2]
        if grad_positions is None:
            grad_positions = saved[0].new_zeros(batch, count, 2)
        if grad_colors is None:
            grad_colors = saved[0].new_zeros(batch, count, 3)
        grads = [torch.empty_like(t) for t in saved[:3]]
        points, unit, colors, q = (t.detach().numpy() for t in saved)
        of_places, of_shaded = (t.contiguous().numpy() for t in (grad_positions, grad_colors))
        of_points, of_unit, of_colors = (t.numpy() for t in grads)
        bands = gradient_bands(batch, count)
        sums = np.empty((len(bands), 9, 3))

        def shade(band: int) -> None:
            b, start, stop = bands[band]
            here = slice(start, stop)
            project_rows_backward(
                points[b, here], ctx.numbers, of_places[b, here], of_points[b, here]
            )
            lambert_backward(
                unit[b], colors[b], q[b], of_shaded[b], start, stop, of_unit[b], of_colors[b],
                sums[band],
            )  # fmt: skip

        run_on_threads(shade, [(band,) for band in range(len(bands))])
        return *grads, light_of_sums(sums, bands), None, None


@jit
def _faces_eye(
    points: np.ndarray,
    normals: np.ndarray,
    counted: np.ndarray,
    start: int,
    stop: int,
    out: np.ndarray,
) -> None:
    """Whether points from start to stop are counted and show their front to the origin."""
    for v in range(start, stop):
        towards = normals[v, 0] * points[v, 0] + normals[v, 1] * points[v, 1]
        towards += normals[v, 2] * points[v, 2]
        out[v] = counted[v] and -towards > 0.0
