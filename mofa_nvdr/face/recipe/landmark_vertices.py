"""Named places on the built-in face: marks of the recipe, the 68 landmarks, and the frontal region."""

from __future__ import annotations

import numpy as np

from mofa_nvdr.face.landmarks import MIRROR
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

# Where detected landmarks of the iBUG scheme lie on 398 renderings of this face, mm about the head's centre,
# on the subject's right and in the middle: number, x, y, z. Brows and chin lie 2 to 7 mm above the marks that
# the recipe builds on, and the eyes' inner corners 3 mm inside of the ends of the lids
# (docs/make_dense_landmarks.py, docs/reports/fitting.md).
_DETECTED = (
    (7, -15.3, -78.5, 39.3), (8, 0.0, -80.5, 44.0), (17, -56.9, 46.9, 16.4), (18, -48.7, 54.9, 30.0),
    (19, -36.9, 57.8, 41.2), (20, -24.6, 56.4, 47.9), (21, -12.9, 50.8, 50.8), (27, 0.0, 33.6, 45.8),
    (28, 0.0, 20.6, 51.4), (29, 0.0, 8.6, 59.4), (30, 0.0, -3.7, 69.1), (31, -13.0, -13.8, 47.7),
    (32, -6.7, -15.8, 50.6), (33, 0.0, -17.8, 51.2), (36, -44.1, 29.5, 31.6), (37, -34.6, 35.7, 35.0),
    (38, -26.0, 35.6, 35.0), (39, -18.9, 30.3, 32.1), (40, -25.9, 27.8, 34.5), (41, -35.0, 28.6, 35.0),
    (48, -25.5, -36.9, 39.1), (49, -16.0, -32.4, 49.6), (50, -6.6, -30.3, 54.3), (51, 0.0, -31.5, 55.1),
    (59, -16.7, -43.6, 46.1), (58, -7.2, -46.4, 49.2), (57, 0.0, -46.8, 50.1), (60, -21.3, -34.7, 43.9),
    (61, -5.9, -33.5, 53.8), (62, 0.0, -34.8, 54.0), (67, -6.1, -36.0, 49.7), (66, 0.0, -36.2, 50.2),
)  # fmt: skip


def detected_vertices(mean: np.ndarray, grid: Grid) -> np.ndarray:
    """The model's landmarks: vertex indices [68] in iBUG order, where a detector finds its points.

    The jaw line slides over the skin as a head turns: its points are those of the construction, but for the
    three at the chin.
    """
    found = landmark_vertices(mean, grid)
    skin = mean[: grid.num_skin] - t.HEAD_CENTRE
    for number, *place in _DETECTED:
        nearest = int(np.argmin(((skin - place) ** 2).sum(1)))
        found[number] = nearest
        if MIRROR[number] != number:
            found[MIRROR[number]] = grid.mirror[nearest]
    return found


def landmark_vertices(mean: np.ndarray, grid: Grid) -> np.ndarray:
    """Marks of the construction: vertex indices [68] in iBUG order, from the subject's right (-x)."""
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
