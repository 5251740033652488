"""Where a face is in a photograph, and the square crop that shows it as the training crops do.

Three ways to the same framing, from the best to the roughest: 68 landmarks, 5 points, a detector's box.
Coordinates are source pixels: x right, y down from the top left corner of the picture; a pixel's
centre is at + 0.5.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mofa_nvdr.face.landmarks import NUM_LANDMARKS

# The framing of the training crops: the larger side of the box around 68 landmarks, enlarged, the centre
# lifted by a share of the box's height.
_LANDMARK_SCALE = 1.35
_LANDMARK_LIFT = 0.08
# The same square from other marks: medians over training crops with known landmarks. From the points: in
# units of the distance of the eyes plus that of eyes and mouth (spread 5 %). From OpenCV's frontal-face
# cascade: in sides of its box (spread 7 %, of the centre's place 3 % down and 7 % across).
_POINTS_SCALE = 1.488
_BOX_SCALE = 1.133
_BOX_DROP = 0.088
FRAMING = {
    "square": "the box around the 68 landmarks: its larger side times scale, its centre lifted by lift "
    "box heights",
    "scale": _LANDMARK_SCALE,
    "lift": _LANDMARK_LIFT,
}
"""The framing of the training crops in words and numbers, for programs that cut their own."""
_EYES, _MOUTH = (slice(36, 42), slice(42, 48)), (48, 54)
_BLUR_SIZE = 128
_CASCADES = ("haarcascade_frontalface_default.xml", "haarcascade_frontalface_alt2.xml")
_MARGIN = 0.3  # sides of the box around it that the second cascade sees
_SECOND_SIZE = 120  # px to which it is brought


@dataclass(frozen=True)
class Crop:
    """A square of a photograph; it may reach beyond the edges.

    Attributes:
        left, top, side: source pixels.
    """

    left: float
    top: float
    side: float

    def to_crop(self, points: np.ndarray, size: int) -> np.ndarray:
        """Source coordinates [..., 2] -> pixels of the crop at `size`."""
        return (points - [self.left, self.top]) * (size / self.side)

    def to_source(self, points: np.ndarray, size: int) -> np.ndarray:
        """Pixels of the crop at `size` [..., 2] -> source coordinates: for pasting back."""
        return points * (self.side / size) + [self.left, self.top]

    def inside(self, height: int, width: int) -> Crop:
        """The crop moved, and if it must be shrunk, so that it lies inside of a picture."""
        side = min(self.side, height, width)
        shift = (self.side - side) / 2
        left = min(max(self.left + shift, 0.0), width - side)
        top = min(max(self.top + shift, 0.0), height - side)
        return Crop(left, top, side)

    def cut(self, image: np.ndarray, size: int) -> np.ndarray:
        """The pixels, bytes [size, size, 3]; antialiased, and the edges go on outside of the picture."""
        box = (self.left, self.top, self.left + self.side, self.top + self.side)
        height, width = image.shape[:2]
        before = [max(0, int(np.ceil(-edge))) for edge in box[:2]]
        after = [max(0, int(np.ceil(box[2] - width))), max(0, int(np.ceil(box[3] - height)))]
        if any(before + after):
            margins = ((before[1], after[1]), (before[0], after[0]), (0, 0))
            image = np.pad(image, margins, mode="edge")
            box = (box[0] + before[0], box[1] + before[1], box[2] + before[0], box[3] + before[1])
        picture = Image.fromarray(image)
        return np.array(picture.resize((size, size), Image.Resampling.BICUBIC, box=box))


def crop_from_landmarks(points: np.ndarray) -> Crop:
    """The training framing from 68 iBUG landmarks or 5 points.

    Args:
        points: [68, 2], or [5, 2] in the order right eye, left eye, nose, right and left mouth corner (the
            subject's).

    Raises:
        ValueError: another shape, or points that are not finite.
    """
    points = np.asarray(points, np.float64)
    if points.shape not in ((NUM_LANDMARKS, 2), (5, 2)) or not np.isfinite(points).all():
        raise ValueError(
            f"crop_from_landmarks: points is {list(points.shape)}, expected finite [68, 2] or [5, 2]"
        )
    if len(points) == NUM_LANDMARKS:
        low, high = points.min(0), points.max(0)
        side = _LANDMARK_SCALE * float((high - low).max())
        centre = (low + high) / 2 - [0, _LANDMARK_LIFT * (high - low)[1]]
    else:
        eyes, mouth = points[:2].mean(0), points[3:].mean(0)
        spread = np.linalg.norm(points[0] - points[1]) + np.linalg.norm(eyes - mouth)
        side, centre = _POINTS_SCALE * float(spread), (eyes + mouth) / 2
    return Crop(float(centre[0] - side / 2), float(centre[1] - side / 2), side)


def crop_from_box(left: float, top: float, side: float) -> Crop:
    """The training framing from a square box of OpenCV's frontal-face cascade."""
    whole = _BOX_SCALE * side
    centre_x, centre_y = left + side / 2, top + side * (0.5 + _BOX_DROP)
    return Crop(centre_x - whole / 2, centre_y - whole / 2, whole)


def turned_away(points: np.ndarray) -> float:
    """How far a head is turned, from 68 or 5 points: 0 frontal, 1 where the nose reaches an eye's side.

    Measured along the line of the eyes, so that a tilted head counts as frontal.
    """
    points = np.asarray(points, np.float64)
    if len(points) == NUM_LANDMARKS:
        right, left, nose = points[_EYES[0]].mean(0), points[_EYES[1]].mean(0), points[30]
    else:
        right, left, nose = points[0], points[1], points[2]
    across = left - right
    place = float((nose - right) @ across / max(float(across @ across), 1e-12))
    return abs(2 * place - 1)


def sharpness(crop: np.ndarray) -> float:
    """Variance of the Laplacian of a crop [S, S, 3] seen at 128 px; blurred faces have little.

    Training crops lie above 40 (99 %), with a median of 130.
    """
    grey = Image.fromarray(crop).convert("L").resize((_BLUR_SIZE,) * 2, Image.Resampling.BOX)
    g = np.asarray(grey, np.float64)
    inner = g[1:-1, 1:-1]
    laplacian = g[:-2, 1:-1] + g[2:, 1:-1] + g[1:-1, :-2] + g[1:-1, 2:] - 4 * inner
    return float(laplacian.var())


class FaceDetector:
    """OpenCV's frontal-face Haar cascade (Viola and Jones 2001), as in the paper.

    Alone it takes cloth and hair for faces now and then: a second cascade, trained otherwise, must find a
    face in the same place.

    Args:
        smallest: side of the smallest box sought, px.
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
                "preprocess: finding faces needs OpenCV 4; pip install 'mofa-nvdr[preprocess]', or give "
                "landmarks beside the photographs"
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
