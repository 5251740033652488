"""The expression basis: principal modes of the named blendshapes, and soft tissue motion that no name has."""

from __future__ import annotations

import numpy as np

from mofa_nvdr.face.recipe.blendshapes import named_expressions
from mofa_nvdr.face.recipe.covariances import principal, scalar_process, vector_fields
from mofa_nvdr.face.recipe.grid import Grid, smooth_step
from mofa_nvdr.face.recipe.mean import eye_axis, eye_position
from mofa_nvdr.face.recipe.soft_tissue import Tissue

# Root mean square weight of a blendshape or a combination in a random expression of one standard deviation.
EXPRESSION_SCALE = 0.12

# Faces show pairs more often than one side, and muscles in company: weights of named blendshapes, Left and
# Right of a name without its side.
COMBINATIONS: tuple[dict[str, float], ...] = (
    {"mouthSmile": 1}, {"mouthFrown": 1}, {"mouthDimple": 1}, {"mouthStretch": 1}, {"mouthPress": 1},
    {"mouthUpperUp": 1}, {"mouthLowerDown": 1}, {"cheekSquint": 1}, {"noseSneer": 1}, {"browDown": 1},
    {"browOuterUp": 1}, {"eyeBlink": 1}, {"eyeSquint": 1}, {"eyeWide": 1}, {"eyeLookUp": 1},
    {"eyeLookDown": 1}, {"eyeLookOutLeft": 1, "eyeLookInRight": 1},
    {"eyeLookInLeft": 1, "eyeLookOutRight": 1},
    {"browInnerUp": 1, "browOuterUp": 1},
    {"mouthUpperUp": 1, "mouthLowerDown": 1},
    {"mouthSmile": 1, "cheekSquint": 1, "eyeSquint": 0.5},
    {"mouthSmile": 1, "cheekSquint": 1, "eyeSquint": 0.5, "mouthUpperUp": 0.3, "jawOpen": 0.4},  # laugh
    {"browInnerUp": 1, "browOuterUp": 1, "eyeWide": 1, "jawOpen": 0.5},  # surprise
    {"browInnerUp": 1, "browOuterUp": 0.6, "eyeWide": 1, "mouthStretch": 1},  # fear
    {"browDown": 1, "eyeSquint": 0.6, "mouthPress": 1},  # anger
    {"noseSneer": 1, "mouthUpperUp": 1, "browDown": 0.5},  # disgust
    {"browInnerUp": 1, "mouthFrown": 1, "mouthShrugLower": 0.5},  # grief
    {"mouthPucker": 1, "eyeBlink": 0.5},  # kiss
    {"mouthFunnel": 0.8, "jawOpen": 0.3},  # o
    {"jawOpen": 0.5, "mouthLowerDown": 0.5},  # a
    {"mouthRollUpper": 1, "mouthRollLower": 1},
    {"mouthShrugUpper": 1, "mouthShrugLower": 1},
    {"tongueOut": 1, "jawOpen": 0.4},
)  # fmt: skip
# Of the motion beyond the named blendshapes: (mm, standard deviation in mm).
FREE_MOTION = ((40.0, 0.5), (22.0, 0.6), (11.0, 0.35))


def expression_basis(
    mean: np.ndarray, grid: Grid, count: int = 64
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Modes [count, V, 3] in mm scaled by their standard deviations, and named coefficients [count].

    The modes are the principal modes of random weights of the named expressions and of their combinations
    about the neutral face (the paper, section 3), then those of a slit-aware Gaussian process for what no
    name describes.
    """
    named = named_expressions(mean, grid)
    samples = np.stack(expression_samples(named)) * EXPRESSION_SCALE
    mirrored = samples[:, grid.mirror] * [-1, 1, 1]
    modes = principal((samples + mirrored) / 2, (samples - mirrored) / 2, count)
    rms = np.sqrt((modes**2).sum(2).mean(1))
    modes = modes[rms > 1e-3 * rms.max()]  # what is left over of mirrored twins is no direction
    if len(modes) < count:
        modes = np.concatenate([modes, _free_motion(mean, grid, modes, count - len(modes))])
    flat = modes.reshape(count, -1)
    # Modes of one standard deviation differ in size by a thousand: solve for them on one scale.
    size = np.linalg.norm(flat, axis=1)
    solve = np.linalg.pinv(flat / size[:, None]) / size
    return modes, {name: motion.ravel() @ solve for name, motion in named.items()}


def expression_samples(named: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Displacements whose random sum is a random expression."""
    # The lips of mouthClose meet only while the jaw is open.
    closed = named["mouthClose"] + named["jawOpen"]
    samples = [closed if name == "mouthClose" else motion for name, motion in named.items()]
    for weights in COMBINATIONS:
        total = np.zeros_like(closed)
        for name, weight in weights.items():
            parts = [name] if name in named else [f"{name}Left", f"{name}Right"]
            total += weight * sum(named[part] for part in parts)
        samples.append(total)
    return samples


def _free_motion(mean: np.ndarray, grid: Grid, known: np.ndarray, count: int) -> np.ndarray:
    """Soft tissue motion that lips and lids of one side do not share with the other."""
    tissue = Tissue(mean, grid)
    even, odd = scalar_process(
        tissue.sheeted, tissue.calm * tissue.skin, FREE_MOTION, keep=16, num_inducing=400
    )
    s = np.clip(eye_position(tissue.x, grid), 0, 1)
    from_eye = np.hypot(np.abs(tissue.y - eye_axis(s)), 30 * (np.abs(s - 0.5) - 0.5).clip(0))
    lids_free = np.where(from_eye < 12, smooth_step(from_eye, 2.0, 9.0), 1.0)
    kinds = vector_fields(even, odd, (1.0, 1.0, 0.8), 0.5)
    basis = known.reshape(len(known), -1)
    orthonormal = np.linalg.qr(basis.T)[0].T
    for fields in kinds:
        fields[..., 2] *= np.where(tissue.skin, lids_free, 1.0)  # lids slide, they do not lift
        flat = fields.reshape(len(fields), -1)
        for _ in range(
            4
        ):  # towards what the named expressions do not span and lips that stay together
            flat -= (flat @ orthonormal.T) @ orthonormal
            for field in fields:
                tissue.seal(field, overlap=0.0)
    return principal(*kinds, count)
