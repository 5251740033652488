"""Gaussian processes on the face and the identity modes: a morphable model made from covariances alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mofa_nvdr.procedural_face import tables as t
from mofa_nvdr.procedural_face.grid import gauss, smooth_step
from mofa_nvdr.procedural_face.mean import mouth_seam

IDENTITY_SCALE = 0.85  # of the authored fields and the process together: people, not caricatures


def _bump(
    vertices: np.ndarray, centre: tuple[float, float], widths: tuple[float, float]
) -> np.ndarray:
    x, y = np.abs(vertices[:, 0]) - centre[0], vertices[:, 1] - centre[1]
    return gauss(x, widths[0]) * gauss(y, widths[1])


def identity_fields(vertices: np.ndarray) -> dict[str, np.ndarray]:
    """Named, mirror-symmetric displacements [V, 3] of one standard deviation each, mm."""
    x, y, z = vertices.T
    ax, sign, zero = np.abs(x), np.sign(x), np.zeros_like(x)

    def field(
        dx: np.ndarray | float = 0.0, dy: np.ndarray | float = 0.0, dz: np.ndarray | float = 0.0
    ) -> np.ndarray:
        """Sideways (outwards), up and out."""
        return np.stack([sign * (zero + dx), zero + dy, zero + dz], 1)

    def bump(cx: float, cy: float, wx: float, wy: float) -> np.ndarray:
        return _bump(vertices, (cx, cy), (wx, wy))

    down = smooth_step
    jaw = gauss(y + 80, 24) * smooth_step(ax, 18, 48)
    chin, ala = bump(0, -98, 20, 15), gauss(y + 37, 9) * gauss(ax - 13, 8)
    m = ax / t.MOUTH_HALF_WIDTH
    at_mouth = 1 - smooth_step(m, 0.85, 1.25)
    d = y - t.MOUTH_ROW - mouth_seam(x / t.MOUTH_HALF_WIDTH)
    eye = bump(31, 0, 13, 6)
    tip_up = gauss(x, 10) * gauss(y + 36, 8)
    return {
        "size": 0.038 * (vertices - np.array([0, -17, -45])),
        "width": field(dx=0.028 * ax),
        "height": field(dy=0.026 * (y + 17)),
        "depth": field(dz=0.045 * (z + 35)),
        "lower_face": field(dy=-3.0 * down(-y, 45, 75) - 1.5 * down(-y, 75, 110)),
        "mid_face": field(dy=-2.2 * down(-y, 5, 45)),
        "jaw_width": field(dx=3.6 * jaw),
        "jaw_angle": field(dy=-4.0 * gauss(y + 78, 22) * smooth_step(ax, 30, 58)),
        "chin_out": field(dy=-0.4 * chin, dz=3.2 * chin),
        "chin_tall": field(dy=-3.0 * down(-y, 80, 100) * gauss(x, 32)),
        "chin_wide": field(
            dx=2.4 * gauss(y + 98, 13) * smooth_step(ax, 0, 12) * gauss(ax - 16, 16)
        ),
        "cheekbone": field(dx=1.8 * bump(54, -20, 16, 14), dz=1.6 * bump(46, -20, 15, 13)),
        "cheek_fat": field(dx=2.6 * bump(50, -55, 17, 20), dz=2.4 * bump(40, -55, 15, 18)),
        "forehead_slope": field(dz=-3.4 * smooth_step(y, 22, 80)),
        "forehead_width": field(dx=2.2 * smooth_step(ax, 20, 55) * smooth_step(y, 10, 45)),
        "brow_ridge": field(dz=1.7 * bump(20, 19, 17, 7)),
        "orbit_depth": field(dz=-1.5 * bump(28, 3, 16, 11)),
        "eye_distance": field(dx=1.5 * bump(30, 0, 17, 14)),
        "eye_tilt": field(dy=1.1 * (ax - 31) / 14 * bump(31, 0, 14, 10)),
        "eye_opening": field(dy=0.9 * eye * np.clip(y / 5, -1, 1)),
        "nose_length": field(dy=-2.4 * gauss(x, 17) * down(-y, 5, 42) * (1 - down(-y, 46, 58))),
        "nose_out": field(dz=2.2 * gauss(x, 11) * down(-y, 5, 33) * (1 - down(-y, 40, 48))),
        "nose_width": field(dx=1.7 * ala),
        "nose_tip_up": field(dy=1.7 * tip_up, dz=0.4 * tip_up),
        "bridge_high": field(dz=1.8 * gauss(x, 9) * gauss(y + 3, 12)),
        "bridge_wide": field(dx=1.2 * gauss(y + 12, 15) * gauss(ax - 10, 7)),
        "nose_hump": field(dz=1.1 * gauss(x, 8) * gauss(y + 16, 8)),
        "nose_tip_wide": field(
            dx=0.9 * gauss(ax - 7, 5) * gauss(y + 35, 6),
            dz=0.5 * gauss(ax - 7, 5) * gauss(y + 35, 6),
        ),
        "upper_lip": field(
            dy=1.1 * at_mouth * gauss(d - 6.5, 3.2), dz=0.9 * at_mouth * gauss(d - 4, 3)
        ),
        "lower_lip": field(
            dy=-1.2 * at_mouth * gauss(d + 8, 3.5), dz=1.0 * at_mouth * gauss(d + 5, 3.4)
        ),
        "mouth_width": field(
            dx=2.6 * gauss(d, 11) * np.minimum(m, 1) * (1 - smooth_step(ax, 28, 48))
        ),
        "mouth_out": field(dz=2.0 * gauss(x, 24) * gauss(d, 15)),
        "philtrum_long": field(dy=-1.6 * gauss(x, 32) * down(-y, 46, 60) * (1 - down(-y, 78, 96))),
        "mouth_height": field(dy=1.4 * gauss(x, 30) * gauss(d, 13)),
        "underbite": field(dz=1.6 * gauss(x, 26) * down(-y, 66, 80)),
        "temples": field(dx=1.6 * bump(64, 18, 12, 22)),
    }


def _identity_amplitude(vertices: np.ndarray) -> np.ndarray:
    """How strongly the process varies: more at nose, jaw, cheekbones and chin, less at eyes and forehead."""

    def bump(cx: float, cy: float, wx: float, wy: float) -> np.ndarray:
        return _bump(vertices, (cx, cy), (wx, wy))

    return (
        0.85
        + 0.55 * bump(0, -33, 17, 13)
        + 0.30 * bump(45, -75, 25, 25)
        + 0.20 * bump(48, -25, 15, 15)
        + 0.25 * bump(0, -98, 22, 15)
        - 0.20 * bump(31, 0, 13, 9)
        - 0.10 * bump(0, 50, 50, 20)
    )


def scalar_process(
    points: np.ndarray,
    amplitude: np.ndarray,
    scales: Sequence[tuple[float, float]],
    keep: int,
    num_inducing: int = 700,
) -> tuple[np.ndarray, np.ndarray]:
    """Even and odd eigenfunctions of a Gaussian process on the face, after Nystrom.

    The kernel is a sum of Gaussians; what is even or odd under x -> -x is split before the eigenvectors are
    taken, so that modes are exactly symmetric or antisymmetric.

    Args:
        points: [V, D], x first; further dimensions keep sheets apart (lips, lids).
        amplitude: [V] factor on the standard deviation.
        scales: (length in mm, standard deviation) of each Gaussian.
        keep: eigenfunctions of each kind.
        num_inducing: points on the half face at which the kernel is decomposed.

    Returns:
        even [V, keep] and odd [V, keep], so that the sum of squares over both is the variance.
    """
    half = np.flatnonzero(points[:, 0] >= 0)
    chosen = [half[int(np.argmax(points[half, 2]))]]
    distance = np.full(len(half), np.inf)
    for _ in range(num_inducing - 1):  # farthest points: even coverage
        distance = np.minimum(distance, ((points[half] - points[chosen[-1]]) ** 2).sum(1))
        chosen.append(half[int(distance.argmax())])
    inducing = points[chosen]
    mirrored = inducing * np.where(np.arange(points.shape[1]) == 0, -1, 1)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        squared = np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0)
        total = np.zeros_like(squared)
        for length, sd in scales:
            total += sd**2 * np.exp(-0.5 * squared / length**2)
        return total

    among = kernel(inducing, inducing), kernel(inducing, mirrored)
    across = kernel(points, inducing), kernel(points, mirrored)
    result = []
    for sign in (1, -1):
        a = (among[0] + sign * among[1]) * 0.5 * amplitude[chosen][:, None] * amplitude[chosen]
        b = (across[0] + sign * across[1]) * 0.5 * amplitude[:, None] * amplitude[chosen]
        jitter = 1e-8 * np.trace(a) / len(a)
        values, vectors = np.linalg.eigh(a + jitter * np.eye(len(a)))
        values, vectors = values[::-1][:keep], vectors[:, ::-1][:, :keep]
        result.append(b @ (vectors / np.sqrt(np.maximum(values, 1e-12))))
    return result[0], result[1]


def vector_fields(
    even: np.ndarray,
    odd: np.ndarray,
    axis_scale: tuple[float, float, float],
    asymmetric_variance: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Displacement fields from scalar functions: (symmetric [K, V, 3], antisymmetric [K, V, 3]).

    A symmetric field is odd in x and even in y and z.
    """
    kinds = []
    for weight, parts in (
        (1.0, (odd, even, even)),
        (np.sqrt(asymmetric_variance), (even, odd, odd)),
    ):
        fields = []
        for axis, functions in enumerate(parts):
            block = np.zeros((functions.shape[1], len(functions), 3))
            block[:, :, axis] = functions.T * (axis_scale[axis] * weight * np.sqrt(2))
            fields.append(block)
        kinds.append(np.concatenate(fields))
    return kinds[0], kinds[1]


