"""From values at vertices to pictures in texture space."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr import dr


def bake(
    attributes: Tensor, triangles: Tensor, uv: Tensor, uv_triangles: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """Interpolate values at vertices to every texel of a texture.

    Args:
        attributes: [V, C] float32.
        triangles: [T, 3] int32, rows of the attributes.
        uv: [U, 2] in [0, 1], v upwards.
        uv_triangles: [T, 3] int32, rows of uv at the same corners.
        size: side of the texture in texels.

    Returns:
        texture [S, S, C], row 0 at v = 1, zeros where no triangle is; covered [S, S] bool: the texel's
        centre lies in a triangle.
    """
    flat = torch.cat([uv * 2 - 1, torch.zeros_like(uv[:, :1]), torch.ones_like(uv[:, :1])], 1)
    rast, _ = dr.rasterize(
        dr.RasterizeContext(), flat[None].contiguous(), uv_triangles, (size, size), grad_db=False
    )
    # Triangle numbers and barycentrics belong to both lists of triangles alike.
    texture, _ = dr.interpolate(attributes[None].contiguous(), rast, triangles)
    return texture[0].flip(0), (rast[0, ..., 3] > 0).flip(0)


def pad(texture: Tensor, covered: Tensor, steps: int) -> Tensor:
    """Continue a texture beyond its islands, so that filtering and mipmaps take nothing from outside.

    Args:
        texture: [S, S, C]; only what is covered counts.
        covered: [S, S] bool.
        steps: texels to go on for, each the mean of its known neighbours; what lies further gets the mean of
            all.

    Returns:
        [S, S, C], the covered texels unchanged.
    """
    known = covered[None, None].to(texture.dtype)  # [1, 1, S, S]
    values = texture.permute(2, 0, 1)[None] * known
    mean = values.sum((2, 3), keepdim=True) / known.sum().clamp(min=1)
    for _ in range(steps):
        weight = F.avg_pool2d(known, 3, stride=1, padding=1)
        if bool((weight > 0).eq(known > 0).all()):
            break
        around = F.avg_pool2d(values, 3, stride=1, padding=1) / weight.clamp(min=1e-9)
        values = torch.where(known > 0, values, around * (weight > 0))
        known = (weight > 0).to(texture.dtype)
    return torch.where(known > 0, values, mean)[0].permute(1, 2, 0)
