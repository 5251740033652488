"""Named places on the built-in face: the 68 landmarks and the frontal region."""

from __future__ import annotations

import numpy as np

from mofa_nvdr.face.recipe import tables as t
from mofa_nvdr.face.recipe.grid import Grid
from mofa_nvdr.face.recipe.mean import lower_vermilion, mouth_seam, upper_vermilion

# (x, y) on the subject's left, from the ear to next to the chin, then the chin itself.
_JAW = [(75, 2), (75, -14), (73, -32), (69, -50), (62, -68), (52, -84), (38, -99), (20, -112)]
_CHIN = (0, -118)
_BROW = [(55, 17.5), (46, 22.5), (35, 24.5), (24, 22), (13, 18.4)]  # outer to inner
_NOSE_BRIDGE = [(0, 2), (0, -11), (0, -23), (0, -34)]
_NOSE_BASE = [(13, -42), (7, -45)]
_NOSE_MIDDLE = (0, -46)
_LIP_WAYS = [1.0, 0.58, 0.22]  # x over the half width of the mouth, corner to near the middle
_INNER_WAYS = [0.88, 0.32]


def landmark_vertices(mean: np.ndarray, grid: Grid) -> np.ndarray:
    """Vertex indices [68] in iBUG order, which starts at the subject's right (-x)."""
    skin = mean[: grid.num_skin, :2]
    lids = grid.seams["left_eye"]
    lips = grid.seams["mouth"]
    half = grid.mouth_half_width

    def at(x: float, y: float) -> int:
        return int(np.argmin(((skin - (x, y)) ** 2).sum(1)))

    def along(edge: np.ndarray, x: float) -> int:
        return int(edge[np.argmin(abs(mean[edge, 0] - x))])

    def right(left: list[int]) -> list[int]:
        return [int(grid.mirror[i]) for i in left]

    jaw = [at(*p) for p in _JAW]
    brow = [at(*p) for p in _BROW]
    base = [at(*p) for p in _NOSE_BASE]
    inner, outer = int(lids[0][0]), int(lids[0][-1])
    thirds = [grid.eye[0] + (grid.eye[1] - grid.eye[0]) * way for way in (1 / 3, 2 / 3)]
    upper_lid = [along(lids[0], x) for x in thirds]  # inner to outer
    lower_lid = [along(lids[1], x) for x in thirds]

    def lip(way: float, height: float) -> int:
        return at(way * half, t.MOUTH_ROW + float(mouth_seam(np.array(way))) + height)

    corner = int(lips[0][-1])
    top = [lip(w, float(upper_vermilion(np.array(w)))) for w in (*_LIP_WAYS[1:], 0.0)]
    bottom = [lip(w, -float(lower_vermilion(np.array(w)))) for w in (*_LIP_WAYS[1:], 0.0)]
    inner_corner = along(lips[0], _INNER_WAYS[0] * half)
    inner_top = [along(lips[0], _INNER_WAYS[1] * half), along(lips[0], 0.0)]
    inner_bottom = [along(lips[1], _INNER_WAYS[1] * half), along(lips[1], 0.0)]

    points = right(jaw) + [at(*_CHIN)] + jaw[::-1]
    points += right(brow) + brow[::-1]
    points += [at(*p) for p in _NOSE_BRIDGE]
    points += right(base) + [at(*_NOSE_MIDDLE)] + base[::-1]
    points += right([outer, *upper_lid[::-1], inner, *lower_lid])
    points += [inner, *upper_lid, outer, *lower_lid[::-1]]
    points += right([corner, *top[:2]]) + [top[2]] + top[1::-1] + [corner]
    points += bottom[:2] + [bottom[2]] + right(bottom[1::-1])
    points += right([inner_corner, inner_top[0]]) + [inner_top[1], inner_top[0], inner_corner]
    points += [inner_bottom[0], inner_bottom[1], *right([inner_bottom[0]])]
    assert len(points) == 68
    return np.array(points, np.int64)


def frontal_mask(mean: np.ndarray, grid: Grid) -> np.ndarray:
    """[V] bool: the face from the middle of the forehead to the chin and to in front of the ears.

    What is above and behind is hair in most photographs.
    """
    x, y, z = mean.T
    low_forehead = y < 58 - 0.006 * x**2
    return low_forehead & (z > -80)
