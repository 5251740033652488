"""Rotation, rigid pose and pinhole camera: model space -> camera space -> pixels or clip space.

Convention: millimetres; camera space is x right, y up, looking down -z. Pixels run x right and y
down from the image's top left *corner*, so the centre of row i, column j is (j + 0.5, i + 0.5).
Clip space is OpenGL's, as nvdiffrast takes it.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.dr.parallel import compiles, jit
from mofa_nvdr.rigid import transform_points

# Focal length per pixel of image height: 1087.5 px at 240.
FOCAL_PER_HEIGHT = 1087.5 / 240
# Where the head's centre sits in camera space at code zero, mm: the built-in face's landmarks then lie
# closest to the mean landmarks of face crops (side 1.35 times the box of the 68 points).
DEFAULT_POSITION = (0.0, 3.9, -857.9)

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


@dataclass(frozen=True)
class Camera:
    """A pinhole camera at the origin of camera space, looking down -z.

    The principal point is the image's centre.

    Attributes:
        image_size: side of the square image in pixels, or (height, width).
        focal: focal length in pixels at the image's size; None: 1087.5 px for a height of 240,
            scaled with the height.
        near, far: distances in mm between which things are drawn.
        position: (x, y, z) mm in camera space, where the model's origin sits at code zero.

    Raises:
        ValueError: a size, focal length or range that is not positive, or a position that is not
            three finite numbers.
    """

    image_size: int | tuple[int, int] = 240
    focal: float | None = None
    near: float = 100.0
    far: float = 10_000.0
    position: tuple[float, float, float] = DEFAULT_POSITION

    def __post_init__(self) -> None:
        # Lists come from YAML and JSON; tuples keep the camera hashable.
        object.__setattr__(self, "image_size", _integer_or_pair(self.image_size))
        if min(self.size) < 1:
            raise ValueError(f"Camera: image_size is {self.image_size}, expected 1 or more pixels")
        if self.focal is not None and not 0 < self.focal < float("inf"):
            raise ValueError(f"Camera: focal is {self.focal}, expected a positive number of pixels")
        if not 0 < self.near < self.far < float("inf"):
            raise ValueError(
                f"Camera: near is {self.near} and far is {self.far}, expected 0 < near < far in mm"
            )
        object.__setattr__(self, "position", _finite_triple(self.position))

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        size = self.image_size
        return (size, size) if isinstance(size, int) else size

    @property
    def focal_px(self) -> float:
        """Focal length in pixels, the default filled in."""
        return FOCAL_PER_HEIGHT * self.size[0] if self.focal is None else self.focal

    def to_camera(self, vertices: Tensor, rotation_matrix: Tensor, translation: Tensor) -> Tensor:
        """Place a model in front of the camera: v_cam = R v + position + translation.

        Args:
            vertices: [B, V, 3] model space, mm.
            rotation_matrix: [B, 3, 3], about the model's origin.
            translation: [B, 3] camera space, mm.

        Returns:
            [B, V, 3] camera space, mm.

        Raises:
            ValueError: shapes disagree.
        """
        if vertices.ndim != 3 or vertices.shape[2] != 3:
            raise ValueError(
                f"Camera.to_camera: vertices is {list(vertices.shape)}, expected [B, V, 3]"
            )
        batch = vertices.shape[0]
        if rotation_matrix.shape != (batch, 3, 3) or translation.shape != (batch, 3):
            raise ValueError(
                f"Camera.to_camera: rotation_matrix is {list(rotation_matrix.shape)} and "
                f"translation is {list(translation.shape)}, expected [B, 3, 3] and [B, 3] with "
                f"B = {batch} (from vertices)"
            )
        shift = translation + translation.new_tensor(self.position)
        return transform_points(vertices, rotation_matrix, shift)

    def project(self, points_camera: Tensor) -> Tensor:
        """Project camera-space points to pixels (the paper's Pi).

        What is nearer than the near plane, or behind the camera, is projected as if it lay on that
        plane: finite, as a rule far outside the image, and without a gradient along z.

        Args:
            points_camera: [..., 3] mm.

        Returns:
            [..., 2] pixels: x right, y down from the image's top left corner.

        Raises:
            ValueError: the last dimension is not 3.
        """
        _check_points("Camera.project", points_camera)
        height, width = self.size
        x, y, z = points_camera.unbind(-1)
        scale = self.focal_px / (-z).clamp(min=self.near)
        return torch.stack([scale * x + 0.5 * width, 0.5 * height - scale * y], dim=-1)

    def clip_space(self, points_camera: Tensor) -> Tensor:
        """Homogeneous positions for rasterization, consistent with `project`.

        Convention: OpenGL's: x right, y up, w is the distance along the viewing axis in mm, z / w
            runs
        from -1 at `near` to 1 at `far`. Pixels are x = (x / w + 1) / 2 * W and y = (1 - y / w) / 2
        * H.

        Args:
            points_camera: [..., 3] mm.

        Returns:
            pos [..., 4].

        Raises:
            ValueError: the last dimension is not 3.
        """
        _check_points("Camera.clip_space", points_camera)
        x_scale, y_scale, z_scale, z_shift = self.clip_coefficients
        # Number by number: a GPU's matrix product may round its factors to 11 bits.
        x, y, z = points_camera.unbind(-1)
        return torch.stack([x * x_scale, y * y_scale, z * z_scale + z_shift, -z], dim=-1)

    @property
    def clip_coefficients(self) -> tuple[float, float, float, float]:
        """(sx, sy, sz, tz): clip space is (sx x, sy y, sz z + tz, -z)."""
        height, width = self.size
        span = self.far - self.near
        return (
            2 * self.focal_px / width,
            2 * self.focal_px / height,
            -(self.far + self.near) / span,
            -2 * self.far * self.near / span,
        )


def _check_points(who: str, points: Tensor) -> None:
    if points.ndim < 1 or points.shape[-1] != 3:
        raise ValueError(f"{who}: points_camera is {list(points.shape)}, expected [..., 3]")


def _integer_or_pair(value: int | Sequence[int]) -> int | tuple[int, int]:
    try:
        if not isinstance(value, Sequence):
            return operator.index(value)
        height, width = (operator.index(n) for n in value)
    except (TypeError, ValueError):
        raise ValueError(
            f"Camera: image_size is {value!r}, expected an integer or (height, width) in pixels"
        ) from None
    return height, width


def _finite_triple(value: Sequence[float]) -> tuple[float, float, float]:
    try:
        x, y, z = (float(n) for n in value)
        if not all(abs(n) < float("inf") for n in (x, y, z)):
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(
            f"Camera: position is {value!r}, expected three finite numbers in mm"
        ) from None
    return x, y, z
