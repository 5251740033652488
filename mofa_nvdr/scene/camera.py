"""Cameras: model space -> camera space -> pixels or clip space; here the pinhole that faces are seen by.

Convention: millimetres; camera space is x right, y up, looking down -z. Pixels run x right and y
down from the image's top left *corner*, so the centre of row i, column j is (j + 0.5, i + 0.5).
Clip space is OpenGL's, as nvdiffrast takes it.

`BaseCamera` is what renderers and decoders need of a camera. `Camera` is the one of codes, runs and files;
`intrinsics_camera` and `orthographic_camera` are for pictures of others.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from mofa_nvdr.scene.placement import placed_with_normals
from mofa_nvdr.scene.pose import transform_points
from mofa_nvdr.scene.projection import Pinhole, project_pinhole

# Focal length per pixel of image height: 1087.5 px at 240.
FOCAL_PER_HEIGHT = 1087.5 / 240
# Where the head's centre sits in camera space at code zero, mm: the built-in face's landmarks then lie
# closest to the mean landmarks of face crops (side 1.35 times the box of the 68 points).
DEFAULT_POSITION = (0.0, 3.9, -857.9)

# Four rows of four numbers: clip space is the matrix times (x, y, z, 1).
Matrix = tuple[tuple[float, float, float, float], ...]


class BaseCamera:
    """What renderers and decoders need of a camera at the origin of camera space, looking down -z.

    A camera of another kind derives from it and defines `project`, `clip_matrix` and `pixel_angle`.

    Attributes:
        image_size: side of the square image in pixels, or (height, width).
        near, far: distances in mm along the viewing axis between which things are drawn.
        position: (x, y, z) mm in camera space, where the model's origin sits at code zero; only decoders
            of codes use it.
        distant_eye: whether all lines of sight are parallel.
    """

    image_size: int | tuple[int, int]
    near: float
    far: float
    position: tuple[float, float, float]
    distant_eye: ClassVar[bool] = False

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        size = self.image_size
        return (size, size) if isinstance(size, int) else size

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
        return transform_points(
            vertices, rotation_matrix, self._shift(vertices, rotation_matrix, translation)
        )

    def to_camera_with_normals(
        self, vertices: Tensor, rotation_matrix: Tensor, translation: Tensor, triangles: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`to_camera`, and the normals [B, V, 3] there of the mesh with these triangles [T, 3].

        Raises:
            ValueError: shapes disagree, or an index lies outside the vertices.
        """
        shift = self._shift(vertices, rotation_matrix, translation)
        return placed_with_normals(vertices, rotation_matrix, shift, triangles)

    def _shift(self, vertices: Tensor, rotation_matrix: Tensor, translation: Tensor) -> Tensor:
        """Where the model's origin goes, [B, 3]."""
        if vertices.ndim != 3 or vertices.shape[2] != 3:
            raise ValueError(
                f"{type(self).__name__}.to_camera: vertices is {list(vertices.shape)}, expected [B, V, 3]"
            )
        batch = vertices.shape[0]
        if rotation_matrix.shape != (batch, 3, 3) or translation.shape != (batch, 3):
            raise ValueError(
                f"{type(self).__name__}.to_camera: rotation_matrix is {list(rotation_matrix.shape)} and "
                f"translation is {list(translation.shape)}, expected [B, 3, 3] and [B, 3] with "
                f"B = {batch} (from vertices)"
            )
        return translation + translation.new_tensor(self.position)

    def project(self, points_camera: Tensor) -> Tensor:
        """Project camera-space points to pixels (the paper's Pi).

        What is nearer to a pinhole than the near plane, or behind it, is projected as if it lay on that
        plane: finite, as a rule far outside the image, and without a gradient along z.

        Args:
            points_camera: [..., 3] mm.

        Returns:
            [..., 2] pixels: x right, y down from the image's top left corner.

        Raises:
            ValueError: the last dimension is not 3.
        """
        raise NotImplementedError

    @property
    def lens(self) -> Pinhole | None:
        """What `project` does in numbers, for cameras that are a pinhole."""
        return None

    @property
    def clip_matrix(self) -> Matrix:
        """Four rows of four numbers; clip space is this matrix times (x, y, z, 1)."""
        raise NotImplementedError

    @property
    def pixel_angle(self) -> float:
        """Width of a pixel over its distance, for cameras whose w is the distance."""
        raise NotImplementedError

    @property
    def nearest_w(self) -> float:
        """The clip-space w of the near plane."""
        return 1.0 if self.distant_eye else self.near

    def clip_space(self, points_camera: Tensor) -> Tensor:
        """Homogeneous positions for rasterization, consistent with `project`.

        Convention: OpenGL's: x right, y up; w is the distance along the viewing axis in mm, or 1 for
            parallel lines of sight; z / w runs from -1 at `near` to 1 at `far`. Pixels are
            x = (x / w + 1) / 2 * W and y = (1 - y / w) / 2 * H.

        Args:
            points_camera: [..., 3] mm.

        Returns:
            pos [..., 4].

        Raises:
            ValueError: the last dimension is not 3.
        """
        check_points(f"{type(self).__name__}.clip_space", points_camera)
        # Number by number: a GPU's matrix product may round its factors to 11 bits.
        axes = points_camera.unbind(-1)
        return torch.stack([_combine(row, axes) for row in self.clip_matrix], dim=-1)

    def view_directions(self, points_camera: Tensor) -> Tensor:
        """From points to the eye, [..., 3] of any length: a surface shows its front if normal . this > 0.

        Raises:
            ValueError: the last dimension is not 3.
        """
        check_points(f"{type(self).__name__}.view_directions", points_camera)
        if not self.distant_eye:
            return -points_camera
        return points_camera.new_tensor([0.0, 0.0, 1.0]).expand(points_camera.shape)


