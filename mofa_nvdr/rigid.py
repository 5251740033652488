"""Points through an affine map of space: rigid poses and projections of many points by few numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mofa_nvdr.dr.parallel import compiles, jit, run


def transform_points(points: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
    """Matrix @ point + shift, for every point.

    Args:
        points: [B, V, 3].
        matrix: [B, D, 3].
        shift: [B, D].

    Returns:
        [B, V, D]; differentiable in all three (float32 on the CPU: once, in one compiled pass). The same
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
        out = points.new_empty(*points.shape[:2], shift.shape[1])
        arrays = [t.detach().contiguous().numpy() for t in (points, matrix, shift, out)]
        run(_transform, list(zip(*arrays)))
        ctx.save_for_backward(points, matrix)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        points, matrix = ctx.saved_tensors
        arrays = [t.detach().contiguous().numpy() for t in (points, matrix, grad)]
        grad_points = grad_matrix = grad_shift = None
        if ctx.needs_input_grad[0]:
            grad_points = torch.empty_like(points)
            run(_transform_backward, list(zip(*arrays[1:], grad_points.numpy())))
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            sums = torch.empty(*matrix.shape[:2], 4, dtype=torch.float64)
            run(_sum_products, list(zip(arrays[0], arrays[2], sums.numpy())))
            grad_matrix, grad_shift = sums.float().split([3, 1], dim=-1)
            grad_shift = grad_shift[..., 0]
        return grad_points, grad_matrix, grad_shift


@jit
def _transform(points: np.ndarray, matrix: np.ndarray, shift: np.ndarray, out: np.ndarray) -> None:
    for i in range(out.shape[1]):
        a, b, c, d = matrix[i, 0], matrix[i, 1], matrix[i, 2], shift[i]
        for v in range(len(points)):
            out[v, i] = a * points[v, 0] + b * points[v, 1] + c * points[v, 2] + d


@jit
def _transform_backward(matrix: np.ndarray, grad: np.ndarray, grad_points: np.ndarray) -> None:
    grad_points[:] = 0.0
    for i in range(grad.shape[1]):
        a, b, c = matrix[i, 0], matrix[i, 1], matrix[i, 2]
        for v in range(len(grad)):
            g = grad[v, i]
            grad_points[v, 0] += a * g
            grad_points[v, 1] += b * g
            grad_points[v, 2] += c * g


@jit
def _sum_products(points: np.ndarray, grad: np.ndarray, sums: np.ndarray) -> None:
    """Sums [D, 4] of grad times (point, 1)."""
    for i in range(grad.shape[1]):
        x, y, z, one = 0.0, 0.0, 0.0, 0.0
        for v in range(len(points)):
            g = np.float64(grad[v, i])
            x += g * points[v, 0]
            y += g * points[v, 1]
            z += g * points[v, 2]
            one += g
        sums[i, 0], sums[i, 1], sums[i, 2], sums[i, 3] = x, y, z, one
