"""The similarity that brings points closest to others."""

from __future__ import annotations

import numpy as np


def similarity(source: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale, rotation and shift with target = scale R source + shift (Umeyama 1991), least squares.

    Args:
        source: [N, 3], N > 2, not all on one line.
        target: [N, 3].

    Returns:
        The scale, R [3, 3] and the shift [3].
    """
    middle_s, middle_t = source.mean(0), target.mean(0)
    s, t = source - middle_s, target - middle_t
    u, d, vt = np.linalg.svd(t.T @ s)
    flip = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * flip) @ vt
    scale = float((d * flip).sum() / (s * s).sum())
    return scale, rotation, middle_t - scale * rotation @ middle_s
