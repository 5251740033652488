"""Where a face is in a photograph, and the square crop that shows it as the training crops do.

Three ways to the same framing, from the best to the roughest: 68 landmarks, 5 points, a detector's box.
Coordinates are source pixels: x right, y down from the top left corner of the picture; a pixel's
centre is at + 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

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
        """The crop moved, and if it must be shrunk, so that it is inside a picture."""
        side = min(self.side, height, width)
        shift = (self.side - side) / 2
        left = min(max(self.left + shift, 0.0), width - side)
        top = min(max(self.top + shift, 0.0), height - side)
        return Crop(left, top, side)

    def cut(self, image: np.ndarray, size: int) -> np.ndarray:
        """The pixels, bytes [size, size, 3]; antialiased, and the edges continue outside the picture."""
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

    Training crops are above 40 (99 %), with a median of 130.
    """
    grey = Image.fromarray(crop).convert("L").resize((_BLUR_SIZE,) * 2, Image.Resampling.BOX)
    g = np.asarray(grey, np.float64)
    inner = g[1:-1, 1:-1]
    laplacian = g[:-2, 1:-1] + g[2:, 1:-1] + g[1:-1, :-2] + g[1:-1, 2:] - 4 * inner
    return float(laplacian.var())
