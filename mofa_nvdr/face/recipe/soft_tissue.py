"""Soft tissue: how the skin, the lips' inner side and the teeth follow what muscles, jaw and eyes do.

A blendshape names the motion of a few places; the skin between and around them follows as the mean of a
Gaussian process that knows the slits: a lip drags its own cheek and chin, and the other lip only round the
corner of the mouth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mofa_nvdr.face.recipe import tables as t
from mofa_nvdr.face.recipe.covariances import gaussians
from mofa_nvdr.face.recipe.grid import Grid, gauss, smooth_step
from mofa_nvdr.face.recipe.mean import (
    Lids,
    brow_line,
    eye_axis,
    eye_position,
    eyeball_height,
    lower_vermilion,
    mean_shape,
    mouth_seam,
    upper_vermilion,
)

# How far soft tissue is dragged along: (mm, share of the variance).
DRAG = ((24.0, 0.6), (11.0, 0.4))
# Distance that the two edges of a slit are apart for the process, mm.
LIP_GAP, LID_GAP = 56.0, 24.0
# Axis of the jaw's turn: the condyles, in front of the ears.
JAW_HINGE = np.array([0.0, -22.0, -82.0])

Motion = tuple[float, float, float]


@dataclass(frozen=True)
class Place:
    """A point of the skin on the subject's left: x and y in mm and the edge of a slit that it belongs to."""

    x: float
    y: float
    upper_lip: bool = True
    upper_lid: bool = True


def _places(grid: Grid) -> dict[str, Place]:
    half = grid.mouth_half_width

    def seam(m: float) -> float:
        return t.MOUTH_ROW + float(mouth_seam(np.array(m)))

    def lip(m: float, height: float, upper: bool) -> Place:
        return Place(m * half, seam(m) + height, upper_lip=upper)

    def above(m: float, way: float = 1.0) -> Place:
        return lip(m, way * float(upper_vermilion(np.array(m))), True)

    def below(m: float, way: float = 1.0) -> Place:
        return lip(m, -way * float(lower_vermilion(np.array(m))), False)

    def brow(x: float) -> Place:
        return Place(x, float(brow_line(np.array(x))[0]))

    width = grid.eye[1] - grid.eye[0]
    middle = grid.eye[0] + 0.5 * width
    axis = [float(eye_axis(np.array(s))) for s in (0.0, 0.5, 1.0)]
    lids = Lids()
    upper_lid, lower_lid = (float(f(np.array(0.5))) for f in (lids.upper, lids.lower))
    fold = [Place(18.5 + (-38 - y) * 0.5, y) for y in (-40.0, -54.0)]
    return {
        "corner": Place(half, seam(1.0)),
        "upper_lip": lip(0, 0.0, True), "upper_lip_1": lip(0.36, 0.0, True),
        "upper_lip_2": lip(0.72, 0.0, True),
        "lower_lip": lip(0, 0.0, False), "lower_lip_1": lip(0.36, 0.0, False),
        "lower_lip_2": lip(0.72, 0.0, False),
        "upper_border": above(0), "upper_border_1": above(0.5),
        "lower_border": below(0), "lower_border_1": below(0.5),
        "philtrum": above(0, 1.9), "beside_philtrum": Place(13, above(0, 1.7).y),
        "fold_top": fold[0], "fold_middle": fold[1],
        "fold_low": Place(half + 8.5, t.MOUTH_ROW - 1.5),
        "nose_tip": Place(0, -35), "ala": Place(14, -38), "nose_side": Place(12, -20),
        "nose_root": Place(0, 3), "below_canthus": Place(19, -10),
        "apple": Place(36, -32), "cheekbone": Place(48, -20), "cheek": Place(46, -54),
        "jowl": Place(40, -80, upper_lip=False), "jaw_angle": Place(60, -66, upper_lip=False),
        "under_eye": Place(31, -12, upper_lid=False), "crow": Place(54, -3),
        "inner_canthus": Place(grid.eye[0], axis[0]), "outer_canthus": Place(grid.eye[1], axis[2]),
        "upper_lid": Place(middle, axis[1] + upper_lid),
        "lower_lid": Place(middle, axis[1] - lower_lid, upper_lid=False),
        "lid_fold": Place(middle, axis[1] + upper_lid + 7),
        "brow_1": brow(10), "brow_2": brow(21), "brow_3": brow(34), "brow_4": brow(47),
        "brow_5": Place(57, 16), "glabella": Place(0, 19),
        "forehead_1": Place(10, 42), "forehead_2": Place(32, 42), "forehead_3": Place(52, 36),
        "temple": Place(65, 12),
        "mental": Place(0, -82, upper_lip=False), "mental_1": Place(17, -81, upper_lip=False),
        "chin": Place(0, -98, upper_lip=False), "chin_1": Place(19, -97, upper_lip=False),
        "under_chin": Place(0, -117, upper_lip=False),
    }  # fmt: skip


