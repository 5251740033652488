"""Identities of ICT-FaceKit as a yardstick, and a morphable model's fit to them.

ICT-FaceKit is measured against; nothing of it enters the built-in face. The data lie beside the checkout.

Command line, for work on the model: python -m tests.helpers.ict [--count 30] [--seed 5] [--recipe]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.scene.similarity import similarity
from tests.conftest import DATA_DIR

NUM_POINTS = 1000  # on each face, spread evenly over its area
FRONTAL = 0.15  # least z of a unit normal
_CM = 10.0  # mm


@dataclass(frozen=True)
class IctFace:
    """The face of ICT-FaceKit, subdivided to 24,184 vertices.

    Attributes:
        mean: [N, 3] mm. identity: [100, N, 3] mm at one standard deviation.
        triangles: [T, 3]; the caps over the eyes' holes are left out. landmarks: [68] vertices.
    """

    mean: np.ndarray
    identity: np.ndarray
    triangles: np.ndarray
    landmarks: np.ndarray

    @staticmethod
    def load(data_dir: Path) -> IctFace:
        """Read `ict_facekit` in the folder of experimental data; needs scipy."""
        from scipy.sparse import csr_matrix

        with np.load(data_dir / "ict_facekit" / "ict_facekit_light.npz") as file:
            mean, steps = file["mean"], file["identity_q"]
            scales = file["identity_scale"]
        with np.load(data_dir / "ict_facekit" / "ict_face24k.npz") as file:
            base = file["base_vertices"]
            subdivide = csr_matrix(
                (file["S_cc_data"], file["S_cc_indices"], file["S_cc_indptr"]),
                shape=tuple(file["S_shape"]),
            )
            triangles, caps = file["triangles_cc"], file["eye_cap_vertex"]
            landmarks = file["landmarks68"]
        modes = [subdivide @ (q[base].astype(np.float32) * s) for q, s in zip(steps, scales)]
        return IctFace(
            subdivide @ mean[base] * _CM,
            np.stack(modes) * _CM,
            triangles[~caps[triangles].any(1)],
            landmarks,
        )

    def identities(self, count: int, seed: int) -> list[np.ndarray]:
        """Vertices [N, 3] of random people at one standard deviation."""
        rng = np.random.default_rng(seed)
        return [
            self.mean + np.tensordot(rng.normal(size=len(self.identity)), self.identity, 1)
            for _ in range(count)
        ]

    def frontal_points(self, vertices: np.ndarray, count: int = NUM_POINTS) -> np.ndarray:
        """Points [count, 3] spread evenly over the surface that looks forwards; the same at every call."""
        rng = np.random.default_rng(0)
        corners = vertices[self.triangles]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        area = np.linalg.norm(normals, axis=1)
        weight = np.where(normals[:, 2] > FRONTAL * area, area, 0.0)
        chosen = rng.choice(len(weight), count, p=weight / weight.sum())
        weights = rng.dirichlet(np.ones(3), count)
        return np.einsum("nk,nkc->nc", weights, corners[chosen])


@dataclass(frozen=True)
class Fit:
    """A model fitted to points.

    Attributes:
        distance: mean distance of the points to the model's surface, mm at the points' scale.
        distance_of_mean: the same for the mean alone, only aligned.
        coefficients: [K].
    """

    distance: float
    distance_of_mean: float
    coefficients: np.ndarray


def closest_points(
    points: np.ndarray, vertices: np.ndarray, triangles: np.ndarray, candidates: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """The point of a mesh closest to each of `points` [n, 3]: triangle [n] and weights [n, 3] of its corners.

    Exact among the `candidates` triangles whose centres are nearest.
    """
    from scipy.spatial import cKDTree

    corners = vertices[triangles]
    _, near = cKDTree(corners.mean(1)).query(points, k=candidates)
    near = near.reshape(len(points), candidates)
    weights = _closest_on_triangles(points[:, None], corners[near])  # [n, k, 3]
    found = np.einsum("nkc,nkcd->nkd", weights, corners[near])
    best = ((found - points[:, None]) ** 2).sum(-1).argmin(1)
    row = np.arange(len(points))
    return near[row, best], weights[row, best]


def _closest_on_triangles(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Weights [..., 3] of the corners [..., 3, 3] at the point of each triangle that is closest."""
    a = corners[..., 0, :]
    ab, ac, ap = corners[..., 1, :] - a, corners[..., 2, :] - a, points - a
    bb, cc, bc = (ab * ab).sum(-1), (ac * ac).sum(-1), (ab * ac).sum(-1)
    pb, pc = (ap * ab).sum(-1), (ap * ac).sum(-1)
    determinant = np.maximum(bb * cc - bc**2, 1e-12)
    v, w = (cc * pb - bc * pc) / determinant, (bb * pc - bc * pb) / determinant
    best = np.stack([1 - v - w, v, w], -1)
    outside = (best < 0).any(-1)
    least = np.where(outside, np.inf, 0.0)
    for first, second in ((0, 1), (1, 2), (2, 0)):
        start = corners[..., first, :]
        edge = corners[..., second, :] - start
        way = ((points - start) * edge).sum(-1) / np.maximum((edge * edge).sum(-1), 1e-12)
        way = np.clip(way, 0, 1)
        squared = ((start + way[..., None] * edge - points) ** 2).sum(-1)
        closer = outside & (squared < least)
        on_edge = np.zeros(best.shape)
        on_edge[..., first], on_edge[..., second] = 1 - way, way
        best = np.where(closer[..., None], on_edge, best)
        least = np.where(closer, squared, least)
    return best


