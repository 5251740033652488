"""Triangles for the verbs: one that is worked by hand, and scenes at random."""

from __future__ import annotations

import torch
import torch.nn.functional as F

RIGHT_TRIANGLE = [(-1, -1, -0.5, 1), (1, -1, 0.5, 1), (-1, 1, 0, 1)]  # half of a 4 x 4 image


def random_scene(seed: int, crosses_planes: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Two images of 20 unconnected triangles, some 40 % covered; or wild ones through all planes."""
    generator = torch.Generator().manual_seed(seed)
    num_images, num_triangles = 2, 20
    if crosses_planes:
        pos = torch.randn(num_images, 3 * num_triangles, 4, generator=generator)
        pos = pos + torch.tensor([0, 0, 0, 0.8])
    else:
        centre = torch.rand(num_images, num_triangles, 1, 2, generator=generator) * 1.6 - 0.8
        spread = 0.35 * torch.randn(num_images, num_triangles, 3, 2, generator=generator)
        xy = (centre + spread).reshape(num_images, -1, 2)
        z = torch.rand(num_images, 3 * num_triangles, 1, generator=generator) * 1.6 - 0.8
        w = torch.rand(num_images, 3 * num_triangles, 1, generator=generator) * 2 + 0.5
        pos = torch.cat([xy * w, z * w, w], dim=-1)
    tri = torch.arange(3 * num_triangles, dtype=torch.int32).reshape(-1, 3)
    return pos, tri


def triangles_of(*rows: tuple[int, int, int]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.int32)


def interior(mask: torch.Tensor) -> torch.Tensor:
    """Pixels of a mask [B, 1, H, W] whose eight neighbours are in it too."""
    return F.max_pool2d((~mask).double(), 3, 1, 1) == 0


def smooth_pixels(rast: torch.Tensor) -> torch.Tensor:
    """Interior pixels [B, 1, H, W] whose value moves with the vertices; rast [B, H, W, 4].

    Coverage is decided on a grid of 1/16 px, so a pixel's centre can lie a trifle outside its triangle.
    Its barycentrics are clamped then, and the gradient passes straight through: no derivative there.
    """
    u, v = rast[..., 0], rast[..., 1]
    inside = (torch.stack([u, v, 1 - u - v]) > 1e-6).all(0)
    return interior(rast[:, None, ..., 3] > 0) & inside[:, None]
