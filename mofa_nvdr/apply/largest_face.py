"""The largest face of a photograph as fitting takes it: a crop, what of it is known, and its landmarks."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.data.crops.finder import cut_crop
from mofa_nvdr.data.crops.framing import Crop, crop_from_landmarks
from mofa_nvdr.data.decoding import Picture
from mofa_nvdr.data.images import ImageError
from mofa_nvdr.networks.landmark_detector import LandmarkDetector
from mofa_nvdr.system.notes import say

FIT_SIZE = 240  # px of the crops that results are of, as the paper's
_LONGEST = 1280  # px of the copy in which faces are sought


@dataclass(frozen=True)
class FacePhotograph:
    """A photograph's face.

    Attributes:
        photo: [3, 240, 240] in [0, 1]; NaN beyond the picture's edges.
        crop: where it lies in the photograph.
        points: [478, 2] or [68, 2] landmarks, px of the crop; None: none were sought.
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
    copy = picture.copy(_LONGEST)
    faces = detector(copy.pixels)
    if not faces:
        raise ImageError(f"{path}: no face found")
    if len(faces) > 1:
        say(f"note: {path}: {len(faces)} faces, the largest is fitted", sys.stderr)
    marks = faces[0].landmarks68 * copy.factor + [copy.left, copy.top]
    crop = crop_from_landmarks(marks)
    points = marks
    if dense:
        points = faces[0].points[:, :2] * copy.factor + [copy.left, copy.top]
    pixels = torch.from_numpy(cut_crop(picture, crop, FIT_SIZE)).permute(2, 0, 1).float() / 255
    known = torch.from_numpy(known_pixels(crop, FIT_SIZE, picture.height, picture.width))
    photo = torch.where(known, pixels, torch.nan)
    inside = torch.from_numpy(crop.to_crop(points, FIT_SIZE)).float()
    size = picture.height, picture.width
    return FacePhotograph(photo, crop, inside, float(faces[0].score), size, picture.focal_35mm)


def known_pixels(crop: Crop, size: int, height: int, width: int) -> np.ndarray:
    """[size, size] bool: where the pixels of a crop lie inside of the picture."""
    middle = (np.arange(size) + 0.5) * (crop.side / size)
    x, y = crop.left + middle, crop.top + middle
    return ((y > 0) & (y < height))[:, None] & ((x > 0) & (x < width))[None]
