"""Where the texels of a texture lie: on the mesh, in a picture, and on the other side of the face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr import dr
from mofa_nvdr.render.texture_baking import bake
from mofa_nvdr.scene.camera import BaseCamera

_GAP = 0.5  # mm that something must lie before a texel to hide it
_STEEPEST = 4.0  # tangent of the angle of view up to which a pixel's own depth is allowed for


@dataclass(frozen=True)
class SeenTexels:
    """Where a camera sees points of a mesh.

    Attributes:
        places: [..., 2] px.
        seen: [...] bool, nothing of the mesh is before them.
        facing: [...] cosine between normal and line of sight; 0: they look away.
        rim: [...] mm to the outline of the whole mesh, across the line of sight; 0 outside of it.
    """

    places: Tensor
    seen: Tensor
    facing: Tensor
    rim: Tensor


@torch.no_grad()
def seen_points(
    points: Tensor, normals: Tensor, vertices: Tensor, triangles: Tensor, camera: BaseCamera
) -> SeenTexels:
    """Where and how a camera sees points of a mesh.

    A point is hidden where the mesh, drawn in the camera's pixels, is nearer in its pixel; a pixel of a
    surface that is seen at an angle holds several depths, which is allowed for.

    Args:
        points: [..., 3] on the mesh, camera space, mm.
        normals: [..., 3] unit.
        vertices: [V, 3] mm, camera space.
        triangles: [T, 3] int32.
        camera: of the picture.
    """
    import cv2

    height, width = camera.size
    pos = camera.clip_space(vertices)[None].contiguous()
    rast, _ = dr.rasterize(dr.RasterizeContext(), pos, triangles, (height, width), grad_db=False)
    depth, _ = dr.interpolate(-vertices[None, :, 2:].contiguous(), rast, triangles)
    mesh = (rast[0, ..., 3] > 0).flip(0)
    depth = torch.where(mesh, depth[0, ..., 0].flip(0), torch.inf)
    # Where a picture ends the mesh goes on.
    outline = torch.from_numpy(cv2.distanceTransform(mesh.byte().numpy(), cv2.DIST_L2, 3))
    places = camera.project(points)
    column, row = places.floor().long().unbind(-1)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    inside &= points[..., 2] < 0
    column, row = column.clamp(0, width - 1), row.clamp(0, height - 1)
    sight = F.normalize(camera.view_directions(points), dim=-1)
    facing = (normals * sight).sum(-1).clamp(min=0)
    pixel = -points[..., 2] * camera.pixel_angle  # mm
    tangent = (1 - facing.square()).clamp(min=0).sqrt() / facing.clamp(min=1 / _STEEPEST)
    hidden = -points[..., 2] > depth[row, column] + _GAP + pixel * tangent
    rim = torch.where(inside, outline[row, column] * pixel, 0.0)
    return SeenTexels(places, inside & (facing > 0) & ~hidden, facing, rim)


def mirrored_places(
    triangles: Tensor, uv: Tensor, uv_triangles: Tensor, mirror_index: Tensor, size: int
) -> Tensor:
    """Of each texel the place of the same point on the other side of the face.

    Args:
        triangles: [T, 3].
        uv: [U, 2], v upwards.
        uv_triangles: [T, 3] rows of uv at the triangles' corners.
        mirror_index: [V] the vertex on the other side.
        size: side of the texture in texels.

    Returns:
        [S, S, 2] in the terms of `torch.nn.functional.grid_sample` (x right, y down, -1 to 1); NaN where no
        triangle is, or none lies on the other side.
    """
    own = triangles.long().numpy()
    other = mirror_index.long().numpy()[own]  # [T, 3]
    order = np.argsort(_keys(own))
    found = order[np.searchsorted(_keys(own)[order], _keys(other)).clip(max=len(own) - 1)]
    paired = (np.sort(own[found], 1) == np.sort(other, 1)).all(1)
    corner = (own[found][:, None, :] == other[:, :, None]).argmax(2)  # [T, 3]
    rows = np.take_along_axis(uv_triangles.long().numpy()[found], corner, 1)
    places = torch.where(
        torch.from_numpy(paired)[:, None, None], uv[torch.from_numpy(rows)], torch.nan
    )
    every = torch.arange(places.numel() // 2, dtype=torch.int32).view(-1, 3)
    grid, covered = bake(places.flatten(0, 1).float(), every, uv, uv_triangles, size)
    grid = torch.stack([grid[..., 0] * 2 - 1, 1 - grid[..., 1] * 2], -1)
    return torch.where(covered[..., None], grid, torch.nan)


def _keys(triangles: np.ndarray) -> np.ndarray:
    """One number for each triangle's set of vertices."""
    a, b, c = np.sort(triangles.astype(np.int64), 1).T
    count = int(triangles.max(initial=0)) + 1
    return (a * count + b) * count + c
