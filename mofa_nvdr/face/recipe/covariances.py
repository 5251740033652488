"""Gaussian processes on the face and principal modes: morphable models made from covariances alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def gaussians(a: np.ndarray, b: np.ndarray, scales: Sequence[tuple[float, float]]) -> np.ndarray:
    """A sum of Gaussians of the distances between points [A, D] and [B, D]: [A, B].

    Args:
        a: the first points.
        b: the others.
        scales: (length, factor) of each Gaussian.
    """
    squared = np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0)
    total = np.zeros_like(squared)
    for length, factor in scales:
        total += factor * np.exp(-0.5 * squared / length**2)
    return total


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

    variances = [(length, sd**2) for length, sd in scales]
    among = [gaussians(inducing, others, variances) for others in (inducing, mirrored)]
    across = [gaussians(points, others, variances) for others in (inducing, mirrored)]
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
        # Of an entry and its mirror image, equal but for rounding, the first.
        size = np.abs(mixed)
        peak = (size > 0.999 * size.max(1, keepdims=True)).argmax(1)
        mixed *= np.sign(mixed[np.arange(len(mixed)), peak])[:, None]
        modes.append(mixed.reshape(-1, *fields.shape[1:]))
        variances.append(values[kept])
    order = np.argsort(-np.concatenate(variances), kind="stable")[:count]
    return np.concatenate(modes)[order]
