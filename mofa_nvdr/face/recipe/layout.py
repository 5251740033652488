"""What is where on the built-in face: texture coordinates without a seam, and region labels.

Both are computed from the finished mesh, so they follow any change of the recipe.
"""

from __future__ import annotations

import numpy as np

from mofa_nvdr.face.recipe import tables as t
from mofa_nvdr.face.recipe.albedo import region_weights
from mofa_nvdr.face.recipe.grid import Grid
from mofa_nvdr.face.recipe.mean import Lids, eye_axis, eye_position, lid_crease

REGION_NAMES = ("skin", "lips", "brows", "eyelids", "eyes", "nose", "mouth", "teeth")
# Squared to be like a texture, rounded so that no triangle has its three corners on one side.
_ROUNDNESS = 4.0
_MARGIN = 0.01
_STRETCH_STEPS = 12
_STRETCH_POWER = 0.25  # of the correction in a step; whole ones overshoot
_BELOW_EYE = 6.0  # mm that the lower lid reaches below its margin
_ALA = (11.0, -37.4, 8.4, 7.4)  # x, y and half axes of the wing of the nose in mm
# Where the bright rows of the mouth's bag are teeth: least green.
_TEETH_GREEN = 0.5


def unwrap(
    vertices: np.ndarray, triangles: np.ndarray, mirror: np.ndarray, importance: np.ndarray
) -> np.ndarray:
    """Flatten a mirror-symmetric disk without a seam, a fold or an overlap.

    The rim goes to a rounded square, in proportion to its length. Every other vertex is a weighted mean of
    its neighbours, with positive weights: such a map of a disk to a convex shape is one to one, whatever
    the weights. They start from mean value coordinates, which keep angles, and are adjusted until the
    triangles' sizes fit the surface's too, as long as that helps.

    Args:
        vertices: [V, 3]; the rim meets the midline twice.
        triangles: [T, 3] counter-clockwise from outside.
        mirror: [V] the vertex on the other side.
        importance: [V] size that a vertex's surroundings have in the picture, against the surface's.

    Returns:
        [V, 2] in [0, 1], u along +x, v along +y; the mirror image of a vertex at (u, v) is at (1 - u, v).

    Raises:
        ImportError: scipy is not installed.
        ValueError: the mesh is not a disk, or its rim does not meet the midline twice.

    Source: Tutte, How to draw a graph, 1963; Floater, Mean value coordinates, 2003; Yoshizawa et al., A fast
    and simple stretch-minimizing mesh parameterization, 2004.
    """
    rim = _rim(triangles, vertices, mirror)
    on_rim = np.zeros(len(vertices), bool)
    on_rim[rim] = True
    target = np.zeros((len(vertices), 2))
    target[rim] = _rounded_square(vertices[np.append(rim, rim[0])])
    source, weights = _mean_value_weights(vertices, triangles)
    best, least = None, np.inf
    for _ in range(_STRETCH_STEPS):
        flat = _solve(source, weights, target, on_rim)
        flat = (
            flat + flat[mirror] * [-1, 1]
        ) / 2  # exactly symmetric, not up to the solver's rounding
        stretch, energy = _stretch(vertices, triangles, flat, importance)
        if energy >= least:
            break
        best, least = flat, energy
        weights = weights / (stretch**_STRETCH_POWER)[source[1]]
    assert best is not None
    return _MARGIN + (1 - 2 * _MARGIN) * (best + 1) / 2


