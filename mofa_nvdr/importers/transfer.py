"""Carry landmarks and albedo of the built-in face over to a foreign mesh."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.interpolate import RBFInterpolator
from scipy.spatial import cKDTree

from mofa_nvdr.importers.polygons import vertex_normals
from mofa_nvdr.scene.similarity import similarity

# How far a turn of the normal by one radian counts as a distance in mm, when points are matched: lids,
# lips and nostrils have two sides close together.
_NORMAL_MM = 8.0
# Farther away than this from the built-in face there is no colour to take: plain skin begins.
_REACH, _FADE = 10.0, 25.0
# How far a colour must lie outside its neighbours' to count as a speckle.
_SPECKLE = 0.03


class Warp:
    """A smooth map of space that takes points to points: similarity plus a biharmonic spline.

    Args:
        source, target: [N, 3] mm, N > 3, not all in one plane.
    """

    def __init__(self, source: np.ndarray, target: np.ndarray) -> None:
        self._scale, self._rotation, self._shift = similarity(source, target)
        moved = self._similar(source)
        # Landmarks may coincide (inner lips of a closed mouth), which no interpolation likes.
        _, first = np.unique(np.round(moved, 2), axis=0, return_index=True)
        self._spline = RBFInterpolator(
            moved[first],
            (target - moved)[first],
            kernel="linear",
            degree=0,
            smoothing=1e-6,  # points closer than the rounding above
        )

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Where points [N, 3] are mapped to."""
        moved = self._similar(points)
        return moved + self._spline(moved)

    def _similar(self, points: np.ndarray) -> np.ndarray:
        return self._scale * points @ self._rotation.T + self._shift


class SurfaceMatch:
    """Where points of one surface lie on another: three vertices of a triangle and their weights.

    Args:
        vertices, triangles: the surface that is looked at, [V, 3] mm and [T, 3].
        points, normals: [N, 3], where values are wanted.
    """

    def __init__(
        self, vertices: np.ndarray, triangles: np.ndarray, points: np.ndarray, normals: np.ndarray
    ) -> None:
        own = vertex_normals(vertices, triangles)
        used = np.unique(triangles)
        tree = cKDTree(np.column_stack([vertices, _NORMAL_MM * own])[used])
        _, nearest = tree.query(np.column_stack([points, _NORMAL_MM * normals]), k=3)
        order = np.argsort(triangles, axis=None, kind="stable")
        starts = np.searchsorted(triangles.ravel()[order], np.arange(len(vertices) + 1))
        self.distance = np.full(len(points), np.inf)
        self.corners = np.zeros((len(points), 3), np.int64)
        self.weights = np.zeros((len(points), 3))
        for k in range(nearest.shape[1]):
            vertex = used[nearest[:, k]]
            number = starts[vertex + 1] - starts[vertex]
            for step in range(int(number.max())):
                rows = np.flatnonzero(number > step)
                triangle = order[starts[vertex[rows]] + step] // 3
                corners = triangles[triangle]
                weights = closest_on_triangles(points[rows], vertices[corners])
                foot = (weights[:, :, None] * vertices[corners]).sum(1)
                distance = np.linalg.norm(foot - points[rows], axis=1)
                better = distance < self.distance[rows]
                rows = rows[better]
                self.distance[rows] = distance[better]
                self.corners[rows], self.weights[rows] = corners[better], weights[better]

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Values [..., V, C] of the surface at the points: [..., N, C]."""
        result = np.zeros((*values.shape[:-2], len(self.corners), values.shape[-1]))
        for k in range(3):
            result += values[..., self.corners[:, k], :] * self.weights[:, k, None]
        return result


def closest_on_triangles(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Barycentric weights [N, 3] of the point of triangles [N, 3, 3] that is closest to points [N, 3].

    The foot of the perpendicular where it falls within, else the best point of the three edges.
    """
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    ab, ac, ap = b - a, c - a, points - a
    d00, d01, d11 = _dot(ab, ab), _dot(ab, ac), _dot(ac, ac)
    d20, d21 = _dot(ap, ab), _dot(ap, ac)
    determinant = d00 * d11 - d01 * d01
    safe = np.where(determinant > 1e-12, determinant, 1.0)
    v, w = (d11 * d20 - d01 * d21) / safe, (d00 * d21 - d01 * d20) / safe
    inside = (determinant > 1e-12) & (v >= 0) & (w >= 0) & (v + w <= 1)
    best = np.stack([1 - v - w, v, w], 1)
    nearest = np.where(inside, 0.0, np.inf)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        start, way = triangles[:, i], triangles[:, j] - triangles[:, i]
        t = np.clip(_dot(points - start, way) / np.maximum(_dot(way, way), 1e-12), 0, 1)
        foot = start + t[:, None] * way
        distance = _dot(points - foot, points - foot)
        better = ~inside & (distance < nearest)
        nearest = np.where(better, distance, nearest)
        weights = np.zeros_like(best)
        weights[:, i], weights[:, j] = 1 - t, t
        best[better] = weights[better]
    return best


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(-1)


