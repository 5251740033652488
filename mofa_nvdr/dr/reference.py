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

from typing import Any

import torch
from torch import Tensor

from mofa_nvdr.dr.context import (
    MAX_PLAIN_ID,
    RasterizeContext,
    RasterizeGLContext,
    common_device,
    get_log_level,
    set_log_level,
)
from mofa_nvdr.dr.rasterize import check_inputs, check_resolution, triangle_spans
from mofa_nvdr.dr.reference_antialias import (
    antialias,
    antialias_construct_topology_hash,
    cross,
)
from mofa_nvdr.dr.reference_interpolate import DTYPES, interpolate
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
    ranges = check_inputs("rasterize", pos, tri, ranges, DTYPES)
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
        ranges = check_inputs("DepthPeeler", pos, tri, ranges, DTYPES)
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
    area = cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0])
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
        weight = cross(along, sample - start)
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
