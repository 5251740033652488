"""The largest face of a photograph as fitting takes it: a crop, what of it is known, and its landmarks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.data.crops.finder import cut_crop
from mofa_nvdr.data.crops.framing import Crop, crop_from_landmarks
from mofa_nvdr.data.crops.point_sets import as_dense, as_landmarks
from mofa_nvdr.data.decoding import Picture
from mofa_nvdr.data.images import ImageError
from mofa_nvdr.networks.landmark_detector import LandmarkDetector
from mofa_nvdr.system.notes import say

FIT_SIZE = 240  # px of the crops that results are of, as the paper's
LONGEST = 1280
"""Px of the longer side of the copy in which faces are sought."""


@dataclass(frozen=True)
class FacePhotograph:
    """A photograph's face.

    Attributes:
        photo: [3, 240, 240] in [0, 1]; NaN beyond the picture's edges.
        crop: where it lies in the photograph.
        points: [478, 2], [68, 2] or [5, 2] landmarks, px of the crop; None: none were sought.
        score: of the landmark network, in [0, 1]; NaN without one.
        size: height and width of the photograph, px; focal_35mm: its focal length, as `Picture` has it.
    """

    photo: Tensor
    crop: Crop
    points: Tensor | None
    score: float = float("nan")
    size: tuple[int, int] = (0, 0)
    focal_35mm: float = 0.0


def largest_face(
    picture: Picture, path: Path, detector: LandmarkDetector, dense: bool = True
) -> FacePhotograph:
    """Find the largest face of a photograph.

    Args:
        picture: the photograph.
        path: its name in messages.
        detector: the landmark networks.
        dense: 478 landmarks; else 68.

    Raises:
        ImageError: no face.
    """
    copy = picture.copy(LONGEST)
    faces = detector(copy.pixels)
    if not faces:
        raise ImageError(f"{path}: no face found")
    _say_others(path, len(faces))
    marks = faces[0].landmarks68 * copy.factor + [copy.left, copy.top]
    points = marks
    if dense:
        points = faces[0].points[:, :2] * copy.factor + [copy.left, copy.top]
    return _cut(picture, crop_from_landmarks(marks), points, float(faces[0].score))


def known_face(
    picture: Picture, path: Path, every: Sequence[np.ndarray], dense: bool = True
) -> FacePhotograph:
    """The largest of the faces of a photograph whose points are known.

    Args:
        picture: the photograph.
        path: its name in messages.
        every: points [N, 2] of each face, of a number that is read (point_sets.READ), px of the photograph.
        dense: the face model has places for MediaPipe's points; else they count as iBUG's 68 of them.

    Raises:
        ImageError: the photograph cannot be decoded.
    """
    _say_others(path, len(every))
    given = max(every, key=lambda points: crop_from_landmarks(as_landmarks(points)).side)
    points = as_dense(given) if dense else None
    marks = as_landmarks(given)
    return _cut(picture, crop_from_landmarks(marks), marks if points is None else points)


def _say_others(path: Path, count: int) -> None:
    if count > 1:
        say(f"note: {path}: {count} faces, the largest is fitted", sys.stderr)


def _cut(
    picture: Picture, crop: Crop, points: np.ndarray, score: float = float("nan")
) -> FacePhotograph:
    """A crop of a photograph, and points in px of the photograph."""
    pixels = torch.from_numpy(cut_crop(picture, crop, FIT_SIZE)).permute(2, 0, 1).float() / 255
    known = torch.from_numpy(known_pixels(crop, FIT_SIZE, picture.height, picture.width))
    photo = torch.where(known, pixels, torch.nan)
    inside = torch.from_numpy(crop.to_crop(points, FIT_SIZE)).float()
    size = picture.height, picture.width
    return FacePhotograph(photo, crop, inside, score, size, picture.focal_35mm)


def known_pixels(crop: Crop, size: int, height: int, width: int) -> np.ndarray:
    """[size, size] bool: where the pixels of a crop lie inside of the picture."""
    middle = (np.arange(size) + 0.5) * (crop.side / size)
    x, y = crop.left + middle, crop.top + middle
    return ((y > 0) & (y < height))[:, None] & ((x > 0) & (x < width))[None]