def principal(symmetric: np.ndarray, antisymmetric: np.ndarray, count: int) -> np.ndarray:
    """The `count` strongest principal modes [count, V, C] of random sums of fields [K, V, C].

    Each kind on its own, so that every mode is exactly symmetric or antisymmetric; then by variance. The
    sign makes the entry of largest size positive.
    """
    modes, variances = [], []
    for fields in (symmetric, antisymmetric):
        if not len(fields):
            continue
        flat = fields.reshape(len(fields), -1)
        values, vectors = np.linalg.eigh(flat @ flat.T)
        kept = values > values.max() * 1e-9
        mixed = vectors[:, kept].T @ flat
        peak = np.abs(mixed).argmax(1)
        mixed *= np.sign(mixed[np.arange(len(mixed)), peak])[:, None]
        modes.append(mixed.reshape(-1, *fields.shape[1:]))
        variances.append(values[kept])
    order = np.argsort(-np.concatenate(variances), kind="stable")[:count]
    return np.concatenate(modes)[order]


def identity_basis(vertices: np.ndarray, eyes: np.ndarray, count: int = 80) -> np.ndarray:
    """Shape modes [count, V, 3] in mm, scaled by their standard deviations."""
    authored = np.stack(list(identity_fields(vertices).values()))
    even, odd = scalar_process(
        vertices,
        _identity_amplitude(vertices),
        ((75.0, 1.7), (38.0, 1.15), (19.0, 0.70), (10.0, 0.28)),
        keep=90,
    )
    symmetric, antisymmetric = vector_fields(even, odd, (0.85, 0.9, 1.1), 0.07)
    symmetric = np.concatenate([authored, symmetric])
    for fields in (symmetric, antisymmetric):
        _keep_eyes_round(fields, vertices, eyes)
    return IDENTITY_SCALE * principal(symmetric, antisymmetric, count)


def _keep_eyes_round(fields: np.ndarray, vertices: np.ndarray, eyes: np.ndarray) -> None:
    """Let each eyeball take only the affine part of every field, or irises become ovals."""
    for side in (1, -1):
        index = np.flatnonzero(eyes & (np.sign(vertices[:, 0]) == side))
        frame = np.column_stack([vertices[index], np.ones(len(index))])
        solve = frame @ np.linalg.pinv(frame)
        fields[:, index] = np.einsum("ij,kjc->kic", solve, fields[:, index])
