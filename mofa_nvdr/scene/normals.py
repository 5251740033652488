"""Vertex normals of triangle meshes.

Meshes are vertices [B, V, 3] (one topology, B poses) and triangles [T, 3] in counter-clockwise
order seen from outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mofa_nvdr.dr.bands import forward_bands
from mofa_nvdr.dr.parallel import jit, run_on_threads

# Squared length (mm^4) up to which the sum of a vertex's face normals counts as no normal at all.
_NO_NORMAL = 1e-30
_MAX_TABLES = 4


def vertex_normals(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Unit normals: at each vertex the sum of its triangles' normals, weighted by area.

    A vertex without a triangle, or whose triangles have no area, gets (0, 0, 1) and no gradient. On
    the CPU float32 goes through one compiled pass over a vertex-to-face table, kept for the last
    four topologies; everything else goes through `vertex_normals_ref`.

    Args:
        vertices: [B, V, 3].
        triangles: vertex indices [T, 3], int32 or int64, on the device of the vertices.

    Returns:
        Unit normals [B, V, 3], outward where the triangles are counter-clockwise seen from outside.
        Differentiable in vertices (float32 on the CPU: once). The same bits for every thread count
        on the CPU.

    Raises:
        ValueError: a shape, dtype or device is not as above, or (CPU) an index lies outside the
            vertices.
    """
    check_mesh("vertex_normals", vertices, triangles)
    if vertices.device.type != "cpu" or vertices.dtype != torch.float32:
        return vertex_normals_ref(vertices, triangles)
    return _VertexNormals.apply(vertices.contiguous(), face_table(triangles, vertices.shape[1]))


def vertex_normals_ref(vertices: Tensor, triangles: Tensor) -> Tensor:
    """The twin of `vertex_normals` in plain torch: any device and dtype, any order of gradient."""
    check_mesh("vertex_normals_ref", vertices, triangles)
    indices = triangles.long()
    first, second, third = (vertices[:, indices[:, k]] for k in range(3))  # [B, T, 3] each
    # Twice the area times the normal, so that the plain sum below is weighted by area.
    face_normals = torch.linalg.cross(second - first, third - first)
    sums = torch.zeros_like(vertices)
    for k in range(3):
        sums = sums.index_add(1, indices[:, k], face_normals)
    squared = (sums * sums).sum(dim=-1, keepdim=True)
    usable = squared > _NO_NORMAL
    # The root sees ones where there is no normal: 0 * inf would be NaN in the backward pass.
    unit = sums / torch.where(usable, squared, torch.ones_like(squared)).sqrt()
    return torch.where(usable, unit, vertices.new_tensor([0.0, 0.0, 1.0]))


def check_mesh(function: str, vertices: Tensor, triangles: Tensor) -> None:
    """Raise ValueError unless these are a mesh as `vertex_normals` takes it; `function` begins it."""
    if vertices.dim() != 3 or vertices.shape[2] != 3:
        raise ValueError(f"{function}: vertices is {list(vertices.shape)}, expected [B, V, 3]")
    if not vertices.is_floating_point():
        raise ValueError(
            f"{function}: vertices is {vertices.dtype}, expected float32 or float64; use .float()"
        )
    check_triangles(function, triangles)
    if triangles.device != vertices.device:
        raise ValueError(
            f"{function}: triangles is on {triangles.device}, but vertices on {vertices.device}; "
            "move both to one device"
        )


def check_triangles(function: str, triangles: Tensor) -> None:
    """Raise ValueError or TypeError unless triangles are whole numbers [T, 3]; `function` begins it."""
    if triangles.dim() != 2 or triangles.shape[1] != 3:
        raise ValueError(f"{function}: triangles is {list(triangles.shape)}, expected [T, 3]")
    if triangles.dtype not in (torch.int32, torch.int64):
        raise ValueError(
            f"{function}: triangles is {triangles.dtype}, expected int32 or int64; use .int()"
        )


@dataclass(frozen=True, eq=False)
class FaceTable:
    """Where each vertex occurs: rows offsets[k] to offsets[k + 1] of `corners` belong to vertex k.

    A row is (triangle, the vertex after k in it, the one after that).
    """

    triangles: np.ndarray  # [T, 3] int32
    offsets: np.ndarray  # [V + 1] int32
    corners: np.ndarray  # [3 T, 3] uint32: kernels need no test for negative indices


_tables: tuple[FaceTable, ...] = ()


def face_table(triangles: Tensor, num_vertices: int) -> FaceTable:
    """The table of a topology, from the last few ones if it is among them."""
    global _tables
    wanted = triangles.detach().numpy()
    for table in _tables:
        # Comparing all indices takes 0.1 ms for 50k triangles, and can't be fooled by a tensor that
        # was changed in place or that lives in another one's former memory.
        if len(table.offsets) == num_vertices + 1 and np.array_equal(table.triangles, wanted):
            return table
    if wanted.size and (wanted.min() < 0 or wanted.max() >= num_vertices):
        raise ValueError(
            f"vertex_normals: triangles holds indices {int(wanted.min())} to {int(wanted.max())}, "
            f"expected 0 to {num_vertices - 1} (from vertices)"
        )
    counts = np.bincount(wanted.reshape(-1), minlength=num_vertices)
    order = np.argsort(wanted.reshape(-1), kind="stable")
    triangle, place = order // 3, order % 3
    after, last = wanted[triangle, (place + 1) % 3], wanted[triangle, (place + 2) % 3]
    table = FaceTable(
        triangles=wanted.astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        corners=np.stack([triangle, after, last], axis=1).astype(np.uint32),
    )
    _tables = (table, *_tables[: _MAX_TABLES - 1])
    return table


