"""Albedo: the mean face's colours and the modes that change them, gamma-encoded sRGB."""

from __future__ import annotations

import numpy as np

from mofa_nvdr.face.recipe import tables as t
from mofa_nvdr.face.recipe.covariances import principal, scalar_process
from mofa_nvdr.face.recipe.grid import Grid, gauss, smooth_step
from mofa_nvdr.face.recipe.mean import (
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
    off = y - line
    d = np.abs(off) / half
    # Strokes lean outwards above and below the line; two lengths keep them from looking combed.
    along = 0.62 * ax - 0.30 * off * np.sign(24 - 0.35 * ax)
    strokes = 0.87 + 0.07 * np.sin(2.73 * along) + 0.06 * np.sin(4.4 * along + 0.5 * off + 1.7)
    w["brow"] = np.clip(1.05 - 0.35 * d**2, 0, 1) * smooth_step(d, 1.7, 0.35)
    w["brow"] *= smooth_step(ax, 8.0, 19) * (1 - 0.35 * smooth_step(ax, 38, 50))
    w["brow"] *= (1 - smooth_step(ax, 50, 59)) * strokes
    w["brow_rim"] = gauss(np.abs(off) - 1.3 * half, 1.4)
    w["brow_rim"] *= smooth_step(ax, 10, 17) * (1 - smooth_step(ax, 45, 55)) * strokes

    m = x / grid.mouth_half_width
    seam = t.MOUTH_ROW + mouth_seam(m)
    past = np.where(upper_lip, (y - seam) - upper_vermilion(m), (seam - y) - lower_vermilion(m))
    w["lip"] = smooth_step(past, 1.1, -1.1) * smooth_step(np.abs(m), 1.06, 0.85)
    w["seam"] = gauss(y - seam, 0.8) * smooth_step(np.abs(m), 1.10, 1.0)

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
    w["alar"] += 0.7 * gauss(ax - 12, 5) * gauss(y + 44.4, 1.4)
    w["cheek"] = gauss(ax - 42, 13) * gauss(y + 26, 13)
    w["nose_tip"] = gauss(x, 9) * gauss(y + 35, 7)
    w["orbit"] = gauss(ax - 27, 15) * gauss(y - 3, 10)
    socket = 0.75 * gauss(ax - 30, 13) * smooth_step(y, 2, 8) * (1 - smooth_step(y, 14, 21))
    w["socket"] = np.clip(gauss(ax - 15.5, 4.5) * gauss(y - 3, 7) + socket, 0, 1)
    w["under_eye"] = gauss(ax - 29, 11) * gauss(y + 11, 4.5)
    w["fold"] = gauss(ax - (19.5 + (-38 - y) * 0.50), 3.2)
    w["fold"] *= smooth_step(y, -64, -52) * (1 - smooth_step(y, -44, -37))
    w["mental"] = gauss(x, 14) * gauss(y + 81, 3.2)
    w["philtrum"] = gauss(x, 2.2) * smooth_step(y, -60, -55) * (1 - smooth_step(y, -50, -46))
    # The beard's upper edge falls from the ear to the corner of the mouth.
    beard = smooth_step(y - 0.8 * np.maximum(ax - 36, 0), -36, -60) * (1 - w["lip"])
    beard *= 1 - 0.65 * gauss(ax - 30, 14) * gauss(y + 45, 13)
    w["beard"] = np.clip(beard + 0.6 * gauss(x, 17) * gauss(y + 54, 5), 0, 1)
    w["hairline"] = np.zeros_like(x)
    w["hairline"][:n] = np.maximum(
        smooth_step(grid.v, 72, 86),
        0.8 * smooth_step(np.abs(grid.u), 69.5, 73) * smooth_step(grid.v, -8, 20),
    )
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
    occluded = w["fold"] * 0.18 + w["mental"] * 0.25 + w["philtrum"] * 0.18
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
    # What modes take away at two standard deviations must be there: half of a thick brow, some beard.
    colors -= w["beard"][:, None] * t.BEARD
    colors = _blend(colors, t.BROW, w["brow_rim"] * 0.25)
    colors = _blend(colors, t.BROW, w["brow"] * 0.85)
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
            np.tile(t.IRIS, (len(index), 1)), t.IRIS * 0.45, smooth_step(radius, 4.4, 5.9)
        )
        iris = _blend(iris, t.IRIS * 1.45, gauss(radius - 3.2, 0.8) * 0.6)
        iris = _blend(iris, [0.035, 0.03, 0.03], smooth_step(radius, 2.75, 1.75))
        under = Lids().upper(s) + eye_axis(s) - y
        for channel in range(3):
            color[:, channel] += (iris[:, channel] - color[:, channel]) * smooth_step(
                radius, 6.45, 5.55
            )
        shadow = 0.5 * np.exp(-np.maximum(under, 0) / 2.0) - 0.25 * smooth_step(-under, 0, 1.5)
        color *= (1 - shadow)[:, None]  # of the lid
        if j == 0:
            color = np.tile(t.LASH, (len(index), 1))
        elif j == last:
            color = np.tile([0.70, 0.46, 0.42], (len(index), 1))
        colors[index] = color


def albedo_basis(vertices: np.ndarray, grid: Grid, mean: np.ndarray, count: int = 80) -> np.ndarray:
    """Modes [count, V, 3] scaled by their standard deviations: the named ones, then skin's texture.

    The texture is spots and mottling of about 5 mm, then smooth colour of 8 to 40 mm, mostly in brightness
    and redness.
    """
    named = np.stack(list(albedo_modes(vertices, grid, mean).values()))
    fine = _fine_texture(vertices, grid)
    skin = np.where(np.arange(len(vertices)) < grid.num_skin, 0.010, 0.0)
    even, odd = scalar_process(vertices, skin, ((40.0, 1.8), (18.0, 1.4), (8.0, 0.8)), keep=70)
    tones = np.array([[1.0, 0.95, 0.85], [0.25, -0.25, -0.15]])
    smooth = [
        np.einsum("vk,tc->ktvc", part, tones).reshape(-1, len(vertices), 3) for part in (even, odd)
    ]
    rest = principal(smooth[0], smooth[1] * 0.6, count - len(named) - len(fine))
    return np.concatenate([named, fine, rest])


