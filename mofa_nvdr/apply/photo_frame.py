"""A part of a photograph in pixels of another size, meshes drawn into it, and distances in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr import dr

FACE = 0.62  # sides of a crop that a face is wide


@dataclass(frozen=True)
class Frame:
    """A part of a photograph in pixels of another size.

    Attributes:
        left, top: its corner, px of the photograph. scale: its pixels in one of the photograph's.
        height, width: in its own pixels.
    """

    left: float
    top: float
    scale: float
    height: int
    width: int

    def grid(self) -> Tensor:
        """Middles of its pixels in px of the photograph, [H, W, 2]."""
        x = self.left + (torch.arange(self.width) + 0.5) / self.scale
        y = self.top + (torch.arange(self.height) + 0.5) / self.scale
        return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)

    def rasterize(self, places: Tensor, clip: Tensor, triangles: Tensor) -> Tensor:
        """Draw a mesh whose vertices lie at given places of the photograph.

        Args:
            places: [V, 2] px of the photograph.
            clip: [V, 4] its vertices in clip space, for what is nearer.
            triangles: [T, 3] int32.

        Returns:
            What `dr.rasterize` gives, [1, H, W, 4], row 0 at the bottom.
        """
        x = 2 * (places[:, 0] - self.left) * self.scale / self.width - 1
        y = 1 - 2 * (places[:, 1] - self.top) * self.scale / self.height
        w = clip[:, 3]
        pos = torch.stack([x * w, y * w, clip[:, 2], w], 1)[None].contiguous()
        context, size = dr.RasterizeContext(), (self.height, self.width)
        return dr.rasterize(context, pos, triangles, size, grad_db=False)[0]


def covered(rast: Tensor) -> Tensor:
    """1 where a mesh was drawn, [H, W], row 0 at the top."""
    return (rast[0, ..., 3] > 0).float().flip(0)


def interpolated(values: Tensor, rast: Tensor, triangles: Tensor) -> Tensor:
    """Values of vertices [V, C] at the pixels of a drawn mesh, [C, H, W], row 0 at the top."""
    drawn, _ = dr.interpolate(values[None].contiguous(), rast, triangles)
    return drawn[0].flip(0).permute(2, 0, 1)


def distance_to(mask: Tensor) -> Tensor:
    """Distance in px of each pixel of [H, W] to a mask; 0 in it. Measured at every fourth pixel."""
    height, width = mask.shape
    rows, columns = -(-height // 4), -(-width // 4)
    surrounded = -F.max_pool2d(-mask[None, None], 3, 1, 1)[0, 0] > 0
    border = ((mask > 0) & ~surrounded).nonzero().float()
    if not len(border):  # the mask is everywhere
        return torch.zeros_like(mask)
    border = border[:: -(-len(border) // 600)]
    y, x = torch.linspace(0, height - 1, rows), torch.linspace(0, width - 1, columns)
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).view(-1, 2)
    near = torch.cat([torch.cdist(part, border).amin(1) for part in grid.split(8192)])
    large = F.interpolate(
        near.view(1, 1, rows, columns), (height, width), mode="bilinear", align_corners=True
    )[0, 0]
    return torch.where(mask > 0, 0.0, large)


def smooth_step(x: Tensor) -> Tensor:
    """0 below 0, 1 above 1, smooth between."""
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


def grown(mask: Tensor, radius: float) -> Tensor:
    """The largest value of [H, W] within a radius, px: two rectangles across each other, nearly a disc."""
    far = max(1, round(radius))
    near = far * 2 // 3
    return torch.maximum(_largest(mask, far, near), _largest(mask, near, far))


def _largest(mask: Tensor, rows: int, columns: int) -> Tensor:
    """The largest value of [H, W] in a rectangle of rows and columns on each side."""
    tall = F.max_pool2d(mask[None, None], (2 * rows + 1, 1), 1, (rows, 0))
    return F.max_pool2d(tall, (1, 2 * columns + 1), 1, (0, columns))[0, 0]
