"""Identity: how adult faces differ, as named fields, a Gaussian process and published standard deviations."""

from __future__ import annotations

import numpy as np

from mofa_nvdr.face.recipe import tables as t
from mofa_nvdr.face.recipe.anthropometry import match_deviations
from mofa_nvdr.face.recipe.covariances import principal, scalar_process, vector_fields
from mofa_nvdr.face.recipe.grid import Grid, gauss, smooth_step
from mofa_nvdr.face.recipe.landmark_vertices import landmark_vertices
from mofa_nvdr.face.recipe.mean import Lids, eye_axis, eye_position, lid_crease, mouth_seam

# Length in mm and standard deviation of the process's Gaussians: broad differences, a little of fine ones.
PROCESS_SCALES = ((90.0, 1.4), (45.0, 0.95), (24.0, 0.42), (13.0, 0.14))
PROCESS_AXES = (0.85, 0.9, 1.1)  # sideways, up, out
ASYMMETRIC_VARIANCE = 0.035  # of the process
MATCHES = 2
UNMEASURED = 0.75  # on what no measure sees: people at two deviations stay people
LID_REACH = 10.0  # mm of skin that move with a lid
STRAIN_LIMIT = 0.165  # rms relative change of an edge at one standard deviation

TOGETHER_SCALE = 0.8

# What goes together in people: sexes, weight, and breadths of nose, lips and cheeks across ancestries.
TOGETHER: dict[str, dict[str, float]] = {
    "masculine": {
        "size": 0.6, "brow_ridge": 0.7, "jaw_width": 0.7, "jaw_angle": 0.4, "chin_tall": 0.5,
        "chin_wide": 0.5, "chin_out": 0.3, "nose_out": 0.4, "nose_length": 0.4, "forehead_slope": 0.5,
        "eye_opening": -0.5, "brow_height": -0.6, "upper_lip": -0.3, "lower_lip": -0.3, "cheek_fat": -0.4,
    },
    "heavy": {
        "cheek_fat": 1.0, "jowl": 1.0, "width": 0.5, "jaw_width": 0.5, "eye_opening": -0.3,
        "nose_width": 0.3,
    },
    "broad_nose": {
        "nose_width": 0.9, "bridge_high": -0.8, "bridge_wide": 0.5, "nose_tip_wide": 0.6, "nose_out": -0.5,
        "upper_lip": 0.7, "lower_lip": 0.7, "mouth_out": 0.8, "nose_length": -0.3,
    },
    "flat_face": {
        "bridge_high": -0.9, "cheekbone": 0.8, "brow_ridge": -0.7, "orbit_depth": -0.7, "lid_fold": 0.9,
        "nose_out": -0.5, "eye_opening": -0.3, "width": 0.4, "depth": -0.4,
    },
}  # fmt: skip