class Tissue:
    """The average face as soft tissue: places, sides, and what moves with what.

    Args:
        mean: [V, 3] vertices of the average face in the tables' frame.
        grid: its topology.

    Attributes:
        sheeted: [V, 5] vertices with two further coordinates in mm that keep lips and lids apart.
    """

    def __init__(self, mean: np.ndarray, grid: Grid) -> None:
        n = grid.num_skin
        self.mean, self.grid = mean, grid
        self.x, self.y, self.z = mean.T
        self.ax, self.side = np.abs(self.x), np.sign(self.x)
        self.skin = np.arange(len(mean)) < n
        self.upper = np.ones(len(mean), bool)  # above the mouth's slit
        self.upper[:n] = grid.upper_lip
        for j in range(t.MOUTH_POCKET_ROWS):
            self.upper[grid.pockets["mouth"][j + 1]] = j < t.UPPER_BAG_ROWS
        self.upper_lid = np.ones(len(mean), bool)
        self.upper_lid[:n] = grid.upper_lid
        self.m = self.ax / grid.mouth_half_width
        self.d = self.y - t.MOUTH_ROW - mouth_seam(self.x / grid.mouth_half_width)
        self.places = _places(grid)
        self.sheeted = self._sheets(self.x, self.y, self.z, self.upper, self.upper_lid)

    def _sheets(
        self, x: np.ndarray, y: np.ndarray, z: np.ndarray, upper: np.ndarray, lid: np.ndarray
    ) -> np.ndarray:
        """Points [N, 5]: two further dimensions keep lips and lids apart and meet at the slits' corners."""
        half = self.grid.mouth_half_width
        d = y - t.MOUTH_ROW - mouth_seam(x / half)
        lips = 0.5 * LIP_GAP * slit_side(x / half, d / half, upper)
        s = eye_position(x, self.grid)
        up = (y - eye_axis(np.clip(s, -0.3, 1.3))) * 2 / (self.grid.eye[1] - self.grid.eye[0])
        lids = 0.5 * LID_GAP * slit_side(2 * s - 1, up, lid)
        return np.column_stack([x, y, z, lips, lids])

    def depth_at(self, place: Place) -> float:
        """Depth z of the average skin at a place."""
        n = self.grid.num_skin
        away = (self.x[:n] - place.x) ** 2 + (self.y[:n] - place.y) ** 2
        return float(self.z[:n][np.argmin(away)])

    def drag(self, left: dict[str, Motion], right: dict[str, Motion] | None = None) -> np.ndarray:
        """Displacements [V, 3] of the skin and the mouth's inside when places move by these distances, mm.

        Args:
            left: place -> motion of that place on the subject's left: (sideways along +x, up, out).
            right: of the mirrored places; None: the mirror image of `left`.
        """
        if right is None:
            right = {name: (-dx, dy, dz) for name, (dx, dy, dz) in left.items()}
        rows, moved = [], []
        for sign, motions in ((1, left), (-1, right)):
            for name, motion in motions.items():
                p = self.places[name]
                if p.x < 1e-6 and sign < 0:
                    continue
                rows.append((sign * p.x, p.y, self.depth_at(p), p.upper_lip, p.upper_lid))
                moved.append(motion)
        x, y, z, upper, lid = np.array(rows, float).T
        anchors = self._sheets(x, y, z, upper > 0.5, lid > 0.5)
        among = gaussians(anchors, anchors, DRAG) + 1e-3 * np.eye(len(anchors))
        solved = np.linalg.solve(among, np.array(moved))
        n = self.grid.num_skin
        field = np.zeros_like(self.mean)
        field[:n] = gaussians(self.sheeted[:n], anchors, DRAG) @ solved
        # Nothing drags the back of the jaw, the ears' line and the hairline.
        field[:n] *= self.calm[:n, None]
        return self.line_mouth(field)

    @property
    def calm(self) -> np.ndarray:
        """[V] one where tissue is soft, zero at the cut edges of the mask."""
        return smooth_step(self.y, 76, 50) * smooth_step(-self.z, 84, 52)

    def line_mouth(self, field: np.ndarray, jaw: np.ndarray | None = None) -> np.ndarray:
        """Let the mouth's inside follow: its front lines the lips, teeth stay on their bones.

        Args:
            field: [V, 3] whose skin is final; changed in place.
            jaw: [V, 3] rigid motion of the lower jaw; None: it does not move.
        """
        rows = self.grid.pockets["mouth"]
        edges = rows[0], rows[-1]
        m = self.m[rows[0]]
        # Towards the corners everything is drawn along: sideways early, or the bag would fold.
        corner = smooth_step(m, 0.65, 1.0)
        corner = np.stack([smooth_step(m, 0.3, 1.0), corner, corner], axis=1)
        for j, (dz, _) in enumerate(t.MOUTH_BAG):
            upper = j < t.UPPER_BAG_ROWS
            lining = smooth_step(np.array(dz), -5.2, -1.8)
            cling = lining + (1 - lining) * corner
            index = rows[j + 1]
            bone = 0.0 if upper or jaw is None else jaw[index]
            field[index] = cling * field[edges[0] if upper else edges[1]] + (1 - cling) * bone
        return field

    def seal(
        self, field: np.ndarray, jaw: np.ndarray | None = None, overlap: float = 0.3
    ) -> np.ndarray:
        """Let the lips' edges meet: each gives half of what would part them.

        Args:
            field: [V, 3] whose skin is final; changed in place.
            jaw: as for `line_mouth`.
            overlap: mm by which the edges pass each other, or rounding shows as white specks of teeth.
        """
        upper, lower = self.grid.seams["mouth"]
        m = self.x[upper] / self.grid.mouth_half_width
        apart = field[upper, 1] - field[lower, 1] + overlap * np.sqrt(np.clip(1 - m**2, 0, 1))
        n = self.grid.num_skin
        gap = np.interp(self.x[:n], self.x[upper], apart, left=0.0, right=0.0)
        give = 0.5 * gap * gauss(self.d[:n], 3.5)
        field[:n, 1] += np.where(self.upper[:n], -give, give)
        return self.line_mouth(field, jaw)

    def turn_jaw(self, angle: float, shift: Motion = (0.0, 0.0, 0.0)) -> np.ndarray:
        """[V, 3] what a rigid turn about the condyles (radians, opening) and a shift in mm do everywhere."""
        c, s = np.cos(angle), np.sin(angle)
        rotation = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
        away = self.mean - JAW_HINGE
        return away @ rotation.T - away + np.asarray(shift)

    def follow_jaw(self, motion: np.ndarray, cohesion: float) -> np.ndarray:
        """Skin and mouth's inside [V, 3] when the jaw moves rigidly by `motion`.

        Args:
            motion: of `turn_jaw`.
            cohesion: 0: the lips part freely; 0.5: they stay together, halfway.
        """
        # The corners of the mouth follow by half; beyond them the two sheets are one.
        side = slit_side(
            self.x / self.grid.mouth_half_width, self.d / self.grid.mouth_half_width, self.upper
        )
        length = 13 + 0.55 * np.maximum(self.ax - self.grid.mouth_half_width, 0)
        far = smooth_step(0.5 - 0.5 * self.d / length, 0, 1)
        # Held together, the lips keep their height and the skin above and below them stretches.
        held = smooth_step(self.d, 24, 6) + smooth_step(self.d, -7, -36)
        far = far + (0.5 * held - far) * 2 * cohesion
        arc = np.clip(np.abs(side), 0, 1) * (1 - 2 * cohesion)
        weight = np.where(self.upper, far * (1 - arc), far + (1 - far) * arc)
        back = smooth_step(-self.z, 58, 92) * smooth_step(self.y, -100, -55)
        weight = weight * (1 - back)
        field = np.where(self.skin[:, None], weight[:, None] * motion, 0)
        return self.line_mouth(field, motion)

    def lids(self, lids: Lids) -> np.ndarray:
        """[V, 3] of the recipe run again with other lids, which so slide on the eyeballs."""
        field = mean_shape(lids, self.mean) - self.mean
        # A closing lid fills its fold: sums of closing shapes stay before the eyeball.
        s = np.clip(eye_position(self.x, self.grid), 0, 1)
        above = self.y - eye_axis(s) - Lids().upper(s)
        rise = np.sqrt(4 * s * (1 - s))
        on = smooth_step(above, 0.5, 4.0) * smooth_step(above, 13.0, 7.0) * rise
        field[:, 2] += 1.7 * lids.blink * on * (self.skin & self.upper_lid)
        # A narrowed lower lid bulges along its margin.
        below = eye_axis(s) - self.y - Lids().lower(s)
        on = smooth_step(below, -2.5, 0.5) * smooth_step(below, 11.0, 5.5) * rise
        field[:, 2] += 1.4 * max(lids.squint, 0) * on * (self.skin & ~self.upper_lid)
        for name in (
            "left_eye",
            "right_eye",
        ):  # the lids' inner rims go with them, not beyond the white
            rows = self.grid.pockets[name]
            for edge, rim in ((rows[0], rows[1]), (rows[-1], rows[-2])):
                follow = 0.75 * field[edge, :2]
                before, after = self.mean[rim, :2], self.mean[rim, :2] + follow
                field[rim, :2] = follow
                field[rim, 2] = eyeball_height(*after.T)[0] - eyeball_height(*before.T)[0]
        return field

    def look(self, sideways: float, up: float) -> np.ndarray:
        """[V, 3]: irises slide over the eyeballs by these distances in mm, outwards and up.

        The disc that holds iris and pupil moves as a whole, so that it stays round. What is behind it
        stretches and what is in front of it slides under a lid or crowds towards the canthus.
        """
        field = np.zeros_like(self.mean)
        far = np.hypot(sideways, up)
        if far == 0:
            return field
        for name, sign in (("left_eye", 1), ("right_eye", -1)):
            inner = self.grid.pockets[name][2:-2]
            place = self.mean[inner]
            from_pupil = np.stack(
                [np.abs(place[..., 0]) - t.PUPIL_X, place[..., 1] - t.PUPIL_Y], axis=-1
            )
            ahead = from_pupil @ np.array([sideways, up]) / far
            s = eye_position(place[..., 0], self.grid)
            iris = t.IRIS_RADIUS + 0.4
            weight = smooth_step(ahead, -iris - 2.2, -iris)
            weight = weight * smooth_step(s, 0.0, 0.3) * smooth_step(s, 1.0, 0.7)
            moved = place[..., :2] + weight[..., None] * np.array([sign * sideways, up])
            depth = eyeball_height(moved[..., 0], moved[..., 1])[0]
            was = eyeball_height(place[..., 0], place[..., 1])[0]
            field[inner, :2] = moved - place[..., :2]
            field[inner, 2] = (depth - was) * (weight > 0)
        return field

    def clear_eyes(self, field: np.ndarray) -> np.ndarray:
        """Keep moved lids in front of the eyeballs as the average face does."""
        n = self.grid.num_skin
        x, y, z = (self.mean + field)[:n].T
        ball, near = eyeball_height(x, y, 0.75)
        s = eye_position(x, self.grid)
        on = (near < 0.9) & (s > 0.06) & (s < 0.94)
        field[:n, 2] += np.where(on, np.maximum(ball - z, 0), 0)
        return field

    def bump(self, cx: float, cy: float, wx: float, wy: float) -> np.ndarray:
        """[V] a Gaussian hill of the skin at |x|, y with widths in mm."""
        return gauss(self.ax - cx, wx) * gauss(self.y - cy, wy) * self.skin

    def left(self, width: float) -> np.ndarray:
        """[V, 1] weight of the subject's left, from 0 to 1 across 2 `width` mm."""
        return smooth_step(self.x, -width, width)[:, None]


def slit_side(along: np.ndarray, across: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Which side of a slit from -1 to 1 a point is on: 1 and -1 at its edges' middle, 0 beyond its ends.

    The imaginary part of sqrt(p^2 - 1) - p over the plane cut along the slit: it jumps across the slit by
    twice sqrt(1 - along^2), is smooth everywhere else and fades away from the slit.

    Args:
        along: [N] coordinate along the slit in half lengths, the ends at -1 and 1.
        across: [N] upwards from the slit, in half lengths too.
        upper: [N] bool, the edge that a point on the slit or close to it belongs to.
    """
    told = np.where(upper, np.maximum(across, 1e-9), np.minimum(across, -1e-9))
    height = np.where((np.abs(along) < 1) & (np.abs(across) < 0.15), told, across + 1e-12)
    p = along + 1j * height
    return (np.sqrt(p - 1) * np.sqrt(p + 1) - p).imag * np.exp(-0.5 * height**2)
