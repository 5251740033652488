"""Where the faces of a photograph are: OpenCV's Haar cascades, and a dlib predictor of the user's."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from mofa_nvdr.face.landmarks import NUM_LANDMARKS

_CASCADES = ("haarcascade_frontalface_default.xml", "haarcascade_frontalface_alt2.xml")


_MARGIN = 0.3  # sides of the box around it that the second cascade sees


_SECOND_SIZE = 120  # px to which it is brought


class FaceDetector:
    """OpenCV's frontal-face Haar cascade (Viola and Jones 2001), as in the paper.

    Alone it takes cloth and hair for faces now and then: a second cascade, trained differently, must find a
    face in the same place.

    Args:
        smallest: side of the smallest box, px.
        score: detections below are dropped; the cascade's own certainty, about 1 to 12.

    Raises:
        RuntimeError: OpenCV 4 is not installed; the message holds the install line.
    """

    def __init__(self, smallest: int = 40, score: float = 2.0) -> None:
        try:
            cv2: Any = importlib.import_module("cv2")
            folder = Path(cv2.data.haarcascades)
            self._cascade: Any = cv2.CascadeClassifier(str(folder / _CASCADES[0]))
            self._second: Any = cv2.CascadeClassifier(str(folder / _CASCADES[1]))
        except (ImportError, AttributeError) as error:  # OpenCV 5 has no cascades
            raise RuntimeError(
                "finding faces needs OpenCV 4; pip install 'opencv-python-headless>=4.9,<5', or give "
                "landmarks next to the photographs"
            ) from error
        self._cv2 = cv2
        self.smallest, self.score = smallest, score

    def boxes(self, image: np.ndarray) -> list[tuple[float, float, float, float]]:
        """(left, top, side, score) of each face in a picture [H, W, 3], the surest first."""
        grey = self._cv2.cvtColor(image, self._cv2.COLOR_RGB2GRAY)
        found, _, scores = self._cascade.detectMultiScale3(
            grey,
            scaleFactor=1.03,
            minNeighbors=3,
            minSize=(self.smallest, self.smallest),
            outputRejectLevels=True,
        )
        rows = [
            (float(x), float(y), float(w), float(s))
            for (x, y, w, _), s in zip(np.reshape(found, (-1, 4)), np.reshape(scores, -1))
        ]
        kept: list[tuple[float, float, float, float]] = []
        for row in sorted(rows, key=lambda r: -r[3]):
            if row[3] < self.score or any(_overlap(row, other) > 0.3 for other in kept):
                continue
            if self._confirmed(grey, *row[:3]):
                kept.append(row)
        return kept

    def _confirmed(self, grey: np.ndarray, left: float, top: float, side: float) -> bool:
        """Whether the second cascade sees a face there, of about that size."""
        margin = _MARGIN * side
        x0, y0 = max(0, int(left - margin)), max(0, int(top - margin))
        region = grey[y0 : int(top + side + margin), x0 : int(left + side + margin)]
        scale = _SECOND_SIZE / max(region.shape)
        region = self._cv2.resize(
            region, None, fx=scale, fy=scale, interpolation=self._cv2.INTER_AREA
        )
        least = int(0.55 * side * scale)
        found = self._second.detectMultiScale(region, 1.05, 7, minSize=(least, least))
        return len(found) > 0


class LandmarkModel:
    """A shape predictor of dlib (Kazemi and Sullivan 2014) from a file that the user names.

    Args:
        path: .dat file of a predictor of the 68 iBUG landmarks.

    Raises:
        RuntimeError: dlib is not installed; the message holds the install line.
        ValueError: no such file, not a predictor, or one of other points.
    """

    def __init__(self, path: str) -> None:
        if not Path(path).is_file():
            raise ValueError(f"--landmark-model {path}: no such file")
        try:
            self._dlib: Any = importlib.import_module("dlib")
        except ImportError as error:
            raise RuntimeError(
                f"--landmark-model {path}: needs dlib; pip install dlib-bin, or leave the option out"
            ) from error
        try:
            self._predictor = self._dlib.shape_predictor(str(path))
        except RuntimeError as error:
            raise ValueError(f"--landmark-model {path}: dlib cannot read it ({error})") from None
        found = len(self(np.zeros((64, 64, 3), np.uint8), (8, 8, 48)))
        if found != NUM_LANDMARKS:
            raise ValueError(
                f"--landmark-model {path}: predicts {found} points, expected the {NUM_LANDMARKS} of iBUG"
            )

    def __call__(self, image: np.ndarray, box: tuple[float, ...]) -> np.ndarray:
        """Landmarks [N, 2] of the face in a box (left, top, side, ...) of a picture [H, W, 3]."""
        left, top, side = (round(x) for x in box[:3])
        area = self._dlib.rectangle(left, top, left + side - 1, top + side - 1)
        shape = self._predictor(image, area)
        points = [(shape.part(k).x, shape.part(k).y) for k in range(shape.num_parts)]
        return np.array(points, np.float64).reshape(-1, 2) + 0.5  # dlib counts pixels


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection of two boxes over the smaller one."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[2], b[1] + b[2]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0) / min(a[2], b[2]) ** 2
