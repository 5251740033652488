"""Named expressions and the basis that spans them."""

from __future__ import annotations

import numpy as np

from mofa_nvdr.procedural_face import tables as t
from mofa_nvdr.procedural_face.grid import Grid, gauss, smooth_step
from mofa_nvdr.procedural_face.mean import Lids, eye_position, mean_shape, mouth_seam
from mofa_nvdr.procedural_face.modes import principal, scalar_process, vector_fields

JAW_ANGLE = np.radians(17.0)
JAW_HINGE_Y, JAW_HINGE_Z = -22.0, -82.0
# Root mean square weight of a blendshape in a random expression of one standard deviation.
EXPRESSION_SCALE = 0.22


def named_expressions(mean: np.ndarray, grid: Grid) -> dict[str, np.ndarray]:
    """Displacements [V, 3] in mm at full weight; one-sided ones end in Left or Right (the subject's)."""
    x, y, z = mean.T
    ax, side, zero = np.abs(x), np.sign(x), np.zeros_like(x)
    eyes, bag = grid.eyes, grid.bag
    n = grid.num_skin
    upper = np.ones(len(x), bool)
    upper[:n] = grid.upper_lip
    for j in range(t.MOUTH_POCKET_ROWS):
        upper[grid.pockets["mouth"][j + 1]] = j < t.UPPER_BAG_ROWS
    corner_x = grid.mouth_half_width
    m = np.abs(x) / corner_x
    d = y - t.MOUTH_ROW - mouth_seam(x / corner_x)
    skin = ~eyes

    def field(
        dx: np.ndarray | float = 0.0, dy: np.ndarray | float = 0.0, dz: np.ndarray | float = 0.0
    ) -> np.ndarray:
        return np.stack([zero + dx, zero + dy, zero + dz], 1)

    def bump(cx: float, cy: float, wx: float, wy: float) -> np.ndarray:
        return gauss(ax - cx, wx) * gauss(y - cy, wy) * skin

    def corner(dx: float, dy: float, dz: float, wx: float = 15, wy: float = 12) -> np.ndarray:
        """Pull the corners of the mouth; dx outwards."""
        along = np.where(m < 1, np.minimum(m, 1) ** 1.6, gauss(ax - corner_x, wx * 0.85))
        w = along * gauss(d, wy) * skin
        return field(side * dx * w, dy * w, dz * w)

    jaw = _jaw_weight(ax, y, z, d, m, upper, bag, corner_x) * skin

    def jaw_motion(angle: float, forward: float = 0.0, sideways: float = 0.0) -> np.ndarray:
        from_y, from_z = y - JAW_HINGE_Y, z - JAW_HINGE_Z
        turned_y = np.cos(angle) * from_y - np.sin(angle) * from_z
        turned_z = np.sin(angle) * from_y + np.cos(angle) * from_z
        return field(sideways * jaw, jaw * (turned_y - from_y), jaw * (turned_z - from_z + forward))

    jaw_open = jaw_motion(JAW_ANGLE)
    jaw_open[:, 0] -= side * 2.6 * gauss(ax - corner_x, 9) * gauss(d, 11) * np.minimum(m, 1)

    smile = corner(7.5, 8.0, -4.5)
    smile[:, 0] += side * 1.6 * bump(40, -40, 11, 12)
    smile[:, 1] += 2.6 * bump(38, -32, 11, 12) + 1.1 * bump(33, -10, 12, 4)
    fold = gauss(ax - (20 + (-38 - y) * 0.55), 2.6)
    smile[:, 2] += 2.6 * bump(37, -33, 9, 9) - gauss(x, 18) * gauss(d, 6) * ~bag
    smile[:, 2] -= 1.3 * fold * smooth_step(-y, 38, 48) * (1 - smooth_step(-y, 60, 70))

    round_ = gauss(d, 13) * gauss(np.maximum(ax - 20, 0), 9) * skin
    lips = (1 - m**2).clip(0) * ~bag
    lift = np.where(upper, gauss(np.maximum(d - 3, 0), 7) * lips, 0)
    drop = np.where(upper, 0, gauss(np.maximum(-d - 3, 0), 8) * lips)
    symmetric = {
        "jawOpen": jaw_open,
        "jawForward": jaw_motion(0.0, forward=5.0),
        "mouthPucker": field(
            -0.40 * x * round_ * gauss(np.maximum(ax - 27, 0), 10),
            -0.12 * d * round_,
            7.0 * round_ * gauss(x, 17),
        ),
        "mouthFunnel": field(
            -0.28 * x * round_,
            np.where(upper, 3.2, -4.0) * round_ * gauss(x, 14),
            6.0 * round_ * gauss(x, 18),
        ),
        "mouthRollUpper": field(dy=-0.35 * lift * 5, dz=-0.5 * lift * 5),
        "mouthRollLower": field(dy=0.35 * drop * 5, dz=-0.5 * drop * 5),
        "browInnerUp": field(dy=7.0 * bump(9, 22, 13, 12), dz=0.8 * bump(9, 26, 12, 10)),
    }
    sideways = {
        "jawLeft": jaw_motion(0.0, sideways=7.0),
        "mouthLeft": field(6.0 * gauss(d, 14) * gauss(x, 26) * skin),
    }
    both = {
        "mouthSmile": smile,
        "mouthFrown": corner(1.5, -7.0, -2.0)
        + field(dy=1.2 * gauss(x, 10) * gauss(d + 9, 7), dz=gauss(x, 14) * gauss(y + 92, 9)),
        "mouthStretch": corner(8, -3.5, -4, 16, 14),
        "mouthDimple": corner(4, 0.5, -4, 8, 8),
        "mouthUpperUp": field(dy=5.0 * lift, dz=0.6 * lift),
        "mouthLowerDown": field(dy=-5.5 * drop, dz=0.4 * drop),
        "cheekPuff": field(side * 5 * bump(42, -58, 14, 15), 0.0, 6.5 * bump(36, -58, 13, 14)),
        "cheekSquint": field(dy=3.6 * bump(36, -16, 14, 8), dz=1.8 * bump(38, -22, 12, 8)),
        "browOuterUp": field(dy=6.5 * bump(44, 24, 14, 12), dz=0.6 * bump(42, 28, 12, 9)),
        "browDown": field(
            -side * 2.2 * bump(14, 19, 11, 10), -5.0 * bump(20, 20, 16, 11), 1.0 * bump(8, 17, 9, 6)
        ),
        "noseSneer": field(
            side * 1.2 * bump(14, -36, 7, 7),
            4.2 * bump(14, -34, 10, 11) + 3.0 * bump(13, -58, 9, 6),
            1.8 * bump(14, -22, 8, 8),
        ),
        "eyeBlink": mean_shape(Lids(blink=1.0), mean) - mean,
        "eyeWide": mean_shape(Lids(wide=1.0), mean) - mean,
        "eyeSquint": mean_shape(Lids(squint=1.0), mean) - mean,
    }
    result = dict(symmetric)
    for name, motion in sideways.items():
        result[name] = motion
        result[name.replace("Left", "Right")] = motion * [-1, 1, 1]
    for name, motion in both.items():
        left = smooth_step(x, -3.5, 3.5)[:, None]
        result[f"{name}Left"] = motion * left
        result[f"{name}Right"] = motion * (1 - left)
    return result


