"""Whether points are those of a face, in their order and in the frame of a picture; what is wrong if not.

The points are compared with views of a mean face: the similarity (turn, size, place) that fits best, over
heads turned by up to 90 degrees to the side and 30 up and down. A rolled head fits as well as an upright one.
What is left over tells points of something else, and the fit of the mirrored points tells columns that are
exchanged, an axis that runs the other way, and left that is taken for right.

Convention: pixels of the picture as a viewer shows it (after the EXIF turn), x right and y down from the top
left corner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import numpy as np

from mofa_nvdr.data.crops.point_sets import POINT_SETS, PointSet, as_landmarks

# Mean places of the 68 landmarks on the built-in face: mm; x to the subject's left, y up, z to the viewer.
# fmt: off
_MEAN = np.array([
    (-75, 38, -69), (-75, 22, -71), (-73, 4, -59), (-69, -14, -62), (-61, -32, -55),
    (-52, -48, -36), (-38, -63, -15), (-20, -76, 2), (0, -81, 6), (20, -76, 2), (38, -63, -15),
    (52, -48, -36), (61, -32, -55), (69, -14, -62), (73, 4, -59), (75, 22, -71), (75, 38, -69),
    (-54, 53, -9), (-46, 59, 4), (-35, 61, 13), (-24, 58, 19), (-13, 55, 20), (13, 55, 20),
    (24, 58, 19), (35, 61, 13), (46, 59, 4), (54, 53, -9), (0, 38, 16), (0, 25, 22), (0, 12, 31),
    (0, 2, 40), (-13, -6, 19), (-7, -9, 20), (0, -10, 21), (7, -9, 20), (13, -6, 19), (-45, 38, 0),
    (-35, 41, 5), (-25, 40, 5), (-16, 34, 4), (-25, 31, 5), (-35, 32, 6), (16, 34, 4), (25, 40, 5),
    (35, 41, 5), (45, 38, 0), (35, 32, 6), (25, 31, 5), (-26, -31, 8), (-15, -26, 21),
    (-5, -24, 25), (0, -25, 25), (5, -24, 25), (15, -26, 21), (26, -31, 8), (15, -37, 18),
    (5, -39, 21), (0, -40, 21), (-5, -39, 21), (-15, -37, 18), (-23, -31, 11), (-8, -30, 20),
    (0, -31, 20), (8, -30, 20), (23, -31, 11), (8, -30, 20), (0, -31, 20), (-8, -30, 20),
], float)
# fmt: on
_FIVE_NAMES = ("right eye", "left eye", "nose", "right mouth corner", "left mouth corner")
# dlib's five: outer and inner corner of the left eye, of the right eye, base of the nose.
_DLIB_FIVE = ((45,), (42,), (36,), (39,), (33,))
_YAWS, _PITCHES = range(-90, 91, 15), (-30, 0, 30)  # degrees
# Of faces that fit as they are at most 0.28 is left over (measured: docs/data.md).
_SURE = 0.28
_MOST_PX = 1e7  # of any coordinate; no picture is that large
_LEAST_KNOWN = 34  # points of 68 by which a face can be told from something else


@dataclass(frozen=True)
class Fit:
    """How points [..., N, 2] fit the views of a mean face.

    Attributes:
        left: what the best similarity leaves over, as a share of the points' spread, [...].
        roll: turn of the head in the picture, clockwise, radians, [...].
        mirrored: the same as `left` for the points with y upside down.
        mirrored_roll: the same as `roll` for them.
    """

    left: np.ndarray
    roll: np.ndarray
    mirrored: np.ndarray
    mirrored_roll: np.ndarray


def fit_face(points: np.ndarray, parts: tuple[Sequence[int], ...] = ()) -> Fit:
    """Fit points [..., N, 2] to views of a face; where a point isn't finite, `left` and `mirrored` are 1.

    Args:
        points: pixels; N is a count that is read, unless `parts` says what they are.
        parts: the landmarks of the 68 whose mean each point is.
    """
    points = np.asarray(points, np.float64)
    if not parts:
        parts, points = POINT_SETS[points.shape[-2]].parts, as_landmarks(points)
    views = _views(tuple(tuple(p) for p in parts))  # [V, N]
    finite = (np.abs(points) < _MOST_PX).all((-1, -2))
    points = np.where(finite[..., None, None], points, 0.0)
    z = points[..., 0] + 1j * points[..., 1]
    z = z - z.mean(-1, keepdims=True)
    z = z / np.maximum(np.linalg.norm(z, axis=-1, keepdims=True), 1e-12)

    def best(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        match = z @ views.conj().T  # [..., V]
        index = np.abs(match).argmax(-1)[..., None]
        found = np.take_along_axis(match, index, -1)[..., 0]
        return np.sqrt(np.maximum(0.0, 1 - np.abs(found) ** 2)), np.angle(found)

    return Fit(*best(z), *best(z.conj()))


def wrong_points(points: np.ndarray, height: int = 0, width: int = 0) -> str:
    """Why points cannot be a face's in pixels of a picture, as words for "the points ..."; empty: they can.

    Args:
        points: [N, 2] of a count that is read; those that are not finite are not known.
        height: of the picture, pixels; 0: not known, and the place is not checked.
        width: the same.
    """
    kind = POINT_SETS[len(points)]
    marks, parts = as_landmarks(points), kind.parts
    points = points[np.isfinite(points).all(-1)]
    known = np.isfinite(marks).all(-1)
    if not known.all():
        if known.sum() < _LEAST_KNOWN:
            return ""  # too few to tell
        marks, parts = marks[known], tuple(np.array(parts, object)[known])
    low, high = points.min(0), points.max(0)
    if (low == high).all():
        return "are all at one place"
    if max(-low.min(), high.max()) >= _MOST_PX:
        return (
            f"are up to {max(-low.min(), high.max()):.3g} px away, expected pixels of the picture"
        )
    # A face of 2 px is none; whoever counts in shares of the picture has all points in such a square.
    if (high - low).max() <= 2 and low.min() >= -1.5 and high.max() <= 2:
        share = "[-1, 1]" if low.min() < -0.1 else "[0, 1]"
        ways = (
            "bring them to pixels"
            if low.min() < -0.1
            else "multiply x by its width, y by its height"
        )
        return f"look normalised to {share}, expected pixels of the picture: {ways}"
    if _counts(points[:, 0]) or _counts(points[:, 1]):
        return "look like numbers of points and one coordinate, expected x and y: remove the index column"
    fit = fit_face(marks, parts)
    if fit.left > _SURE and fit.mirrored < 0.7 * fit.left and fit.mirrored < kind.limit:
        return _mirrored(float(np.degrees(fit.mirrored_roll)))
    if fit.left > kind.limit:
        return _other_order(points, kind)
    if height and width:
        outside = ((points < 0) | (points > [width, height])).any(-1).mean()
        if outside > 0.5:
            return (
                f"lie outside the picture of {width}x{height} px (x {low[0]:.0f} to {high[0]:.0f}, y "
                f"{low[1]:.0f} to {high[1]:.0f}): are they of another size of it, or of a larger picture?"
            )
    return ""


def wrong_rows(points: np.ndarray) -> dict[int, str]:
    """Row -> what is wrong, of a table [M, N, 2]; rows that can be a face's are left out."""
    whole = np.isfinite(points).all((-1, -2))
    fit = fit_face(points)
    points = np.asarray(points, np.float64)
    suspect = (fit.left > _SURE) | (np.ptp(points, axis=1).max(-1) <= 2) | ~whole
    found = {int(row): wrong_points(points[row]) for row in np.flatnonzero(suspect)}
    return {row: reason for row, reason in found.items() if reason}


