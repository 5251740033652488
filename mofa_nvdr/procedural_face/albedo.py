"""Albedo: the mean face's colours and the modes that change them, gamma-encoded sRGB."""

from __future__ import annotations

import numpy as np

from mofa_nvdr.procedural_face import tables as t
from mofa_nvdr.procedural_face.grid import Grid, gauss, smooth_step
from mofa_nvdr.procedural_face.mean import (
    Lids,
    brow_line,
    eye_axis,
    eye_position,
    lid_crease,
    lower_vermilion,
    mouth_seam,
    upper_vermilion,
)


def _blend(colors: np.ndarray, target: np.ndarray | list[float], weight: np.ndarray) -> np.ndarray:
    return colors + (np.asarray(target) - colors) * np.clip(weight, 0, 1)[:, None]


def region_weights(vertices: np.ndarray, grid: Grid) -> dict[str, np.ndarray]:
    """Where lips, brows, lids, folds, beard and so on are: name -> [V] in [0, 1]; zero in the pockets."""
    x, y = vertices[:, 0], vertices[:, 1]
    ax, n = np.abs(x), grid.num_skin
    skin = np.arange(grid.num_vertices) < n
    upper_lip, upper_lid = np.ones_like(skin), np.ones_like(skin)
    upper_lip[:n], upper_lid[:n] = grid.upper_lip, grid.upper_lid
    w: dict[str, np.ndarray] = {}

    line, half = brow_line(ax)
    d = np.abs(y - line) / half
    strokes = 0.90 + 0.08 * np.sin(2.73 * (ax * 0.62 - (y - line) * 0.30 * np.sign(24 - ax * 0.35)))
    w["brow"] = np.clip(1.1 - d**2 * 0.6, 0, 1) * smooth_step(d, 1.75, 0.55)
    w["brow"] *= smooth_step(ax, 8.5, 17) * (1 - smooth_step(ax, 48, 58)) * strokes
    w["brow_rim"] = gauss(np.abs(y - line) - 1.35 * half, 1.3)
    w["brow_rim"] *= smooth_step(ax, 11, 16) * (1 - smooth_step(ax, 47, 54))

    m = x / grid.mouth_half_width
    seam = t.MOUTH_ROW + mouth_seam(m)
    past = np.where(upper_lip, (y - seam) - upper_vermilion(m), (seam - y) - lower_vermilion(m))
    w["lip"] = smooth_step(past, 1.1, -1.1) * smooth_step(np.abs(m), 1.06, 0.85)
    w["seam"] = gauss(y - seam, 0.8) * smooth_step(np.abs(m), 1.08, 0.9)

    s = eye_position(x, grid)
    lids = Lids()
    above_axis, near = y - eye_axis(s), np.abs(y) < 16
    on = smooth_step(s, -0.06, 0.06) * (1 - smooth_step(s, 0.97, 1.09)) * near
    w["lashes"] = (
        np.exp(-np.maximum(above_axis - lids.upper(s), 0) / (0.85 + 0.35 * s)) * on * upper_lid
    )
    w["lower_lashes"] = np.exp(-np.maximum(-above_axis - lids.lower(s), 0) / 0.7) * on * ~upper_lid
    on = smooth_step(s, -0.05, 0.15) * (1 - smooth_step(s, 1.0, 1.2)) * (y > -10) * upper_lid
    w["crease"] = gauss(above_axis - lid_crease(s, lids), 1.0) * on

    w["nostril"] = gauss(ax - 7.3 - 0.25 * (y + 42), 2.2) * gauss(y + 42.4 - 0.10 * (ax - 7), 1.35)
    w["alar"] = gauss(ax - 18.2 + 0.12 * (y + 37), 1.6) * gauss(y + 39, 4)
    w["alar"] += 0.8 * gauss(ax - 12, 6) * gauss(y + 45.2, 1.2)
    w["cheek"] = gauss(ax - 42, 13) * gauss(y + 26, 13)
    w["nose_tip"] = gauss(x, 9) * gauss(y + 35, 7)
    w["orbit"] = gauss(ax - 27, 15) * gauss(y - 3, 10)
    socket = 0.75 * gauss(ax - 30, 13) * smooth_step(y, 2, 8) * (1 - smooth_step(y, 14, 21))
    w["socket"] = np.clip(gauss(ax - 15.5, 4.5) * gauss(y - 3, 7) + socket, 0, 1)
    w["under_eye"] = gauss(ax - 29, 11) * gauss(y + 11, 4.5)
    w["fold"] = gauss(ax - (18.5 + (-38 - y) * 0.50), 2.4)
    w["fold"] *= smooth_step(y, -64, -52) * (1 - smooth_step(y, -44, -37))
    w["mental"] = gauss(x, 14) * gauss(y + 81, 3.2)
    w["philtrum"] = gauss(x, 2.2) * smooth_step(y, -60, -55) * (1 - smooth_step(y, -50, -46))
    beard = smooth_step(y, -36, -52) * (1 - w["lip"]) * smooth_step(ax + 0.35 * (y + 52), 78, 58)
    beard *= 1 - 0.65 * gauss(ax - 30, 14) * gauss(y + 45, 13)
    w["beard"] = np.clip(beard + 0.6 * gauss(x, 17) * gauss(y + 54, 5), 0, 1)
    w["hairline"] = smooth_step(y + 0.006 * (ax - 20) * np.maximum(ax - 20, 0), 66, 84)
    return {name: np.clip(weight, 0, 1) * skin for name, weight in w.items()}


