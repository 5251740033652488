"""Many points through one affine map of space: rigid poses."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mofa_nvdr.dr.bands import bands_of_images, forward_bands, gradient_bands
from mofa_nvdr.dr.parallel import compiles, jit, run


def transform_points(points: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
    """Matrix @ point + shift, for every point.

    Args:
        points: [B, V, 3].
        matrix: [B, 3, 3].
        shift: [B, 3].

    Returns:
        [B, V, 3]; differentiable in all three (float32 on the CPU: once, in one compiled pass). The same
        bits for every thread count on the CPU.
    """
    if not compiles(points, matrix, shift):
        return transform_points_ref(points, matrix, shift)
    return _TransformPoints.apply(points, matrix, shift)


def transform_points_ref(points: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
    """The twin of `transform_points` in plain torch."""
    return points @ matrix.mT + shift[:, None]


class _TransformPoints(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, points: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
        points, matrix = points.contiguous(), matrix.contiguous()
        out = torch.empty_like(points)
        xyz, m, t, target = (x.detach().contiguous().numpy() for x in (points, matrix, shift, out))
        bands = forward_bands(*points.shape[:2])
        run(_transform, [(xyz[b, i:k], m[b], t[b], target[b, i:k]) for b, i, k in bands])
        ctx.save_for_backward(points, matrix)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        points, matrix = ctx.saved_tensors
        grad_points = torch.empty_like(points)
        arrays = (t.detach().contiguous().numpy() for t in (points, matrix, grad, grad_points))
        xyz, m, given, target = arrays
        bands = gradient_bands(*points.shape[:2])
        sums = np.empty((len(bands), 3, 4))
        items = [
            (xyz[b, i:k], m[b], given[b, i:k], target[b, i:k], own)
            for (b, i, k), own in zip(bands, sums)
        ]
        run(_transform_backward, items)
        totals = np.stack([sums[own].sum(0) for own in bands_of_images(bands)]).astype(np.float32)
        grad_matrix, grad_shift = torch.from_numpy(totals).split([3, 1], dim=-1)
        return grad_points, grad_matrix, grad_shift[..., 0]


@jit
def _transform(points: np.ndarray, matrix: np.ndarray, shift: np.ndarray, out: np.ndarray) -> None:
    for i in range(3):
        a, b, c, d = matrix[i, 0], matrix[i, 1], matrix[i, 2], shift[i]
        for v in range(len(points)):
            out[v, i] = a * points[v, 0] + b * points[v, 1] + c * points[v, 2] + d


@jit
def _transform_backward(
    points: np.ndarray,
    matrix: np.ndarray,
    grad: np.ndarray,
    grad_points: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Gradients of the points; sums [3, 4] become those of the matrix and, behind, of the shift."""
    a, b, c = matrix[0, 0], matrix[0, 1], matrix[0, 2]
    d, e, f = matrix[1, 0], matrix[1, 1], matrix[1, 2]
    g, h, i = matrix[2, 0], matrix[2, 1], matrix[2, 2]
    # Names rather than an array: the compiler keeps them in registers.
    ux, uy, uz, u1 = 0.0, 0.0, 0.0, 0.0
    vx, vy, vz, v1 = 0.0, 0.0, 0.0, 0.0
    wx, wy, wz, w1 = 0.0, 0.0, 0.0, 0.0
    for k in range(len(points)):
        u, v, w = grad[k, 0], grad[k, 1], grad[k, 2]
        grad_points[k, 0] = a * u + d * v + g * w
        grad_points[k, 1] = b * u + e * v + h * w
        grad_points[k, 2] = c * u + f * v + i * w
        x, y, z = np.float64(points[k, 0]), np.float64(points[k, 1]), np.float64(points[k, 2])
        u, v, w = np.float64(u), np.float64(v), np.float64(w)
        ux, uy, uz, u1 = ux + u * x, uy + u * y, uz + u * z, u1 + u
        vx, vy, vz, v1 = vx + v * x, vy + v * y, vz + v * z, v1 + v
        wx, wy, wz, w1 = wx + w * x, wy + w * y, wz + w * z, w1 + w
    sums[0, 0], sums[0, 1], sums[0, 2], sums[0, 3] = ux, uy, uz, u1
    sums[1, 0], sums[1, 1], sums[1, 2], sums[1, 3] = vx, vy, vz, v1
    sums[2, 0], sums[2, 1], sums[2, 2], sums[2, 3] = wx, wy, wz, w1