def transfer_albedo(
    source: dict[str, np.ndarray], target: dict[str, np.ndarray], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean albedo [V, 3] and the first `count` modes [A, V, 3] of one face on another's mesh.

    The source is bent onto the target by their landmarks, then each vertex of the target takes the
    colour of the closest point. Where the source ends, plain skin continues.

    Args:
        source: mean_shape, triangles, landmarks, mean_albedo, albedo_basis.
        target: mean_shape, triangles, landmarks.
        count: at most this many modes.
    """
    warp = Warp(
        source["mean_shape"][source["landmarks"]], target["mean_shape"][target["landmarks"]]
    )
    bent = warp(source["mean_shape"])
    points = target["mean_shape"]
    normals = vertex_normals(points, target["triangles"])
    match = SurfaceMatch(bent, source["triangles"], points, normals)
    basis = source["albedo_basis"][:count]
    mean, modes = match(source["mean_albedo"]), match(basis)
    # Plain skin: the median of both cheeks, and what the modes do there.
    cheek = _cheeks(source)
    away = np.clip((match.distance - _REACH) / _FADE, 0, 1)[:, None]
    mean = mean * (1 - away) + np.median(source["mean_albedo"][cheek], axis=0) * away
    modes = modes * (1 - away) + basis[:, cheek].mean(1, keepdims=True) * away
    odd, around = _speckles(mean, target["triangles"])
    mean[odd] = around @ mean
    modes[:, odd] = np.stack([around @ mode for mode in modes]) if len(modes) else modes[:, odd]
    return mean, modes


def _speckles(colors: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, sparse.csr_matrix]:
    """Single vertices that took the colour of the wrong side of a lid or lip.

    Args:
        colors: [V, 3].
        triangles: [T, 3].

    Returns:
        indices [N] of vertices whose colour lies outside that of all their neighbours; sparse [N, V], the
        mean over the neighbours of each.
    """
    ends = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    ends = np.unique(np.concatenate([ends, ends[:, ::-1]]), axis=0)
    low, high = np.full_like(colors, np.inf), np.full_like(colors, -np.inf)
    np.minimum.at(low, ends[:, 0], colors[ends[:, 1]])
    np.maximum.at(high, ends[:, 0], colors[ends[:, 1]])
    out = (colors < low - _SPECKLE) | (colors > high + _SPECKLE)
    odd = np.flatnonzero(out.any(1) & np.isfinite(low).all(1))
    chosen = ends[np.isin(ends[:, 0], odd)]
    rows = np.searchsorted(odd, chosen[:, 0])
    share = 1.0 / np.bincount(rows, minlength=len(odd))[rows]
    return odd, sparse.csr_matrix((share, (rows, chosen[:, 1])), (len(odd), len(colors)))


def _cheeks(face: dict[str, np.ndarray]) -> np.ndarray:
    """Vertices within 12 mm of the points halfway between the nose's wings and the jaw next to them."""
    points = face["mean_shape"][face["landmarks"]]
    spots = (0.5 * (points[31] + points[3]), 0.5 * (points[35] + points[13]))
    flat = face["mean_shape"][:, :2]
    near = [np.linalg.norm(flat - spot[:2], axis=1) < 12 for spot in spots]
    front = face["mean_shape"][:, 2] > min(points[3, 2], points[13, 2])
    return np.flatnonzero((near[0] | near[1]) & front)


def complete_landmarks(
    known: dict[int, int],
    vertices: np.ndarray,
    triangles: np.ndarray,
    source: dict[str, np.ndarray],
) -> np.ndarray:
    """All 68 vertex indices: the known ones, the rest where the built-in face's land when bent onto them.

    Args:
        known: iBUG number from 0 -> vertex, at least six not in one plane.
        vertices: the foreign mesh, [V, 3] mm.
        triangles: [T, 3].
        source: mean_shape, landmarks of the built-in face.
    """
    numbers = np.array(sorted(known))
    points = source["mean_shape"][source["landmarks"]]
    indices = np.array([known[k] for k in numbers])
    warp = Warp(points[numbers], vertices[indices])
    used = np.unique(triangles)
    _, nearest = cKDTree(vertices[used]).query(warp(points))
    result = used[nearest]
    result[numbers] = indices
    return result.astype(np.int64)


def locate_landmarks(
    vertices: np.ndarray, triangles: np.ndarray, source: dict[str, np.ndarray]
) -> np.ndarray:
    """All 68 vertex indices from the geometry alone: the built-in face is laid over the foreign one.

    First nose tip on nose tip, then closest points (within 3 % of the size).
    The jaw is the least certain.

    Args:
        vertices: the foreign mesh, [V, 3] mm in our axes, within some 15 degrees of frontal.
        triangles: [T, 3].
        source: mean_shape, triangles, landmarks and frontal_mask of the built-in face.
    """
    used = np.unique(triangles)
    normals = vertex_normals(vertices, triangles)
    tree = cKDTree(np.column_stack([vertices, _NORMAL_MM * normals])[used])
    mask = source["frontal_mask"].astype(bool)
    face = source["mean_shape"]
    face_normals = vertex_normals(face, source["triangles"])
    moving, turned = face[mask], face_normals[mask]
    landmarks = face[source["landmarks"]]
    shift = nose_tip(vertices[used]) - landmarks[30]
    moving, landmarks = moving + shift, landmarks + shift
    for keep in np.linspace(0.6, 0.85, 40):
        features = np.column_stack([moving, _NORMAL_MM * turned])
        distance, nearest = tree.query(features)
        near = distance <= np.quantile(distance, keep)  # hair, neck and ears have no partner
        scale, rotation, offset = similarity(moving[near], vertices[used][nearest[near]])
        scale = min(max(scale, 0.97), 1.03)
        offset = vertices[used][nearest[near]].mean(0) - scale * rotation @ moving[near].mean(0)
        moving = scale * moving @ rotation.T + offset
        landmarks = scale * landmarks @ rotation.T + offset
        turned = turned @ rotation.T
    _, nearest = cKDTree(vertices[used]).query(landmarks)
    return used[nearest].astype(np.int64)


def nose_tip(vertices: np.ndarray) -> np.ndarray:
    """The foremost point near the plane of symmetry (within 15 mm of the middle of x)."""
    middle = 0.5 * (vertices[:, 0].min() + vertices[:, 0].max())
    central = vertices[np.abs(vertices[:, 0] - middle) < 15]
    if len(central) == 0:
        central = vertices
    return central[central[:, 2].argmax()]
