"""Cast shadows: which directions points of a surface see, by depth maps, and what light then reaches them.

Convention: directions point away from the surface, towards the light, in the frame of the vertices; radiance
is nine coefficients [9, 3] of `lighting.sh_basis_radiance`, irradiance what `lighting.sh_basis` makes of
them.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr import dr
from mofa_nvdr.scene.lighting import sh_basis, sh_basis_radiance
from mofa_nvdr.scene.normals import check_triangles

_TAPS = ((-0.75, -0.25), (0.25, -0.75), (0.75, 0.25), (-0.25, 0.75))  # px around a point's place
_AT_ONCE = 16  # depth maps
_EMPTY = 4.0  # beyond everything that a depth map holds


def sphere_directions(count: int) -> Tensor:
    """Directions spread evenly over the sphere, [N, 3], each for 4 pi / N of it (a Fibonacci spiral)."""
    place = torch.arange(count, dtype=torch.float64) + 0.5
    height = 1 - 2 * place / count
    flat = (1 - height.square()).sqrt()
    azimuth = math.pi * (1 + math.sqrt(5)) * place
    return torch.stack([flat * azimuth.cos(), height, flat * azimuth.sin()], 1).float()


def cone_directions(towards: Tensor, radius: float, count: int = 9) -> Tensor:
    """Directions [count, 3] that fill a cone around one [3] evenly: a lamp that is not a point.

    Args:
        towards: its axis, any length but zero.
        radius: half its opening, radians.
        count: of directions.
    """
    axis = F.normalize(towards, dim=0)
    across, up = (side[0] for side in _across(axis[None]))
    place = torch.arange(count, dtype=axis.dtype, device=axis.device)
    length = math.tan(radius) * ((place + 0.5) / count).sqrt()
    turn = math.pi * (3 - math.sqrt(5)) * place
    spread = (length * turn.cos())[:, None] * across + (length * turn.sin())[:, None] * up
    return F.normalize(axis + spread, dim=1)


@torch.no_grad()
def visible_directions(
    points: Tensor,
    normals: Tensor,
    directions: Tensor,
    vertices: Tensor,
    triangles: Tensor,
    resolution: int = 256,
    bias: float = 2.5,
    offset: float = 1.0,
) -> Tensor:
    """How far points see in directions past a mesh, from 0 (hidden) to 1, soft over two pixels and a mm.

    For each direction the mesh is drawn from there, both sides of it, and each point compared with the
    nearest depths around its own place.

    Args:
        points: [P, 3] mm, on the mesh or off it.
        normals: [P, 3] unit.
        directions: [N, 3] unit, to what is far away.
        vertices: [V, 3] mm of the mesh that casts shadows.
        triangles: [T, 3] int32.
        resolution: side of a depth map, px.
        bias: mm by which something must be nearer to the light to hide a point.
        offset: mm by which points are lifted along their normals.

    Returns:
        [N, P]. What the mesh does not reach is seen. Points turned away from a direction are not hidden by
        that alone: irradiance has the cosine for it.

    Raises:
        ValueError: shapes disagree.
    """
    check_triangles("visible_directions", triangles)
    for name, value in (("points", points), ("directions", directions), ("vertices", vertices)):
        if value.ndim != 2 or value.shape[1] != 3:
            raise ValueError(f"visible_directions: {name} is {list(value.shape)}, expected [N, 3]")
    if normals.shape != points.shape:
        raise ValueError(
            f"visible_directions: normals is {list(normals.shape)}, expected {list(points.shape)} as points"
        )
    middle = vertices.mean(0)
    mesh, lifted = vertices - middle, points - middle + offset * normals
    radius = 1.02 * float(mesh.norm(dim=1).max().clamp(min=1e-6))
    context = dr.RasterizeContext()
    seen = []
    for chunk in directions.split(_AT_ONCE):
        axes = torch.stack([*_across(chunk), -chunk], 1) / radius  # [n, 3, 3], rows x, y, depth
        drawn = mesh @ axes.mT  # [n, V, 3]
        pos = torch.cat([drawn, torch.ones_like(drawn[..., :1])], -1).contiguous()
        rast, _ = dr.rasterize(context, pos, triangles, (resolution, resolution), grad_db=False)
        depth = torch.where(rast[..., 3] > 0, rast[..., 2], _EMPTY)  # the nearest is smallest
        place = lifted @ axes.mT  # [n, P, 3]
        total = torch.zeros_like(place[..., 0])
        for right, down in _TAPS:
            column = ((place[..., 0] + 1) / 2 * resolution + right).floor().long()
            row = ((place[..., 1] + 1) / 2 * resolution + down).floor().long()
            inside = (column >= 0) & (column < resolution) & (row >= 0) & (row < resolution)
            index = row.clamp(0, resolution - 1) * resolution + column.clamp(0, resolution - 1)
            nearest = torch.where(inside, depth.flatten(1).gather(1, index), _EMPTY)
            total += ((nearest - place[..., 2]) * radius + bias).clamp(0, 1)
        seen.append(total / len(_TAPS))
    return torch.cat(seen)


def shadowed_transfer(normals: Tensor, directions: Tensor, visible: Tensor) -> Tensor:
    """Nine numbers a point that turn radiance into irradiance, cast shadows included: E = transfer @ light.

    What is hidden is integrated over the directions and taken from the exact irradiance without shadows, so
    that where nothing is hidden the transfer is `sh_basis` itself.

    Args:
        normals: [P, 3] unit.
        directions: [N, 3], each for 4 pi / N of the sphere (`sphere_directions`).
        visible: [N, P] of `visible_directions`.

    Returns:
        [P, 9].

    Source: precomputed radiance transfer of diffuse surfaces (Sloan, Kautz, Snyder 2002, shadowed).
    """
    hidden = (1 - visible).T * (normals @ directions.T).clamp(min=0)  # [P, N]
    lost = hidden @ sh_basis_radiance(directions) * (4 * math.pi / len(directions))
    return sh_basis(normals) - lost


def _across(directions: Tensor) -> tuple[Tensor, Tensor]:
    """Two unit vectors [N, 3] across each direction and across each other."""
    steep = directions[:, 1:2].abs() > 0.9
    up = torch.where(steep, directions.new_tensor([1.0, 0, 0]), directions.new_tensor([0, 1.0, 0]))
    across = F.normalize(torch.linalg.cross(up, directions), dim=1)
    return across, torch.linalg.cross(directions, across)
