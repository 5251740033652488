"""What a number of landmarks means, and the iBUG landmarks of sets that have more points.

WFLW's 98 (Wu et al. 2018) and JD-landmark's 106 (Liu et al. 2019; LaPa's too) follow the same contours as
iBUG's 68 more closely: their jaw has every second point between, their eyes a point in the middle of each
lid. MediaPipe's mesh is converted by `face.ibug_points`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mofa_nvdr.face.dense_landmarks import NUM_DENSE, NUM_MESH
from mofa_nvdr.face.ibug_points import ibug_landmarks
from mofa_nvdr.face.landmarks import NUM_LANDMARKS

# Right and left eye, tip of the nose, corners of the mouth, by the points that they are the mean of.
_FIVE = (range(36, 42), range(42, 48), (30,), (48,), (54,))
_LANDMARKS = tuple((k,) for k in range(NUM_LANDMARKS))
# The sets' points of each lid lie at quarters of its length, iBUG's at thirds.
_NEXT = 1 / 3


def _of_contours(nose: Sequence[int], eyes: tuple[int, int], mouth: int) -> tuple[np.ndarray, ...]:
    """Two points of a set for each of the 68 landmarks, and the share of the second [68, 1].

    Args:
        nose: its five lower points, from the subject's right.
        eyes: first point of the subject's right and left eye, each eight points around: that is the outer
            corner of the right eye, and the inner one of the left.
        mouth: first of the outer lips' twelve points; the inner lips' eight follow.
    """
    rows = [(k, k, 0.0) for k in range(0, 33, 2)]  # jaw
    rows += [(k, k, 0.0) for k in (*range(33, 38), *range(42, 47))]  # upper edges of the brows
    rows += [(k, k, 0.0) for k in (*range(51, 55), *nose)]
    for eye in eyes:
        lids = ((0, 0), (1, 2), (3, 2), (4, 4), (5, 6), (7, 6))
        rows += [(eye + a, eye + b, _NEXT * (a != b)) for a, b in lids]
    rows += [(k, k, 0.0) for k in range(mouth, mouth + 20)]
    table = np.array(rows)
    return table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2:]


_CONTOURS = {
    98: _of_contours(range(55, 60), (60, 68), 76),
    106: _of_contours(range(58, 63), (66, 75), 84),
}


def _by_contours(points: np.ndarray) -> np.ndarray:
    first, second, share = _CONTOURS[points.shape[-2]]
    return (1 - share) * points[..., first, :] + share * points[..., second, :]


@dataclass(frozen=True)
class PointSet:
    """What a number of points means.

    Attributes:
        name: in messages.
        parts: the landmarks of the 68 whose mean each point is, after `convert`; empty: the set is not read.
        limit: largest remainder of a face (see `landmark_shape.Fit`).
        convert: points [..., N, 2] to the 68 landmarks; None: as they are.
    """

    name: str
    parts: tuple[Sequence[int], ...] = ()
    limit: float = 0.0
    convert: Callable[[np.ndarray], np.ndarray] | None = None


POINT_SETS = {
    5: PointSet("right eye, left eye, nose, right and left mouth corner", _FIVE, 0.32),
    21: PointSet("AFLW's 21"),
    29: PointSet("COFW's 29"),
    51: PointSet("iBUG's 51 without the jaw"),
    NUM_LANDMARKS: PointSet("iBUG's 68", _LANDMARKS, 0.4),
    98: PointSet("WFLW's 98", _LANDMARKS, 0.4, _by_contours),
    106: PointSet("JD-landmark's 106", _LANDMARKS, 0.4, _by_contours),
    194: PointSet("Helen's 194"),
    NUM_MESH: PointSet("MediaPipe's 468", _LANDMARKS, 0.4, ibug_landmarks),
    NUM_DENSE: PointSet("MediaPipe's 478, with irises", _LANDMARKS, 0.4, ibug_landmarks),
}
"""Number of points -> what they are; one without `parts` is named and not read."""
READ = tuple(count for count, kind in POINT_SETS.items() if kind.parts)
READ_WORDS = f"{', '.join(map(str, READ[:-1]))} or {READ[-1]}"
"""The numbers that are read, in words."""


def as_landmarks(points: np.ndarray) -> np.ndarray:
    """The 68 landmarks [..., 68, 2] of points [..., N, 2] of a number that is read; 5 stay 5."""
    convert = POINT_SETS[points.shape[-2]].convert
    return points if convert is None else convert(points)


def as_dense(points: np.ndarray) -> np.ndarray | None:
    """MediaPipe's 478 points [478, 2] where points [N, 2 or 3] are these, else None.

    Of 468 the irises are not known: NaN.
    """
    if len(points) not in (NUM_MESH, NUM_DENSE):
        return None
    dense = np.full((NUM_DENSE, 2), np.nan)
    dense[: len(points)] = points[:, :2]
    return dense
