"""Points through an affine map of space: rigid poses and projections of many points by few numbers."""

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
        xyz, rows, offset, target = (
            t.detach().contiguous().numpy() for t in (points, matrix, shift, out)
        )
        bands = forward_bands(*points.shape[:2])
        run(_transform, [(xyz[b, i:k], rows[b], offset[b], target[b, i:k]) for b, i, k in bands])
        ctx.save_for_backward(points, matrix)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        points, matrix = ctx.saved_tensors
        xyz, rows, given = (t.detach().contiguous().numpy() for t in (points, matrix, grad))
        grad_points = grad_matrix = grad_shift = None
        if ctx.needs_input_grad[0]:
            grad_points = torch.empty_like(points)
            target, bands = grad_points.numpy(), forward_bands(*points.shape[:2])
            run(
                _transform_backward, [(rows[b], given[b, i:k], target[b, i:k]) for b, i, k in bands]
            )
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            bands = gradient_bands(*points.shape[:2])
            sums = np.empty((len(bands), matrix.shape[1], 4))
            run(
                _sum_products,
                [(xyz[b, i:k], given[b, i:k], own) for (b, i, k), own in zip(bands, sums)],
            )
            totals = np.stack([sums[own].sum(0) for own in bands_of_images(bands)])
            grad_matrix, grad_shift = torch.from_numpy(totals).float().split([3, 1], dim=-1)
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
