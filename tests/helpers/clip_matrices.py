"""Matrices from camera space to clip space, as cameras have them."""

from __future__ import annotations


def centred_pinhole(sx: float, sy: float, sz: float, tz: float) -> tuple[tuple[float, ...], ...]:
    """Clip space is (sx x, sy y, sz z + tz, -z)."""
    return ((sx, 0.0, 0.0, 0.0), (0.0, sy, 0.0, 0.0), (0.0, 0.0, sz, tz), (0.0, 0.0, -1.0, 0.0))
