"""The mean shape: the loft, the features added to its depth, the eyeballs and the mouth's bag."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from mofa_nvdr.face.recipe import tables as t
from mofa_nvdr.face.recipe.grid import Grid, Loft, build_grid, gauss, smooth_max, smooth_step


@dataclass(frozen=True)
class Lids:
    """How open the eyes are: 1 closes (`blink`), widens or narrows them fully."""

    blink: float = 0.0
    wide: float = 0.0
    squint: float = 0.0

    def upper(self, s: np.ndarray) -> np.ndarray:
        """Height of the upper margin above the eye's axis; s from 0 at the inner to 1 at the outer corner."""
        open_, closed = _lid(s, 0.62, 0.80, 4.7), _lid(s, 0.85, 0.62, 5.0)
        raised = open_ * (1 - self.blink + 0.38 * self.wide - 0.12 * self.squint)
        return raised - self.blink * (closed - 0.2 * np.minimum(closed, 1))

    def lower(self, s: np.ndarray) -> np.ndarray:
        """Depth of the lower margin below the eye's axis."""
        depth = _lid(s, 0.85, 0.62, 5.0)
        return depth * (1 - 0.45 * self.squint) - 0.25 * self.blink * np.minimum(depth, 1)


def _lid(s: np.ndarray, a: float, b: float, peak: float) -> np.ndarray:
    """An arch s^a (1 - s)^b with the given peak."""
    s = np.clip(s, 0, 1)
    top = a / (a + b)
    return s**a * (1 - s) ** b / (top**a * (1 - top) ** b) * peak


def eye_position(x: np.ndarray, grid: Grid) -> np.ndarray:
    """0 at the inner, 1 at the outer corner of the eye."""
    return (np.abs(x) - grid.eye[0]) / (grid.eye[1] - grid.eye[0])


def eye_axis(s: np.ndarray) -> np.ndarray:
    """Height of the eye's axis: the outer corner is a little higher."""
    return -1.6 + 3.2 * s


def mouth_seam(m: np.ndarray) -> np.ndarray:
    """Height of the closed lips' line above MOUTH_ROW; m = x / half width of the mouth."""
    m = np.abs(m)
    return -0.7 * gauss(m, 0.13) + 0.55 * gauss(m - 0.36, 0.17) - 0.5 * smooth_step(m, 0.7, 1.0)


def upper_vermilion(m: np.ndarray) -> np.ndarray:
    """Height of the upper lip, with Cupid's bow."""
    m = np.minimum(np.abs(m), 1)
    return 7.0 * (1 - m**1.8) ** 0.9 - 1.2 * gauss(m, 0.085) + 0.4 * gauss(m - 0.2, 0.09)


def lower_vermilion(m: np.ndarray) -> np.ndarray:
    """Height of the lower lip."""
    m = np.minimum(np.abs(m), 1)
    return 8.8 * (1 - m**2.6) ** 0.8


def lid_crease(s: np.ndarray, lids: Lids) -> np.ndarray:
    """Height of the fold above the upper lid."""
    return lids.upper(s) * 0.55 + 5.6 * np.sin(np.pi * np.clip(s * 0.9 + 0.08, 0, 1)) ** 0.5 + 1.2


