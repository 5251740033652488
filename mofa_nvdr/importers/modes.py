"""Modes from what foreign models bring: orthogonal again over a region, blendshapes to principal modes."""

from __future__ import annotations

import numpy as np


def principal_modes(modes: np.ndarray, count: int) -> tuple[np.ndarray, float]:
    """Modes [K, V, 3] that carry one standard deviation each -> at most `count` orthogonal ones.

    Both sets describe the same normal distribution as far as `count` modes can; the new ones come in the
    order of their variance. Directions without variance are left out.

    Returns:
        modes [C, V, 3] float32; the share of the variance that they keep.
    """
    if len(modes) == 0 or count == 0:
        return modes[:0].astype(np.float32), 0.0
    flat = modes.reshape(len(modes), -1).astype(np.float64)
    values, vectors = np.linalg.eigh(flat @ flat.T)
    values, vectors = values[::-1], vectors[:, ::-1]
    total = values.clip(0).sum()
    number = int(min(count, (values > 1e-9 * max(values[0], 1e-30)).sum()))
    result = vectors[:, :number].T @ flat
    # An eigenvector's sign is arbitrary: the largest coordinate is positive, wherever this runs.
    largest = np.abs(result).argmax(1)
    result *= np.sign(result[np.arange(number), largest])[:, None]
    kept = float(values[:number].sum() / total) if total > 0 else 1.0
    return result.reshape(number, *modes.shape[1:]).astype(np.float32), kept


# Each blendshape is taken to be used by 3 faces in 20, with weights uniform in [0, 1]: the second moment of a
# weight is then 1/20. Left and right twins often move together; halves of one motion nearly always do.
_SECOND_MOMENT = 1 / 20
_TWINS, _HALVES = 0.5, 0.9
# Motions of the whole jaw or mouth to a side: no twins, and no halves of their own.
_SIDEWAYS = ("jawLeft", "jawRight", "mouthLeft", "mouthRight")


def blendshape_modes(
    motions: dict[str, np.ndarray], count: int, sides: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """Principal modes of random weights of blendshapes, about the neutral face.

    Args:
        motions: name -> motion [V, 3] in mm at weight one. Twins end in _L and _R (or Left and Right).
        count: at most this many modes.
        sides: [V] share of the subject's left side, 0 to 1; with it, motions that have no twin come as two
            halves, so that a face may move on one side alone. None: they stay whole.

    Returns:
        modes [C, V, 3], one standard deviation each; the share of the variance that they keep.
    """
    names, rows = [], []
    for name, motion in motions.items():
        if sides is not None and name not in _SIDEWAYS and _twin(name) not in motions:
            names += [f"{name}_L", f"{name}_R"]
            rows += [motion * sides[:, None], motion * (1 - sides)[:, None]]
        else:
            names.append(name)
            rows.append(motion)
    if not rows:
        return np.zeros((0, 0, 3), np.float32), 0.0
    moment = np.eye(len(names))
    for i, name in enumerate(names):
        other = _twin(name)
        if other in names:
            moment[i, names.index(other)] = _TWINS if name in motions else _HALVES
    half = np.linalg.cholesky(moment * _SECOND_MOMENT)
    stacked = np.stack(rows)
    return principal_modes(np.einsum("ij,ivc->jvc", half, stacked), count)


def coefficients(modes: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Coefficients [C] whose motion comes closest (least squares) to `motion` [V, 3]."""
    flat = modes.reshape(len(modes), -1).astype(np.float64)
    gram = flat @ flat.T
    # A trace of the diagonal keeps modes that are nearly the same from being played against each other.
    gram += 1e-9 * np.trace(gram) / max(len(gram), 1) * np.eye(len(gram))
    return np.linalg.solve(gram, flat @ motion.ravel().astype(np.float64)).astype(np.float32)


def _twin(name: str) -> str:
    """The name of the same motion on the other side; empty: it has none."""
    for one, other in (("_L", "_R"), ("_R", "_L"), ("Left", "Right"), ("Right", "Left")):
        if name.endswith(one) and name not in _SIDEWAYS:
            return name[: -len(one)] + other
    return ""
