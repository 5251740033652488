"""The projected area of the triangle that each pixel sees: the divergence term of the "surface" gradient.

One compiled pass on the CPU in float32, with sums in a fixed order; plain torch everywhere else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mofa_nvdr.dr.bands import forward_bands, gradient_bands
from mofa_nvdr.dr.parallel import jit, run
from mofa_nvdr.dr.vertex_sums import sum_by_vertex


def log_projected_area(points: Tensor, triangles: Tensor, ids: Tensor, floor: float) -> Tensor:
    """Logarithm of the area, plus a floor, of each pixel's triangle in the picture.

    Args:
        points: projected vertices [B, V, 2], px.
        triangles: [T, 3], indices within the vertices.
        ids: the triangle at each pixel [B, H, W], int64; -1 where there is none.
        floor: px^2, added to the area: keeps edge-on, sub-pixel triangles finite.

    Returns:
        [B, H, W] in the dtype of points; 0 where there is no triangle. Differentiable once in points;
        the same bits for every thread count on the CPU.
    """
    if points.device.type != "cpu" or points.dtype != torch.float32:
        return log_projected_area_ref(points, triangles, ids, floor)
    return _LogArea.apply(points, triangles, ids, floor)


def log_projected_area_ref(points: Tensor, triangles: Tensor, ids: Tensor, floor: float) -> Tensor:
    """The twin of `log_projected_area` in plain torch."""
    corners = points[:, triangles.long()]  # [B, T, 3, 2]
    along, across = corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0]
    area = 0.5 * (along[..., 0] * across[..., 1] - along[..., 1] * across[..., 0]).abs()
    seen = (area + floor).log().gather(1, ids.clamp(min=0).flatten(1)).view(ids.shape)
    return torch.where(ids >= 0, seen, torch.zeros_like(seen))


class _LogArea(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, points: Tensor, triangles: Tensor, ids: Tensor, floor: float) -> Tensor:
        out = torch.empty(ids.shape)
        arrays = [t.detach().contiguous().numpy() for t in (points, triangles, ids)]
        xy, tri, seen = arrays
        items = [
            (xy[b], tri, seen[b], floor, start, stop, out.numpy()[b])
            for b, start, stop in forward_bands(*ids.shape[:2])
        ]
        run(_area_of_rows, items)
        ctx.save_for_backward(points, triangles, ids)
        ctx.floor = floor
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        xy, tri, seen = (t.detach().contiguous().numpy() for t in ctx.saved_tensors)
        given = grad.contiguous().numpy()
        bands = gradient_bands(*seen.shape[:2])
        grad_points = torch.empty(xy.shape)

        def add(band: int, sums: np.ndarray) -> None:
            b, start, stop = bands[band]
            _area_of_rows_backward(xy[b], tri, seen[b], ctx.floor, given[b], start, stop, sums)

        sum_by_vertex(add, bands, (2, [grad_points.numpy()]))
        return grad_points, None, None, None


@jit
def _doubled_area(points: np.ndarray, a: int, b: int, c: int) -> float:
    """Signed."""
    return (np.float64(points[b, 0]) - points[a, 0]) * (np.float64(points[c, 1]) - points[a, 1]) - (
        np.float64(points[b, 1]) - points[a, 1]
    ) * (np.float64(points[c, 0]) - points[a, 0])


@jit
def _area_of_rows(
    points: np.ndarray,
    triangles: np.ndarray,
    ids: np.ndarray,
    floor: float,
    start: int,
    stop: int,
    out: np.ndarray,
) -> None:
    for j in range(start, stop):
        for i in range(ids.shape[1]):
            t = ids[j, i]
            out[j, i] = 0.0
            if t >= 0:
                doubled = _doubled_area(points, triangles[t, 0], triangles[t, 1], triangles[t, 2])
                out[j, i] = np.log(0.5 * abs(doubled) + floor)


@jit
def _area_of_rows_backward(
    points: np.ndarray,
    triangles: np.ndarray,
    ids: np.ndarray,
    floor: float,
    grad: np.ndarray,
    start: int,
    stop: int,
    sums: np.ndarray,
) -> None:
    for j in range(start, stop):
        for i in range(ids.shape[1]):
            t = ids[j, i]
            if t < 0 or grad[j, i] == 0.0:
                continue
            a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            doubled = _doubled_area(points, a, b, c)
            factor = 0.5 * np.sign(doubled) * grad[j, i] / (0.5 * abs(doubled) + floor)
            # d doubled / d corner: the opposite edge, turned by a right angle.
            sums[a, 0] += factor * (np.float64(points[b, 1]) - points[c, 1])
            sums[a, 1] += factor * (np.float64(points[c, 0]) - points[b, 0])
            sums[b, 0] += factor * (np.float64(points[c, 1]) - points[a, 1])
            sums[b, 1] += factor * (np.float64(points[a, 0]) - points[c, 0])
            sums[c, 0] += factor * (np.float64(points[a, 1]) - points[b, 1])
            sums[c, 1] += factor * (np.float64(points[b, 0]) - points[a, 0])
