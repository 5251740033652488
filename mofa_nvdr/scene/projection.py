"""Points in camera space to pixels through a pinhole: one compiled pass, and its twin in plain torch."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mofa_nvdr.dr.bands import forward_bands
from mofa_nvdr.dr.parallel import compiles, jit, run_on_threads


@dataclass(frozen=True)
class Pinhole:
    """Focal lengths, skew and principal point in pixels, and the nearest distance in mm that counts."""

    fx: float
    fy: float
    skew: float
    cx: float
    cy: float
    near: float

    def numbers(self) -> np.ndarray:
        """As the kernels take them."""
        return np.array(astuple(self), np.float32)


def project_pinhole(points: Tensor, pinhole: Pinhole) -> Tensor:
    """Pixels of points; see `BaseCamera.project`.

    Args:
        points: [..., 3] mm, camera space.
        pinhole: of the camera.

    Returns:
        [..., 2], differentiable in the points (float32 on the CPU: once, in one compiled pass). The same
        bits for every thread count on the CPU.
    """
    if not compiles(points):
        return project_pinhole_ref(points, pinhole)
    out: Tensor = _Project.apply(points, pinhole)
    return out


def project_pinhole_ref(points: Tensor, pinhole: Pinhole) -> Tensor:
    """The twin of `project_pinhole` in plain torch."""
    p = pinhole
    x, y, z = points.unbind(-1)
    inverse = 1 / (-z).clamp(min=p.near)
    right, down = x * inverse, -y * inverse
    return torch.stack([p.fx * right + p.skew * down + p.cx, p.fy * down + p.cy], dim=-1)


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, points: Tensor, pinhole: Pinhole) -> Tensor:
        flat = points.detach().contiguous().view(-1, 3)
        out = points.new_empty(*points.shape[:-1], 2)
        ctx.numbers = pinhole.numbers()
        source, target = flat.numpy(), out.view(-1, 2).numpy()
        bands = forward_bands(1, len(flat))
        run_on_threads(project_rows, [(source[i:k], ctx.numbers, target[i:k]) for _, i, k in bands])
        ctx.save_for_backward(points)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (points,) = ctx.saved_tensors
        out = points.new_empty(points.shape)
        arrays = (t.detach().contiguous() for t in (points, grad, out))
        source, given, target = (t.view(-1, t.shape[-1]).numpy() for t in arrays)
        run_on_threads(
            project_rows_backward,
            [
                (source[i:k], ctx.numbers, given[i:k], target[i:k])
                for _, i, k in forward_bands(1, len(source))
            ],
        )
        return out, None


@jit
def project_rows(points: np.ndarray, numbers: np.ndarray, out: np.ndarray) -> None:
    """Pixels of points [N, 3]; `numbers` are those of a Pinhole."""
    fx, fy, skew, cx, cy, near = numbers
    for k in range(len(points)):
        depth = -points[k, 2]
        inverse = np.float32(1.0) / (near if depth < near else depth)  # NaN stays
        right, down = points[k, 0] * inverse, -points[k, 1] * inverse
        out[k, 0] = fx * right + skew * down + cx
        out[k, 1] = fy * down + cy


@jit
def project_rows_backward(
    points: np.ndarray, numbers: np.ndarray, grad: np.ndarray, out: np.ndarray
) -> None:
    """Gradients of points [N, 3] from those of pixels [N, 2]."""
    fx, fy, skew, _, _, near = numbers
    for k in range(len(points)):
        depth = -points[k, 2]
        inverse = np.float32(1.0) / (near if depth < near else depth)
        by_right = fx * grad[k, 0] * inverse
        by_down = (skew * grad[k, 0] + fy * grad[k, 1]) * inverse
        out[k, 0], out[k, 1] = by_right, -by_down
        towards = (by_right * points[k, 0] - by_down * points[k, 1]) * inverse
        out[k, 2] = towards if depth >= near else np.float32(0.0)
