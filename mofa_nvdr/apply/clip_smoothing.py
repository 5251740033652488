"""Smoothing of series without lag: calm where nothing happens, at full speed where something does.

Every value becomes that of a parabola through its neighbours, before and after alike, weighted by a kernel
in time (local polynomial regression, of which the filter of Savitzky and Golay 1964 is the case of even
times and equal weights). Such a filter shifts nothing, but it flattens what is faster than its span: a lid
shuts within three frames. So what it took away is looked at in turn: where it is larger than the noise of
the series explains, it is put back (firm shrinkage, Gao and Bruce 1997, of a local energy). Noise is told
from motion by fourth differences, which hardly see motion, and by the directions that each prefers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Local energies of what the parabola took away, in variances of noise: below it is noise, above it is motion.
_NOISE, _MOTION = 5.0, 9.0
_NEAR = np.array([1.0, 2.0, 3.0, 2.0, 1.0]) / 9  # weights of the frames about a local energy
_FOURTH = np.array([1.0, -4.0, 6.0, -4.0, 1.0])
_QUIET = 0.6  # share of the frames, the stillest, of which noise is measured
_LEAST_FRAMES = 9  # of a series in which noise can be told from motion
_RIDGE = 1e-4
_AT_ENDS = 0.5  # of the ridge on curvature, by how one-sided the neighbours are


@dataclass(frozen=True)
class Smoothing:
    """How a series is smoothed.

    Attributes:
        span: s before and after a frame that its parabola sees.
        quick: the same of the parabola that stands in where motion is fast; a blink keeps its speed.
        adaptive: there is such a second parabola.
    """

    span: float
    quick: float = 0.095
    adaptive: bool = True


def smooth(
    values: np.ndarray, times: np.ndarray, weights: np.ndarray, how: Smoothing
) -> np.ndarray:
    """A series without its noise, with no lag.

    Args:
        values: [N, C]; rows of weight 0 may hold anything finite.
        times: [N] s, increasing; they need not be even.
        weights: [N] 0 or more, how much each row is trusted; 0: unknown, which is filled in. A series
            that goes on beyond a long gap is better cut there.
        how: span and kind.

    Returns:
        [N, C] float64.

    Raises:
        ValueError: shapes disagree, or no weight is above 0.
    """
    values, times = np.asarray(values, np.float64), np.asarray(times, np.float64)
    weights = np.asarray(weights, np.float64)
    if values.ndim != 2 or times.shape != values.shape[:1] or weights.shape != times.shape:
        raise ValueError(
            f"smooth: values is {list(values.shape)}, times {list(times.shape)} and weights "
            f"{list(weights.shape)}, expected [N, C], [N] and [N]"
        )
    if not (weights > 0).any():
        raise ValueError("smooth: every weight is 0; there is nothing to smooth")
    base, leverage = local_parabola(values, times, weights, how.span)
    known = weights > 0
    if not how.adaptive or known.sum() < _LEAST_FRAMES:
        return base
    left = np.where(known[:, None], values - base, 0.0)
    axes, back = _noise_axes(values, known)
    z = left @ axes  # unit noise in every direction
    fast = (local_parabola(values, times, weights, how.quick)[0] - base) @ axes
    # What a parabola leaves of unit noise: it has followed a part, the more the fewer frames it saw.
    expected = np.clip(1 - leverage, 0.05, 1.0)[:, None]
    z, turned = _principal(z, float(np.mean(expected[known])), int(known.sum()))
    share = np.clip((_local(z**2 / expected, known) - _NOISE) / (_MOTION - _NOISE), 0, 1)
    share = share * share * (3 - 2 * share)
    return base + (share * (fast @ turned)) @ turned.T @ back


def local_parabola(
    values: np.ndarray, times: np.ndarray, weights: np.ndarray, span: float
) -> tuple[np.ndarray, np.ndarray]:
    """The values at each time of a parabola through the rows within `span` of it.

    Args:
        values: [N, C].
        times: [N] s, increasing.
        weights: [N] 0 or more.
        span: s before and after.

    Returns:
        [N, C], and [N] leverages: the share that each row's own value has in its result.
    """
    count = len(times)
    reach = _reach(times, span)
    sums = np.zeros((count, 3, 3))
    right = np.zeros((count, 3, values.shape[1]))
    for k in range(-reach, reach + 1):
        rows = np.arange(max(0, -k), min(count, count - k))
        x = (times[rows + k] - times[rows]) / span
        w = weights[rows + k] * np.clip(1 - x * x, 0, None) ** 3
        powers = np.stack([np.ones_like(x), x, x * x])  # [3, n]
        sums[rows] += np.einsum("in,jn,n->nij", powers, powers, w)
        right[rows] += np.einsum("in,n,nc->nic", powers, w, values[rows + k])
    # At the ends and in gaps few rows tell slope and curvature: the ridge then holds them back. Where nothing
    # is seen at all, the nearest known rows step in.
    scale = np.maximum(sums[:, 0, 0], 1e-12)
    lopsided = (
        np.abs(sums[:, 0, 1]) / scale
    )  # 0 within, 0.3 at the ends, where curvature would shake
    sums[:, 1, 1] += _RIDGE * scale
    sums[:, 2, 2] += (_RIDGE + _AT_ENDS * lopsided**2) * scale
    empty = sums[:, 0, 0] <= 0
    sums[empty] = np.eye(3)
    result = np.linalg.solve(sums, right)[:, 0]
    unit = np.zeros((count, 3, 1))
    unit[:, 0] = 1
    leverage = np.linalg.solve(sums, unit)[:, 0, 0] * weights
    if empty.any():
        known = np.flatnonzero(weights > 0)
        for c in range(values.shape[1]):
            result[empty, c] = np.interp(times[empty], times[known], values[known, c])
    return result, leverage


def jitter(points: np.ndarray) -> float:
    """How much points tremble: the root mean square of their second differences in time.

    Args:
        points: [N, P, D] at N frames in a row; px, mm or anything.

    Returns:
        In the unit of the points, per frame squared; the norm over D. 0 of fewer than three frames.
    """
    if len(points) < 3:
        return 0.0
    second = points[2:] - 2 * points[1:-1] + points[:-2]
    return float(np.sqrt((second**2).sum(-1).mean()))


def _reach(times: np.ndarray, span: float) -> int:
    """Most rows that lie within `span` of one, to either side."""
    after = np.searchsorted(times, times + span, "left") - np.arange(len(times)) - 1
    return max(1, int(after.max(initial=1)))


def _noise_axes(values: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[C, C] that gives noise unit covariance, and its inverse, both to be multiplied from the right."""
    channels = values.shape[1]
    whole = np.convolve(known, np.ones(5), "valid") == 5
    fourth = sum(f * values[k : len(values) - 4 + k] for k, f in enumerate(_FOURTH))
    fourth = fourth[whole] / np.sqrt((_FOURTH**2).sum())
    if len(fourth) < 3:
        return np.eye(channels), np.eye(channels)
    deviation = np.maximum(_robust_deviation(fourth), 1e-9 + 1e-6 * np.abs(values).max())
    unit = fourth / deviation
    energy = (unit**2).sum(1)
    quiet = unit[energy <= np.quantile(energy, _QUIET)]
    # The stillest frames have less than their share of noise: the trace is set right again.
    covariance = quiet.T @ quiet
    covariance *= channels / max(np.trace(covariance), 1e-12)
    # As many numbers as the covariance has cannot be told from few frames.
    trust = len(quiet) / (len(quiet) + 2 * channels)
    covariance = trust * covariance + (1 - trust) * np.eye(channels)
    lengths, directions = np.linalg.eigh(covariance)
    lengths = np.sqrt(np.maximum(lengths, 1e-3))
    axes = (directions / lengths) / deviation[:, None]
    back = (directions * lengths).T * deviation
    return axes, back


def _robust_deviation(series: np.ndarray) -> np.ndarray:
    """[C] deviations by the median of magnitudes, which rare jumps do not change."""
    return np.median(np.abs(series), axis=0) / 0.6745


def _principal(z: np.ndarray, noise: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows [N, K] in the K directions [C, K] that vary more than noise of a variance does in any."""
    strengths, directions = np.linalg.eigh(z.T @ z / count)
    # The largest eigenvalue of as many draws of noise (Marchenko and Pastur 1967).
    edge = noise * (1 + np.sqrt(z.shape[1] / count)) ** 2
    kept = directions[:, strengths > edge]
    return z @ kept, kept


def _local(energy: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Averages over neighbours in time of [N, C], of known rows alone."""
    padded = np.pad(energy * known[:, None], ((2, 2), (0, 0)))
    counted = np.pad(known.astype(float), 2)
    rows = range(len(energy))
    total = sum(w * padded[k : k + len(rows)] for k, w in enumerate(_NEAR))
    share = sum(w * counted[k : k + len(rows)] for k, w in enumerate(_NEAR))
    return np.asarray(total) / np.maximum(np.asarray(share)[:, None], 1e-9)
