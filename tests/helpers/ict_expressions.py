"""ICT-FaceKit's expressions carried over to a face of ours: only to measure how much of them a basis spans.

Nothing of ICT-FaceKit is part of the project; the tests read it beside the checkout where it is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mofa_nvdr.scene.similarity import similarity

INNER_LANDMARKS = slice(17, 68)  # the outline's are not places on the skin
NOT_MOTION = ("PupilDilate_L", "PupilDilate_R")  # inside the eyeball
FARTHEST_MATCH = 6.0  # mm, between the two average faces after the landmarks are brought together


@dataclass(frozen=True)
class Correspondence:
    """Places on our surface for the vertices of ICT's frontal face, and the motions given there.

    Attributes:
        corners: [N, 3] vertices of our triangle that a point lies on; weights: [N, 3] barycentric.
        area: [N] mm^2 of ICT's surface that a point stands for.
        motions: name -> [N, 3] mm, in our frame and size.
        distance: [N] mm between the matched points.
    """

    corners: np.ndarray
    weights: np.ndarray
    area: np.ndarray
    motions: dict[str, np.ndarray]
    distance: np.ndarray

    def at(self, fields: np.ndarray) -> np.ndarray:
        """Our displacements [K, V, 3] at the matched places, [K, N, 3]."""
        return np.einsum("knic,ni->knc", fields[:, self.corners], self.weights)


def load_correspondence(data: Path, face: dict[str, np.ndarray]) -> Correspondence:
    """Match ICT's average face with ours: landmarks, a smooth warp, then the nearest point of the skin.

    Nearest in place and in normal, so that an upper lip is not matched with a lower one that it touches.

    Args:
        data: folder that holds ict_facekit.
        face: arrays of mofa_nvdr.face.recipe.
    """
    from scipy.interpolate import RBFInterpolator
    from scipy.sparse import csr_matrix

    folder = data / "ict_facekit"
    with (
        np.load(folder / "ict_facekit_light.npz") as light,
        np.load(folder / "ict_face24k.npz") as fine,
    ):
        weights = (fine["S_cc_data"], fine["S_cc_indices"], fine["S_cc_indptr"])
        subdivide = csr_matrix(weights, shape=tuple(fine["S_shape"]))
        base = fine["base_vertices"]
        mean = subdivide @ light["mean"][base] * 10  # mm
        names = [str(name) for name in light["expression_names"]]
        scale = light["expression_scale"] * 10
        motions = {
            name: subdivide @ (quantised[base].astype(np.float64) * s)
            for name, quantised, s in zip(names, light["expression_q"], scale)
            if name not in NOT_MOTION
        }
        triangles, caps = fine["triangles_cc"], fine["eye_cap_vertex"]
        landmarks = fine["landmarks68"][INNER_LANDMARKS]

    ours = face["mean_shape"].astype(np.float64)
    targets = ours[face["landmarks"][INNER_LANDMARKS]]
    size, turn, shift = similarity(mean[landmarks], targets)
    mean = size * mean @ turn.T + shift
    motions = {name: size * motion @ turn.T for name, motion in motions.items()}
    warp = RBFInterpolator(
        mean[landmarks], targets - mean[landmarks], kernel="linear", smoothing=0.5
    )
    warped = mean + warp(mean)

    skin = face["skin_triangles"]
    normal = _vertex_normals(warped, triangles)
    corners, weights = _nearest(warped, normal, ours, skin)
    matched = (ours[corners] * weights[..., None]).sum(1)
    distance = np.linalg.norm(matched - warped, axis=1)
    frontal = face["frontal_mask"][corners].all(1) & ~caps & (distance < FARTHEST_MATCH)
    facing = (_triangle_normals(ours[corners]) * normal).sum(1) > 0.3
    keep = frontal & facing
    area = np.zeros(len(mean))
    cross = np.cross(*(mean[triangles[:, k]] - mean[triangles[:, 0]] for k in (1, 2)))
    np.add.at(area, triangles.ravel(), np.repeat(np.linalg.norm(cross, axis=1) / 6, 3))
    return Correspondence(
        corners[keep],
        weights[keep],
        area[keep],
        {name: motion[keep] for name, motion in motions.items()},
        distance[keep],
    )


def explained(match: Correspondence, basis: np.ndarray) -> dict[str, float]:
    """Share of each expression's squared motion, by area, that the best coefficients of a basis explain.

    Args:
        match: of `load_correspondence`.
        basis: [K, V, 3] our modes.
    """
    root = np.sqrt(match.area)[:, None]
    ours = (match.at(basis.astype(np.float64)) * root).reshape(len(basis), -1)
    theirs = np.stack([(motion * root).ravel() for motion in match.motions.values()])
    orthonormal, _ = np.linalg.qr(ours.T)
    kept = ((theirs @ orthonormal) ** 2).sum(1)
    return dict(zip(match.motions, kept / (theirs**2).sum(1)))


def _triangle_normals(corners: np.ndarray) -> np.ndarray:
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)


def _vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    c = vertices[triangles]
    cross = np.cross(c[:, 1] - c[:, 0], c[:, 2] - c[:, 0])
    total = np.zeros_like(vertices)
    np.add.at(total, triangles.ravel(), np.repeat(cross, 3, axis=0))
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)


def _nearest(
    points: np.ndarray, normals: np.ndarray, vertices: np.ndarray, triangles: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [N, 3] of the triangle nearest in place and normal, and barycentric weights in it."""
    from scipy.spatial import cKDTree

    millimetres_of_turn = 4.0  # a normal turned by one radian counts like so many millimetres
    corners = vertices[triangles]
    there = np.concatenate(
        [corners.mean(1), millimetres_of_turn * _triangle_normals(corners)], axis=1
    )
    here = np.concatenate([points, millimetres_of_turn * normals], axis=1)
    _, index = cKDTree(there).query(here)
    tri = triangles[index]
    a, b, c = (vertices[tri[:, k]] for k in range(3))
    e1, e2, p = b - a, c - a, points - a
    d11, d12, d22 = (e1 * e1).sum(1), (e1 * e2).sum(1), (e2 * e2).sum(1)
    p1, p2 = (p * e1).sum(1), (p * e2).sum(1)
    det = np.maximum(d11 * d22 - d12**2, 1e-12)
    w = np.stack([(d22 * p1 - d12 * p2) / det, (d11 * p2 - d12 * p1) / det], 1)
    w = np.clip(np.column_stack([1 - w.sum(1), w]), 0, 1)
    return tri, w / w.sum(1, keepdims=True)