def identity_fields(vertices: np.ndarray, grid: Grid) -> dict[str, np.ndarray]:
    """Named, mirror-symmetric displacements [V, 3] of about one standard deviation each, mm.

    Places are taken from the mean's landmarks, so that fields follow its features.
    """
    x, y, z = vertices.T
    # Sideways motion passes through zero at the midline over a few millimetres.
    zero, off = np.zeros_like(x), np.sqrt(x**2 + 5.0**2)
    ax = np.abs(x)
    mark = vertices[landmark_vertices(vertices, grid)]
    eye_x, eye_y = mark[42:48, 0].mean(), mark[42:48, 1].mean()
    brow_x, brow_y = mark[24, 0], mark[22:27, 1].mean()
    nasion_y, tip_y, base_y = mark[27, 1], mark[30, 1], mark[33, 1]
    ala_x, ala_y = 1.3 * mark[35, 0], 0.3 * base_y + 0.7 * tip_y
    mouth_y, mouth_x, menton_y = mark[54, 1], mark[54, 0], mark[8, 1]
    chin_y = mouth_y + 0.61 * (menton_y - mouth_y)
    cheek_y = 0.5 * (eye_y + base_y) + 3
    jaw_x = mark[12, 0]
    bridge_y = 0.5 * (nasion_y + tip_y)

    def field(
        dx: np.ndarray | float = 0.0, dy: np.ndarray | float = 0.0, dz: np.ndarray | float = 0.0
    ) -> np.ndarray:
        """Sideways (outwards), up and out."""
        return np.stack([x / off * (zero + dx), zero + dy, zero + dz], 1)

    def bump(cx: float, cy: float, wx: float, wy: float) -> np.ndarray:
        return gauss(ax - cx, wx) * gauss(y - cy, wy)

    def between(high: float, low: float) -> np.ndarray:
        """0 above `high`, 1 below `low`."""
        return smooth_step(y, high, low)

    side = smooth_step(ax, 0.3 * jaw_x, 0.8 * jaw_x)
    chin = bump(0, chin_y, 20, 15)
    nose = between(nasion_y + 8, tip_y)  # grows from the root to the tip
    ala = gauss(y - ala_y, 9) * gauss(ax - ala_x, 8)
    tip = gauss(x, 10) * gauss(y - tip_y, 8)
    m = ax / mouth_x
    at_mouth = 1 - smooth_step(m, 0.85, 1.25)
    d = y - t.MOUTH_ROW - mouth_seam(x / grid.mouth_half_width)
    fields = {
        "size": 0.028 * (vertices - np.array([0, 0.35 * mouth_y, -45])),
        "width": field(dx=0.016 * off),
        "height": field(dy=0.022 * (y - 0.3 * mouth_y)),
        "depth": field(dz=0.035 * (z + 35)),
        "lower_face": field(dy=-3.6 * between(base_y + 2, menton_y + 8)),
        "mid_face": field(dy=-2.4 * between(nasion_y, base_y)),
        "jaw_width": field(dx=1.7 * gauss(y - 0.8 * mouth_y - 0.2 * menton_y, 26) * side),
        "jaw_angle": field(dy=-3.4 * gauss(y - mouth_y + 12, 24) * smooth_step(ax, 28, 60)),
        "jowl": field(
            dx=1.2 * bump(46, mouth_y - 22, 18, 16),
            dy=-1.2 * bump(42, mouth_y - 24, 18, 16),
            dz=1.0 * bump(40, mouth_y - 22, 16, 16),
        ),
        "chin_out": field(dy=-0.4 * chin, dz=3.0 * chin),
        "chin_tall": field(dy=-2.8 * between(mouth_y - 12, menton_y + 8) * gauss(x, 34)),
        "chin_wide": field(dx=2.2 * gauss(y - chin_y, 15) * off / 20 * np.exp(0.5 - 0.5 * (off / 20) ** 2)),
        "cheekbone": field(dx=1.4 * bump(54, cheek_y, 18, 16), dz=1.6 * bump(46, cheek_y, 17, 15)),
        "cheek_fat": field(
            dx=1.5 * bump(50, mouth_y + 12, 20, 22), dz=1.8 * bump(40, mouth_y + 12, 17, 20)
        ),
        "forehead_slope": field(dz=-3.2 * smooth_step(y, brow_y, 85)),
        "forehead_width": field(dx=1.8 * smooth_step(ax, 15, 60) * smooth_step(y, 5, 50)),
        "forehead_tall": field(dy=4.0 * smooth_step(y, brow_y + 4, 100)),
        "brow_ridge": field(dz=1.6 * bump(20, brow_y - 2, 18, 8)),
        "brow_height": field(dy=1.6 * bump(brow_x, brow_y, 24, 9)),
        "orbit_depth": field(dz=-1.4 * bump(eye_x - 3, eye_y + 3, 18, 13)),
        "eye_distance": field(dx=1.1 * bump(eye_x, eye_y, 19, 17)),
        "eye_height": field(dy=1.5 * bump(eye_x, eye_y, 30, 18)),
        "eye_tilt": field(
            dx=-0.075 * (y - eye_y) * bump(eye_x, eye_y, 17, 14),
            dy=0.075 * (ax - eye_x) * bump(eye_x, eye_y, 17, 14),
        ),
        "eye_size": field(
            dx=0.035 * (ax - eye_x) * bump(eye_x, eye_y, 18, 15),
            dy=0.035 * (y - eye_y) * bump(eye_x, eye_y, 18, 15),
        ),
        "nose_length": field(
            dy=-2.2 * gauss(x, 18) * nose * (1 - between(base_y + 4, mouth_y - 4))
        ),
        "nose_out": field(dz=2.0 * gauss(x, 12) * nose * (1 - between(tip_y, base_y - 10))),
        "nose_width": field(dx=1.0 * ala),
        "nose_tip_up": field(dy=1.5 * tip, dz=0.4 * tip),
        "bridge_high": field(dz=1.3 * gauss(x, 10) * gauss(y - nasion_y + 4, 13)),
        "bridge_wide": field(dx=1.1 * gauss(y - bridge_y - 4, 16) * gauss(ax - 10, 8)),
        "nose_hump": field(dz=1.0 * gauss(x, 9) * gauss(y - bridge_y, 9)),
        "nose_tip_wide": field(
            dx=0.8 * gauss(ax - 7, 6) * gauss(y - tip_y, 7),
            dz=0.4 * gauss(ax - 7, 6) * gauss(y - tip_y, 7),
        ),
        "upper_lip": field(
            # Even from the seam to the border: what stretches unevenly is smoothed away.
            dy=1.7 * at_mouth * np.where(d < 7, np.clip(d / 7, 0, 1), gauss(d - 7, 5)),
            dz=0.6 * at_mouth * gauss(d - 4, 3.6),
        ),
        "lower_lip": field(
            dy=-1.5 * at_mouth * gauss(d + 8.5, 4.6), dz=0.7 * at_mouth * gauss(d + 5, 4)
        ),
        "cupids_bow": field(dy=0.5 * (gauss(ax - 5, 3.4) - 0.8 * gauss(x, 3)) * gauss(d - 7, 3)),
        "mouth_width": field(
            dx=1.1 * gauss(d, 14) * np.minimum(m, 1) * (1 - smooth_step(ax, 28, 54))
        ),
        "mouth_corners": field(dy=1.0 * gauss(d, 10) * gauss(ax - mouth_x, 11)),
        "mouth_out": field(dz=1.6 * gauss(x, 25) * gauss(d, 16)),
        "philtrum_long": field(
            dy=-1.5 * gauss(x, 34) * between(base_y, mouth_y + 5) * (1 - between(mouth_y - 10, chin_y))
        ),
        "underbite": field(dz=1.6 * gauss(x, 28) * between(mouth_y + 2, mouth_y - 16)),
        "temples": field(dx=1.6 * bump(64, brow_y, 14, 24)),
    }  # fmt: skip
    return fields


