"""`antialias` in plain torch, float64 too; conventions are those of `reference`."""

from __future__ import annotations

import torch
from torch import Tensor

from mofa_nvdr.dr.antialias import check_boost, check_inputs
from mofa_nvdr.dr.context import check_triangles, common_device
from mofa_nvdr.dr.reference_interpolate import DTYPES, check_one_dtype, triangles_at


def antialias_construct_topology_hash(tri: Tensor) -> Tensor:
    """For edge k of each triangle (facing its vertex k) the vertex beyond it, or -1: [T, 3].

    Raises:
        RuntimeError: tri is not contiguous int32 [T, 3], T > 0.
    """
    check_triangles("antialias_construct_topology_hash", tri)
    opposite: dict[frozenset[int], list[int]] = {}
    triangles = tri.tolist()
    for triangle in triangles:
        if len(set(triangle)) == 3 and min(triangle) >= 0:
            for k in range(3):
                found = opposite.setdefault(frozenset(triangle) - {triangle[k]}, [])
                if triangle[k] not in found and len(found) < 2:
                    found.append(triangle[k])
    table = []
    for triangle in triangles:
        row = []
        for k in range(3):
            found = opposite.get(frozenset(triangle) - {triangle[k]}, [])
            others = [vertex for vertex in found if vertex != triangle[k]]
            row.append(others[0] if triangle[k] in found and others else -1)
        table.append(row)
    return torch.tensor(table, device=tri.device)


def antialias(
    color: Tensor,
    rast: Tensor,
    pos: Tensor,
    tri: Tensor,
    topology_hash: Tensor | None = None,
    pos_gradient_boost: float = 1.0,
) -> Tensor:
    """`mofa_nvdr.dr.antialias` in plain torch; the hash is this module's own.

    Raises:
        RuntimeError: as there.
        TypeError: as there.
    """
    common_device("antialias", color=color, rast=rast, pos=pos, tri=tri)
    check_inputs("antialias", color, rast, pos, tri, DTYPES)
    check_one_dtype("antialias", color=color, rast=rast, pos=pos)
    boost = check_boost("antialias", pos_gradient_boost)
    if topology_hash is None:
        topology_hash = antialias_construct_topology_hash(tri)
    elif not isinstance(topology_hash, Tensor) or topology_hash.shape != tri.shape:
        raise TypeError(
            "antialias: topology_hash is not what reference.antialias_construct_topology_hash "
            "returns for tri; make it with the module that uses it"
        )
    opposite = topology_hash
    num_images, height, width, _ = color.shape
    boosted = pos.detach() + boost * (pos - pos.detach())
    vertices = boosted.double().expand(num_images, *pos.shape[-2:])
    half_size = vertices.new_tensor([width / 2, height / 2])
    pixels = vertices[..., :2] / vertices[..., 3:] * half_size + half_size  # [N, V, 2]
    out = color
    for axis in (0, 1):  # pairs with the right neighbour, then with the next row's
        image, p, q, f, sign, a, c = _find_edges(rast, pixels.detach(), tri, opposite, axis)
        a = pixels[image, a] - (f.flip(-1) + 0.5)  # f is (row, column)
        c = pixels[image, c] - (f.flip(-1) + 0.5)
        alpha = sign * (0.5 - _crossing(a, c, sign, axis).clamp(0.0, 1.0))
        # nvdiffrast moves neither saturated pairs nor those whose alpha is +0 (-0 it moves).
        moves = (alpha.abs() < 0.5) & ~((alpha == 0) & (sign > 0))
        alpha = torch.where(moves, alpha, alpha.detach()).to(color.dtype)[:, None]
        difference = color[image, q[:, 0], q[:, 1]] - color[image, p[:, 0], p[:, 1]]
        receiver = torch.where(alpha > 0, p, q)
        out = out.index_put(
            (image, receiver[:, 0], receiver[:, 1]), alpha * difference, accumulate=True
        )
    return out if out is not color else color.clone()


def _crossing(a: Tensor, c: Tensor, sign: Tensor, axis: int) -> Tensor:
    """Where the line a-c crosses the pair's axis: 0 at the centre of F, 1 at its neighbour's."""
    along = c - a
    return sign * (a[..., axis] - a[..., 1 - axis] * along[..., axis] / along[..., 1 - axis])


@torch.no_grad()
def _find_edges(
    rast: Tensor, pixels: Tensor, tri: Tensor, opposite: Tensor, axis: int
) -> tuple[Tensor, ...]:
    """All pairs that an edge is blended over.

    Returns:
        image [M]; p, q, f: (row, column) of the two pixels and of the one whose triangle counts [M,
        2];
        sign [M]: 1 if that is p, else -1; a, c [M]: the edge's vertices.
    """
    step = torch.tensor([axis, 1 - axis], device=rast.device)
    number = rast[..., 3].long()
    height, width = number.shape[1:]
    before = number[:, : height - axis, : width - (1 - axis)]
    after = number[:, axis:, 1 - axis :]
    image, row, column = torch.nonzero(before != after, as_tuple=True)
    p = torch.stack([row, column], dim=-1)
    q = p + step
    at_p, at_q = rast[image, row, column], rast[image, q[:, 0], q[:, 1]]
    from_p = (at_q[:, 3] == 0) | ((at_p[:, 3] != 0) & (at_p[:, 2] < at_q[:, 2]))
    f = torch.where(from_p[:, None], p, q)
    sign = torch.where(from_p, 1.0, -1.0).double()
    indices, valid = triangles_at(rast, tri, pixels.shape[1])
    indices, valid = indices[image, f[:, 0], f[:, 1]], valid[image, f[:, 0], f[:, 1]]
    triangle = rast[image, f[:, 0], f[:, 1], 3].long().sub(1).clamp(0, tri.shape[0] - 1)

    corners = pixels[image[:, None], indices.clamp(0, pixels.shape[1] - 1)]  # [M, 3, 2]
    corners = corners - (f.flip(-1) + 0.5)[:, None]
    beyond = opposite[triangle]
    beyond = torch.where(beyond < 0, indices, beyond).clamp(0, pixels.shape[1] - 1)
    folded = pixels[image[:, None], beyond] - (f.flip(-1) + 0.5)[:, None]
    a, c = corners.roll(-1, 1), corners.roll(-2, 1)  # edge k runs from vertex k + 1 to k + 2
    area = cross(a - corners, c - corners)
    silhouette = (cross(a - folded, c - folded) < 0) == (area < 0)  # [M, 3]
    crossed = (a[..., 1 - axis] < 0) != (c[..., 1 - axis] < 0)
    distance = _crossing(a, c, sign[:, None], axis)
    distance = torch.where(crossed, distance, -torch.inf)
    k = 2 - distance.flip(-1).argmax(dim=-1, keepdim=True)  # of equals the highest
    distance = distance.gather(1, k)
    extent = (c - a).abs()
    steep = (extent[..., 1 - axis] >= extent[..., axis]).gather(1, k)
    near = (distance > -1 / 16) & (distance < 1 + 1 / 16)
    keep = valid & (silhouette.gather(1, k) & steep & near)[:, 0]
    ends = [indices.gather(1, (k + n) % 3)[:, 0][keep] for n in (1, 2)]
    return image[keep], p[keep], q[keep], f[keep], sign[keep], ends[0], ends[1]


def cross(a: Tensor, b: Tensor) -> Tensor:
    """The cross product of vectors [..., 2] in the plane: [...]."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
