"""Named expressions and the basis that spans them."""

from __future__ import annotations

import numpy as np

from mofa_nvdr.procedural_face import tables as t
from mofa_nvdr.procedural_face.blendshapes import named_expressions
from mofa_nvdr.procedural_face.grid import Grid, gauss, smooth_step
from mofa_nvdr.procedural_face.mean import eye_position
from mofa_nvdr.procedural_face.modes import principal, scalar_process, vector_fields

# Root mean square weight of a blendshape in a random expression of one standard deviation.
EXPRESSION_SCALE = 0.22


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