@dataclass(frozen=True)
class Camera(BaseCamera):
    """A pinhole camera at the origin of camera space, looking down -z.

    The principal point is the image's centre; `IntrinsicsCamera` has one anywhere.

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
        check_image(self)
        if self.focal is not None and not 0 < self.focal < float("inf"):
            raise ValueError(f"Camera: focal is {self.focal}, expected a positive number of pixels")
        check_pinhole_range(self)

    @property
    def focal_px(self) -> float:
        """Focal length in pixels, the default filled in."""
        return FOCAL_PER_HEIGHT * self.size[0] if self.focal is None else self.focal

    def resized(self, height: int) -> Camera:
        """The same view in a square picture of another size.

        Args:
            height: of the picture in pixels, and its width.

        Raises:
            ValueError: it is not positive, or this camera's picture is not square.
        """
        if self.size[0] != self.size[1]:
            raise ValueError(f"Camera.resized: the picture is {self.size}, expected a square")
        return replace(self, image_size=height, focal=self.focal_px * height / self.size[0])

    def project(self, points_camera: Tensor) -> Tensor:  # noqa: D102 (documented with the base)
        check_points("Camera.project", points_camera)
        return project_pinhole(points_camera, self.lens)

    @property
    def lens(self) -> Pinhole:  # noqa: D102
        (height, width), focal = self.size, self.focal_px
        return Pinhole(focal, focal, 0.0, 0.5 * width, 0.5 * height, self.near)

    @property
    def clip_matrix(self) -> Matrix:  # noqa: D102
        height, width = self.size
        x_scale, y_scale = 2 * self.focal_px / width, 2 * self.focal_px / height
        return (
            (x_scale, 0.0, 0.0, 0.0),
            (0.0, y_scale, 0.0, 0.0),
            *pinhole_rows(self.near, self.far),
        )

    @property
    def pixel_angle(self) -> float:  # noqa: D102
        return 1 / self.focal_px


def pinhole_rows(near: float, far: float) -> Matrix:
    """The rows of a pinhole's clip matrix that make z and w."""
    span = far - near
    return (
        (0.0, 0.0, -(far + near) / span, -2 * far * near / span),
        (0.0, 0.0, -1.0, 0.0),
    )


def check_image(camera: BaseCamera) -> None:
    """Refuse a size or position that is none; lists of them become tuples.

    Raises:
        ValueError: one is.
    """
    who = type(camera).__name__
    # Lists come from YAML and JSON; tuples keep the camera hashable.
    object.__setattr__(camera, "image_size", _integer_or_pair(who, camera.image_size))
    if min(camera.size) < 1:
        raise ValueError(f"{who}: image_size is {camera.image_size}, expected 1 or more pixels")
    object.__setattr__(camera, "position", _finite_triple(who, camera.position))


def check_pinhole_range(camera: BaseCamera) -> None:
    """Refuse near and far that are no range in front of a pinhole.

    Raises:
        ValueError: they are not.
    """
    if not 0 < camera.near < camera.far < float("inf"):
        raise ValueError(
            f"{type(camera).__name__}: near is {camera.near} and far is {camera.far}, expected "
            "0 < near < far in mm"
        )


def _combine(row: Sequence[float], axes: Sequence[Tensor]) -> Tensor:
    """A row of a matrix times (x, y, z, 1), without the terms that are zero."""
    total: Tensor | None = None
    for factor, axis in zip(row, axes):
        if factor:
            term = -axis if factor == -1 else axis * factor
            total = term if total is None else total + term
    if total is None:
        return torch.full_like(axes[0], row[3])
    return total + row[3] if row[3] else total


def check_points(who: str, points: Tensor) -> None:
    """Refuse points [..., not 3]."""
    if points.ndim < 1 or points.shape[-1] != 3:
        raise ValueError(f"{who}: points_camera is {list(points.shape)}, expected [..., 3]")


def _integer_or_pair(who: str, value: int | Sequence[int]) -> int | tuple[int, int]:
    try:
        if not isinstance(value, Sequence):
            return operator.index(value)
        height, width = (operator.index(n) for n in value)
    except (TypeError, ValueError):
        raise ValueError(
            f"{who}: image_size is {value!r}, expected an integer or (height, width) in pixels"
        ) from None
    return height, width


def _finite_triple(who: str, value: Sequence[float]) -> tuple[float, float, float]:
    try:
        x, y, z = (float(n) for n in value)
        if not all(abs(n) < float("inf") for n in (x, y, z)):
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(
            f"{who}: position is {value!r}, expected three finite numbers in mm"
        ) from None
    return x, y, z
