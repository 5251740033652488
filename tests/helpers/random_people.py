"""People of the built-in face at random."""

from __future__ import annotations

import numpy as np


def people(face, vertices: np.ndarray, deviations: float, count: int) -> np.ndarray:
    """Some vertices of random people [count, n, 3]."""
    codes = np.random.default_rng(11).normal(size=(count, 80)).astype(np.float32)
    moved = np.tensordot(deviations * codes, face["shape_basis"][:, vertices], 1)
    return face["mean_shape"][vertices] + moved