def _fine_texture(vertices: np.ndarray, grid: Grid) -> np.ndarray:
    """Even and odd fields [16, V, 3] of spots and mottling, about 5 mm across.

    Sums of plane waves in fixed directions: a random field without a random number, the same everywhere.
    """
    w = region_weights(vertices, grid)
    x, y, _ = vertices.T
    skin = np.arange(grid.num_vertices) < grid.num_skin
    bare = skin * (1 - np.clip(w["brow"] + w["brow_rim"] + w["lip"] + w["lashes"], 0, 1))
    middle = gauss(y + 25, 22) * gauss(x, 48)  # cheeks and nose, where freckles are
    places = [middle, smooth_step(y, 15, 40), smooth_step(-y, 45, 70), np.ones_like(x)]
    pigment, blood = np.array([-0.0065, -0.006, -0.005]), np.array([0.0006, -0.0026, -0.0020])
    golden, modes = 0.5 * (np.sqrt(5) - 1), []
    for kind in range(8):
        field, mirrored = np.zeros_like(x), np.zeros_like(x)
        for wave in range(24):
            number = 24 * kind + wave + 1
            height, around = 2 * (number * golden % 1) - 1, 2 * np.pi * number * np.sqrt(2)
            across = np.sqrt(1 - height**2)
            direction = np.array([across * np.cos(around), height, across * np.sin(around)])
            direction *= 2 * np.pi / (10 + 4 * (number * np.sqrt(3) % 1))
            for total, sign in ((field, 1), (mirrored, -1)):
                phase = vertices * [sign, 1, 1] @ direction + 2 * np.pi * golden * number**2
                total += np.cos(phase) / np.sqrt(12)
        if kind % 2 == 0:  # spots apart, none much darker than the others
            field, mirrored = (smooth_step(f, 0.3, 1.6) * 2 for f in (field, mirrored))
        tint = pigment if kind % 4 < 2 else blood
        weight = bare * places[kind // 2]
        for pattern in (field + mirrored, field - mirrored):
            modes.append((pattern * weight / np.sqrt(2))[:, None] * tint)
    return np.stack(modes)


def albedo_modes(vertices: np.ndarray, grid: Grid, mean: np.ndarray) -> dict[str, np.ndarray]:
    """Named modes [V, 3], one standard deviation each; melanin first.

    Melanin darkens in proportion to the mean's colour, so that brows, lids and lips keep their contrast, and
    carries some yellow and lip colour with it, as in people.
    """
    w = region_weights(vertices, grid)
    skin = np.arange(grid.num_vertices) < grid.num_skin
    relative = np.clip(mean / t.SKIN, 0, 1.25)
    # Shadowed skin darkens by more than its share, or eyes sink into the dark of a dark face; in its own
    # hue, or it would turn red.
    shadow = np.clip(w["socket"] + w["orbit"], 0, 1) * (1 - np.minimum(relative.mean(1), 1))
    eyes = grid.eyes
    features = np.clip(w["brow"] + w["lashes"] + w["seam"] + w["nostril"], 0, 1)
    pure = skin * (1 - features)
    iris = np.zeros(len(vertices))
    radius = np.hypot(np.abs(vertices[:, 0]) - t.PUPIL_X, vertices[:, 1] - t.PUPIL_Y)
    iris[eyes] = (smooth_step(radius, 5.6, 5.0) * (1 - smooth_step(radius, 2.6, 2.0)))[eyes]

    def tint(r: float, g: float, b: float, weight: np.ndarray) -> np.ndarray:
        return np.array([r, g, b]) * weight[:, None]

    melanin = tint(-0.128, -0.117, -0.105, skin * (1 - 0.10 * w["lip"])) * relative
    melanin -= t.SCLERA_MELANIN * (eyes & ~(iris > 0))[:, None] * relative
    melanin -= t.SHADOW_MELANIN * shadow[:, None] * mean
    melanin -= 0.22 * iris[:, None] * mean
    melanin = np.maximum(melanin, -0.4 * mean)  # what is dark already stays above black
    # Blood shows in cheeks, nose and lips together.
    flushed = pure * (1 + 0.7 * w["cheek"] + 0.7 * w["nose_tip"]) + 0.8 * w["lip"]
    hair = (t.BROW - t.SKIN) * 0.85
    return {
        "melanin": melanin,
        "haemoglobin": tint(0.006, -0.0070, -0.0052, flushed),
        "yellow": tint(0.0035, 0.001, -0.0075, pure),
        "brow_dark": tint(-0.032, -0.028, -0.022, w["brow"]),
        "lip_red": tint(0.008, -0.022, -0.018, w["lip"]),
        "lip_light": tint(0.030, 0.024, 0.022, w["lip"]),
        "beard": -1.4 * t.BEARD * w["beard"][:, None],
        "blush": tint(0.006, -0.014, -0.011, w["cheek"]),
        "circles": -0.045 * mean * np.clip(w["under_eye"] + 0.5 * w["orbit"], 0, 1)[:, None],
        "brow_thick": 0.12 * hair * (w["brow_rim"] + 0.25 * w["brow"])[:, None],
        "iris_light": tint(0.22, 0.25, 0.26, iris) * mean,
        "iris_blue": tint(-0.12, 0.10, 0.36, iris) * mean,
    }