def _jaw_weight(
    ax: np.ndarray,
    y: np.ndarray,
    z: np.ndarray,
    d: np.ndarray,
    m: np.ndarray,
    upper: np.ndarray,
    bag: np.ndarray,
    corner_x: float,
) -> np.ndarray:
    """How much each vertex follows the jaw: split by the mouth's slit, one half at its corners."""
    length = 12 + 0.8 * np.maximum(ax - corner_x, 0)
    far = smooth_step(0.5 - 0.5 * d / length, 0, 1)
    arc = np.sqrt(np.clip(1 - m**2.6, 0, 1))
    weight = np.where(upper, far * (1 - arc), far + (1 - far) * arc)
    weight = np.where(bag, np.where(upper, 0.5 - 0.5 * arc, 0.5 + 0.5 * arc), weight)
    return weight * (1 - smooth_step(-z, 58, 92) * smooth_step(y, -100, -55))


def expression_basis(
    mean: np.ndarray, grid: Grid, count: int = 64
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Modes [count, V, 3] in mm scaled by their standard deviations, and named coefficients [count].

    The modes are the principal modes of random weights of the named expressions about the neutral face, then
    those of a small slit-aware Gaussian process for what no name describes.
    """
    named = named_expressions(mean, grid)
    mirrored = {name: motion[grid.mirror] * [-1, 1, 1] for name, motion in named.items()}
    even = np.stack([(named[name] + mirrored[name]) / 2 for name in named]) * EXPRESSION_SCALE
    odd = np.stack([(named[name] - mirrored[name]) / 2 for name in named]) * EXPRESSION_SCALE
    modes = principal(even, odd, count)
    if len(modes) < count:
        modes = np.concatenate([modes, _free_motion(mean, grid, modes, count - len(modes))])
    flat = modes.reshape(count, -1)
    solve = np.linalg.pinv(flat)
    return modes, {name: motion.ravel() @ solve for name, motion in named.items()}


def _free_motion(mean: np.ndarray, grid: Grid, known: np.ndarray, count: int) -> np.ndarray:
    """Soft tissue motion that lips and lids of one side do not share with the other."""
    n = grid.num_skin
    # The two sides of a slit lie on two sheets, which meet at the slit's corners.
    x, y = mean[:, 0], mean[:, 1]
    at_mouth = np.sqrt(np.clip(1 - (x / grid.mouth_half_width) ** 2, 0, 1)) * gauss(
        y - t.MOUTH_ROW, 25
    )
    upper = np.ones(len(mean), bool)
    upper[:n] = grid.upper_lip
    for j in range(t.MOUTH_POCKET_ROWS):
        upper[grid.pockets["mouth"][j + 1]] = j < t.UPPER_BAG_ROWS
    sheet = np.where(upper, 12.0, -12.0) * at_mouth
    s = np.clip(eye_position(x[:n], grid), 0, 1)
    at_eye = np.sqrt(4 * s * (1 - s)) * gauss(y[:n], 12)
    sheet[:n] += np.where(grid.upper_lid, 8.0, -8.0) * at_eye
    points = np.column_stack([mean, sheet])
    calm = smooth_step(mean[:, 1], 70, 40) * smooth_step(-mean[:, 2], 80, 45) * ~grid.eyes
    even, odd = scalar_process(
        points, calm * 0.45, ((26.0, 1.5), (13.0, 1.0)), keep=16, num_inducing=400
    )
    symmetric, antisymmetric = vector_fields(even, odd, (1.0, 1.0, 0.7), 0.3)
    basis = known.reshape(len(known), -1)
    solve = np.linalg.pinv(basis)
    for fields in (
        symmetric,
        antisymmetric,
    ):  # what the named expressions span already is taken out
        flat = fields.reshape(len(fields), -1)
        flat -= (flat @ solve) @ basis
    return principal(symmetric, antisymmetric, count)
