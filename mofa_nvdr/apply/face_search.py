"""Where the faces of photographs are that people give to commands, and what is decoded of each.

The landmark networks find them where they are on this machine; else OpenCV's cascades, which come with the
package. A picture in which nothing is found may be a face crop, which is too tight for a detector: it is
taken whole, and its certainty decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.apply.largest_face import known_pixels
from mofa_nvdr.data.crops.finder import FaceFinder, FoundFace, cut_around, cut_excerpt
from mofa_nvdr.data.crops.framing import Crop
from mofa_nvdr.data.decoding import Excerpt, Picture
from mofa_nvdr.data.images import central_square, picture_square
from mofa_nvdr.networks.landmark_detector import LandmarkDetector

LONGEST = 1280  # px of the copy in which faces are sought
_SMALLEST = 24  # px of a face's crop in the photograph
_SCORE = 0.0  # the second cascade and the certainty of the reconstruction tell faces from others
_MARGIN = 0.5  # sides about a crop that are decoded, for the framing by the predicted face
_FINEST = 1.6  # of what a crop needs: the second framing may be that much tighter
BY_DETECTOR = "detector"  # finder.FoundFace.found_by
WHOLE = "whole picture"


@dataclass(frozen=True)
class Candidate:
    """A square of a photograph that is to be reconstructed.

    Attributes:
        crop: where it lies in the photograph.
        size: height and width of the photograph, px.
        found_by: "networks", BY_DETECTOR, or WHOLE: the picture's central square, in which nothing was found.
        pixels: bytes [S, S, 3].
        part: the photograph about the crop, for other sizes and framings.
        points: [478, 2] landmarks, px of the photograph; None: unknown.
        points68: [68, 2], likewise.
    """

    crop: Crop
    size: tuple[int, int]
    found_by: str
    pixels: np.ndarray
    part: Excerpt
    points: np.ndarray | None = None
    points68: np.ndarray | None = None

    def cut(self, crop: Crop, size: int) -> np.ndarray:
        """Another framing of the same face, bytes [size, size, 3]."""
        return cut_excerpt(self.part, crop, size)

    def known(self, crop: Crop, size: int) -> Tensor:
        """Another framing as it is fitted: [3, size, size] in [0, 1], NaN beyond the photograph's edges."""
        pixels = torch.from_numpy(self.cut(crop, size)).permute(2, 0, 1).float() / 255
        inside = torch.from_numpy(known_pixels(crop, size, *self.size))
        return torch.where(inside, pixels, torch.nan)


class FaceSearch:
    """Finds the faces of photographs.

    Args:
        size: side of the squares that are cut, px.
        detector: the landmark networks; None: OpenCV's cascades.
    """

    def __init__(self, size: int, detector: LandmarkDetector | None = None) -> None:
        self._size = size
        networks = None if detector is None else detector.points
        self._finder = FaceFinder(_SMALLEST, _SCORE, LONGEST, networks=networks)

    @staticmethod
    def load(size: int) -> FaceSearch:
        """With the landmark networks, if they are on this machine.

        Raises:
            ValueError: their files are damaged.
        """
        return FaceSearch(size, LandmarkDetector.load() if LandmarkDetector.is_here() else None)

    def __call__(self, picture: Picture) -> list[Candidate]:
        """The faces of a photograph, the largest first; if there are none, the picture itself.

        Raises:
            ImageError: the photograph cannot be decoded.
        """
        faces, _ = self._finder.find(picture)
        faces = [face for face in faces if _overlap(face.crop, picture) > 0.5]
        if not faces:
            return [whole(picture, self._size)]
        return [self._cut(picture, f) for f in sorted(faces, key=lambda f: -f.crop.side)]

    def _cut(self, picture: Picture, face: FoundFace) -> Candidate:
        crop, size = face.crop, round(_FINEST * self._size)
        part = cut_around(picture, crop, _MARGIN * crop.side, size)
        pixels = cut_excerpt(part, crop, self._size)
        frame = (picture.height, picture.width)
        return Candidate(crop, frame, face.found_by, pixels, part, face.dense, face.landmarks)


def whole(picture: Picture, size: int) -> Candidate:
    """The central square of a picture as a face crop.

    Raises:
        ImageError: the picture cannot be decoded.
    """
    left, top, side = central_square(picture.height, picture.width)
    crop, frame = Crop(left, top, side), (picture.height, picture.width)
    part = cut_around(picture, crop, 0.0, size)
    return Candidate(crop, frame, WHOLE, picture_square(picture, size), part)


def _overlap(crop: Crop, picture: Picture) -> float:
    """Share of a crop that is inside of its picture."""
    wide = min(crop.left + crop.side, picture.width) - max(crop.left, 0)
    high = min(crop.top + crop.side, picture.height) - max(crop.top, 0)
    return max(wide, 0) * max(high, 0) / crop.side**2
