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