def eye_fields(vertices: np.ndarray, grid: Grid) -> dict[str, np.ndarray]:
    """Differences of the lids, which slide on the eyeballs: displacements [V, 3] of about one deviation."""
    n = grid.num_skin
    x, y = vertices[:n, 0], vertices[:n, 1]
    s = eye_position(x, grid)
    lids, above_axis = Lids(), y - eye_axis(s)
    upper = grid.upper_lid
    margin = np.where(upper, lids.upper(s), lids.lower(s))  # zero outside the corners
    away = np.where(upper, above_axis, -above_axis) - margin
    near = smooth_step(away, LID_REACH, 0.0)
    centre, radii = t.EYEBALL_CENTRE, t.EYEBALL_RADII
    across = ((np.abs(x) - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2
    slope = -radii[2] * (y - centre[1]) / radii[1] ** 2 / np.sqrt(np.maximum(1 - across, 0.3))

    def slide(dy: np.ndarray) -> np.ndarray:
        result = np.zeros_like(vertices)
        result[:n, 1], result[:n, 2] = dy * near, dy * near * slope
        for name in ("left_eye", "right_eye"):
            rows = grid.pockets[name]
            edges = result[rows[0]].copy(), result[rows[-1]].copy()
            # The eyeball's rows give way towards its middle, before the pupil less, which stays round.
            off = np.abs(np.abs(vertices[rows[0], 0]) - t.PUPIL_X)
            reach = 4.0 + 2.5 * smooth_step(off, 2.6, 5.5)
            for j in range(7):
                weight = np.maximum(1 - j / reach, 0)[:, None]
                result[rows[1 + j]] += weight * edges[0]
                result[rows[-2 - j]] += weight * edges[1]
        return result

    from_crease = above_axis - lid_crease(s, lids)
    on = smooth_step(s, -0.2, 0.2) * (1 - smooth_step(s, 0.65, 1.15)) * upper
    fold = gauss(from_crease, 2.6) * on * smooth_step(away, 0.0, 6.0)
    inner = gauss(s - 0.02, 0.2) * gauss(above_axis, 6.0) * smooth_step(away, 0.0, 6.0)
    folded = np.zeros_like(vertices)
    folded[:n, 1], folded[:n, 2] = -0.3 * fold - 0.2 * inner, 0.8 * fold + 0.3 * inner
    return {
        "eye_opening": slide(np.where(upper, 0.10, -0.08) * margin),
        "eye_arch": slide(np.where(upper, 0.10, 0.0) * margin * np.sin(2 * np.pi * (s - 0.5))),
        # The crease filled, and the fold drawn over the inner corner.
        "lid_fold": folded,
    }


def _process_amplitude(vertices: np.ndarray, grid: Grid) -> np.ndarray:
    """How strongly the process varies: more at nose, jaw, cheekbones and chin, less at the forehead."""
    ax, y = np.abs(vertices[:, 0]), vertices[:, 1]
    mark = vertices[landmark_vertices(vertices, grid)]
    chin_y = 0.4 * mark[57, 1] + 0.6 * mark[8, 1]

    def bump(cx: float, cy: float, wx: float, wy: float) -> np.ndarray:
        return gauss(ax - cx, wx) * gauss(y - cy, wy)

    return (
        0.80
        + 0.25 * bump(0, mark[30, 1], 18, 15)
        + 0.25 * bump(48, mark[54, 1] - 10, 25, 25)
        + 0.15 * bump(48, 0.5 * mark[33, 1], 18, 18)
        + 0.15 * bump(0, chin_y, 24, 18)
        - 0.15 * bump(0, 55, 50, 22)
    )


def identity_basis(vertices: np.ndarray, grid: Grid, count: int = 80) -> np.ndarray:
    """Shape modes [count, V, 3] in mm, scaled by their standard deviations.

    Named fields and a Gaussian process together; then what would stretch or fold the surface is smoothed, and
    the covariance is brought to the published standard deviations of facial distances.
    """
    named = identity_fields(vertices, grid)
    lids = eye_fields(vertices, grid)
    amplitude = _process_amplitude(vertices, grid)
    even, uneven = scalar_process(vertices, amplitude, PROCESS_SCALES, keep=80)
    symmetric, antisymmetric = vector_fields(even, uneven, PROCESS_AXES, ASYMMETRIC_VARIANCE)
    symmetric = np.concatenate([np.stack(list(named.values())), symmetric])
    for fields in (symmetric, antisymmetric):
        _keep_eyes_round(fields, vertices, grid)
        _follow_lips(fields, grid)
    known = dict(zip(named, symmetric)) | lids
    together = [
        sum(TOGETHER_SCALE * w * known[name] for name, w in parts.items())
        for parts in TOGETHER.values()
    ]
    symmetric = np.concatenate([symmetric, np.stack(list(lids.values())), np.stack(together)])
    modes = principal(symmetric, antisymmetric, count)
    odd = np.abs(modes[:, grid.mirror, 1] + modes[:, :, 1]).max(1) < 1e-6
    modes = modes * UNMEASURED
    # Smoothing takes from the measures, matching adds to the strain: in turn, they settle.
    for _ in range(MATCHES):
        modes = limit_strain(modes, vertices, grid)
        modes[~odd] = match_deviations(modes[~odd], vertices, grid)
    modes = limit_strain(modes, vertices, grid)
    return principal(modes[~odd], modes[odd], count)


def _keep_eyes_round(fields: np.ndarray, vertices: np.ndarray, grid: Grid) -> None:
    """Let eyeballs and lids move, turn and grow alone, or irises become ovals and lids part from eyes.

    The similarity closest to the field on the eyeball replaces the field there and blends into it over the
    next 10 mm of skin.
    """
    x, weight = vertices[:, 0], _near_eyes(vertices, grid)
    for side in (1, -1):
        ball = np.flatnonzero(grid.eyes & (np.sign(x) == side))
        near = np.flatnonzero((weight > 0) & (np.sign(x) == side))
        centre = vertices[ball].mean(0)
        solve = np.linalg.pinv(_similarities(vertices[ball] - centre))
        code = fields[:, ball].reshape(len(fields), -1) @ solve.T
        smooth = (code @ _similarities(vertices[near] - centre).T).reshape(len(fields), -1, 3)
        fields[:, near] += weight[near, None] * (smooth - fields[:, near])


def _near_eyes(vertices: np.ndarray, grid: Grid) -> np.ndarray:
    """[V] 1 on eyeballs and lids, falling to 0 over the next 10 mm of skin."""
    ax, y = np.abs(vertices[:, 0]), vertices[:, 1]
    inner, outer = grid.eye
    sideways = np.maximum(np.maximum(inner - ax, ax - outer), 0)
    away = np.hypot(sideways, np.maximum(np.abs(y) - 6.5, 0))
    return np.where(grid.eyes, 1.0, 1 - smooth_step(away, 1.0, 11.0))


def _similarities(p: np.ndarray) -> np.ndarray:
    """[3 n, 7]: what small shifts, turns and growth do to points [n, 3]."""
    x, y, z = p.T
    o = np.zeros_like(x)
    columns = [*np.eye(3)[:, None].repeat(len(p), 1), p]
    columns += [np.stack(c, 1) for c in ((o, -z, y), (z, o, -x), (-y, x, o))]
    return np.stack(columns, -1).reshape(-1, 7)


def _follow_lips(fields: np.ndarray, grid: Grid) -> None:
    """The lips' edges meet, and each column of the mouth's inside moves with them."""
    rows = grid.pockets["mouth"]
    seam = (fields[:, rows[0]] + fields[:, rows[-1]]) / 2
    fields[:, rows] = seam[:, None]


def limit_strain(
    modes: np.ndarray,
    vertices: np.ndarray,
    grid: Grid,
    limit: float = STRAIN_LIMIT,
    rounds: int = 25,
) -> np.ndarray:
    """Smooth modes [K, V, 3] along the mesh where edges change by more than `limit` (rms, relative).

    Without it features one or two vertices wide, or crowded on steep walls, fold at two standard deviations.
    """
    from scipy.sparse import csr_matrix

    # The lips' edges are one line here, or smoothing would part them; pockets follow afterwards.
    joined = np.arange(grid.num_vertices)
    rows = grid.pockets["mouth"]
    joined[rows[-1]] = rows[0]
    skin = (grid.triangles < grid.num_skin).all(1)
    triangles = joined[grid.triangles[skin]]
    pairs = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    a, b = pairs.T
    length = np.linalg.norm(vertices[a] - vertices[b], axis=1)
    both = np.concatenate([a, b]), np.concatenate([b, a])
    size = grid.num_vertices
    near = csr_matrix((np.tile(1 / length, 2), both), shape=(size, size))
    sums = np.asarray(near.sum(1)).ravel()
    near = csr_matrix(near.multiply((1 / np.maximum(sums, 1e-9))[:, None]))
    free = np.where(sums == 0, 0.0, 1 - _near_eyes(vertices, grid))  # lids stay on the eyeballs
    flat = modes.transpose(1, 0, 2).reshape(size, -1).copy()
    for _ in range(rounds):
        strain = np.sqrt(((flat[a] - flat[b]) ** 2).sum(1)) / length
        worst = np.zeros(size)
        np.maximum.at(worst, both[0], np.tile(strain, 2))
        weight = np.clip((worst / limit) ** 2 - 1, 0, 1)
        for _ in range(3):
            weight = np.maximum(weight, 0.5 * (weight + near @ weight))
        weight *= free
        if weight.max() == 0:
            break
        flat += 0.6 * weight[:, None] * (near @ flat - flat)
    result = flat.reshape(size, len(modes), 3).transpose(1, 0, 2)
    result[:, rows[-1]] = result[:, rows[0]]
    _follow_lips(result, grid)
    return np.ascontiguousarray(result)
