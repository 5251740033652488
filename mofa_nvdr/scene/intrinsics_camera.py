"""The pinhole camera with all of its intrinsics: two focal lengths, a principal point anywhere, skew."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from torch import Tensor

from mofa_nvdr.scene.camera import (
    DEFAULT_POSITION,
    BaseCamera,
    Matrix,
    check_image,
    check_pinhole_range,
    check_points,
    pinhole_rows,
)
from mofa_nvdr.scene.projection import Pinhole, project_pinhole


@dataclass(frozen=True)
class IntrinsicsCamera(BaseCamera):
    """A pinhole camera by the matrix K = [[fx, skew, cx], [0, fy, cy], [0, 0, 1]].

    Convention: K is for axes x right, y down, z forward, as OpenCV and COLMAP have it; points are given in
        this package's camera space all the same (x right, y up, looking down -z). The centre of the first
        pixel is at (0.5, 0.5), as in COLMAP; where it is at (0, 0), as in OpenCV, add 0.5 to cx and cy.

    Attributes:
        image_size: side of the square image in pixels, or (height, width).
        fx, fy: focal lengths in pixels.
        cx, cy: the principal point in pixels from the image's top left corner; it may lie outside.
        skew: pixels that a step of one along y / z moves to the right.
        near, far: distances in mm (or the unit of the points) between which things are drawn.
        position: as in `Camera`.

    Raises:
        ValueError: a size, focal length or range that is not positive, a principal point or skew that is
            not finite, or a position that is not three finite numbers.
    """

    image_size: int | tuple[int, int]
    fx: float
    fy: float
    cx: float
    cy: float
    skew: float = 0.0
    near: float = 100.0
    far: float = 10_000.0
    position: tuple[float, float, float] = DEFAULT_POSITION

    def __post_init__(self) -> None:
        check_image(self)
        if not (0 < self.fx < float("inf") and 0 < self.fy < float("inf")):
            raise ValueError(
                f"IntrinsicsCamera: fx is {self.fx} and fy is {self.fy}, expected positive numbers of pixels"
            )
        if not all(map(isfinite, (self.cx, self.cy, self.skew))):
            raise ValueError(
                f"IntrinsicsCamera: cx is {self.cx}, cy is {self.cy} and skew is {self.skew}, expected "
                "finite numbers of pixels"
            )
        check_pinhole_range(self)

    def project(self, points_camera: Tensor) -> Tensor:  # noqa: D102 (documented with the base)
        check_points("IntrinsicsCamera.project", points_camera)
        return project_pinhole(points_camera, self.lens)

    @property
    def lens(self) -> Pinhole:  # noqa: D102
        return Pinhole(self.fx, self.fy, self.skew, self.cx, self.cy, self.near)

    @property
    def clip_matrix(self) -> Matrix:  # noqa: D102
        height, width = self.size
        # Of w = -z: the principal point's distance from the image's centre, in halves of the image.
        right, up = 2 * self.cx / width - 1, 1 - 2 * self.cy / height
        return (
            (2 * self.fx / width, -2 * self.skew / width, -right, 0.0),
            (0.0, 2 * self.fy / height, -up, 0.0),
            *pinhole_rows(self.near, self.far),
        )

    @property
    def pixel_angle(self) -> float:  # noqa: D102
        return float((self.fx * self.fy) ** -0.5)