def _rim(triangles: np.ndarray, vertices: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """The rim's vertices, counter-clockwise from the upper end of the midline."""
    edges = triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    directed = {(int(a), int(b)) for a, b in edges}
    after = {a: b for a, b in directed if (b, a) not in directed}
    middle = [a for a in after if mirror[a] == a]
    if len(middle) != 2:
        raise ValueError(f"unwrap: the rim meets the midline {len(middle)} times, expected 2")
    rim = [max(middle, key=lambda a: vertices[a, 1])]
    while after[rim[-1]] != rim[0]:
        rim.append(after[rim[-1]])
    if len(rim) != len(after):
        raise ValueError("unwrap: the mesh has more than one rim, expected a disk")
    return np.array(rim)


def _rounded_square(points: np.ndarray) -> np.ndarray:
    """Places [n, 2] in [-1, 1] on a superellipse, from its top, for a closed polyline [n + 1, 3]."""
    angle = np.linspace(0, 2 * np.pi, 20001)
    x, y = -np.sin(angle), np.cos(angle)
    curve = np.stack([np.sign(w) * np.abs(w) ** (2 / _ROUNDNESS) for w in (x, y)], 1)
    way = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    where = length[:-1] * (way[-1] / length[-1])
    return np.stack([np.interp(where, way, column) for column in curve.T], 1)


def _mean_value_weights(
    vertices: np.ndarray, triangles: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Directed edges [2, n] and their weights [n]: of a vertex, of its neighbour."""
    at, other, value = [], [], []
    for k in range(3):
        i, j, l = (triangles[:, (k + n) % 3] for n in range(3))  # noqa: E741
        a, b = vertices[j] - vertices[i], vertices[l] - vertices[i]
        long_a, long_b = (np.maximum(np.linalg.norm(w, axis=1), 1e-6) for w in (a, b))
        cosine = (a * b).sum(1) / (long_a * long_b)
        # tan(angle / 2); the floor keeps slivers from cutting a vertex loose.
        half = np.sqrt(np.maximum(1 - cosine, 1e-6) / np.maximum(1 + cosine, 1e-6))
        at += [i, i]
        other += [j, l]
        value += [half / long_a, half / long_b]
    return np.stack([np.concatenate(at), np.concatenate(other)]), np.concatenate(value)


def _solve(
    edges: np.ndarray, weights: np.ndarray, target: np.ndarray, fixed: np.ndarray
) -> np.ndarray:
    """Places [V, 2] of which every free one is the weighted mean of its neighbours."""
    from scipy.sparse import coo_matrix, diags
    from scipy.sparse.linalg import splu

    num = len(target)
    matrix = coo_matrix((weights, edges), (num, num)).tocsr()
    matrix = diags(1 / np.asarray(matrix.sum(1)).ravel()) @ matrix
    free, held = np.flatnonzero(~fixed), np.flatnonzero(fixed)
    system = diags(np.ones(len(free))) - matrix[free][:, free]
    result = target.copy()
    result[free] = splu(system.tocsc()).solve(matrix[free][:, held] @ target[held])
    return result


def _stretch(
    vertices: np.ndarray, triangles: np.ndarray, flat: np.ndarray, importance: np.ndarray
) -> tuple[np.ndarray, float]:
    """How much the surface is longer than its picture: root mean square at vertices [V], and in all."""
    e = vertices[triangles[:, 1:]] - vertices[triangles[:, :1]]  # [T, 2, 3]
    f = flat[triangles[:, 1:]] - flat[triangles[:, :1]]  # [T, 2, 2]
    size = importance[triangles].mean(1)
    gram = np.einsum("tik,tjk->tij", e, e) * (size**2)[:, None, None]
    area = np.sqrt(np.maximum(np.linalg.det(gram), 1e-12))
    doubled = f[:, 0, 0] * f[:, 1, 1] - f[:, 0, 1] * f[:, 1, 0]
    # Trace of the first fundamental form in the picture: the sum of both squared singular values.
    inner = np.einsum("tik,tjk->tij", f, f)
    trace = gram[:, 0, 0] * inner[:, 1, 1] + gram[:, 1, 1] * inner[:, 0, 0]
    trace -= 2 * gram[:, 0, 1] * inner[:, 0, 1]
    squared = trace / np.maximum(doubled, 1e-12) ** 2 / 2
    sums, areas = (
        np.bincount(triangles.ravel(), np.repeat(w, 3), len(vertices))
        for w in (squared * area, area)
    )
    whole = float(np.sqrt((squared * area).sum() / area.sum()))
    return np.sqrt(sums / areas) / whole, whole


def texture_layout(vertices: np.ndarray, grid: Grid) -> np.ndarray:
    """Texture coordinates [V, 2] in [0, 1] of the built-in face, one for each vertex."""
    importance = np.ones(len(vertices))
    importance[grid.bag] = 0.5
    return unwrap(vertices, grid.triangles, grid.mirror, importance)


def region_labels(vertices: np.ndarray, grid: Grid, colors: np.ndarray) -> np.ndarray:
    """Labels [V] uint8, indices into REGION_NAMES, of vertices in the tables' frame and their colours."""
    x, y = vertices[:, 0], vertices[:, 1]
    weights = region_weights(vertices, grid)
    s = eye_position(x, grid)
    above = y - eye_axis(s)
    skin = np.arange(len(vertices)) < grid.num_skin
    upper = np.zeros_like(skin)
    upper[: grid.num_skin] = grid.upper_lid
    lid = (s > -0.02) & (s < 1.04) & skin
    reach = np.where(upper, above < lid_crease(s, Lids()), -above < Lids().lower(s) + _BELOW_EYE)
    flank = np.interp(y, *t.NOSE_WIDTH[::-1, [0, 2]].T)
    nose = (y > t.NOSE_PROFILE[-1, 0]) & (y < t.NOSE_WIDTH[2, 0]) & (np.abs(x) < flank) & skin
    nose |= (np.hypot((np.abs(x) - _ALA[0]) / _ALA[2], (y - _ALA[1]) / _ALA[3]) < 1) & skin
    labels = np.zeros(len(vertices), np.uint8)
    for name, where in (
        ("nose", nose),
        ("eyelids", lid & reach),
        ("brows", weights["brow"] > 0.4),
        ("lips", weights["lip"] > 0.5),
        ("eyes", grid.eyes),
        ("mouth", grid.bag),
        ("teeth", grid.bag & (colors[:, 1] > _TEETH_GREEN)),
    ):
        labels[where] = REGION_NAMES.index(name)
    return labels
