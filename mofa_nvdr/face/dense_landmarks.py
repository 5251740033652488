"""Where the 478 points of MediaPipe's face mesh and irises lie on a face model's surface.

A detector's point has no vertex of its own: its place is a point of a triangle, and how far the detector's
points scatter about it is measured (apply/landmark_places.py). `FaceModel.dense_landmarks` holds them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

NUM_MESH, NUM_DENSE = 468, 478  # points of the face mesh, and with those of both irises

# Numbers of points in the mesh's own order (Kartynnik et al. 2019); the irises follow from 468 on.
OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
    148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
"""The outline of the face: it slides over the skin as the head turns."""
EYELIDS = ((160, 144), (159, 145), (158, 153), (385, 380), (386, 374), (387, 373))
"""(upper, lower) points of the lids: three pairs an eye, the subject's right first."""
DENSE_INNER_LIPS = ((81, 178), (82, 87), (13, 14), (312, 317), (311, 402))
"""(upper, lower) points of the lips' inner edges."""
DENSE_OPENINGS = tuple(EYELIDS[k] for k in (0, 2, 3, 5)) + DENSE_INNER_LIPS[1:4]
"""The pairs of these that have a pair of iBUG's at the same place: in the order of `landmarks.OPENINGS`."""
MIDDLE = (
    0, 1, 2, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 94, 151, 152, 164, 168, 175, 195, 197,
    199, 200,
)  # fmt: skip
"""The points between both sides of the face."""


def _mirror_permutation() -> tuple[int, ...]:
    """The mesh counts the subject's right side up to 247 and then, in the same order, the left one."""
    permutation = list(range(NUM_DENSE))
    right = [k for k in range(_FIRST_LEFT) if k not in MIDDLE] + list(range(NUM_MESH, NUM_MESH + 5))
    left = [*range(_FIRST_LEFT, NUM_MESH), *range(NUM_MESH + 5, NUM_DENSE)]
    for one, other in zip(right, left, strict=True):
        permutation[one], permutation[other] = other, one
    return tuple(permutation)


_FIRST_LEFT = 248
DENSE_MIRROR = _mirror_permutation()
"""Point k of a mirrored picture is point DENSE_MIRROR[k] of the picture; its own inverse."""


@dataclass(frozen=True)
class DenseLandmarks:
    """Places of the points on a mesh.

    Attributes:
        vertices: int64 [478, 3], the corners of each point's triangle.
        weights: [478, 3], their shares, which sum to 1.
        spread: [478] mm, deviation of detected points about the place along each axis of the picture; 0
            where the model has no place for the point.
    """

    vertices: Tensor
    weights: Tensor
    spread: Tensor

    @property
    def known(self) -> Tensor:
        """[478] bool: the model has a place for the point."""
        return self.spread > 0

    def of(self, vertices: Tensor) -> Tensor:
        """The points [B, 478, 3] of meshes with vertices [B, V, 3]."""
        corners = vertices[:, self.vertices.flatten()].unflatten(1, (-1, 3))
        return (corners * self.weights[..., None]).sum(2)


def closest_points(
    points: np.ndarray, vertices: np.ndarray, triangles: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The points of a mesh's surface that are nearest to given ones.

    Args:
        points: [N, 3].
        vertices: [V, 3], in the same unit.
        triangles: [T, 3].

    Returns:
        Numbers of the triangles [N], the corners' shares there [N, 3], and the distances [N].
    """
    corners = vertices[triangles].astype(np.float64)  # [T, 3, 3]
    middles = corners.mean(1)
    reach = np.linalg.norm(corners - middles[:, None], axis=2).max(1)
    numbers, shares, distances = [], [], []
    for point in np.asarray(points, np.float64):
        away = np.linalg.norm(middles - point, axis=1)
        # No point of a triangle is nearer than its middle less its reach.
        near = np.flatnonzero(away - reach <= (away + reach).min())
        weights = _shares(point, corners[near])
        gaps = np.linalg.norm((weights[..., None] * corners[near]).sum(1) - point, axis=1)
        best = int(gaps.argmin())
        numbers.append(near[best])
        shares.append(weights[best])
        distances.append(gaps[best])
    return np.array(numbers, np.int64), np.array(shares), np.array(distances)


def _shares(point: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Barycentric shares [T, 3] of the point of each triangle [T, 3, 3] that is nearest to `point`."""
    best = np.zeros((len(corners), 3))
    least = np.full(len(corners), np.inf)
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    along, across, off = b - a, c - a, point - a
    aa, ab, bb = _dot(along, along), _dot(along, across), _dot(across, across)
    pa, pb = _dot(off, along), _dot(off, across)
    flat = np.maximum(aa * bb - ab * ab, 1e-12)
    v, w = (bb * pa - ab * pb) / flat, (aa * pb - ab * pa) / flat
    inside = (v >= 0) & (w >= 0) & (v + w <= 1)
    candidates = [(np.stack([1 - v - w, v, w], 1), inside)]
    for first, second in ((0, 1), (1, 2), (2, 0)):
        edge = corners[:, second] - corners[:, first]
        length = np.maximum(_dot(edge, edge), 1e-12)
        way = np.clip(_dot(point - corners[:, first], edge) / length, 0, 1)
        weights = np.zeros((len(corners), 3))
        weights[:, first], weights[:, second] = 1 - way, way
        candidates.append((weights, np.ones(len(corners), bool)))
    for weights, allowed in candidates:
        gap = np.linalg.norm((weights[..., None] * corners).sum(1) - point, axis=1)
        better = allowed & (gap < least)
        best[better], least[better] = weights[better], gap[better]
    return best


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(-1)
