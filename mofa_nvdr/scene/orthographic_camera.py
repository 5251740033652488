"""The orthographic camera, whose lines of sight are parallel: also what "weak perspective" draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import ClassVar

import torch
from torch import Tensor

from mofa_nvdr.scene.camera import (
    DEFAULT_POSITION,
    BaseCamera,
    Matrix,
    check_image,
    check_points,
)


@dataclass(frozen=True)
class OrthographicCamera(BaseCamera):
    """A camera that draws a millimetre as `scale` pixels, at any distance.

    Its eye is infinitely far along +z; what is at z is at the distance -z all the same.

    Attributes:
        image_size: side of the square image in pixels, or (height, width).
        scale: pixels per mm (or the unit of the points).
        center: (x, y) pixels from the image's top left corner, where the viewing axis meets the image;
            None: the image's centre.
        near, far: distances in mm between which things are drawn; they may be negative.
        position: as in `Camera`.

    Raises:
        ValueError: a size or scale that is not positive, a centre or range that is not finite, near that
            is not below far, or a position that is not three finite numbers.
    """

    image_size: int | tuple[int, int]
    scale: float
    center: tuple[float, float] | None = None
    near: float = 100.0
    far: float = 10_000.0
    position: tuple[float, float, float] = DEFAULT_POSITION
    distant_eye: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_image(self)
        if not 0 < self.scale < float("inf"):
            raise ValueError(
                f"OrthographicCamera: scale is {self.scale}, expected a positive number of pixels per mm"
            )
        if self.center is not None:
            object.__setattr__(self, "center", _finite_pair(self.center))
        if not (isfinite(self.near) and isfinite(self.far) and self.near < self.far):
            raise ValueError(
                f"OrthographicCamera: near is {self.near} and far is {self.far}, expected near < far in mm"
            )

    @property
    def center_px(self) -> tuple[float, float]:
        """(x, y) where the viewing axis meets the image, the default filled in."""
        height, width = self.size
        return (0.5 * width, 0.5 * height) if self.center is None else self.center

    def project(self, points_camera: Tensor) -> Tensor:  # noqa: D102 (documented with the base)
        check_points("OrthographicCamera.project", points_camera)
        x, y, _ = points_camera.unbind(-1)
        column, row = self.center_px
        return torch.stack([self.scale * x + column, row - self.scale * y], dim=-1)

    @property
    def clip_matrix(self) -> Matrix:  # noqa: D102
        height, width = self.size
        column, row = self.center_px
        span = self.far - self.near
        return (
            (2 * self.scale / width, 0.0, 0.0, 2 * column / width - 1),
            (0.0, 2 * self.scale / height, 0.0, 1 - 2 * row / height),
            (0.0, 0.0, -2 / span, -(self.far + self.near) / span),
            (0.0, 0.0, 0.0, 1.0),
        )


def _finite_pair(value: Sequence[float]) -> tuple[float, float]:
    try:
        x, y = (float(n) for n in value)
        if not (isfinite(x) and isfinite(y)):
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(
            f"OrthographicCamera: center is {value!r}, expected two finite numbers of pixels (x, y), or None"
        ) from None
    return x, y
