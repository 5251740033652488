"""Photographs of noise with landmarks of faces that are not there, for the tests of crops."""

from __future__ import annotations

import csv
from pathlib import Path

import imageio.v3 as iio
import numpy as np

from mofa_nvdr.data.crops import landmark_shape
from mofa_nvdr.face.ibug_points import ibug_landmarks

# Right eye, left eye, nose, mouth corners of a face that looks ahead.
POINTS_5 = np.array([[80.0, 90], [120, 90], [100, 115], [85, 140], [115, 140]])


def points_68(seed: int = 0) -> np.ndarray:
    """Landmarks of a face that looks ahead, in a box of 60 to 140 across and 50 to 150 down."""
    points = frontal_68() + np.random.default_rng(seed).uniform(-0.02, 0.02, (68, 2))
    low, high = points.min(0), points.max(0)
    return [60, 50] + (points - low) / (high - low) * [80, 100]


def frontal_68() -> np.ndarray:
    """The mean face from the front, [68, 2], about 2 wide, x right and y down."""
    return landmark_shape._MEAN[:, :2] * [1, -1] / 75


def _lid(outer: np.ndarray, inner: np.ndarray, height: float, steps: int) -> list[np.ndarray]:
    """Points of a parabola between the corners of an eye, without them."""
    shares = np.arange(1, steps) / steps
    return [(1 - t) * outer + t * inner + [0, -4 * height * t * (1 - t)] for t in shares]


def face(kind: int) -> np.ndarray:
    """A frontal face in a picture of 240 px, by the contours of a set of 68, 98 or 106 points."""
    mean = 50 * frontal_68() + [120, 120]
    steps = 3 if kind == 68 else 4
    jaw = np.stack([np.interp(np.arange(0, 16.5, 1 if kind == 68 else 0.5), range(17), axis)
                    for axis in mean[:17].T], 1)  # fmt: skip
    points = [*jaw]
    for brow in (mean[17:22], mean[22:27]):
        points += [*brow]
        if kind != 68:  # the lower edge, from the subject's left on the right brow
            lower = brow[1:] if brow[0, 0] < 120 else brow[:-1]
            points += [*(lower[::-1] + [0, 5])]
    points += [*mean[27:31]]
    wings = [*mean[31:36]]
    if kind == 106:  # the sides of the nose, down to its wings and up again
        sides = [mean[27] * (1 - t) + mean[31] * t + [-3, 0] for t in (0.3, 0.6, 0.9)]
        wings = [*sides, *wings, *([240 - x, y] for x, y in sides[::-1])]
    points += wings
    for first, second in ((36, 39), (42, 45)):
        a, b = mean[first], mean[second]
        lower = _lid(b, a, -3.0, steps)
        points += [a, *_lid(a, b, 6.0, steps), b, *lower]
        points += [(a + b) / 2] * (kind == 106)
    points += [*mean[48:68]]
    points += [(mean[36] + mean[39]) / 2, (mean[42] + mean[45]) / 2] * (kind != 68)
    return np.array(points)


def mesh_of(landmarks: np.ndarray, count: int = 478) -> np.ndarray:
    """Points [..., count, 2] of MediaPipe's numbers of faces with landmarks [..., 68, 2]."""
    each = np.zeros((count, count, 2))
    each[range(count), range(count)] = 1
    shares = ibug_landmarks(each)[..., 0].T  # [68, count]
    middle = landmarks.mean(-2, keepdims=True)
    return middle + np.linalg.pinv(shares) @ (landmarks - middle)


def photograph(folder: Path, name: str = "face.png", size: int = 240) -> Path:
    """Noise, which is sharp."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(name)).integers(0, 255, (size, size, 3)).astype(np.uint8)
    iio.imwrite(folder / name, pixels)
    return folder / name


def rows_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "index.csv", newline="") as file:
        return list(csv.DictReader(file))
