"""Measures of adult faces and their published standard deviations.

Deviations are in mm, rounded, of adults of both sexes and many ancestries together. Distances are between
two surveys: Zhuang and Bradtmiller 2005 (3,997 US workers) and Farkas 1994 (young North Americans); their
deviations within one sex and half the difference of the sexes' means add in quadrature. The profile follows
soft-tissue cephalometry (Arnett et al. 1999, people of good occlusion; half as much again for people at
large).
"""

from __future__ import annotations

import numpy as np

from mofa_nvdr.face.recipe.grid import Grid
from mofa_nvdr.face.recipe.landmark_vertices import landmark_vertices

PlaceName = int | str  # a landmark (0 to 67), or a name that `places` knows
# Name -> (place, place, standard deviation of their distance).
DISTANCES: dict[str, tuple[PlaceName, PlaceName, float]] = {
    "face breadth": (1, 15, 6.6),
    "jaw breadth": (4, 12, 7.5),
    "forehead breadth": ("right temple", "left temple", 5.4),
    "nose height": (27, 33, 4.1),
    "upper lip height": (33, 62, 2.4),
    "chin height": (66, 8, 4.6),
    "nose breadth": ("right ala", "left ala", 3.8),
    "nose protrusion": (33, 30, 2.4),
    "mouth breadth": (48, 54, 4.1),
    "inner canthi": (39, 42, 2.8),
    "outer canthi": (36, 45, 4.2),
    "eye opening": ("upper lid", "lower lid", 1.1),
    "upper vermilion": (51, 62, 1.4),
    "lower vermilion": (66, 57, 1.6),
    "brow above eye": ("left brow", "upper lid", 2.0),
}
# Name -> (place, reference, standard deviation of how far the place is in front of the reference).
PROFILE: dict[str, tuple[PlaceName, PlaceName, float]] = {
    "upper lip": (51, 33, 1.8),
    "lower lip": (57, 33, 2.3),
    "chin": ("chin", 33, 3.6),
    "glabella": ("glabella", 33, 3.6),
    "forehead": ("forehead", "glabella", 3.4),
    "nasal root": (27, "left eye", 2.2),
    "cheekbone": ("left cheekbone", 33, 3.2),
    "jaw corner": (12, 33, 6.0),
}
# Distances that follow from those above, to judge by.
DERIVED: dict[str, tuple[PlaceName, PlaceName, float]] = {
    "face height": (27, 8, 7.6),
    "lower face height": (33, 8, 5.9),
    "pupils": ("right eye", "left eye", 3.6),
    "eye length": (42, 45, 1.6),
}


def places(mean: np.ndarray, grid: Grid) -> dict[PlaceName, np.ndarray]:
    """Vertices [n] whose mean position is the place: landmarks by number, others by name."""
    marks = landmark_vertices(mean, grid)
    skin = mean[: grid.num_skin, :2]
    x, y = mean[marks, 0], mean[marks, 1]
    eye_x = x[42:48].mean()
    chin_y = 0.39 * y[54] + 0.61 * y[8]
    found: dict[PlaceName, np.ndarray] = {k: marks[[k]] for k in range(68)}
    for name, point in {
        "temple": (x[26] - 2, y[24] + 7),
        "ala": (1.37 * x[35], y[30] - 4),
        "brow": (eye_x, y[23:26].mean()),
        "cheekbone": (x[45] + 2, 0.5 * y[33]),
        "chin": (0, chin_y),
        "glabella": (0, y[22]),
        "forehead": (0, y[22] + 45),
    }.items():
        vertex = ((skin - point) ** 2).sum(1).argmin(keepdims=True)
        if point[0]:
            found[f"left {name}"], found[f"right {name}"] = vertex, grid.mirror[vertex]
        else:
            found[name] = vertex
    found["upper lid"], found["lower lid"] = marks[[43, 44]], marks[[46, 47]]
    found["left eye"], found["right eye"] = marks[42:48], marks[36:42]
    return found


def measure(shapes: np.ndarray, where: dict[PlaceName, np.ndarray]) -> dict[str, np.ndarray]:
    """Every measure [n] in mm on faces [n, V, 3]; `where` is of `places`."""
    result = {}
    for measures in (DISTANCES, DERIVED, PROFILE):
        for name, (a, b, _) in measures.items():
            apart = shapes[:, where[a]].mean(1) - shapes[:, where[b]].mean(1)
            out = measures is PROFILE
            result[name] = apart[:, 2] if out else np.linalg.norm(apart, axis=1)
    return result


def match_deviations(modes: np.ndarray, mean: np.ndarray, grid: Grid) -> np.ndarray:
    """Change modes [K, V, 3] so that DISTANCES and PROFILE have their published deviations, to first order.

    Correlations between the measures and everything that does not show in them stay as they are: the
    coefficients are mixed by the symmetric matrix closest to the identity that does it.
    """
    where = places(mean, grid)
    rows = []
    for measures in (DISTANCES, PROFILE):
        for a, b, _ in measures.values():
            apart = mean[where[a]].mean(0) - mean[where[b]].mean(0)
            along = np.array([0, 0, 1]) if measures is PROFILE else apart / np.linalg.norm(apart)
            rows.append((modes[:, where[a]].mean(1) - modes[:, where[b]].mean(1)) @ along)
    linear = np.stack(rows, 1)  # [K, measures]
    covariance = linear.T @ linear
    published = [sd for measures in (DISTANCES, PROFILE) for _, _, sd in measures.values()]
    factor = np.array(published) / np.sqrt(np.diag(covariance))
    inverse = _power(covariance, -0.5)
    axes = linear @ inverse  # orthonormal columns
    gain = _power(inverse @ (covariance * factor[:, None] * factor) @ inverse, 0.5)
    mix = np.eye(len(modes)) + axes @ (gain - np.eye(len(gain))) @ axes.T
    return np.tensordot(mix, modes, 1)


def _power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values**exponent) @ vectors.T
