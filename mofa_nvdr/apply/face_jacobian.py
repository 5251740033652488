"""Derivatives of a face's points and colours by its code, at some points of its surface.

A point of the surface is a triangle's corners and their shares. Where it lies depends on shape, expression
and pose, its colour on the albedo, the light and on how the triangle turns. The bases are looked up at the
corners alone, so that thousands of points cost milliseconds where the whole mesh has 70,000 numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.lighting import LAMBERT_CONSTANTS, sh_basis

PARTS = ("shape", "expression", "albedo", "rotation", "translation", "light")


@dataclass(frozen=True)
class SurfacePoints:
    """Points of one face's surface.

    Attributes:
        corners: int64 [N, 3], vertices of their triangles.
        shares: [N, 3] of the corners.
    """

    corners: Tensor
    shares: Tensor


@dataclass(frozen=True)
class Pose:
    """Where one face stands.

    Attributes:
        rotation: [3, 3]. vertices: [V, 3] camera space, mm. position: [3] of the head's centre.
    """

    rotation: Tensor
    vertices: Tensor
    position: Tensor


class FaceJacobian:
    """Rows of the Jacobian of a face model's decoder.

    Columns are the code's, in its order; those of `rotation` are of a small turn in camera space that comes
    after the face's own: exp(w) R.

    Args:
        model: the face model; its bases are copied, with the modes of a vertex next to each other.
        camera: the camera.
    """

    def __init__(self, model: FaceModel, camera: Camera) -> None:
        self.layout = model.layout
        self.camera = camera
        bases = torch.cat([model.shape_basis, model.expression_basis])
        self._geometry = bases.permute(1, 2, 0).contiguous()  # [V, 3, S + E]
        self._albedo = model.albedo_basis.permute(1, 2, 0).contiguous()  # [V, 3, A]

    def projections(self, points: SurfacePoints, pose: Pose) -> tuple[Tensor, Tensor]:
        """Where points project, [N, 2] px, and the rows [N, 2, 257] of that."""
        corners = pose.vertices[points.corners]
        place = (corners * points.shares[..., None]).sum(1)
        by_place = self._by_place(place)  # [N, 2, 3]
        by_corners = by_place[:, :, None] * points.shares[:, None, :, None]
        rows = by_place.new_zeros(len(place), 2, self.layout.size)
        self._add_motion(rows, by_corners, points, pose)
        return self.camera.project(place), rows

    def color_differences(
        self,
        points: SurfacePoints,
        pose: Pose,
        normals: Tensor,
        albedo: Tensor,
        light: Tensor,
        slope: Tensor,
    ) -> Tensor:
        """Rows [N, 3, 257] of photograph minus rendered colour, at points that move over the photograph.

        Args:
            points: of the surface.
            pose: of the face.
            normals: [N, 3] unit, camera space.
            albedo: [N, 3].
            light: complete SH light [9, 3].
            slope: [N, 3, 2] derivatives of the photograph's channels per px, right and down.
        """
        corners = pose.vertices[points.corners]  # [N, 3, 3]
        place = (corners * points.shares[..., None]).sum(1)
        basis = sh_basis(normals)  # [N, 9]
        shading = basis @ light  # [N, 3]
        by_corners = (slope @ self._by_place(place))[:, :, None] * points.shares[:, None, :, None]
        by_normal = torch.einsum("nbx,bc->ncx", _basis_slope(normals), light)
        by_corners = by_corners - albedo[:, :, None, None] * _by_turn(by_normal, corners)
        rows = basis.new_zeros(len(place), 3, self.layout.size)
        self._add_motion(rows, by_corners, points, pose)
        parts = self.layout.slices
        count, modes = points.corners.shape[0], self.layout.num_albedo
        looked_up = self._albedo[points.corners].view(count, 3, 3 * modes)
        mixed = torch.bmm(points.shares[:, None], looked_up).view(count, 3, modes)
        rows[:, :, parts["albedo"]] = -shading[..., None] * mixed
        by_light = rows[:, :, parts["light"]].unflatten(-1, (9, 3))
        for channel in range(3):
            by_light[:, channel, :, channel] = -albedo[:, channel, None] * basis
        return rows

    def _add_motion(
        self, rows: Tensor, by_corners: Tensor, points: SurfacePoints, pose: Pose
    ) -> None:
        """Fill the columns of geometry from derivatives [N, R, 3, 3] by the corners in camera space."""
        count, size = by_corners.shape[:2]
        parts = self.layout.slices
        by_model = (by_corners @ pose.rotation).flatten(2)  # [N, R, 9]
        bases = self._geometry[points.corners].view(count, 9, self._geometry.shape[-1])
        modes = torch.bmm(by_model, bases)
        split = self.layout.num_shape
        rows[:, :, parts["shape"]] = modes[..., :split]
        rows[:, :, parts["expression"]] = modes[..., split:]
        arm = pose.vertices[points.corners] - pose.position  # [N, 3, 3]
        turning = torch.linalg.cross(arm[:, None].expand(-1, size, -1, -1), by_corners)
        rows[:, :, parts["rotation"]] = turning.sum(2)
        rows[:, :, parts["translation"]] = by_corners.sum(2)

    def _by_place(self, place: Tensor) -> Tensor:
        """Derivatives [N, 2, 3] of projected points by points [N, 3] in camera space."""
        x, y, z = place.unbind(-1)
        scale = self.camera.focal_px / -z
        zero = torch.zeros_like(x)
        right = torch.stack([scale, zero, scale * x / -z], -1)
        down = torch.stack([zero, -scale, -scale * y / -z], -1)
        return torch.stack([right, down], 1)


def _by_turn(by_normal: Tensor, corners: Tensor) -> Tensor:
    """Derivatives [N, R, 3, 3] by the corners, from those by the unit normal of their triangle [N, R, 3]."""
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = torch.linalg.cross(first, second)
    size = area.norm(dim=-1).clamp(min=1e-9)[:, None, None]
    normal = area[:, None] / size
    along = (by_normal - (by_normal * normal).sum(-1, keepdim=True) * normal) / size
    # m = e1 x e2: g . (da x v) = da . (v x g)
    edges = torch.stack([first - second, second, -first], 1)  # opposite to each corner
    return torch.linalg.cross(edges[:, None].expand(-1, along.shape[1], -1, -1), along[:, :, None])


def _basis_slope(normal: Tensor) -> Tensor:
    """Derivatives [N, 9, 3] of lighting.sh_basis by the normal [N, 3]."""
    x, y, z = normal.unbind(-1)
    o, i = torch.zeros_like(x), torch.ones_like(x)
    rows = (
        (o, o, o), (o, i, o), (o, o, i), (i, o, o), (y, x, o), (o, z, y), (o, o, 6 * z), (z, o, x),
        (2 * x, -2 * y, o),
    )  # fmt: skip
    slopes = torch.stack([torch.stack(row, -1) for row in rows], 1)
    return slopes * normal.new_tensor(LAMBERT_CONSTANTS)[:, None]
