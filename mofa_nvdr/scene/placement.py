"""Meshes that are put in front of the camera: their vertices and normals in one pass over a pose.

The vertices of an image are moved and their normals made while they are in the cache, and the gradients of
both go back together. `placed_with_normals_ref` is the same in steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mofa_nvdr.dr.bands import bands_of_images, forward_bands, gradient_bands
from mofa_nvdr.dr.parallel import compiles, jit, run_on_threads
from mofa_nvdr.scene.normals import (
    FaceTable,
    check_mesh,
    face_table,
    normals_of_rows,
    normals_of_rows_backward,
    vertex_normals,
)
from mofa_nvdr.scene.pose import transform_points, transform_rows, transform_rows_backward


def placed_with_normals(
    points: Tensor, matrix: Tensor, shift: Tensor, triangles: Tensor
) -> tuple[Tensor, Tensor]:
    """Matrix @ point + shift for every point, and the normals of the mesh that this gives.

    Args:
        points: [B, V, 3].
        matrix: [B, 3, 3].
        shift: [B, 3].
        triangles: vertex indices [T, 3], int32 or int64, on the device of the points.

    Returns:
        vertices [B, V, 3], as of `transform_points`, and their normals [B, V, 3], as of `vertex_normals`.
        Differentiable in points, matrix and shift (float32 on the CPU: once, in one compiled pass). The same
        bits for every thread count on the CPU.

    Raises:
        ValueError: as `vertex_normals`.
    """
    check_mesh("placed_with_normals", points, triangles)
    if not compiles(points, matrix, shift):
        return placed_with_normals_ref(points, matrix, shift, triangles)
    table = face_table(triangles, points.shape[1])
    vertices, normals = _Place.apply(points, matrix, shift, table)
    return vertices, normals


def placed_with_normals_ref(
    points: Tensor, matrix: Tensor, shift: Tensor, triangles: Tensor
) -> tuple[Tensor, Tensor]:
    """The twin of `placed_with_normals` in steps."""
    vertices = transform_points(points, matrix, shift)
    return vertices, vertex_normals(vertices, triangles)


class _Place(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, points: Tensor, matrix: Tensor, shift: Tensor, table: FaceTable
    ) -> tuple[Tensor, Tensor]:
        points, matrix = points.contiguous(), matrix.contiguous()
        vertices, normals = torch.empty_like(points), torch.empty_like(points)
        lengths = points.new_empty(points.shape[:2])
        xyz, m, t = (x.detach().contiguous().numpy() for x in (points, matrix, shift))
        outs = [t.numpy() for t in (vertices, normals, lengths)]
        items = [
            (xyz[b], m[b], t[b], table.triangles, table.offsets, table.corners, start, stop,
             *(out[b] for out in outs))
            for b, start, stop in forward_bands(*points.shape[:2])
        ]  # fmt: skip
        run_on_threads(_place, items)
        ctx.save_for_backward(points, matrix, vertices, normals, lengths)
        ctx.table = table
        ctx.set_materialize_grads(False)
        return vertices, normals

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_vertices: Tensor | None, grad_normals: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        points, matrix, vertices, normals, lengths = ctx.saved_tensors
        grad_points = torch.empty_like(points)
        saved = [t.detach().numpy() for t in (points, matrix, vertices, normals, lengths)]
        nothing = np.empty((len(points), 0, 3), np.float32)
        given = [
            nothing if grad is None else grad.contiguous().numpy()
            for grad in (grad_vertices, grad_normals)
        ]
        out, table = grad_points.numpy(), ctx.table
        bands = gradient_bands(*points.shape[:2])
        sums = np.empty((len(bands), 3, 4))
        items = [
            (*(a[b] for a in saved), table.offsets, table.corners, *(g[b] for g in given), start, stop,
             out[b], own)
            for (b, start, stop), own in zip(bands, sums)
        ]  # fmt: skip
        run_on_threads(_place_backward, items)
        totals = np.stack([sums[own].sum(0) for own in bands_of_images(bands)]).astype(np.float32)
        grad_matrix, grad_shift = torch.from_numpy(totals).split([3, 1], dim=-1)
        return grad_points, grad_matrix, grad_shift[..., 0], None


@jit
def _place(
    points: np.ndarray,
    matrix: np.ndarray,
    shift: np.ndarray,
    triangles: np.ndarray,
    offsets: np.ndarray,
    corners: np.ndarray,
    start: int,
    stop: int,
    vertices: np.ndarray,
    normals: np.ndarray,
    lengths: np.ndarray,
) -> None:
    """Vertices start to stop of an image, their normals, and the lengths that these had."""
    placed = vertices
    if stop - start < len(points):  # the neighbours' places too, which another band writes
        placed = np.empty_like(vertices)
    transform_rows(points, matrix, shift, placed)
    if stop - start < len(points):
        vertices[start:stop] = placed[start:stop]
    normals_of_rows(placed, triangles, offsets, corners, start, stop, normals, lengths)


@jit
def _place_backward(
    points: np.ndarray,
    matrix: np.ndarray,
    vertices: np.ndarray,
    normals: np.ndarray,
    lengths: np.ndarray,
    offsets: np.ndarray,
    corners: np.ndarray,
    grad_vertices: np.ndarray,
    grad_normals: np.ndarray,
    start: int,
    stop: int,
    grad_points: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Gradients of points start to stop; sums [3, 4] become the band's of matrix and, behind, of shift.

    An empty gradient stands for none.
    """
    total = np.empty_like(points)
    if len(grad_normals) == 0:
        total[start:stop] = 0.0
    else:
        normals_of_rows_backward(
            vertices, offsets, corners, normals, lengths, grad_normals, start, stop, total
        )
    if len(grad_vertices):
        for v in range(start, stop):
            for c in range(3):
                total[v, c] += grad_vertices[v, c]
    transform_rows_backward(
        points[start:stop], matrix, total[start:stop], grad_points[start:stop], sums
    )