def fit(
    model: FaceModel,
    points: np.ndarray,
    landmarks: np.ndarray,
    num_modes: int = 80,
    iterations: int = 14,
    ridge: float = 1.0,
) -> Fit:
    """Fit shape modes to points on a face: nearest points, similarity and coefficients in turn.

    What is minimised is the sum of the squared distances in mm plus `ridge` times that of the coefficients.
    Points beyond the model's rim are left out, as decided with the mean alone.

    Args:
        model: the face model.
        points: [n, 3] mm. landmarks: [68, 3] mm, for the first alignment only.
        num_modes: shape modes to use; 0 aligns the mean.
        iterations: of the alternation; the mean alone is aligned in 6.
        ridge: weight of the squared coefficients.
    """
    mean = model.mean_shape.numpy().astype(float)
    basis = model.shape_basis[:num_modes].numpy()
    triangles = model.triangles.numpy()
    rim = _on_rim(triangles)

    def within(triangle: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return ~(rim[triangle] | (weights < 1e-6)).all(1)

    scale, rotation, shift = similarity(landmarks, mean[model.landmarks])
    for _ in range(6):
        placed = scale * points @ rotation.T + shift
        triangle, weights = closest_points(placed, mean, triangles)
        found = np.einsum("nc,ncd->nd", weights, mean[triangles[triangle]])
        inside = within(triangle, weights)
        scale, rotation, shift = similarity(points[inside], found[inside])
    placed = scale * points @ rotation.T + shift
    triangle, weights = closest_points(placed, mean, triangles)
    points = points[within(triangle, weights)]
    alone = _distance(scale * points @ rotation.T + shift, mean, triangles) / scale

    coefficients = np.zeros(len(basis))
    vertices = mean
    for _ in range(iterations if num_modes else 0):
        placed = scale * points @ rotation.T + shift
        triangle, weights = closest_points(placed, vertices, triangles)
        corners = triangles[triangle]
        at_mean = np.einsum("nc,ncd->nd", weights, mean[corners])
        moves = np.einsum("nc,kncd->knd", weights.astype(np.float32), basis[:, corners])
        moves = moves.reshape(len(basis), -1).astype(float)
        normal = moves @ moves.T + ridge * np.eye(len(basis))
        coefficients = np.linalg.solve(normal, moves @ (placed - at_mean).ravel())
        vertices = mean + np.tensordot(coefficients.astype(np.float32), basis, 1)
        found = np.einsum("nc,ncd->nd", weights, vertices[corners])
        scale, rotation, shift = similarity(points, found)
    distance = _distance(scale * points @ rotation.T + shift, vertices, triangles) / scale
    return Fit(distance, alone, coefficients)


def _distance(points: np.ndarray, vertices: np.ndarray, triangles: np.ndarray) -> float:
    triangle, weights = closest_points(points, vertices, triangles)
    found = np.einsum("nc,ncd->nd", weights, vertices[triangles[triangle]])
    return float(np.linalg.norm(found - points, axis=1).mean())


def _on_rim(triangles: np.ndarray) -> np.ndarray:
    """[T, 3] bool: corners that lie on an edge which one triangle alone has."""
    pairs = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    keys = np.sort(pairs, axis=1).astype(np.int64) @ [triangles.max() + 1, 1]
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    rim = np.zeros(triangles.max() + 1, bool)
    rim[pairs[first[counts == 1]]] = True
    return rim[triangles]


def main() -> None:
    """Print the fits to random identities."""
    from tests.helpers.face_detection import load_model

    parser = argparse.ArgumentParser(description="Fit the shape modes to ICT-FaceKit identities.")
    parser.add_argument("--data", type=Path, default=DATA_DIR)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--face-model", default="procedural", help="as FaceModel.load takes it")
    parser.add_argument("--recipe", action="store_true", help="run the recipe, not its product")
    options = parser.parse_args()
    model, ict = load_model(options.recipe, options.face_model), IctFace.load(options.data)
    fits = [
        fit(model, ict.frontal_points(person), person[ict.landmarks])
        for person in ict.identities(options.count, options.seed)
    ]
    distances = np.array([f.distance for f in fits])
    rms = np.sqrt(np.mean([f.coefficients**2 for f in fits]))
    print(
        f"{len(fits)} identities: {distances.mean():.3f} mm mean, {distances.max():.3f} worst; the "
        f"mean alone {np.mean([f.distance_of_mean for f in fits]):.3f}; coefficients rms {rms:.2f}"
    )


if __name__ == "__main__":
    main()