class _VertexNormals(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vertices: Tensor, table: FaceTable) -> Tensor:
        normals = torch.empty_like(vertices)
        lengths = vertices.new_empty(vertices.shape[:2])
        source, out, out_lengths = vertices.detach().numpy(), normals.numpy(), lengths.numpy()
        items = [
            (source[k], table.triangles, table.offsets, table.corners, start, stop, out[k],
             out_lengths[k])
            for k, start, stop in forward_bands(*vertices.shape[:2])
        ]  # fmt: skip
        run_on_threads(normals_of_rows, items)
        ctx.save_for_backward(vertices, normals, lengths)
        ctx.table = table
        return normals

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_normals: Tensor) -> Any:
        vertices, normals, lengths = ctx.saved_tensors
        table = ctx.table
        grad_vertices = torch.empty_like(vertices)
        grad, out = grad_normals.detach().contiguous().numpy(), grad_vertices.numpy()
        source, unit, sizes = vertices.detach().numpy(), normals.detach().numpy(), lengths.numpy()
        items = [
            (
                source[k],
                table.offsets,
                table.corners,
                unit[k],
                sizes[k],
                grad[k],
                start,
                stop,
                out[k],
            )
            for k, start, stop in forward_bands(*vertices.shape[:2])
        ]
        run_on_threads(normals_of_rows_backward, items)
        return grad_vertices, None


@jit
def normals_of_rows(
    vertices: np.ndarray,
    triangles: np.ndarray,
    offsets: np.ndarray,
    corners: np.ndarray,
    start: int,
    stop: int,
    normals: np.ndarray,
    lengths: np.ndarray,
) -> None:
    """Unit normals of some vertices of a pose, and the lengths that they had; 0 stands for "no normal"."""
    num_triangles = triangles.shape[0]
    face_normals = np.empty((num_triangles, 3), np.float32)
    for t in range(num_triangles):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        px, qx = vertices[b, 0] - vertices[a, 0], vertices[c, 0] - vertices[a, 0]
        py, qy = vertices[b, 1] - vertices[a, 1], vertices[c, 1] - vertices[a, 1]
        pz, qz = vertices[b, 2] - vertices[a, 2], vertices[c, 2] - vertices[a, 2]
        face_normals[t, 0] = py * qz - pz * qy
        face_normals[t, 1] = pz * qx - px * qz
        face_normals[t, 2] = px * qy - py * qx
    for v in range(start, stop):
        x, y, z = np.float32(0.0), np.float32(0.0), np.float32(0.0)
        for n in range(offsets[v], offsets[v + 1]):
            t = corners[n, 0]
            x += face_normals[t, 0]
            y += face_normals[t, 1]
            z += face_normals[t, 2]
        squared = x * x + y * y + z * z
        if not squared > _NO_NORMAL:  # NaN too
            lengths[v] = 0.0
            normals[v, 0], normals[v, 1], normals[v, 2] = 0.0, 0.0, 1.0
            continue
        length = np.sqrt(squared)
        inverse = np.float32(1.0) / length
        lengths[v] = length
        normals[v, 0], normals[v, 1], normals[v, 2] = x * inverse, y * inverse, z * inverse


@jit
def normals_of_rows_backward(
    vertices: np.ndarray,
    offsets: np.ndarray,
    corners: np.ndarray,
    normals: np.ndarray,
    lengths: np.ndarray,
    grad_normals: np.ndarray,
    start: int,
    stop: int,
    grad_vertices: np.ndarray,
) -> None:
    """Gather d loss/d vertices of some vertices of a pose."""
    num_vertices = vertices.shape[0]
    # Through the normalisation: only what is perpendicular to the normal passes.
    grad_sums = np.empty((num_vertices, 3), np.float32)
    for v in range(num_vertices):
        if lengths[v] == 0.0:  # no product here: an infinite gradient would become NaN
            grad_sums[v, 0], grad_sums[v, 1], grad_sums[v, 2] = 0.0, 0.0, 0.0
            continue
        inverse = np.float32(1.0) / lengths[v]
        along = normals[v, 0] * grad_normals[v, 0]
        along += normals[v, 1] * grad_normals[v, 1]
        along += normals[v, 2] * grad_normals[v, 2]
        for k in range(3):
            grad_sums[v, k] = (grad_normals[v, k] - along * normals[v, k]) * inverse
    # At a corner v followed by p and q the face normal is v x p + p x q + q x v, so v's share of
    # the gradient is (p - q) x (gradient of the face normal). A gather: each place is written
    # once, and the order of the sum is the table's.
    for v in range(start, stop):
        x, y, z = np.float32(0.0), np.float32(0.0), np.float32(0.0)
        for n in range(offsets[v], offsets[v + 1]):
            p, q = corners[n, 1], corners[n, 2]
            dx = vertices[p, 0] - vertices[q, 0]
            dy = vertices[p, 1] - vertices[q, 1]
            dz = vertices[p, 2] - vertices[q, 2]
            gx = grad_sums[v, 0] + grad_sums[p, 0] + grad_sums[q, 0]
            gy = grad_sums[v, 1] + grad_sums[p, 1] + grad_sums[q, 1]
            gz = grad_sums[v, 2] + grad_sums[p, 2] + grad_sums[q, 2]
            x += dy * gz - dz * gy
            y += dz * gx - dx * gz
            z += dx * gy - dy * gx
        grad_vertices[v, 0], grad_vertices[v, 1], grad_vertices[v, 2] = x, y, z
