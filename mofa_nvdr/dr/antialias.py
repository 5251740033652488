"""antialias: blend pixels across silhouette edges by where the edge crosses between their centres.

For every pair of neighbours that see different triangles, the nearer triangle's edge between the
two centres, if it is a silhouette, moves the one colour into the other pixel. This is what lets the
gradient of an image move an outline.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mofa_nvdr.dr.antialias_kernels import (
    blend_band,
    blend_band_backward,
    find_edges_band,
    move_edges_band,
)
from mofa_nvdr.dr.bands import forward_bands, gradient_bands
from mofa_nvdr.dr.buffers import unwritten
from mofa_nvdr.dr.context import check_tensor, check_triangles, common_device, load_nvdiffrast
from mofa_nvdr.dr.parallel import run_on_threads
from mofa_nvdr.dr.rasterize import as_array
from mofa_nvdr.dr.vertex_sums import sum_by_vertex

_MAX_TABLES = 4


class TopologyHash:
    """Which vertex is opposite across each edge; from `antialias_construct_topology_hash`.

    Attributes:
        triangles: a copy of the indices [T, 3] int32 that it was made from.
        opposite: [T, 3] int32; for edge k of a triangle, the one facing its vertex k, the third
            vertex of the triangle on the other side, or -1.
    """

    def __init__(self, triangles: np.ndarray) -> None:
        self.triangles = triangles.copy()
        self.opposite = _opposite_vertices(self.triangles)


_tables: tuple[TopologyHash, ...] = ()


def antialias_construct_topology_hash(tri: Tensor) -> Any:
    """Prepare the edge table that `antialias` needs; it depends on `tri` only.

    Args:
        tri: vertex indices [T, 3], int32.

    Returns:
        An opaque object for `antialias(topology_hash=...)`. Of more than two different triangles at
        an edge the first two count.

    Raises:
        RuntimeError: `tri` is not contiguous int32 [T, 3], T > 0, or it is on CUDA without
            nvdiffrast.
        TypeError: `tri` is not a tensor.
    """
    verb = "antialias_construct_topology_hash"
    device = common_device(verb, tri=tri)
    check_triangles(verb, tri)
    if device.type == "cuda":
        return load_nvdiffrast(verb).antialias_construct_topology_hash(tri)
    return TopologyHash(tri.numpy())


def antialias(
    color: Tensor,
    rast: Tensor,
    pos: Tensor,
    tri: Tensor,
    topology_hash: Any = None,
    pos_gradient_boost: float = 1.0,
) -> Tensor:
    """Blend colours across silhouettes; the image then depends on where the outline is.

    Only triangles that some pixel's centre sees supply edges, so a mesh of sub-pixel triangles is
    hardly antialiased (4 % of the outline at 24k vertices and 240 x 240). Contributions are added
    without normalising: values may leave the range of the input.

    Args:
        color: image [N, H, W, C], float32.
        rast: [N, H, W, 4] from `rasterize`, with the `pos` and `tri` given here.
        pos: clip-space vertices [N, V, 4], or [V, 4] if `rast` was made in range mode.
        tri: vertex indices [T, 3], int32.
        topology_hash: from `antialias_construct_topology_hash(tri)`; None looks it up among the
            last four topologies, or makes it.
        pos_gradient_boost: factor on the gradient that reaches `pos` from here.

    Returns:
        [N, H, W, C]; differentiable once in color and in x, y, w of pos. The same bits for every
        thread count.

    Raises:
        RuntimeError: a shape, dtype, device or memory layout is not as above, or CUDA without
            nvdiffrast.
        TypeError: an argument is of the wrong Python type.
    """
    device = common_device("antialias", color=color, rast=rast, pos=pos, tri=tri)
    check_inputs("antialias", color, rast, pos, tri)
    boost = check_boost("antialias", pos_gradient_boost)
    if device.type == "cuda":
        return load_nvdiffrast("antialias").antialias(color, rast, pos, tri, topology_hash, boost)
    return _Antialias.apply(color, rast, pos, tri, opposite_table(tri, topology_hash), boost)


def check_inputs(
    verb: str,
    color: Tensor,
    rast: Tensor,
    pos: Tensor,
    tri: Tensor,
    dtypes: tuple[torch.dtype, ...] = (torch.float32,),
) -> None:
    """Check what `antialias` takes."""
    check_tensor(verb, "color", color, ("N", "H", "W", "C"), dtypes)
    check_tensor(verb, "rast", rast, (*color.shape[:3], 4), dtypes)
    if pos.dim() == 2:
        check_tensor(verb, "pos", pos, ("V", 4), dtypes)
    else:
        check_tensor(verb, "pos", pos, (color.shape[0], "V", 4), dtypes)
    check_triangles(verb, tri)


def check_boost(verb: str, pos_gradient_boost: Any) -> float:
    """The factor as a plain number."""
    try:
        return float(pos_gradient_boost)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{verb}: pos_gradient_boost is {pos_gradient_boost!r}, expected a number"
        ) from error


def opposite_table(tri: Tensor, topology_hash: Any) -> np.ndarray:
    """The table [T, 3] of opposite vertices: as given, as made for this `tri` before, or new."""
    global _tables
    if topology_hash is not None:
        if not isinstance(topology_hash, TopologyHash):
            raise TypeError(
                f"antialias: topology_hash is a {type(topology_hash).__name__}, expected what "
                "antialias_construct_topology_hash returns for a tri on the CPU"
            )
        if topology_hash.opposite.shape[0] != tri.shape[0]:
            raise RuntimeError(
                f"antialias: topology_hash is for {topology_hash.opposite.shape[0]} triangles, "
                f"expected {tri.shape[0]} (from tri); make it again"
            )
        if not np.array_equal(topology_hash.triangles, tri.numpy()):
            raise RuntimeError(
                "antialias: topology_hash was made for other triangles than tri; make it again"
            )
        return topology_hash.opposite
    for table in _tables:
        if np.array_equal(table.triangles, tri.numpy()):
            return table.opposite
    table = TopologyHash(tri.numpy())
    _tables = (table, *_tables[: _MAX_TABLES - 1])
    return table.opposite


def _opposite_vertices(triangles: np.ndarray) -> np.ndarray:
    a, b, c = triangles.T.astype(np.int64)
    usable = (triangles >= 0).all(axis=1) & (a != b) & (b != c) & (c != a)
    own = triangles.reshape(-1)  # edge k faces vertex k
    start = triangles[:, [1, 2, 0]].reshape(-1).astype(np.int64)
    end = triangles[:, [2, 0, 1]].reshape(-1).astype(np.int64)
    opposite = np.full(own.shape, -1, np.int32)
    rows = np.flatnonzero(np.repeat(usable, 3))
    if rows.size:
        edge = (np.minimum(start, end)[rows] << 32) | np.maximum(start, end)[rows]
        order = np.argsort(edge, kind="stable")
        rows, edge = rows[order], edge[order]
        group_starts = np.flatnonzero(np.concatenate([[True], edge[1:] != edge[:-1]]))
        sizes = np.diff(np.append(group_starts, rows.size))
        first = np.repeat(own[rows][group_starts], sizes)
        # The first triangle of the group whose third vertex is another one than the first's.
        places = np.where(own[rows] != first, np.arange(rows.size), rows.size)
        place = np.minimum.reduceat(places, group_starts)
        found = np.where(place < rows.size, own[rows][np.minimum(place, rows.size - 1)], -1)
        second = np.repeat(found, sizes)
        opposite[rows] = np.where(
            own[rows] == first, second, np.where(own[rows] == second, first, -1)
        )
    return opposite.reshape(-1, 3)


class _Antialias(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        color: Tensor,
        rast: Tensor,
        pos: Tensor,
        tri: Tensor,
        opposite: np.ndarray,
        pos_gradient_boost: float,
    ) -> Tensor:
        num_images, height, width, _ = color.shape
        out = unwritten(*color.shape)
        # For the pairs with the right and with the next row's neighbour: the signed weight, and
        # which edge made it (0 for none).
        alpha = np.empty((num_images, height, width, 2), np.float32)
        edges = np.empty((num_images, height, width, 2), np.uint8)
        pos_array, color_array = pos.detach().numpy(), color.detach().numpy()
        rast_array, tri_array, out_array = rast.detach().numpy(), tri.numpy(), out.numpy()
        bands = forward_bands(num_images, height)
        items: list[tuple[Any, ...]]
        items = [
            (rast_array[image], pos_array[image] if pos.dim() == 3 else pos_array, tri_array,
             opposite, start, stop, alpha[image], edges[image])
            for image, start, stop in bands
        ]  # fmt: skip
        run_on_threads(find_edges_band, items)
        items = [
            (color_array[image], alpha[image], edges[image], start, stop, out_array[image])
            for image, start, stop in bands
        ]
        run_on_threads(blend_band, items)
        ctx.save_for_backward(color, rast, pos, tri)
        ctx.pairs = (alpha, edges)
        ctx.boost = pos_gradient_boost
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> Any:
        color, rast, pos, tri = ctx.saved_tensors
        alpha, edges = ctx.pairs
        num_images, height, _, _ = color.shape
        grad_array, color_array = as_array(grad_out), color.detach().numpy()
        grad_color, grad_pos = None, None
        bands = gradient_bands(num_images, height)
        items: list[tuple[Any, ...]]
        if ctx.needs_input_grad[0]:
            grad_color = unwritten(*color.shape)
            grad_color_array = grad_color.numpy()
            items = [
                (grad_array[image], alpha[image], edges[image], start, stop,
                 grad_color_array[image])
                for image, start, stop in bands
            ]  # fmt: skip
            run_on_threads(blend_band_backward, items)
        if ctx.needs_input_grad[2]:
            pos_array, tri_array = pos.detach().numpy(), tri.numpy()
            rast_array = rast.detach().numpy()
            grad_pos = torch.empty_like(pos)
            batched = pos.dim() == 3

            def add(band: int, sums: np.ndarray) -> None:
                image, start, stop = bands[band]
                move_edges_band(
                    color_array[image], rast_array[image], pos_array[image] if batched else pos_array,
                    tri_array, alpha[image], edges[image], grad_array[image], ctx.boost, start, stop,
                    sums,
                )  # fmt: skip

            out = grad_pos.numpy()
            sum_by_vertex(add, bands, (4, [out if batched else out[None]]))
        return grad_color, None, grad_pos, None, None, None
