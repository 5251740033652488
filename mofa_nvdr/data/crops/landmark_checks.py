"""Landmarks of a photograph against its pixels: the EXIF turn, and the face that a detector sees there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mofa_nvdr.data.crops.framing import crop_from_landmarks, turned_away
from mofa_nvdr.data.crops.landmark_shape import fit_face, wrong_points
from mofa_nvdr.data.crops.point_sets import as_landmarks
from mofa_nvdr.data.decoding import Picture

# Boxes (left, top, side, certainty) of the faces in a picture [H, W, 3]; None where no detector is at hand.
DetectBoxes = Callable[[np.ndarray], Sequence[tuple[float, ...]] | None]
_PATCH = 192  # px: what is around a face when it is looked at alone
_AROUND = 1.6  # sides of the crop
_NEAR = 0.35  # sides of a crop that a box's centre may be away
_SEARCHED = 640  # px, longer side of a picture that is searched
_SURE = 2.0  # certainty of the detector
# Of known landmarks and those of networks that see the same face: the most that their crops are apart, in
# sides, that one is larger, and that the heads are turned in the picture. From _BESIDE on it is another face.
_SHIFTED, _LARGER, _TURNED, _BESIDE = 0.2, 1.5, np.pi / 3, 0.5


def wrong_frame(
    points: Sequence[np.ndarray],
    image: np.ndarray,
    orientation: int,
    detect: DetectBoxes = lambda image: None,
    factor: float = 1.0,
) -> str:
    """Why the points of the faces of a photograph are not in its frame; empty: they can be.

    Args:
        points: of each face [N, 2], of a number that is read (point_sets.READ).
        image: [H, W, 3] as a viewer shows it.
        orientation: the EXIF orientation that was applied, 1 to 8.
        detect: the detector.
        factor: px of the photograph that a pixel of the image is wide; for the words.

    Returns:
        Words for "the points ...".
    """
    height, width = image.shape[:2]
    for marks in points:
        reason = wrong_points(marks, height, width)
        if orientation != 1:
            shown = shown_points(marks, orientation, height, width)
            if _stored(marks, shown, reason, image, detect):
                return (
                    "look like those of the stored pixels, before the EXIF turn; expected the picture as a "
                    "viewer shows it: turn the points, or save the picture without the turn"
                )
        if reason:
            return reason
    return _elsewhere([as_landmarks(marks) for marks in points], image, detect, factor)


def wrong_frame_of(
    points: Sequence[np.ndarray],
    picture: Picture,
    longest: int,
    detect: DetectBoxes = lambda image: None,
    seen: Sequence[np.ndarray] = (),
) -> str:
    """`wrong_frame` for a photograph of any size, looked at in a copy; and against faces that are seen there.

    Args:
        points: of each face [N, 2], of a number that is read, px of the photograph.
        picture: the photograph.
        longest: longer side of the copy, px.
        detect: the detector.
        seen: landmarks [68, 2] of faces of which networks are sure, px of the photograph.
    """
    copy = picture.copy(longest)
    placed = [(marks - [copy.left, copy.top]) / copy.factor for marks in points]
    return wrong_frame(
        placed, copy.pixels, picture.orientation, detect, copy.factor
    ) or _off_the_seen(
        [as_landmarks(marks) for marks in placed],
        [(marks - [copy.left, copy.top]) / copy.factor for marks in seen],
        copy.pixels,
        detect,
    )


def shown_points(points: np.ndarray, orientation: int, height: int, width: int) -> np.ndarray:
    """Points of the stored pixels where a viewer shows them.

    Args:
        points: [N, 2] in the stored pixels.
        orientation: of EXIF, 1 to 8.
        height: of the picture as shown.
        width: of the picture as shown.
    """
    x, y = points[:, 0], points[:, 1]
    if orientation >= 5:
        x, y = y, x
    if orientation in (2, 3, 6, 7):
        x = width - x
    if orientation in (3, 4, 7, 8):
        y = height - y
    return np.stack([x, y], -1)


def certainty(points: np.ndarray, image: np.ndarray, detect: DetectBoxes) -> float | None:
    """How sure the detector is of a face where points are, turned upright; 0: it finds none.

    0 is no proof: heads that are turned away or half hidden are often missed. None: it is not at hand.
    """
    points = as_landmarks(points)
    roll = float(fit_face(points).roll)
    turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    upright = points @ turn  # turned back about the corner of the picture
    crop = crop_from_landmarks(upright)
    side = _AROUND * crop.side
    centre = turn @ np.array([crop.left + crop.side / 2, crop.top + crop.side / 2])
    radius = 0.75 * side  # of the square that holds the turned one
    left, top = centre - radius
    if min(left, top) < -20 * side or side < 4:
        return 0.0
    box = (left, top, left + 2 * radius, top + 2 * radius)
    # Brought to size before it is turned: turning does not smooth.
    scale = _PATCH / side
    reduced = _cut(image, box, round(2 * radius * scale))
    patch = reduced.rotate(np.degrees(roll), Image.Resampling.BILINEAR, fillcolor=(128, 128, 128))
    margin = (patch.width - _PATCH) // 2
    patch = patch.crop((margin, margin, margin + _PATCH, margin + _PATCH))
    found = detect(np.array(patch))
    if found is None:
        return None
    expected = _PATCH / _AROUND / 1.133
    here = [
        sure
        for left, top, side, sure in found
        if 0.7 < side / expected < 1.4
        and np.hypot(left + side / 2 - _PATCH / 2, top + side / 2 - _PATCH / 2) < _NEAR * expected
    ]
    return max(here, default=0.0)


def _cut(image: np.ndarray, box: tuple[float, float, float, float], size: int) -> Image.Image:
    """A square of a picture at a size; grey where it reaches beyond the edges."""
    picture = Image.fromarray(image)
    left, top, right, bottom = (int(np.floor(edge)) for edge in box)
    part = picture.crop((left, top, right, bottom))  # Pillow continues with black
    return part.resize((size, size), Image.Resampling.BOX)


def _stored(
    marks: np.ndarray, shown: np.ndarray, reason: str, image: np.ndarray, detect: DetectBoxes
) -> bool:
    """Whether points fit the stored pixels of a picture that is shown turned, better than the shown ones."""
    height, width = image.shape[:2]
    if wrong_points(shown, height, width):
        return False
    if reason:
        return True
    rolls = np.abs([float(fit_face(p).roll) for p in (marks, shown)])
    if rolls[1] > np.pi / 4 or rolls[0] <= np.pi / 4:
        return False
    # A face that is upright in the stored pixels' frame, and lies or is upside down in the shown one. Heads
    # that do are rare, points of stored pixels are not: the pixels must speak for the first.
    as_given, turned = (certainty(p, image, detect) or 0.0 for p in (marks, shown))
    return turned >= as_given


def _off_the_seen(
    points: Sequence[np.ndarray], seen: Sequence[np.ndarray], image: np.ndarray, detect: DetectBoxes
) -> str:
    """Whether points lie on a face that networks see, but not as it does; or where nothing sees a face."""
    for marks in points:
        views = [_View.of(marks, other) for other in seen]
        if not views or any(view.agrees for view in views):
            continue
        nearest = min(views, key=lambda view: view.shift)
        if nearest.shift < _BESIDE:
            if nearest.turn > _TURNED:
                return (
                    f"are turned by {np.degrees(nearest.turn):.0f} degrees against the face that is found "
                    "there; expected the picture as a viewer shows it"
                )
            return (
                f"are off the face that is found there, by {nearest.shift:.0%} of its crop, and "
                f"{nearest.scale:.2f} times as large; expected pixels of the picture as it is"
            )
        if turned_away(marks) < 0.5 and certainty(marks, image, detect) == 0:
            return "are where no face is found, and one is elsewhere; expected pixels of the picture as it is"
    return ""


@dataclass(frozen=True)
class _View:
    """How landmarks lie to those of a face that is seen.

    Attributes:
        shift: of the centres of their crops, in sides of the seen one.
        scale: side over side of the seen one.
        turn: of the heads in the picture, radians, 0 to pi.
    """

    shift: float
    scale: float
    turn: float

    @staticmethod
    def of(marks: np.ndarray, other: np.ndarray) -> _View:
        crop, its = crop_from_landmarks(marks), crop_from_landmarks(other)
        middle = [c.side / 2 + np.array([c.left, c.top]) for c in (crop, its)]
        turn = float(fit_face(marks).roll) - float(fit_face(other).roll)
        return _View(
            float(np.linalg.norm(middle[0] - middle[1]) / its.side),
            float(crop.side / its.side),
            abs(float(np.angle(np.exp(1j * turn)))),
        )

    @property
    def agrees(self) -> bool:
        """Whether they are of the same face."""
        return self.shift < _SHIFTED and 1 / _LARGER < self.scale < _LARGER and self.turn < _TURNED


def _elsewhere(
    points: Sequence[np.ndarray], image: np.ndarray, detect: DetectBoxes, factor: float
) -> str:
    """Whether frontal faces are nowhere where the points are, and where these are of another size is one."""
    frontal = [marks for marks in points if turned_away(marks) < 0.5]
    if not frontal or len(frontal) < len(points):
        return ""
    if any(certainty(marks, image, detect) != 0 for marks in points):
        return ""
    boxes = _sure_boxes(image, detect)
    for marks in points:
        crop = crop_from_landmarks(marks)
        x, y = crop.left + crop.side / 2, crop.top + crop.side / 2
        for left, top, side in boxes:
            scales = np.array(
                [(left + side / 2) / x, (top + 0.588 * side) / y, 1.133 * side / crop.side]
            )
            scale = float(np.median(scales))
            if scale > 0 and np.abs(scales / scale - 1).max() < 0.2 and abs(scale - 1) > 0.15:
                height, width = (round(n * factor) for n in image.shape[:2])
                size = f"{round(width / scale)}x{round(height / scale)}"
                return (
                    f"are off the face that is found, which they meet in a picture of about {size} px "
                    f"instead of {width}x{height}; expected pixels of the picture as it is"
                )
    return ""


def _sure_boxes(image: np.ndarray, detect: DetectBoxes) -> list[tuple[float, float, float]]:
    """Boxes of the faces of a picture that are beyond doubt, looked for at a size that takes little time."""
    picture = Image.fromarray(image)
    picture.thumbnail((_SEARCHED, _SEARCHED), Image.Resampling.BOX)
    scale = image.shape[1] / picture.width
    boxes = [box for box in detect(np.array(picture)) or () if box[3] >= _SURE]
    return [(left * scale, top * scale, side * scale) for left, top, side, *_ in boxes]
