"""The faces of one photograph, large or small, and their crops: what is decoded for each, and how finely.

Faces are looked for in a small copy, whose size does not depend on the photograph's; each is then cut from as
fine a decoding as its crop needs. Coordinates are source pixels, as in framing.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mofa_nvdr.data.crops.detection import FaceDetector, LandmarkModel
from mofa_nvdr.data.crops.framing import Crop, crop_from_box, crop_from_landmarks
from mofa_nvdr.data.crops.point_sets import as_dense, as_landmarks
from mofa_nvdr.data.decoding import Excerpt, Picture
from mofa_nvdr.data.images import coarsest

Networks = Callable[[np.ndarray], Sequence[tuple[np.ndarray, float]]]
"""A picture, bytes [H, W, 3], to (points [N, 2] of a number that is read, certainty) of each face."""

# Crops by landmarks and by the detector's box differ by 8 % in size and 5 % in place (one deviation).
_MOST_APART = 0.35
_SURE_NETWORKS = 0.8  # of 1: they see a face, and its landmarks are on it
_CHECKED = 40  # px, smallest face by which known landmarks are checked
_LEAST_BOX = 20  # px of the copy; the cascade's own window is 24, scaled
_LANDMARK_SIZE = 128  # px; a landmark model sees faces no smaller if the photograph has them so


@dataclass(frozen=True)
class FoundFace:
    """A face of a photograph.

    Attributes:
        crop: the training framing; may reach beyond the photograph.
        landmarks: [68, 2] or [5, 2]; None: unknown.
        score: the detector's certainty; None: not detected, its landmarks were known.
        found_by: what detected it: "detector" of OpenCV, or "networks".
        dense: [478, 2], as `point_sets.as_dense` gives them; None: unknown.
    """

    crop: Crop
    landmarks: np.ndarray | None = None
    score: float | None = None
    found_by: str = "detector"
    dense: np.ndarray | None = None

    @staticmethod
    def of(points: np.ndarray, score: float | None = None, found_by: str = "detector") -> FoundFace:
        """A face with points [N, 2] of a number that is read, in the framing of its landmarks."""
        marks = as_landmarks(points)
        return FoundFace(crop_from_landmarks(marks), marks, score, found_by, as_dense(points))


class FaceFinder:
    """Finds the faces of photographs; threads may share one. OpenCV is loaded when it is first needed.

    Args:
        smallest: least side of a crop in the photograph, px.
        score: least certainty of the detector.
        longest: longer side of the copy in which faces are looked for, px.
        model: landmarks of the faces that are found; None: they have none.
        networks: find faces and their landmarks in the place of OpenCV and `model`; None: they are not asked.
    """

    def __init__(
        self,
        smallest: int,
        score: float,
        longest: int,
        model: LandmarkModel | None = None,
        networks: Networks | None = None,
    ) -> None:
        self._smallest, self._score, self._longest = smallest, score, longest
        self._model, self._networks = model, networks
        self._local = threading.local()
        self._lock = threading.Lock()  # two first imports of OpenCV at once see half of it

    def find(self, picture: Picture) -> tuple[list[FoundFace], int]:
        """The faces, the surest first, and how many more there were whose landmarks went astray.

        Raises:
            ImageError: the photograph cannot be decoded.
            RuntimeError: OpenCV 4 is not installed.
        """
        if self._networks is not None:
            return self._by_networks(picture.copy(self._longest)), 0
        faces, astray = [], 0
        for left, top, side, score in self._boxes(picture.copy(self._longest)):
            crop = crop_from_box(left, top, side)
            if self._model is None:
                faces.append(FoundFace(crop, None, score))
                continue
            part = cut_around(picture, crop, side, _LANDMARK_SIZE)
            box = (
                (left - part.left) / part.factor,
                (top - part.top) / part.factor,
                side / part.factor,
            )
            marks = self._model(part.pixels, box) * part.factor + [part.left, part.top]
            framed = crop_from_landmarks(marks)
            if _apart(framed, crop):
                astray += 1
            else:
                faces.append(FoundFace(framed, marks, score))
        return faces, astray

    def _by_networks(self, copy: Excerpt) -> list[FoundFace]:
        assert self._networks is not None
        faces = []
        for points, score in self._networks(copy.pixels):
            marks = points * copy.factor + [copy.left, copy.top]
            faces.append(FoundFace.of(marks, score, "networks"))
        return faces

    def sure(self, picture: Picture) -> list[np.ndarray]:
        """Landmarks [68, 2] of the faces of which the networks are sure, by which known ones are checked.

        Raises:
            ImageError: the photograph cannot be decoded.
        """
        if self._networks is None:
            return []
        found = self._by_networks(picture.copy(self._longest))
        return [
            face.landmarks
            for face in found
            if face.landmarks is not None and (face.score or 0.0) >= _SURE_NETWORKS
        ]

    def check(self, image: np.ndarray) -> list[tuple[float, float, float, float]] | None:
        """The faces by which known landmarks are checked; None: OpenCV is missing, and they need none."""
        try:
            return self._detector("checked", _CHECKED, 0.0).boxes(image)
        except RuntimeError:
            return None

    def _boxes(self, copy: Excerpt) -> list[tuple[float, float, float, float]]:
        """(left, top, side, score) of the faces in a copy of a photograph, px of the photograph."""
        # One detector for each thread. A box is smaller than its crop.
        smallest = max(_LEAST_BOX, round(0.8 * self._smallest / copy.factor))
        detector = self._detector("found", smallest, self._score)
        detector.smallest = smallest
        return [
            (copy.left + x * copy.factor, copy.top + y * copy.factor, side * copy.factor, score)
            for x, y, side, score in detector.boxes(copy.pixels)
        ]

    def _detector(self, name: str, smallest: int, score: float) -> FaceDetector:
        if not hasattr(self._local, name):
            with self._lock:
                setattr(self._local, name, FaceDetector(smallest, score))
        return getattr(self._local, name)


def cut_crop(picture: Picture, crop: Crop, size: int) -> np.ndarray:
    """The pixels of a crop that is inside of a photograph, bytes [size, size, 3].

    Raises:
        ImageError: the photograph cannot be decoded.
    """
    # Bicubic weights reach two pixels of the crop beyond its edge.
    part = cut_around(picture, crop, 3 * crop.side / size + 1, size)
    return cut_excerpt(part, crop, size)


def cut_excerpt(part: Excerpt, crop: Crop, size: int) -> np.ndarray:
    """The pixels of a crop from a part of a photograph, bytes [size, size, 3]; its edges continue outside."""
    own = Crop(
        (crop.left - part.left) / part.factor,
        (crop.top - part.top) / part.factor,
        crop.side / part.factor,
    )
    return own.cut(part.pixels, size)


def cut_around(picture: Picture, crop: Crop, margin: float, size: int) -> Excerpt:
    """A crop with a margin, px of the photograph, in pixels that are fine enough for a side of `size` px.

    Raises:
        ImageError: the photograph cannot be decoded.
    """
    factor = coarsest(crop.side, size)
    margin += factor
    right, bottom = crop.left + crop.side + margin, crop.top + crop.side + margin
    return picture.read(factor, (crop.left - margin, crop.top - margin, right, bottom))


def _apart(crop: Crop, other: Crop) -> bool:
    """Whether two crops show different things: landmarks that went astray frame something else."""
    shift = np.hypot(
        crop.left - other.left + (crop.side - other.side) / 2,
        crop.top - other.top + (crop.side - other.side) / 2,
    )
    return bool(shift > _MOST_APART * other.side or abs(crop.side / other.side - 1) > _MOST_APART)
