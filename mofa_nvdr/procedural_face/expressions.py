"""The expression basis: principal modes of the named blendshapes, and soft tissue motion that no name has."""

from __future__ import annotations

import numpy as np

from mofa_nvdr.procedural_face.blendshapes import named_expressions
from mofa_nvdr.procedural_face.grid import Grid, smooth_step
from mofa_nvdr.procedural_face.mean import eye_axis, eye_position
from mofa_nvdr.procedural_face.modes import principal, scalar_process, vector_fields
from mofa_nvdr.procedural_face.soft_tissue import Tissue

# Root mean square weight of a blendshape in a random expression of one standard deviation.
EXPRESSION_SCALE = 0.22
# Of the motion beyond the named blendshapes: (mm, standard deviation in mm).
FREE_MOTION = ((40.0, 0.5), (22.0, 0.6), (11.0, 0.35))


def expression_basis(
    mean: np.ndarray, grid: Grid, count: int = 64
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Modes [count, V, 3] in mm scaled by their standard deviations, and named coefficients [count].

    The modes are the principal modes of random weights of the named expressions about the neutral face, then
    those of a slit-aware Gaussian process for what no name describes.
    """
    named = named_expressions(mean, grid)
    mirrored = {name: motion[grid.mirror] * [-1, 1, 1] for name, motion in named.items()}
    even = np.stack([(named[name] + mirrored[name]) / 2 for name in named]) * EXPRESSION_SCALE
    odd = np.stack([(named[name] - mirrored[name]) / 2 for name in named]) * EXPRESSION_SCALE
    modes = principal(even, odd, count)
    if len(modes) < count:
        modes = np.concatenate([modes, _free_motion(mean, grid, modes, count - len(modes))])
    flat = modes.reshape(count, -1)
    # Modes of one standard deviation differ in size by a thousand: solve for them on one scale.
    size = np.linalg.norm(flat, axis=1)
    solve = np.linalg.pinv(flat / size[:, None]) / size
    return modes, {name: motion.ravel() @ solve for name, motion in named.items()}


def _free_motion(mean: np.ndarray, grid: Grid, known: np.ndarray, count: int) -> np.ndarray:
    """Soft tissue motion that lips and lids of one side do not share with the other."""
    tissue = Tissue(mean, grid)
    even, odd = scalar_process(
        tissue.sheeted, tissue.calm * tissue.skin, FREE_MOTION, keep=24, num_inducing=500
    )
    s = np.clip(eye_position(tissue.x, grid), 0, 1)
    from_eye = np.hypot(np.abs(tissue.y - eye_axis(s)), 30 * (np.abs(s - 0.5) - 0.5).clip(0))
    lids_free = np.where(from_eye < 12, smooth_step(from_eye, 2.0, 9.0), 1.0)
    kinds = vector_fields(even, odd, (1.0, 1.0, 0.8), 0.5)
    basis = known.reshape(len(known), -1)
    orthonormal = np.linalg.qr(basis.T)[0].T
    for fields in kinds:
        for field in fields:
            field[:, 2] *= np.where(tissue.skin, lids_free, 1.0)  # lids slide, they do not lift
            tissue.line_mouth(field)
        flat = fields.reshape(len(fields), -1)
        flat -= (flat @ orthonormal.T) @ orthonormal  # what the named expressions span already
    return principal(*kinds, count)
