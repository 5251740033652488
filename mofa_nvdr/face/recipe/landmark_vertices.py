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

# Where detected landmarks of the iBUG scheme lie on renderings of this face, mm about the head's centre, on
# the subject's right and in the middle: number, x, y, z. Brows and chin lie 4 to 9 mm above the marks that
# the recipe builds on, and the eyes' corners 3 mm inside of the ends of the lids (docs/reports/fitting.md).
_DETECTED = (
    (7, -14.8, -76.5, 41.3), (8, 0.0, -78.5, 45.7),
    (17, -57.0, 48.6, 16.4), (18, -50.3, 56.6, 27.7), (19, -37.6, 59.6, 40.3),
    (20, -25.5, 58.4, 47.0), (21, -13.6, 53.0, 50.9),
    (27, 0.0, 35.0, 45.9), (28, 0.0, 20.1, 51.7), (29, 0.0, 9.4, 58.8), (30, 0.0, -2.0, 68.2),
    (31, -12.1, -12.0, 49.8), (32, -7.0, -15.5, 50.5), (33, 0.0, -15.3, 52.8),
    (36, -41.6, 31.4, 32.3), (37, -34.6, 35.7, 35.0), (38, -26.0, 35.6, 35.0),
    (39, -18.9, 30.3, 32.1), (40, -25.9, 27.8, 34.5), (41, -35.0, 28.6, 35.0),
    (48, -24.6, -35.3, 40.6), (49, -16.2, -30.9, 49.2), (50, -7.0, -28.2, 53.5),
    (51, 0.0, -29.1, 54.0), (59, -17.0, -42.0, 46.8), (58, -7.2, -43.8, 51.4),
    (57, 0.0, -44.3, 52.5), (60, -21.3, -34.7, 43.9), (61, -5.9, -33.5, 53.8),
    (62, 0.0, -34.8, 54.0), (67, -6.1, -36.0, 49.7), (66, 0.0, -36.2, 50.2),
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
