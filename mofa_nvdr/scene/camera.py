"""The pinhole camera: model space -> camera space -> pixels or clip space.

Convention: millimetres; camera space is x right, y up, looking down -z. Pixels run x right and y
down from the image's top left *corner*, so the centre of row i, column j is (j + 0.5, i + 0.5).
Clip space is OpenGL's, as nvdiffrast takes it.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mofa_nvdr.scene.pose import transform_points

# Focal length per pixel of image height: 1087.5 px at 240.
FOCAL_PER_HEIGHT = 1087.5 / 240
# Where the head's centre sits in camera space at code zero, mm: the built-in face's landmarks then lie
# closest to the mean landmarks of face crops (side 1.35 times the box of the 68 points).
DEFAULT_POSITION = (0.0, 3.9, -857.9)


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
