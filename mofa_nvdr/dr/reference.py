"""The verbs in plain torch: the oracle for the kernels, and the way to float64.

Written to be read, not to be fast. Takes float32 and float64 on any device; signatures, conventions
and errors are those of `mofa_nvdr.dr`, so that either module can be passed where a `dr` is wanted.
Coverage is decided from float32 positions whatever the dtype: both dtypes and the kernels see the
same triangles. At most 2^24 triangles.

Gradients are autograd's, of the formulas themselves. nvdiffrast and the kernels divide by the area
plus 1e-6 (`rasterize`) and by the edge's extent plus 1e-3 px (`antialias`) in the backward pass;
here nothing is added, so that finite differences agree. Clamps pass gradients straight through.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mofa_nvdr.dr.antialias import check_boost
from mofa_nvdr.dr.antialias import check_inputs as _check_antialias
from mofa_nvdr.dr.context import (
    MAX_PLAIN_ID,
    RasterizeContext,
    RasterizeGLContext,
    check_triangles,
    common_device,
    get_log_level,
    set_log_level,
)
from mofa_nvdr.dr.interpolate import check_inputs as _check_interpolate
from mofa_nvdr.dr.rasterize import check_inputs as _check_rasterize
from mofa_nvdr.dr.rasterize import check_resolution, triangle_spans
from mofa_nvdr.dr.reference_texture import texture, texture_construct_mip

__all__ = [
    "DepthPeeler",
    "RasterizeContext",
    "RasterizeCudaContext",
    "RasterizeGLContext",
    "antialias",
    "antialias_construct_topology_hash",
    "get_log_level",
    "interpolate",
    "rasterize",
    "set_log_level",
    "texture",
    "texture_construct_mip",
]

RasterizeCudaContext = RasterizeContext

_DTYPES = (torch.float32, torch.float64)
_EMPTY = torch.iinfo(torch.int64).max
_INDEX_MASK = (1 << 31) - 1


def rasterize(
    glctx: Any,
    pos: Tensor,
    tri: Tensor,
    resolution: Any,
    ranges: Tensor | None = None,
    grad_db: bool = True,
) -> tuple[Tensor, Tensor]:
    """`mofa_nvdr.dr.rasterize` in plain torch; `glctx` is not used and may be None.

    Raises:
        RuntimeError: as there, and for more than 2^24 triangles.
        TypeError: as there.
    """
    del glctx
    common_device("rasterize", pos=pos, tri=tri)
    height, width = check_resolution(resolution)
    ranges = _check_rasterize("rasterize", pos, tri, ranges, _DTYPES)
    if tri.shape[0] > MAX_PLAIN_ID:
        raise RuntimeError(
            f"rasterize: tri has {tri.shape[0]} triangles, expected at most {MAX_PLAIN_ID} here; "
            "use mofa_nvdr.dr"
        )
    return _layer(pos, tri, height, width, ranges, grad_db)[:2]


def _layer(
    pos: Tensor,
    tri: Tensor,
    height: int,
    width: int,
    ranges: Tensor | None,
    grad_db: bool,
    behind: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """`rasterize` of checked tensors, of what lies behind a layer; also the depth of this one [N, H, W]."""
    num_images = pos.shape[0] if ranges is None else ranges.shape[0]
    vertices = pos.expand(num_images, *pos.shape[-2:])
    with torch.no_grad():
        if behind is None:
            behind = tri.new_full((num_images, height, width), -1, dtype=torch.int64)
        found = [
            _visible_triangles(vertices[k].float(), tri.long(), span, height, width, behind[k])
            for k, span in enumerate(triangle_spans(tri, ranges, num_images))
        ]
        triangle, layer = (torch.stack(part) for part in zip(*found))  # [N, H, W], -1 where empty
    image, row, column = torch.nonzero(triangle >= 0, as_tuple=True)
    seen = triangle[image, row, column]  # [P]
    corners = vertices[image[:, None], tri.long()[seen]].double()  # [P, 3, 4]
    ndc_x, ndc_y = (2 * column.double() + 1) / width - 1, (2 * row.double() + 1) / height - 1
    ndc = torch.stack([ndc_x, ndc_y], dim=-1)  # [P, 2]
    x, y, z, w = corners.unbind(-1)  # [P, 3] each
    to_corner = corners[..., :2] - ndc[:, None] * w[..., None]
    weights = _cross_of_others(to_corner[..., 0], to_corner[..., 1])  # E_k
    area = weights.sum(dim=-1, keepdim=True)
    uv = _keep_in_triangle(weights[:, :2] / area)
    depth = ((z * weights).sum(-1) / (w * weights).sum(-1)).detach()
    depth = depth.nan_to_num(nan=1.0).clamp(-1.0, 1.0)
    weights_x, weights_y = _cross_of_others(y, w), _cross_of_others(w, x)  # dE_k/dX, dE_k/dY
    uv_x = (weights_x[:, :2] - uv * weights_x.sum(-1, keepdim=True)) / area * (2 / width)
    uv_y = (weights_y[:, :2] - uv * weights_y.sum(-1, keepdim=True)) / area * (2 / height)
    values = torch.cat([uv, depth[:, None], (seen + 1)[:, None].double()], dim=-1)  # [P, 4]
    values_db = torch.stack([uv_x, uv_y], dim=-1).flatten(1)  # [P, 4]
    if not grad_db:
        values_db = values_db.detach()
    empty = pos.new_zeros(num_images, height, width, 4)
    where = (image, row, column)
    rast = empty.index_put(where, values.to(pos.dtype))
    return rast, empty.index_put(where, values_db.to(pos.dtype)), layer


class DepthPeeler:
    """`mofa_nvdr.dr.DepthPeeler` in plain torch; `glctx` is not used and may be None.

    Args:
        glctx: not used.
        pos: as in `rasterize`, like the others.
        tri: as there.
        resolution: as there.
        ranges: as there.
        grad_db: as there.

    Raises:
        RuntimeError: as there.
        TypeError: as there.
    """

    def __init__(
        self,
        glctx: Any,
        pos: Tensor,
        tri: Tensor,
        resolution: Any,
        ranges: Tensor | None = None,
        grad_db: bool = True,
    ) -> None:
        common_device("DepthPeeler", pos=pos, tri=tri)
        size = check_resolution(resolution)
        ranges = _check_rasterize("DepthPeeler", pos, tri, ranges, _DTYPES)
        self._call = (pos, tri, *size, ranges, grad_db)
        self._behind: Tensor | None = None
        self._state = "new"

    def __enter__(self) -> DepthPeeler:
        if self._state != "new":
            raise RuntimeError("DepthPeeler: used before; make a new one for every with block")
        self._state = "active"
        return self

    def __exit__(self, *error: object) -> None:
        self._state, self._behind = "finished", None

    def rasterize_next_layer(self) -> tuple[Tensor, Tensor]:
        """The next layer, as (rast, rast_db) of `rasterize`; empty after the last.

        Raises:
            RuntimeError: outside of the with block.
        """
        if self._state != "active":
            raise RuntimeError("DepthPeeler: rasterize_next_layer() works in its with block only")
        rast, rast_db, self._behind = _layer(*self._call, self._behind)
        return rast, rast_db


def _cross_of_others(a: Tensor, b: Tensor) -> Tensor:
    """a[k+1] b[k+2] - b[k+1] a[k+2] for k in a triangle; [P, 3]."""
    return a.roll(-1, -1) * b.roll(-2, -1) - b.roll(-1, -1) * a.roll(-2, -1)


def _keep_in_triangle(uv: Tensor) -> Tensor:
    """Clamp u, v and u + v into [0, 1]; the gradient passes straight through."""
    clamped = uv.detach().nan_to_num(nan=0.0).clamp(0.0, 1.0)
    clamped = clamped / clamped.sum(-1, keepdim=True).clamp(min=1.0)
    return torch.where(uv.isfinite(), clamped + (uv - uv.detach()), clamped)


def _visible_triangles(
    vertices: Tensor, tri: Tensor, span: tuple[int, int], height: int, width: int, behind: Tensor
) -> tuple[Tensor, Tensor]:
    """The nearest triangle at each pixel's centre of those behind a depth [H, W], -1 where there is none.

    Returns:
        triangles [H, W], and their stored depths; where there is none a depth that nothing is behind.
    """
    size = vertices.new_tensor([width, height])
    owner = torch.arange(span[0], max(span), device=tri.device)  # the triangle of each piece
    indices = tri[owner]
    owner = owner[((indices >= 0) & (indices < len(vertices))).all(dim=1)]
    corners = vertices[tri[owner]]  # [P, 3, 4]
    beyond = _beyond_planes(corners)  # [P, 3, 6]
    usable = corners.isfinite().all(-1).all(-1) & ~beyond.all(dim=1).any(dim=-1)
    inside = ~beyond.any(-1).any(-1) & (corners[..., 3] >= 1.2e-38).all(-1)
    cut_owner, cut_corners = [owner[inside & usable]], [corners[inside & usable]]
    for place in torch.nonzero(usable & beyond.any(-1).any(-1)).flatten().tolist():
        pieces = _clip(corners[place].double().tolist(), beyond[place].any(0).tolist())
        cut_owner.append(owner[place].expand(len(pieces)))
        cut_corners.append(vertices.new_tensor(pieces).reshape(-1, 3, 4))
    owner, corners = torch.cat(cut_owner), torch.cat(cut_corners)

    # Sixteenths of a pixel from the centre of pixel (0, 0), in float32 as the kernels do.
    reciprocal = 1.0 / corners[..., 3:]
    points = (corners[..., :2] * reciprocal * (8 * size)).round().long() + (8 * size - 8).long()
    depths = (corners[..., 2:3] * reciprocal)[..., 0].double()
    area = _cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0])
    # All counter-clockwise from here on.
    turned = area.new_tensor([[0, 1, 2], [0, 2, 1]])[(area < 0).long()]
    points = points.gather(1, turned[..., None].expand(-1, -1, 2))
    depths = depths.gather(1, turned)

    # Every (piece, pixel) pair inside the pieces' boxes.
    low = ((points.amin(1) + 15) >> 4).clamp(min=0)
    high = torch.minimum(points.amax(1) >> 4, (size - 1).long())
    sides = torch.where((area != 0)[:, None], high - low + 1, 0).clamp(min=0)  # [P, 2]
    counts = sides.prod(dim=1)
    piece = torch.repeat_interleave(torch.arange(len(counts), device=tri.device), counts)
    first_pair = counts.cumsum(0) - counts
    within = torch.arange(len(piece), device=tri.device) - first_pair[piece]
    column = low[piece, 0] + within % sides[piece, 0]
    row = low[piece, 1] + within // sides[piece, 0]

    sample = 16 * torch.stack([column, row], dim=-1)
    covered = torch.ones_like(column, dtype=torch.bool)
    depth = torch.zeros_like(column, dtype=torch.float64)
    for k in range(3):
        start, end = points[piece, (k + 1) % 3], points[piece, (k + 2) % 3]
        along = end - start
        weight = _cross(along, sample - start)
        owns_its_line = (along[:, 1] < 0) | ((along[:, 1] == 0) & (along[:, 0] > 0))
        covered &= (weight > 0) | ((weight == 0) & owns_its_line)
        depth += weight * depths[piece, k]
    depth = depth / area.abs()[piece]
    stored = (17600.0 + (depth + 1.0) * (0.5 * (2.0**32 - 35200.0))).long().clamp(0, 2**32 - 1)
    covered &= stored > behind[row, column]
    # Nearest first; of equal depths the later triangle.
    key = (stored << 31) | (_INDEX_MASK - owner[piece])
    nearest = key.new_full((height * width,), _EMPTY).scatter_reduce(
        0, (row * width + column)[covered], key[covered], "amin"
    )
    triangle = torch.where(nearest == _EMPTY, -1, _INDEX_MASK - (nearest & _INDEX_MASK))
    return triangle.reshape(height, width), (nearest >> 31).reshape(height, width)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _beyond_planes(corners: Tensor) -> Tensor:
    """Strictly outside of -x, +x, -y, +y, -z, +z: [..., 4] -> [..., 6]."""
    xyz, w = corners[..., :3], corners[..., 3:]
    return torch.stack([xyz < -w, xyz > w], dim=-1).flatten(-2)


def _clip(polygon: list[list[float]], planes: list[bool]) -> list[list[list[float]]]:
    """Cut a triangle to the axes of the planes that it violates; returns a fan of what is left."""
    for plane in range(6):
        axis, sign = plane // 2, (1.0, -1.0)[plane % 2]
        if not (planes[2 * axis] or planes[2 * axis + 1]):
            continue
        kept = []
        for p, q in zip(polygon, polygon[1:] + polygon[:1]):
            p_inside, q_inside = p[3] + sign * p[axis], q[3] + sign * q[axis]
            if p_inside >= 0:
                kept.append(p)
            if (p_inside >= 0) != (q_inside >= 0):
                if p_inside < q_inside:  # from inside to outside, whichever way the edge runs
                    p, q, p_inside, q_inside = q, p, q_inside, p_inside
                fraction = p_inside / (p_inside - q_inside)
                cut = [a + fraction * (b - a) for a, b in zip(p, q)]
                cut[axis] = -sign * cut[3]
                kept.append(cut)
        polygon = kept
    if len(polygon) < 3 or any(corner[3] < 1.2e-38 for corner in polygon):
        return []
    return [[polygon[0], polygon[k], polygon[k + 1]] for k in range(1, len(polygon) - 1)]


def interpolate(
    attr: Tensor,
    rast: Tensor,
    tri: Tensor,
    rast_db: Tensor | None = None,
    diff_attrs: str | Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """`mofa_nvdr.dr.interpolate` in plain torch.

    Raises:
        RuntimeError: as there.
        TypeError: as there.
    """
    common_device("interpolate", attr=attr, rast=rast, tri=tri, rast_db=rast_db)
    listed = _check_interpolate("interpolate", attr, rast, tri, rast_db, diff_attrs, _DTYPES)
    _check_one_dtype("interpolate", attr=attr, rast=rast, rast_db=rast_db if listed else None)
    num_images, height, width, _ = rast.shape
    indices, valid = _triangles_at(rast, tri, attr.shape[-2])
    where = torch.nonzero(valid, as_tuple=True)
    image = where[0]
    values = attr.expand(num_images, *attr.shape[-2:])[image[:, None], indices[where]]  # [P, 3, C]
    u, v = rast[where][:, 0:1], rast[where][:, 1:2]
    inside = u * values[:, 0] + v * values[:, 1] + (1.0 - u - v) * values[:, 2]
    out = rast.new_zeros(num_images, height, width, attr.shape[-1]).index_put(where, inside)
    out_da = rast.new_zeros(num_images, height, width, 2 * len(listed))
    if listed:
        assert rast_db is not None
        chosen = torch.tensor(listed, device=attr.device)
        along = (values[:, :2] - values[:, 2:])[..., chosen.clamp(min=0)] * (
            chosen >= 0
        )  # [P, 2, D]
        steps = rast_db[where].reshape(-1, 2, 2)  # [P, (u, v), (X, Y)]
        derivatives = torch.einsum("pkd,pkx->pdx", along, steps).flatten(1)
        out_da = out_da.index_put(where, derivatives)
    return out, out_da


def _check_one_dtype(verb: str, **tensors: Tensor | None) -> None:
    given = {name: tensor.dtype for name, tensor in tensors.items() if tensor is not None}
    first = next(iter(given))
    for name, dtype in given.items():
        if dtype != given[first]:
            raise RuntimeError(
                f"{verb}: {name} is {dtype}, but {first} is {given[first]}; convert one of them"
            )


def _triangles_at(rast: Tensor, tri: Tensor, num_vertices: int) -> tuple[Tensor, Tensor]:
    """Vertex indices [N, H, W, 3] of what each pixel sees, and whether they can be used."""
    triangle = rast.detach()[..., 3].nan_to_num(nan=0.0).long() - 1
    valid = (triangle >= 0) & (triangle < tri.shape[0])
    indices = tri.long()[triangle.clamp(0, tri.shape[0] - 1)]
    valid = valid & ((indices >= 0) & (indices < num_vertices)).all(dim=-1)
    return indices, valid


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
    _check_antialias("antialias", color, rast, pos, tri, _DTYPES)
    _check_one_dtype("antialias", color=color, rast=rast, pos=pos)
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
    indices, valid = _triangles_at(rast, tri, pixels.shape[1])
    indices, valid = indices[image, f[:, 0], f[:, 1]], valid[image, f[:, 0], f[:, 1]]
    triangle = rast[image, f[:, 0], f[:, 1], 3].long().sub(1).clamp(0, tri.shape[0] - 1)

    corners = pixels[image[:, None], indices.clamp(0, pixels.shape[1] - 1)]  # [M, 3, 2]
    corners = corners - (f.flip(-1) + 0.5)[:, None]
    beyond = opposite[triangle]
    beyond = torch.where(beyond < 0, indices, beyond).clamp(0, pixels.shape[1] - 1)
    folded = pixels[image[:, None], beyond] - (f.flip(-1) + 0.5)[:, None]
    a, c = corners.roll(-1, 1), corners.roll(-2, 1)  # edge k runs from vertex k + 1 to k + 2
    area = _cross(a - corners, c - corners)
    silhouette = (_cross(a - folded, c - folded) < 0) == (area < 0)  # [M, 3]
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
