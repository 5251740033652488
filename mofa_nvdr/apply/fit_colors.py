"""The photometric term of fitting (Eq. 8), over pixels or vertices: its energy, and rows of its Jacobian.

A photograph's colours scatter about the rendered ones by a variance, and count the less the further off they
are (Cauchy). Derivatives are taken at some points of the surface only, others in every step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr.apply.face_jacobian import FaceJacobian, Pose, SurfacePoints
from mofa_nvdr.render.decoder import FaceDecoder, Geometry, RasterFace, VertexFace

_ROBUST = 2.0  # deviations from which a residual counts less
_LEAST_WEIGHT = 1e-3  # of a point at which derivatives are taken
_APART = 0.04  # distance of pixels that are compared with each other, in sides of the picture


@dataclass(frozen=True)
class Target:
    """What renderings are compared with.

    Attributes:
        photo: [B, 3, S, S]. weight: [B, S, S] how far its pixels count.
        variance: [B] of one channel about the rendering.
        scatter: factors of the variance for the decoder's triangles [T], or None.
        colors: how many independent pixels the colours count for.
        detail: the same of the differences of neighbouring pixels; of pixels only.
    """

    photo: Tensor
    weight: Tensor
    variance: Tensor
    scatter: Tensor | None
    colors: float
    detail: float

    def variances(self, triangle_ids: Tensor) -> Tensor:
        """Variances at pixels with triangles [B, ...]."""
        spread = self.variance.view(-1, *(1,) * (triangle_ids.ndim - 1))
        if self.scatter is None:
            return spread.expand_as(triangle_ids)
        return spread * self.scatter[triangle_ids.clamp(min=0)]

    def slopes(self, b: int, row: Tensor, column: Tensor) -> Tensor:
        """Derivatives [N, 3, 2] of a photograph per px, right and down, at some of its pixels."""
        photo, last = self.photo[b], self.photo.shape[-1] - 1
        right, left = ((column + step).clamp(0, last) for step in (1, -1))
        below, above = ((row + step).clamp(0, last) for step in (1, -1))
        across = (photo[:, row, right] - photo[:, row, left]) / 2
        down = (photo[:, below, column] - photo[:, above, column]) / 2
        return torch.stack([across, down], -1).transpose(0, 1)


@dataclass(frozen=True)
class Rows:
    """Rows of a Jacobian: [N, R, 257], their residuals [N, R], and their weights [N]."""

    rows: Tensor
    away: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Colors:
    """Photograph minus rendering.

    Attributes:
        away: [B, 3, S, S] at pixels or [B, 3, V] at vertices. weight, variance: [B, S, S] or [B, V].
        face: what was rendered.
    """

    away: Tensor
    weight: Tensor
    variance: Tensor
    face: RasterFace | VertexFace


class PixelTerm:
    """Colours of the rendered face's pixels, and of pairs of pixels.

    Shadows, flushes and tans that a face model does not know change the differences of neighbouring pixels
    less than the pixels themselves.

    Args:
        decoder: renders at the photographs' size.
        jacobian: of its face model and camera.
        points: at which derivatives are taken.
    """

    def __init__(self, decoder: FaceDecoder, jacobian: FaceJacobian, points: int) -> None:
        self._decoder, self._jacobian, self._points = decoder, jacobian, points
        apart = max(1, round(_APART * decoder.camera.size[0]))
        self._pairs = ((0, apart), (apart, 0))

    def look(self, geometry: Geometry, target: Target) -> Colors:
        """Compare faces with photographs."""
        face = self._decoder.rasterize(geometry)
        weight = face.mask[:, 0] * target.weight
        return Colors(target.photo - face.image, weight, target.variances(face.triangle_ids), face)

    def energy(self, colors: Colors, target: Target) -> Tensor:
        """[B], half of squared deviations, robust."""
        squared = colors.away.square().sum(1)
        total = target.colors * _mean(squared, colors.variance, colors.weight)
        for down, right in self._pairs if target.detail else ():
            squared = (colors.away - _shifted(colors.away, down, right)).square().sum(1)
            both = colors.weight * _shifted(colors.weight, down, right)
            total = total + target.detail / 2 * _mean(squared, colors.variance, both)
        return total

    def rows(
        self, colors: Colors, geometry: Geometry, target: Target, b: int, pose: Pose, turn: int
    ) -> Iterator[Rows]:
        """Rows of one photograph at some pixels, others for another number `turn`."""
        weight = colors.weight[b]
        pixels = _chosen(weight.flatten(), self._points, turn)
        if not len(pixels):
            return
        rows = self._at(colors, geometry, target, b, pose, pixels)
        away = colors.away[b].flatten(1)[:, pixels].T
        variance = colors.variance[b].flatten()[pixels]
        yield _weighted(rows, away, variance, weight.flatten()[pixels], target.colors)
        for k, (down, right) in enumerate(self._pairs if target.detail else ()):
            both = (weight * _shifted(weight, down, right)).flatten()
            mine = torch.arange(k, len(pixels), len(self._pairs))
            mine = mine[both[pixels[mine]] > _LEAST_WEIGHT]
            if not len(mine):
                continue
            first = pixels[mine]
            second = first + down * weight.shape[1] + right
            others = self._at(colors, geometry, target, b, pose, second)
            theirs = colors.away[b].flatten(1)[:, second].T
            yield _weighted(
                rows[mine] - others, away[mine] - theirs, variance[mine], both[first],
                target.detail / len(self._pairs),
            )  # fmt: skip

    def _at(
        self,
        colors: Colors,
        geometry: Geometry,
        target: Target,
        b: int,
        pose: Pose,
        pixels: Tensor,
    ) -> Tensor:
        """Rows [N, 3, 257] at some pixels of a rendering, by their numbers."""
        face = colors.face
        assert isinstance(face, RasterFace)
        size = face.mask.shape[-1]
        row, column = pixels // size, pixels % size
        points = self._surface(face, geometry, b, row, column)
        normals, albedo = (p[b, :, row, column].T for p in (face.normal, face.albedo))
        slope = target.slopes(b, row, column)
        return self._jacobian.color_differences(
            points, pose, normals, albedo, geometry.light[b], slope
        )

    def _surface(
        self, face: RasterFace, geometry: Geometry, b: int, row: Tensor, column: Tensor
    ) -> SurfacePoints:
        """The points of the surface that pixels show."""
        corners = self._decoder.triangles[face.triangle_ids[b, row, column]].long()
        places = geometry.vertices[b][corners]  # [N, 3, 3]
        flat = self._decoder.camera.project(places)
        middle = torch.stack([column + 0.5, row + 0.5], 1)
        along, across = flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
        off = middle - flat[:, 0]
        area = _cross(along, across)
        area = torch.where(area.abs() < 1e-6, 1e-6, area)
        second, third = _cross(off, across) / area, _cross(along, off) / area
        shares = torch.stack([1 - second - third, second, third], 1).clamp(0, 1)
        shares = shares / -places[..., 2]  # what is linear in the picture is linear over the depth
        return SurfacePoints(corners, shares / shares.sum(1, keepdim=True))


class VertexTerm:
    """Colours of front-facing vertices, the paper's own sampling.

    Args:
        decoder: of the face model and camera.
        jacobian: of the same.
        points: vertices at which derivatives are taken.
    """

    def __init__(self, decoder: FaceDecoder, jacobian: FaceJacobian, points: int) -> None:
        self._decoder, self._jacobian, self._points = decoder, jacobian, points
        triangles = decoder.triangles.long()
        count = decoder.model.num_vertices
        self._triangle = torch.zeros(count, dtype=torch.long)  # one of each vertex
        self._corner = torch.zeros(count, dtype=torch.long)
        for corner in range(3):
            self._triangle[triangles[:, corner]] = torch.arange(len(triangles))
            self._corner[triangles[:, corner]] = corner

    def look(self, geometry: Geometry, target: Target) -> Colors:
        """Compare faces with photographs."""
        face = self._decoder.shade_vertices(geometry)
        size = target.photo.shape[-1]
        grid = (face.positions / size * 2 - 1)[:, None]
        planes = torch.cat([target.photo, target.weight[:, None]], 1)
        samples = F.grid_sample(planes, grid, padding_mode="border", align_corners=False)[:, :, 0]
        inside = (grid[:, 0].abs() <= 1).all(-1)
        weight = samples[:, 3] * face.front_facing * inside
        variance = target.variances(self._triangle.expand(len(weight), -1))
        return Colors(samples[:, :3] - face.colors.mT, weight, variance, face)

    def energy(self, colors: Colors, target: Target) -> Tensor:
        """[B], half of squared deviations, robust."""
        squared = colors.away.square().sum(1)
        return (target.colors + target.detail) * _mean(squared, colors.variance, colors.weight)

    def rows(
        self, colors: Colors, geometry: Geometry, target: Target, b: int, pose: Pose, turn: int
    ) -> Iterator[Rows]:
        """Rows of one photograph at some vertices, others for another number `turn`."""
        weight, face = colors.weight[b], colors.face
        chosen = _chosen(weight, self._points, turn)
        if not len(chosen):
            return
        assert isinstance(face, VertexFace)
        corners = self._decoder.triangles[self._triangle[chosen]].long()
        shares = F.one_hot(self._corner[chosen], 3).to(weight)
        place = face.positions[b, chosen]
        size = target.photo.shape[-1]
        column, row = (place[:, k].long().clamp(0, size - 1) for k in (0, 1))
        rows = self._jacobian.color_differences(
            SurfacePoints(corners, shares), pose, geometry.normals[b, chosen],
            geometry.albedo[b, chosen], geometry.light[b], target.slopes(b, row, column),
        )  # fmt: skip
        away = colors.away[b][:, chosen].T
        yield _weighted(
            rows, away, colors.variance[b, chosen], weight[chosen], target.colors + target.detail
        )


def robust(squared: Tensor) -> Tensor:
    """Half a squared distance in deviations, that grows slower and slower beyond two of them (Cauchy)."""
    return 0.5 * _ROBUST**2 * (squared / _ROBUST**2).log1p()


def robust_weight(squared: Tensor) -> Tensor:
    """Derivative of `robust` by half the squared distance: weights of reweighted least squares."""
    return 1 / (1 + squared / _ROBUST**2)


def _weighted(rows: Tensor, away: Tensor, variance: Tensor, weight: Tensor, count: float) -> Rows:
    squared = away.square().sum(1) / variance / 3
    share = weight / weight.sum().clamp(min=1e-6)
    return Rows(rows, away, count * share * robust_weight(squared) / variance)


def _mean(squared: Tensor, variance: Tensor, weight: Tensor) -> Tensor:
    """Mean energy [B] of colours by their weight."""
    energy = 3 * robust(squared / variance / 3)
    return (energy * weight).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp(min=1e-6)


def _chosen(weight: Tensor, count: int, turn: int) -> Tensor:
    """Numbers of some of those that count, spread evenly."""
    inside = (weight > _LEAST_WEIGHT).nonzero()[:, 0]
    if len(inside) <= count:
        return inside
    offset = (0.618034 * turn) % 1.0
    places = (torch.arange(count, dtype=torch.float64) + offset) * (len(inside) / count)
    return inside[places.long().clamp(max=len(inside) - 1)]


def _shifted(picture: Tensor, down: int, right: int) -> Tensor:
    """What lies `down` and `right` of each pixel of pictures [..., S, S]; 0 beyond the edges."""
    return F.pad(picture[..., down:, right:], (0, right, 0, down))


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