def mean_albedo(vertices: np.ndarray, grid: Grid) -> np.ndarray:
    """Colours [V, 3] of the average face."""
    w = region_weights(vertices, grid)
    x, y = vertices[:, 0], vertices[:, 1]
    ax = np.abs(x)
    colors = np.tile(t.SKIN, (grid.num_vertices, 1))
    colors += w["cheek"][:, None] * [0.012, -0.028, -0.025] + w["nose_tip"][:, None] * [
        0,
        -0.030,
        -0.026,
    ]
    colors -= w["orbit"][:, None] * [0.06, 0.06, 0.05] + w["under_eye"][:, None] * [
        0.03,
        0.035,
        0.025,
    ]
    colors += (gauss(x, 30) * gauss(y - 45, 20))[:, None] * [0.02, 0.02, 0.012]
    # Mild occlusion is baked in: spherical harmonics of order 2 cast no shadows.
    occluded = w["fold"] * 0.30 + w["mental"] * 0.25 + w["philtrum"] * 0.18
    colors = _blend(colors, colors * [0.74, 0.68, 0.68], occluded)
    colors = _blend(colors, colors * [0.74, 0.68, 0.66], w["socket"] * 0.75)
    colors = _blend(colors, colors * [0.55, 0.44, 0.42], w["alar"] * 0.55 + w["crease"] * 0.8)
    colors += (
        0.035 * gauss(x, 5) * gauss(y + 12, 16) + 0.02 * gauss(ax - 36, 9) * gauss(y + 24, 8)
    )[:, None]
    colors = _blend(colors, [0.42, 0.33, 0.28], w["hairline"] * 0.45)
    colors = _blend(colors, t.LIP, w["lip"] * 0.85)
    colors = _blend(colors, [0.34, 0.15, 0.14], w["seam"] * 0.75)
    colors = _blend(colors, [0.16, 0.07, 0.06], w["nostril"])
    colors = _blend(colors, t.BROW, w["brow"] * 0.88)
    colors = _blend(colors, t.LASH, w["lashes"] * 0.95)
    colors = _blend(colors, [0.42, 0.27, 0.23], w["lower_lashes"] * 0.65)
    for name in ("left_eye", "right_eye"):
        _paint_eye(colors, vertices, grid.pockets[name], grid)
    rows = grid.pockets["mouth"]
    corner = smooth_step(np.abs(vertices[rows[0], 0] / grid.mouth_half_width), 0.60, 0.78)
    for j, color in enumerate(t.MOUTH_BAG_COLORS):
        row = np.tile(np.asarray(color, float), (rows.shape[1], 1))
        colors[rows[j + 1]] = _blend(row, [0.30, 0.11, 0.10], corner)
    return np.clip(colors, 0, 1)


