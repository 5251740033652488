"""Caps for eye openings: the seen part of the eyeball as part of the skin's surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from mofa_nvdr.importers.files.obj_files import ObjMesh

_RINGS = 4
# An adult's eyeball, mm; taken where the file has no eyeballs.
_RADIUS = 12.0
_WIDEST = 60.0  # mm; a larger rim is no eye opening


@dataclass(frozen=True)
class Cap:
    """New vertices within a lid opening.

    Attributes:
        positions: [N, 3] mm. polygons: [P, 4], numbered after the vertices there are.
        follows: [N, V] sparse, how they move with the file's vertices: at the rim with the lids, inside
            with the eyeball, so that lids slide over it.
        weights: [N, L] sparse, their place between the rim's vertices.
    """

    positions: np.ndarray
    polygons: np.ndarray
    follows: sparse.csr_matrix
    weights: sparse.csr_matrix

    def between(self, rim: np.ndarray) -> np.ndarray:
        """Values [L, C] at the rim, carried to its inside: [N, C]."""
        return self.weights @ rim


def eyeballs(mesh: ObjMesh, materials: tuple[str, ...]) -> np.ndarray:
    """Vertices (indices) of the polygons whose material starts with one of `materials`."""
    chosen = [k for k, n in enumerate(mesh.material_names) if n.startswith(materials)]
    corners = mesh.polygons[np.isin(mesh.material, chosen)]
    return np.unique(corners[corners >= 0])


def loop_around(
    loops: list[np.ndarray], vertices: np.ndarray, corners: list[int]
) -> np.ndarray | None:
    """The rim around some landmarks: the small one whose middle is nearest to theirs; None: there is none."""
    target = vertices[corners].mean(0)
    best, nearest = None, np.inf
    for loop in loops:
        points = vertices[loop]
        distance = float(np.linalg.norm(points.mean(0) - target))
        if np.ptp(points, axis=0).max() < _WIDEST and distance < min(nearest, _WIDEST / 4):
            best, nearest = loop, distance
    return best


def eye_cap(
    loop: np.ndarray,
    vertices: np.ndarray,
    old_index: np.ndarray,
    all_vertices: np.ndarray,
    balls: np.ndarray,
    first: int,
) -> Cap:
    """Close a lid opening with rings of quads on the eyeball.

    Args:
        loop: the rim, indices into `vertices`, in the direction of its polygons.
        vertices: [W, 3] mm, the cut mesh.
        old_index: [W] the file's index of each vertex of the cut mesh.
        all_vertices: [V, 3] mm, the file's.
        balls: indices of the eyeballs' vertices in the file; empty: an eyeball is put behind the rim.
        first: number of the first new vertex.
    """
    rim = vertices[loop]
    middle = rim.mean(0)
    near = balls[np.linalg.norm(all_vertices[balls] - middle, axis=1) < 2.5 * _RADIUS]
    centre, radius = middle - [0, 0, 0.8 * _RADIUS], _RADIUS
    if len(near) > 10:
        centre, radius = _sphere(all_vertices[near])
    pole = np.append(centre[:2], 0.0)
    count = len(loop)
    ways = np.arange(_RINGS, -1, -1) / (_RINGS + 1)  # 1 at the rim, 0 in the middle
    flat, way, at = [], [], []
    for w in ways:
        number = count if w > 0 else 1
        flat.append(pole[:2] + w * (rim[:number, :2] - pole[:2]) if w > 0 else pole[None, :2])
        way.append(np.full(number, w))
        at.append(np.arange(number))
    xy, w, spoke = np.concatenate(flat), np.concatenate(way), np.concatenate(at)
    across = ((xy - centre[:2]) ** 2).sum(1)
    on_ball = centre[2] + np.sqrt(np.maximum(radius**2 - across, 0.0))
    # On the eyeball, but at the rim where the lids are.
    z = on_ball + w**4 * (rim[spoke, 2] - _ball_height(rim, centre, radius)[spoke])
    positions = np.column_stack([xy, z])
    weights = _between(w, spoke, count)
    lids = sparse.diags(w**3) @ sparse.csr_matrix(
        (np.ones(len(w)), (np.arange(len(w)), old_index[loop][spoke])),
        (len(w), len(all_vertices)),
    )
    if len(near) > 10:
        _, nearest = cKDTree(all_vertices[near]).query(positions, k=4)
        rows = np.repeat(np.arange(len(w)), 4)
        ball = sparse.csr_matrix(
            (np.full(rows.size, 0.25), (rows, near[nearest].ravel())),
            (len(w), len(all_vertices)),
        )
    else:  # the middle of the rim stands for the eyeball
        rows = np.repeat(np.arange(len(w)), count)
        ball = sparse.csr_matrix(
            (np.full(rows.size, 1 / count), (rows, np.tile(old_index[loop], len(w)))),
            (len(w), len(all_vertices)),
        )
    follows = lids + sparse.diags(1 - w**3) @ ball
    return Cap(positions, _rings(loop, first, count), follows.tocsr(), weights)


def _ball_height(points: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    across = ((points[:, :2] - centre[:2]) ** 2).sum(1)
    return centre[2] + np.sqrt(np.maximum(radius**2 - across, 0.0))


def _between(way: np.ndarray, spoke: np.ndarray, count: int) -> sparse.csr_matrix:
    """Each new vertex: `way` of the rim's vertex on its spoke, the rest of the rim's mean."""
    own = sparse.csr_matrix((way, (np.arange(len(way)), spoke)), (len(way), count))
    mean = np.repeat((1 - way)[:, None] / count, count, axis=1)
    return (own + sparse.csr_matrix(mean)).tocsr()


def _rings(loop: np.ndarray, first: int, count: int) -> np.ndarray:
    """Quads from the rim inwards and triangles about the middle, wound as the mesh around."""
    rings = [loop] + [first + r * count + np.arange(count) for r in range(_RINGS)]
    middle = first + _RINGS * count
    polygons = []
    for outer, inner in zip(rings, rings[1:]):
        after_outer, after_inner = np.roll(outer, -1), np.roll(inner, -1)
        # The mesh runs along the rim from a to b, its neighbour runs from b to a.
        polygons.append(np.stack([after_outer, outer, inner, after_inner], 1))
    last = rings[-1]
    fan = [np.roll(last, -1), last, np.full(count, middle), np.full(count, -1)]
    polygons.append(np.stack(fan, 1))
    return np.concatenate(polygons)


def _sphere(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre and radius of the sphere that fits points best (least squares, algebraic)."""
    table = np.column_stack([2 * points, np.ones(len(points))])
    solution = np.linalg.lstsq(table, (points**2).sum(1), rcond=None)[0]
    return solution[:3], float(np.sqrt(solution[3] + (solution[:3] ** 2).sum()))