@lru_cache(maxsize=64)  # sets in which points are unknown are many
def _views(parts: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """The mean face from all sides, complex [V, N], of mean 0 and length 1."""
    mean = np.stack([_MEAN[list(part)].mean(0) for part in parts])
    views = []
    for yaw in np.radians(_YAWS):
        for pitch in np.radians(_PITCHES):
            x = mean[:, 0] * np.cos(yaw) + mean[:, 2] * np.sin(yaw)
            z = mean[:, 2] * np.cos(yaw) - mean[:, 0] * np.sin(yaw)
            view = x - 1j * (mean[:, 1] * np.cos(pitch) - z * np.sin(pitch))
            view = view - view.mean()
            views.append(view / np.linalg.norm(view))
    return np.array(views)


def _counts(column: np.ndarray) -> bool:
    """Whether a column counts the points from 0 or 1 on; no face's coordinates do."""
    steps = column - np.arange(len(column))
    return len(column) > 2 and bool((steps == steps[0]).all()) and steps[0] in (0, 1)


def _mirrored(roll: float) -> str:
    """What mirrored points look like, by the turn in degrees of what is upright with y upside down."""
    if -135 < roll < -45:
        return "look like rows of y and x, expected x and y: exchange the columns"
    if -45 <= roll <= 45:
        return "look as if y counted from the bottom, expected from the top: subtract y from the height"
    if abs(roll) >= 135:
        return (
            "are mirrored: x counts from the right, or the subject's left and right are exchanged; "
            "expected x from the left, and the subject's right side first"
        )
    return "are mirrored, as those of a picture that is turned and mirrored; expected it as viewers show it"


def _other_order(points: np.ndarray, kind: PointSet) -> str:
    if len(points) == 5:
        fit = fit_face(points, _DLIB_FIVE)
        if fit.left < kind.limit:
            return (
                "look like dlib's five (corners of the eyes first, nose last), which have no mouth; "
                f"expected {kind.name}"
            )
        orders = np.array(list(permutations(range(5))))
        fits = fit_face(points[orders])
        upright = np.abs(fits.roll) < np.pi / 4
        best = int(np.where(upright, fits.left, 1.0).argmin())
        if upright[best] and fits.left[best] < 0.2:
            names = [""] * 5
            for name, row in zip(_FIVE_NAMES, orders[best]):
                names[row] = name
            return f"look like {', '.join(names)}; expected {kind.name}"
    return f"do not have the shape of a face: expected {kind.name}, in this order"