def _paint_eye(colors: np.ndarray, vertices: np.ndarray, rows: np.ndarray, grid: Grid) -> None:
    last = len(rows) - 3
    for j in range(last + 1):
        index = rows[j + 1]
        x, y = vertices[index, 0], vertices[index, 1]
        radius = np.hypot(np.abs(x) - t.PUPIL_X, y - t.PUPIL_Y)
        s = eye_position(x, grid)
        color = np.tile(t.SCLERA, (len(index), 1))
        pink = np.maximum(smooth_step(s, 0.10, 0.02), 0.5 * smooth_step(s, 0.95, 1.0))
        color = _blend(color, [0.74, 0.50, 0.46], pink)
        iris = _blend(
            np.tile(t.IRIS, (len(index), 1)), t.IRIS * 0.45, smooth_step(radius, 4.6, 5.9)
        )
        iris = _blend(iris, t.IRIS * 1.45, gauss(radius - 3.2, 0.8) * 0.6)
        iris = _blend(iris, [0.035, 0.03, 0.03], smooth_step(radius, 2.3, 2.05))
        under = Lids().upper(s) + eye_axis(s) - y
        for channel in range(3):
            color[:, channel] += (iris[:, channel] - color[:, channel]) * smooth_step(
                radius, 6.1, 5.7
            )
        shadow = 0.5 * np.exp(-np.maximum(under, 0) / 2.0) - 0.25 * smooth_step(-under, 0, 1.5)
        color *= (1 - shadow)[:, None]  # of the lid
        if j == 0:
            color = np.tile(t.LASH, (len(index), 1))
        elif j == last:
            color = np.tile([0.70, 0.46, 0.42], (len(index), 1))
        colors[index] = color


def albedo_modes(vertices: np.ndarray, grid: Grid, mean: np.ndarray) -> dict[str, np.ndarray]:
    """Named modes [V, 3], one standard deviation each; melanin first.

    Melanin darkens in proportion to the mean's colour, so that brows, lids and lips keep their contrast, and
    carries some yellow and lip colour with it, as in people.
    """
    w = region_weights(vertices, grid)
    skin = np.arange(grid.num_vertices) < grid.num_skin
    relative = np.clip(mean / t.SKIN, 0, 1.25)
    eyes = grid.eyes
    features = np.clip(w["brow"] + w["lashes"] + w["seam"] + w["nostril"], 0, 1)
    pure = skin * (1 - features)
    iris = np.zeros(len(vertices))
    radius = np.hypot(np.abs(vertices[:, 0]) - t.PUPIL_X, vertices[:, 1] - t.PUPIL_Y)
    iris[eyes] = (smooth_step(radius, 5.6, 5.0) * (1 - smooth_step(radius, 2.6, 2.0)))[eyes]

    def tint(r: float, g: float, b: float, weight: np.ndarray) -> np.ndarray:
        return np.array([r, g, b]) * weight[:, None]

    melanin = tint(-0.128, -0.116, -0.104, skin * (1 - 0.25 * w["lip"])) * relative
    melanin -= 0.025 * (eyes & ~(iris > 0))[:, None] * relative
    return {
        "melanin": melanin,
        "haemoglobin": tint(
            0.014, -0.016, -0.012, pure * (1 + 0.5 * w["cheek"] + 0.5 * w["nose_tip"])
        ),
        "yellow": tint(0.006, 0.004, -0.016, pure),
        "brow_dark": tint(-0.05, -0.045, -0.035, w["brow"]),
        "lip_red": tint(0.012, -0.030, -0.024, w["lip"]),
        "lip_light": tint(0.03, 0.026, 0.024, w["lip"]),
        "beard": tint(-0.055, -0.045, -0.036, w["beard"]),
        "blush": tint(0.006, -0.014, -0.011, w["cheek"]),
        "circles": tint(-0.030, -0.034, -0.026, np.clip(w["under_eye"] + 0.5 * w["orbit"], 0, 1)),
        "brow_thick": tint(-0.08, -0.07, -0.06, w["brow_rim"]),
        "iris_light": tint(0.40, 0.45, 0.50, iris) * mean,
        "iris_blue": tint(-0.18, 0.10, 0.45, iris) * mean,
    }
