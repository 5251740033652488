"""Poses: rotations as axis-angle vectors, the paper's camera pose, and points through one rigid map.

Convention: a rotation matrix multiplies column vectors; angles are radians, shifts millimetres.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mofa_nvdr.dr.bands import bands_of_images, forward_bands, gradient_bands
from mofa_nvdr.dr.parallel import compiles, jit, run_on_threads


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
        run_on_threads(
            transform_rows, [(xyz[b, i:k], m[b], t[b], target[b, i:k]) for b, i, k in bands]
        )
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
        run_on_threads(transform_rows_backward, items)
        totals = np.stack([sums[own].sum(0) for own in bands_of_images(bands)]).astype(np.float32)
        grad_matrix, grad_shift = torch.from_numpy(totals).split([3, 1], dim=-1)
        return grad_points, grad_matrix, grad_shift[..., 0]


@jit
def transform_rows(
    points: np.ndarray, matrix: np.ndarray, shift: np.ndarray, out: np.ndarray
) -> None:
    """Matrix @ point + shift, for the rows of points [V, 3]."""
    for i in range(3):
        a, b, c, d = matrix[i, 0], matrix[i, 1], matrix[i, 2], shift[i]
        for v in range(len(points)):
            out[v, i] = a * points[v, 0] + b * points[v, 1] + c * points[v, 2] + d


@jit
def transform_rows_backward(
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


# sin(a) / a as a polynomial of a^2: 1, -1/3!, 1/5!, ...; below the limit it is exact to 2e-16.
_SINC_SERIES = (1.0, -1 / 6, 1 / 120, -1 / 5040, 1 / 362880, -1 / 39916800)


_SINC_SERIES_BELOW = 0.1  # of the squared angle


def axis_angle_to_matrix(rotation: Tensor) -> Tensor:
    """Turn axis-angle vectors into rotation matrices (Rodrigues' formula).

    Convention: counter-clockwise about the axis for a viewer whom the axis points at; the matrix
    multiplies column vectors. (0, pi/2, 0) takes +z to +x.

    Args:
        rotation: [..., 3] axis times angle, radians. Any angle.

    Returns:
        [..., 3, 3]. Differentiable everywhere, at zero too, as often as one likes.

    Raises:
        ValueError: the last dimension is not 3.
    """
    if rotation.ndim < 1 or rotation.shape[-1] != 3:
        raise ValueError(
            f"axis_angle_to_matrix: rotation is {list(rotation.shape)}, expected [..., 3]"
        )
    if compiles(rotation):
        return _Rodrigues.apply(rotation)
    return axis_angle_to_matrix_ref(rotation)


def axis_angle_to_matrix_ref(rotation: Tensor) -> Tensor:
    """The twin of `axis_angle_to_matrix` in plain torch."""
    x, y, z = rotation.unbind(-1)
    squared = x * x + y * y + z * z
    sine = _sinc(squared)  # sin(a) / a
    cosine = 0.5 * _sinc(squared / 4) ** 2  # (1 - cos(a)) / a^2, without its cancellation
    xx, yy, zz = cosine * x * x, cosine * y * y, cosine * z * z
    xy, yz, xz = cosine * x * y, cosine * y * z, cosine * x * z
    x, y, z = sine * x, sine * y, sine * z
    rows = [1 - yy - zz, xy - z, xz + y, xy + z, 1 - xx - zz, yz - x, xz - y, yz + x, 1 - xx - yy]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


class _Rodrigues(torch.autograd.Function):
    """One compiled pass for what is some thirty operations on a few numbers."""

    @staticmethod
    def forward(ctx: Any, rotation: Tensor) -> Tensor:
        ctx.save_for_backward(rotation)
        matrix = rotation.new_empty(*rotation.shape, 3)
        flat = rotation.detach().reshape(-1, 3).contiguous().numpy()
        _rodrigues(flat, matrix.view(-1, 3, 3).numpy())
        return matrix

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (rotation,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated in turn
            again = rotation if rotation.requires_grad else rotation.detach().requires_grad_()
            matrix = axis_angle_to_matrix_ref(again)
            return torch.autograd.grad(matrix, again, grad, create_graph=True)[0]
        out = torch.empty_like(rotation, memory_format=torch.contiguous_format)
        flat = rotation.detach().reshape(-1, 3).contiguous().numpy()
        _rodrigues_backward(
            flat, grad.reshape(-1, 3, 3).contiguous().numpy(), out.view(-1, 3).numpy()
        )
        return out


@jit(inline=True)
def _sine_and_cosine(squared: float) -> tuple[float, float, float, float]:
    """sin(a) / a and (1 - cos(a)) / a^2 of the squared angle, and their derivatives by it."""
    if squared >= _SINC_SERIES_BELOW:
        angle = np.sqrt(squared)
        sine, cosine = np.sin(angle) / angle, (1.0 - np.cos(angle)) / squared
        by_squared = (np.cos(angle) - sine) / (2.0 * squared)
        return sine, cosine, by_squared, (sine - 2.0 * cosine) / (2.0 * squared)
    sine, cosine, sine_by, cosine_by = 0.0, 0.0, 0.0, 0.0
    for k in range(len(_SINC_SERIES) - 1, -1, -1):  # Horner's scheme, the derivatives along with it
        sine_by = sine_by * squared + sine
        cosine_by = cosine_by * squared + cosine
        sine = sine * squared + _SINC_SERIES[k]
        cosine = cosine * squared + _SINC_SERIES[k] / (2 * k + 2)
    return sine, cosine, sine_by, cosine_by


@jit
def _rodrigues(rotations: np.ndarray, matrices: np.ndarray) -> None:
    for n in range(len(rotations)):
        r = rotations[n].astype(np.float64)
        squared = r[0] * r[0] + r[1] * r[1] + r[2] * r[2]
        sine, cosine, _, _ = _sine_and_cosine(squared)
        for i in range(3):
            after, last = (i + 1) % 3, (i + 2) % 3
            product = cosine * r[after] * r[last]
            matrices[n, last, after] = product + sine * r[i]
            matrices[n, after, last] = product - sine * r[i]
            matrices[n, i, i] = 1.0 - cosine * (squared - r[i] * r[i])


@jit
def _rodrigues_backward(rotations: np.ndarray, grads: np.ndarray, out: np.ndarray) -> None:
    """The matrix is (1 - c a^2) I + c r r^T + s [r]x with s and c of `_sine_and_cosine`."""
    for n in range(len(rotations)):
        r, g = rotations[n].astype(np.float64), grads[n].astype(np.float64)
        squared = r[0] * r[0] + r[1] * r[1] + r[2] * r[2]
        sine, cosine, sine_by, cosine_by = _sine_and_cosine(squared)
        across = np.empty(3)
        along, turned = 0.0, 0.0
        for i in range(3):
            across[i] = g[(i + 2) % 3, (i + 1) % 3] - g[(i + 1) % 3, (i + 2) % 3]
            turned += across[i] * r[i]
            for j in range(3):
                along += g[i, j] * r[i] * r[j]
        trace = g[0, 0] + g[1, 1] + g[2, 2]
        by_squared = cosine_by * (along - squared * trace) - cosine * trace + sine_by * turned
        for i in range(3):
            both = 0.0
            for j in range(3):
                both += (g[i, j] + g[j, i]) * r[j]
            out[n, i] = 2.0 * by_squared * r[i] + cosine * both + sine * across[i]


def _sinc(squared: Tensor) -> Tensor:
    """sin(a) / a of a squared angle; smooth at zero, where the square root is not."""
    series = torch.zeros_like(squared)
    for factor in reversed(_SINC_SERIES):
        series = series * squared + factor
    small = squared < _SINC_SERIES_BELOW
    # The branch not taken must stay finite in the backward pass: 0 * inf is NaN.
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    return torch.where(small, series, angle.sin() / angle)


@torch.no_grad()
def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """Turn rotation matrices into axis-angle vectors with angles in [0, pi].

    By way of unit quaternions, from whichever component is largest, in float64: exact near zero and
    near pi, where the trace formula fails. At pi itself both signs of the axis are right; one is
    returned. For files and reports: no gradient.

    Args:
        matrix: [..., 3, 3] rotations.

    Returns:
        [..., 3] in the matrix's dtype.

    Raises:
        ValueError: the shape is not [..., 3, 3], or a matrix is not a rotation (R R^T differs from
            the identity by more than 1e-3, or it mirrors).
    """
    if matrix.ndim < 2 or matrix.shape[-2:] != (3, 3):
        raise ValueError(
            f"matrix_to_axis_angle: matrix is {list(matrix.shape)}, expected [..., 3, 3] rotations"
        )
    m = matrix.double()
    deviation = (m @ m.mT - torch.eye(3, dtype=m.dtype, device=m.device)).abs()
    if not ((deviation < 1e-3).all() and (torch.linalg.det(m) > 0).all()):
        raise ValueError(
            "matrix_to_axis_angle: matrix is not a rotation, expected R R^T = 1 within 1e-3 "
            "and det = 1; orthonormalise it first"
        )
    # 4 q q^T of the quaternion q = (w, x, y, z): each row is q, scaled by four times its own
    # component.
    d = m.diagonal(dim1=-2, dim2=-1)
    trace = d.sum(-1)
    skew = [m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]]
    xy, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 1, 2] + m[..., 2, 1]
    xz = m[..., 0, 2] + m[..., 2, 0]
    squares = [1 + trace, *(1 + 2 * d[..., i] - trace for i in range(3))]
    rows = [
        torch.stack([squares[0], *skew], dim=-1),
        torch.stack([skew[0], squares[1], xy, xz], dim=-1),
        torch.stack([skew[1], xy, squares[2], yz], dim=-1),
        torch.stack([skew[2], xz, yz, squares[3]], dim=-1),
    ]
    largest = torch.stack(squares, dim=-1).argmax(-1)[..., None, None]
    row = torch.stack(rows, dim=-2).gather(-2, largest.expand(*largest.shape[:-1], 4)).squeeze(-2)
    row = torch.where(
        row[..., :1] < 0, -row, row
    )  # q and -q are one rotation: take the angle below pi
    quaternion = row / row.norm(dim=-1, keepdim=True)
    real, vector = quaternion[..., :1], quaternion[..., 1:]
    length = vector.norm(dim=-1, keepdim=True)
    # angle / length -> 2 / w = 2 as the rotation vanishes
    scale = torch.where(
        length > 1e-12, 2 * torch.atan2(length, real) / length.clamp(min=1e-12), 2.0
    )
    return (scale * vector).to(matrix.dtype)


def to_paper_pose(rotation: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Convert v_cam = R v + s into the paper's camera pose, v_cam = Phi(v) = T^-1 (v - t).

    Args:
        rotation: R [B, 3, 3].
        shift: s [B, 3] mm: a camera's `position` plus the code's translation.

    Returns:
        T = R^T [B, 3, 3] and t = -R^T s [B, 3]: the camera's orientation and place in model space.

    Raises:
        ValueError: shapes disagree.

    Source: Tewari et al. 2017, section 4, "Perspective Camera".
    """
    _check_pose("to_paper_pose", "rotation", rotation, "shift", shift)
    transposed = rotation.mT
    return transposed, -(transposed @ shift[..., None]).squeeze(-1)


def from_paper_pose(orientation: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """Convert the paper's camera pose (T, t) into R and s; undoes `to_paper_pose`.

    Args:
        orientation: T [B, 3, 3].
        place: t [B, 3] mm.

    Returns:
        R = T^T [B, 3, 3] and s = -T^T t [B, 3] mm.

    Raises:
        ValueError: shapes disagree.
    """
    _check_pose("from_paper_pose", "orientation", orientation, "place", place)
    return to_paper_pose(orientation, place)  # the inverse of a rigid motion has the same form


def _check_pose(who: str, name: str, matrix: Tensor, vector_name: str, vector: Tensor) -> None:
    if matrix.ndim != 3 or matrix.shape[1:] != (3, 3):
        raise ValueError(f"{who}: {name} is {list(matrix.shape)}, expected [B, 3, 3]")
    if vector.shape != (matrix.shape[0], 3):
        raise ValueError(
            f"{who}: {vector_name} is {list(vector.shape)}, expected [B, 3] with "
            f"B = {matrix.shape[0]} (from {name})"
        )