def eyeball_height(
    x: np.ndarray, y: np.ndarray, grow: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Depth of the eyeball grown by `grow`, and the squared relative distance from its axis."""
    centre, radii = t.EYEBALL_CENTRE, t.EYEBALL_RADII + grow
    d = ((np.abs(x) - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2
    dome = radii[2] * np.sqrt(np.maximum(1 - d, 0))
    return centre[2] + dome - 10 * np.sqrt(np.maximum(d - 1, 0)), d


@lru_cache(maxsize=1)
def _splines() -> dict[str, Any]:
    from scipy.interpolate import CubicSpline, PchipInterpolator

    nose, width = t.NOSE_PROFILE[::-1], t.NOSE_WIDTH[::-1]
    loft = Loft()
    y = np.linspace(t.BOTTOM, t.TOP, 2000)
    return {
        "loft": loft,
        "midline": (y, loft(np.zeros_like(y), y)[:, 2]),
        "nose": CubicSpline(nose[:, 0], nose[:, 1]),
        "nose_width": PchipInterpolator(width[:, 0], width[:, 1:]),
        "upper_lip": PchipInterpolator(*t.UPPER_LIP),
        "lower_lip": PchipInterpolator(*t.LOWER_LIP),
        "brow": CubicSpline(*t.BROW_LINE),
    }


def brow_line(ax: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Height of the brow's middle and its half thickness at |x|."""
    return _splines()["brow"](np.clip(ax, 9, 60)), np.interp(ax, *t.BROW_THICKNESS)


@lru_cache(maxsize=1)
def face_grid() -> Grid:
    """The grid of the built-in face."""
    return build_grid(_splines()["loft"])


def mean_shape(lids: Lids = Lids(), pockets: np.ndarray | None = None) -> np.ndarray:  # noqa: B008
    """Vertices [V, 3] in the tables' frame.

    Args:
        lids: how open the eyes are; lids slide on the eyeballs because the recipe runs again.
        pockets: [V, 3] whose pocket vertices to keep: the eyeballs of the open eyes.
    """
    grid = face_grid()
    u, v = grid.u, grid.v
    s = eye_position(u, grid)
    inside = (s > 0) & (s < 1)
    tilt = eye_axis(np.clip(s, -0.3, 1.3)) * smooth_step(s, -0.5, -0.02)
    tilt = tilt * (1 - smooth_step(s, 1.02, 1.5))
    away = np.abs(v - t.EYE_ROW)
    margin = np.where(grid.upper_lid, lids.upper(s), -lids.lower(s)) * _falloff(away / 19)
    slid = v + np.where(inside, margin, 0) + tilt * _falloff(away / 24)
    loft = _splines()["loft"]
    m = loft(u, v)[:, 0] / grid.mouth_half_width
    seam = mouth_seam(np.clip(m, -1.3, 1.3)) * (1 - smooth_step(np.abs(m), 1.0, 1.3))
    slid = slid + seam * _falloff(np.abs(v - t.MOUTH_ROW) / 10)
    skin = loft(u, slid)
    skin[:, 2] = _features(skin[:, 0], skin[:, 1], skin[:, 2], grid, lids)
    vertices = np.zeros((grid.num_vertices, 3))
    vertices[: grid.num_skin] = skin
    if pockets is not None:
        vertices[grid.num_skin :] = pockets[grid.num_skin :]
        return vertices
    for name in ("left_eye", "right_eye"):
        _eyeball(vertices, grid.pockets[name], grid)
    _mouth_bag(vertices, grid.pockets["mouth"], grid)
    return vertices


def _falloff(r: np.ndarray) -> np.ndarray:
    return np.where(r < 1, (1 - r) ** 2 * (1 + 2 * r), 0)


def _features(x: np.ndarray, y: np.ndarray, z: np.ndarray, grid: Grid, lids: Lids) -> np.ndarray:
    """Depth of the skin with brows, cheeks, nose, folds, chin, lips and lids on the loft's."""
    ax = np.abs(x)
    z = z + 1.7 * gauss(ax - 26, 13) * gauss(y - 19.5 - 0.06 * (ax - 26), 7.0)  # brow ridge
    z = z + 0.7 * gauss(x, 11) * gauss(y - 20, 9)  # glabella
    z = z + 1.7 * gauss(ax - 46, 12) * gauss(y + 20, 11)  # cheekbone
    z = z + 0.6 * gauss(ax - 50, 12) * gauss(y + 56, 14)  # lower cheek
    z = z + 1.2 * gauss(ax - 33, 9) * gauss(y + 33, 10)  # front of the cheek
    z = z - 1.3 * gauss(ax - 21 - 0.36 * (-4 - y), 4.5) * gauss(y + 13, 6) * smooth_step(ax, 12, 18)
    z = _nose(x, y, z)
    fold = ax - (18.5 + (-38 - y) * 0.50)  # nasolabial
    on = smooth_step(y, -64, -50) * (1 - smooth_step(y, -42, -36))
    z = z + on * (0.9 * gauss(fold - 8, 5) - 0.7 * gauss(fold, 3.2))
    on = smooth_step(y, -60, -56) * (1 - smooth_step(y, -50, -45))
    z = z + on * (0.25 * gauss(ax - 5.0, 2.2) - 0.45 * gauss(x, 2.8))  # philtrum
    z = (
        z - 2.6 * gauss(x, 15) * gauss(y + 82.5, 4.6) + 2.4 * gauss(x, 14) * gauss(y + 98, 8.5)
    )  # chin
    z = z + 0.7 * gauss(ax - 8, 7) * gauss(y + 101, 7)
    z = (
        z
        - 1.4 * gauss(ax - 29.5, 4.5) * gauss(y + 72, 7)
        + 0.9 * gauss(ax - 33, 5) * gauss(y + 64, 8)
    )
    z = _lips(x, y, z, grid)
    return _eyelids(x, y, z, grid, lids)


def _nose(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    ax = np.abs(x)
    splines = _splines()
    ridge, flank = splines["nose_width"](np.clip(y, -46, 16)).T
    # A bell: round on the ridge, hollow where the flank runs into the cheek.
    way = np.clip((ax - ridge * 0.3) / (flank - ridge * 0.3), 0, 1)
    section = np.cos(0.5 * np.pi * way) ** (2.1 - 0.5 * smooth_step(-y, 22, 34))
    above = splines["nose"](np.clip(y, -46, 26)) - np.interp(
        np.clip(y, t.BOTTOM, t.TOP), *splines["midline"]
    )
    window = smooth_step(y, -47, -43.5) * (1 - smooth_step(y, 16, 26))
    z = z + np.maximum(above, 0) * section * window

    def lobe(cx: float, cy: float, cz: float, a: float, b: float, c: float) -> np.ndarray:
        # Paraboloids: a square root would end in a jagged rim.
        return cz + c * np.maximum(1 - ((ax - cx) / a) ** 2 - ((y - cy) / b) ** 2, -60)

    z = smooth_max(z, lobe(1.6, -35.0, 4.4, 10.0, 9.0, 14.6), 4.0)  # tip
    z = smooth_max(z, lobe(11.4, -37.0, -6.0, 7.6, 6.9, 12.6), 3.5)  # alae
    z = z - 1.3 * gauss(ax - 18.6 + 0.15 * (y + 37), 1.9) * gauss(y + 37.5, 5.0)  # alar groove
    z = z - 0.6 * gauss(ax - 9.2 - 0.9 * (y + 32), 3.0) * gauss(y + 32.5, 3.6)  # above the ala
    nostril = gauss(ax - 7.2 - 0.25 * (y + 42), 2.6) * gauss(y + 42.2 - 0.10 * (ax - 7), 1.6)
    return z - 3.2 * nostril


def _lips(x: np.ndarray, y: np.ndarray, z: np.ndarray, grid: Grid) -> np.ndarray:
    m = x / grid.mouth_half_width
    upper = grid.upper_lip
    height = np.where(
        upper, np.maximum(upper_vermilion(m), 2.6), -np.maximum(lower_vermilion(m), 2.8)
    )
    way = np.clip((y - t.MOUTH_ROW - mouth_seam(m)) / height, 0, 3)
    splines = _splines()
    profile = np.where(upper, splines["upper_lip"](way), splines["lower_lip"](way))
    # Only the part that protrudes is modulated: the seam's two sides must stay equal.
    fullness = np.where(upper, 1 + 0.18 * gauss(m, 0.12), 1 + 0.10 * gauss(np.abs(m) - 0.25, 0.15))
    profile = profile * np.where(profile > 0, fullness, 1)
    taper = np.clip(1 - m**2, 0, 1) ** 0.75
    z = z + profile * np.where(profile < 0, taper**0.8, taper)
    ax = np.abs(x)
    return z - 1.3 * gauss(ax - grid.mouth_half_width - 0.6, 3.0) * gauss(
        y - t.MOUTH_ROW + 0.4, 3.2
    )


def _eyelids(x: np.ndarray, y: np.ndarray, z: np.ndarray, grid: Grid, lids: Lids) -> np.ndarray:
    s = eye_position(x, grid)
    upper = grid.upper_lid
    ball, near = eyeball_height(x, y, 1.35)
    above_axis = y - eye_axis(s)
    above = above_axis - lids.upper(s)
    below = -lids.lower(s) - above_axis
    covered = smooth_max(z, np.where(near < 0.999, ball, -80), 2.6)
    window = smooth_step(s, -0.15, 0.12) * (1 - smooth_step(s, 0.93, 1.12))
    fade = np.where(upper, 1 - smooth_step(above, 6.5, 11), 1 - smooth_step(below, 7, 12))
    z = z + (covered - z) * window * fade
    from_crease = above_axis - lid_crease(s, lids)
    # A closed lid has no crease, and the crease is deeper than the lid is thick.
    on = (
        smooth_step(s, -0.05, 0.15)
        * (1 - smooth_step(s, 0.93, 1.12))
        * upper
        * (1 - 0.85 * lids.blink)
    )
    z = z - 1.5 * gauss(from_crease, 1.15) * on + 1.1 * gauss(from_crease - 3.6, 2.4) * on
    on = smooth_step(s, 0.0, 0.2) * (1 - smooth_step(s, 0.85, 1.1)) * ~upper
    z = z - 0.7 * gauss(below - 6.5, 2.0) * on + 0.4 * gauss(below - 2.0, 1.4) * on
    # Last of all: nothing of a lid inside the eyeball.
    ball, near = eyeball_height(x, y, 0.75)
    on = window * (np.abs(y) < 14)
    clear = smooth_max(z, np.where(near < 0.98, ball, -90), 0.5)
    return np.where(on > 0, z + on * (clear - z), z)


def _eyeball(vertices: np.ndarray, rows: np.ndarray, grid: Grid) -> None:
    """Place one eye's pocket: the visible eyeball between the lids."""
    above, below = vertices[rows[0]], vertices[rows[-1]]
    last = len(rows) - 3
    s = np.clip(eye_position(above[:, 0], grid), 0, 1)
    under = (4 * s * (1 - s)) ** 0.7  # eyes turn and open wide: their white goes on under the lids
    for j, way in enumerate(
        np.linspace(0, 1, last - 1)[np.clip(np.arange(last + 1) - 1, 0, last - 2)]
    ):
        xy = above[:, :2] * (1 - way) + below[:, :2] * way
        xy[:, 1] += under * (t.HIDDEN_WHITE[0] * (1 - way) - t.HIDDEN_WHITE[1] * way)
        if j == 0:
            xy[:, 1] = above[:, 1] + 0.9  # tucked under the upper lid
        elif j == last:
            xy[:, 1] = below[:, 1] - 0.7
        else:  # drawn towards the circles of iris and pupil, so that they look round
            dx, dy = np.abs(xy[:, 0]) - t.PUPIL_X, xy[:, 1] - t.PUPIL_Y
            radius = np.hypot(dx, dy) + 1e-9
            drawn = radius.copy()
            for circle, width in ((t.IRIS_RADIUS, 0.8), (t.PUPIL_RADIUS, 0.75)):
                off = drawn - circle
                closer = circle + off * (0.15 + 0.85 * (np.abs(off) / width) ** 2)
                drawn = np.where(np.abs(off) < width, closer, drawn)
            f = drawn / radius
            xy = np.stack([np.sign(xy[:, 0]) * (t.PUPIL_X + dx * f), t.PUPIL_Y + dy * f], 1)
        ball, _ = eyeball_height(xy[:, 0], xy[:, 1])
        off_axis = (np.abs(xy[:, 0]) - t.PUPIL_X) ** 2 + xy[:, 1] ** 2
        depth = ball + 0.35 * np.exp(-((off_axis / 5.6**2) ** 2))  # cornea
        lid = np.minimum(above[:, 2], below[:, 2]) - 0.5
        s = eye_position(xy[:, 0], grid)
        corner = 1 - smooth_step(s, 0.0, 0.2) * (1 - smooth_step(s, 0.85, 1.0))
        depth = (1 - corner) * depth + corner * np.maximum(depth, lid - 1.0)
        vertices[rows[j + 1]] = np.column_stack([xy, depth])


def _mouth_bag(vertices: np.ndarray, rows: np.ndarray, grid: Grid) -> None:
    """Place the mouth's pocket: lips' inner side, teeth, palate, throat and tongue."""
    edge = vertices[rows[0]]
    m = edge[:, 0] / grid.mouth_half_width
    e = np.sqrt(np.clip(1 - m**2, 0, 1))
    # Flat at the corners: deep, narrow triangles there would turn the corner's own normal aside.
    depth = e**0.7 * (0.08 + 0.92 * smooth_step(np.abs(m), 1.0, 0.75))
    for j, (dz, dy) in enumerate(t.MOUTH_BAG):
        level = np.clip((-dz - 2.2) / 3.0, 0, 1) * e  # teeth do not follow the lips' line
        arch = -3.0 * m**2 if 3 <= j <= len(t.MOUTH_BAG) - 2 else 0
        vertices[rows[j + 1]] = np.column_stack([
            edge[:, 0] * (1 - 0.03 * abs(dz) / 8),
            edge[:, 1] + dy * e**1.6 + level * (t.MOUTH_ROW - edge[:, 1]),
            edge[:, 2] + dz * depth + arch * e,
        ])  # fmt: skip
