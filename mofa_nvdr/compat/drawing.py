"""What the drop-ins draw with: batches of meshes that share their triangles, or have each their own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mofa_nvdr import dr

NEAREST = 1e-8  # depth of a vertex below which PyTorch3D drops the whole face
_of_threads = threading.local()


def thread_context() -> dr.RasterizeContext:
    """The context of this thread, for functions that have nowhere to keep one: threads must not share one."""
    if not hasattr(_of_threads, "context"):
        _of_threads.context = dr.RasterizeContext()
    context: dr.RasterizeContext = _of_threads.context
    return context


@dataclass(frozen=True)
class Drawn:
    """Meshes on the pixels of their images, and the way from attributes to pixels.

    Attributes:
        rast: [B, H, W, 4] of `dr.rasterize`.
        tri: the triangles that its numbers count, [T, 3] int32; where the images have triangles of their
            own, vertex v of image b is b V + v in it.
        own: whether they have.
    """

    rast: Tensor
    tri: Tensor
    own: bool

    @property
    def mask(self) -> Tensor:
        """[B, H, W] float, 1 where a triangle covers the pixel's centre; no gradient."""
        return (self.rast[..., 3] > 0).to(self.rast.dtype)

    def of_vertices(self, attr: Tensor) -> Tensor:
        """Attributes of vertices, [B, V, C] or shared [1, V, C], at the pixels [B, H, W, C]; else zero."""
        if self.own:
            attr = attr.expand(self.rast.shape[0], -1, -1).flatten(0, 1)
        out, _ = dr.interpolate(attr.contiguous(), self.rast, self.tri)
        return out

    def of_corners(self, attr: Tensor) -> Tensor:
        """Attributes of triangles' corners at the pixels: [B, T, 3, C], or [T, 3, C] if `own`."""
        count = self.tri.shape[0]
        corners = torch.arange(3 * count, dtype=torch.int32, device=attr.device).view(-1, 3)
        flat = attr.reshape(*([] if self.own else [attr.shape[0]]), 3 * count, attr.shape[-1])
        out, _ = dr.interpolate(flat.contiguous(), self.rast, corners)
        return out


def draw(
    context: dr.RasterizeContext,
    pos: Tensor,
    triangles: Tensor | Sequence[Tensor],
    size: tuple[int, int],
) -> Drawn:
    """Rasterize a batch.

    Args:
        context: of the caller, kept.
        pos: clip-space positions [B, V, 4].
        triangles: int32 [T, 3] for all images, or one such tensor for each; those may be empty.
        size: (height, width).

    Returns:
        What is on the pixels.
    """
    if isinstance(triangles, Tensor):
        rast, _ = dr.rasterize(context, pos.contiguous(), triangles, size, grad_db=False)
        return Drawn(rast, triangles, own=False)
    num_vertices = pos.shape[1]
    tri = torch.cat([part + k * num_vertices for k, part in enumerate(triangles)])
    counts = torch.tensor([len(part) for part in triangles], dtype=torch.int32)
    ranges = torch.stack([counts.cumsum(0, dtype=torch.int32) - counts, counts], dim=1)
    if not len(
        tri
    ):  # nothing in any image: the rasterizer wants one triangle, which no range holds
        tri = tri.new_zeros(1, 3)
    rast, _ = dr.rasterize(
        context, pos.flatten(0, 1).contiguous(), tri, size, ranges=ranges, grad_db=False
    )
    return Drawn(rast, tri, own=True)


def into_clip_range(z: Tensor) -> Tensor:
    """Depths of any range as clip-space z for w = 1: smaller stays nearer, each image on its own scale.

    Args:
        z: [B, V]; no gradient goes through it (the rasterizer has none for z).

    Returns:
        [B, V] in (-1, 1), constants.
    """
    z = z.detach()
    low = z.amin(1, keepdim=True)
    span = (z.amax(1, keepdim=True) - low).clamp(min=torch.finfo(z.dtype).tiny)
    # A margin: rounding must not push the nearest or farthest vertex out of the view volume.
    return 0.999 * (2 * (z - low) / span - 1)


def without_those_behind(tri: Tensor, z: Tensor) -> Tensor:
    """Triangles [T, 3] for one image whose vertices with a depth below PyTorch3D's least take them out of it.

    They keep their numbers, and lose their area.

    Args:
        tri: int32 [T, 3].
        z: depths [V].
    """
    keep = z.detach()[tri.long()].amin(1) >= NEAREST
    return torch.where(keep[:, None], tri, tri[:, :1])
