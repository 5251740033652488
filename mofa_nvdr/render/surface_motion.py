"""How fixed points of a surface move on the screen: what the "surface" gradient needs of each pixel.

The point that a pixel sees projects to the pixel's centre; its gradient is the motion of that point. The
logarithm of the projected area of the pixel's triangle has the divergence of that motion as its gradient.
One compiled pass on the CPU in float32, plain torch everywhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mofa_nvdr import dr as default_dr
from mofa_nvdr.dr.bands import band_items, forward_bands, gradient_bands
from mofa_nvdr.dr.parallel import compiles, run_on_threads
from mofa_nvdr.dr.vertex_sums import sum_by_vertex
from mofa_nvdr.render.surface_motion_kernels import move_rows, move_rows_backward


def surface_motion(
    pos: Tensor,
    triangles: Tensor,
    rast: Tensor,
    near: float,
    area_floor: float,
    dr: ModuleType = default_dr,
) -> tuple[Tensor, Tensor]:
    """Where the surface point in each pixel projects, and its triangle's projected area.

    Args:
        pos: [B, V, 4] clip space, as it was rasterized.
        triangles: [T, 3] int32.
        rast: [B, H, W, 4] of `dr.rasterize`, row 0 at the bottom; taken as constant: u and v say which
            point of the surface is followed.
        near: for the area, vertices nearer than this (w, in its units) project as if they were there.
        area_floor: px^2, added to the area: keeps edge-on, sub-pixel triangles finite.
        dr: the module with nvdiffrast's verbs.

    Returns:
        position [B, 2, H, W] px, x right, y down, row 0 at the top; log_area [B, 1, H, W]. Zeros where no
        triangle is. Differentiable once in x, y, w of pos; the same bits for every thread count on the CPU.
    """
    rast = rast.detach()
    if dr is not default_dr or not compiles(pos, rast):
        return surface_motion_ref(pos, triangles, rast, near, area_floor, dr)
    return _SurfaceMotion.apply(pos.contiguous(), triangles, rast.contiguous(), near, area_floor)


@dataclass(frozen=True)
class SurfaceMotion:
    """The arguments of `surface_motion`, for callers that may need the planes' gradient but not their values.

    Attributes:
        vertices: [B, V, 3] camera space.
        to_clip: from there to clip space, the camera's `clip_space`.
        clip_matrix: the same as numbers, the camera's.
        triangles: as in `surface_motion`, and so are rast, near, area_floor and dr.
        rast: contiguous, without a gradient.
        with_gradient: whether gradients were wanted where it was made.
    """

    vertices: Tensor
    to_clip: Callable[[Tensor], Tensor]
    clip_matrix: Sequence[Sequence[float]]
    triangles: Tensor
    rast: Tensor
    near: float
    area_floor: float
    dr: ModuleType = default_dr
    with_gradient: bool = True

    def planes(self) -> tuple[Tensor, Tensor]:
        """What `surface_motion` returns, in the gradient mode of the place where this was made."""
        with torch.set_grad_enabled(self.with_gradient):
            pos = self.to_clip(self.vertices)
            return surface_motion(
                pos, self.triangles, self.rast, self.near, self.area_floor, self.dr
            )

    def compiles(self) -> bool:
        """Whether `add_band` may be called."""
        return self.dr is default_dr and compiles(self.vertices, self.rast)

    def add_band(
        self,
        pos: np.ndarray,
        image: int,
        start: int,
        stop: int,
        grads: tuple[np.ndarray, np.ndarray],
        sums: np.ndarray,
    ) -> None:
        """Add a band's share of the gradient of clip-space positions to sums [V, 4].

        Args:
            pos: [V, 4] of the image.
            image: which of the batch.
            start: first of the planes' rows, from the top.
            stop: the row after the last.
            grads: gradients of position [2, H, W] and log_area [1, H, W] of the image.
            sums: float64.
        """
        height = self.rast.shape[1]
        move_rows_backward(
            pos, self.rast[image].numpy(), self.triangles.numpy(), self.near, self.area_floor,
            *grads, height - stop, height - start, sums,
        )  # fmt: skip


def surface_motion_ref(
    pos: Tensor,
    triangles: Tensor,
    rast: Tensor,
    near: float,
    area_floor: float,
    dr: ModuleType = default_dr,
) -> tuple[Tensor, Tensor]:
    """The twin of `surface_motion` in plain torch."""
    height, width = rast.shape[1:3]
    half = pos.new_tensor([width / 2, -height / 2])
    points, _ = dr.interpolate(pos.contiguous(), rast, triangles)
    covered = rast[..., 3:] > 0
    w = torch.where(covered, points[..., 3:], torch.ones_like(points[..., 3:]))
    position = (points[..., :2] / w * half + half.abs()) * covered
    # The twice signed areas of all triangles, then the logarithm of each pixel's.
    projected = pos[..., :2] / pos[..., 3:].clamp(min=near) * half
    corners = projected[:, triangles.long()]  # [B, T, 3, 2]
    along, across = corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0]
    area = 0.5 * (along[..., 0] * across[..., 1] - along[..., 1] * across[..., 0]).abs()
    ids = rast[..., 3].long() - 1
    seen = (area + area_floor).log().gather(1, ids.clamp(min=0).flatten(1)).view(ids.shape)
    log_area = torch.where(ids >= 0, seen, torch.zeros_like(seen))
    return position.flip(1).permute(0, 3, 1, 2).contiguous(), log_area.flip(1)[:, None]


class _SurfaceMotion(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, pos: Tensor, triangles: Tensor, rast: Tensor, near: float, area_floor: float
    ) -> tuple[Tensor, Tensor]:
        batch, height, width, _ = rast.shape
        position, log_area = (
            pos.new_empty(batch, 2, height, width),
            pos.new_empty(batch, 1, height, width),
        )
        inputs = [t.detach().numpy() for t in (pos, rast)]
        outputs = [position.numpy(), log_area.numpy()]
        constants = (triangles.numpy(), near, area_floor)
        bands = forward_bands(batch, height)
        run_on_threads(move_rows, band_items(bands, inputs, constants, outputs))
        ctx.save_for_backward(pos, triangles, rast)
        ctx.constants = near, area_floor
        return position, log_area

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_position: Tensor, grad_area: Tensor) -> tuple[Tensor | None, ...]:
        pos, triangles, rast = ctx.saved_tensors
        points, tri, raster = (t.detach().numpy() for t in (pos, triangles, rast))
        of_position, of_area = (g.contiguous().numpy() for g in (grad_position, grad_area))
        bands = gradient_bands(*rast.shape[:2])
        grad_pos = torch.empty_like(pos)

        def add(band: int, sums: np.ndarray) -> None:
            b, start, stop = bands[band]
            move_rows_backward(
                points[b],
                raster[b],
                tri,
                *ctx.constants,
                of_position[b],
                of_area[b],
                start,
                stop,
                sums,
            )

        sum_by_vertex(add, bands, (4, [grad_pos.numpy()]))
        return grad_pos, None, None, None, None
