"""Landmarks against the pixels of their photograph: EXIF turns, heads that are rolled, faces elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mofa_nvdr.data.crops.landmark_checks import (
    certainty,
    shown_points,
    wrong_frame,
    wrong_frame_of,
)
from mofa_nvdr.data.decoding import Picture
from mofa_nvdr.data.images import read_image
from tests.helpers.landmarked_photographs import POINTS_5, frontal_68

HEIGHT, WIDTH = 300, 400
IMAGE = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
FACE = frontal_68() * 40 + [150, 120]


def nothing(image: np.ndarray) -> list[tuple[float, ...]]:
    """A detector that finds no face."""
    return []


def missing(image: np.ndarray) -> None:
    """No detector."""


def stored_points(points: np.ndarray, orientation: int) -> np.ndarray:
    """The points of the stored pixels that a viewer shows at `points`; by what shown_points undoes."""
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    sides = (WIDTH, HEIGHT) if orientation >= 5 else (HEIGHT, WIDTH)
    return shown_points(points, inverse, *sides)


def middle(image: np.ndarray) -> list[tuple[float, ...]]:
    """A detector that finds a face in the middle of what it is shown, if there are bright pixels."""
    height, width = image.shape[:2]
    if image[height // 2, width // 2, 0] < 200:
        return []
    return [(width / 2 - 53, height / 2 - 53, 106.0, 9.0)]


class TestShownPoints:
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_as_pillow_turns_the_picture(self, tmp_path, orientation):
        """A bright pixel of the stored picture is where the point is."""
        pixels = np.zeros((20, 30, 3), np.uint8)
        pixels[4, 7] = 255
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / "a.png"
        Image.fromarray(pixels).save(path, exif=exif)
        image = read_image(path)
        y, x = np.argwhere(image[..., 0] > 200)[0]
        shown = shown_points(np.array([[7.5, 4.5]]), orientation, *image.shape[:2])
        assert shown.tolist() == [[x + 0.5, y + 0.5]]
        with Picture(path) as picture:
            assert picture.orientation == orientation


class TestWrongFrame:
    @pytest.mark.parametrize("detect", [nothing, missing])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_right_points(self, orientation, detect):
        for points in (FACE, POINTS_5 + 20):
            assert wrong_frame([points], IMAGE, orientation, detect) == ""

    @pytest.mark.parametrize("detect", [nothing, missing])
    @pytest.mark.parametrize("orientation", range(2, 9))
    def test_points_of_the_stored_pixels(self, orientation, detect):
        for points in (FACE, POINTS_5 + 20):
            stored = stored_points(points, orientation)
            np.testing.assert_allclose(shown_points(stored, orientation, HEIGHT, WIDTH), points)
            reason = wrong_frame([stored], IMAGE, orientation, detect)
            assert reason.startswith("look like those of the stored pixels, before the EXIF turn")

    @pytest.mark.parametrize("turn", [1, -1, 2])
    def test_heads_that_are_rolled(self, turn):
        """Without an EXIF turn in the picture nothing speaks against them."""
        face = (FACE - 150) @ np.linalg.matrix_power(np.array([[0, 1], [-1, 0]]), turn % 4) + 150
        assert wrong_frame([face], IMAGE, 1, nothing) == ""

    def test_a_face_that_lies_in_a_turned_picture(self):
        """The pixels decide: here the face is where the points say, on its side."""
        lying = stored_points(FACE, 6)
        image = IMAGE.copy()
        left, top = lying.min(0).astype(int)
        right, bottom = lying.max(0).astype(int)
        image[top:bottom, left:right] = 250
        assert wrong_frame([lying], image, 6, middle) == ""
        shown = IMAGE.copy()
        left, top = FACE.min(0).astype(int)
        right, bottom = FACE.max(0).astype(int)
        shown[top:bottom, left:right] = 250
        assert "before the EXIF turn" in wrong_frame([lying], shown, 6, middle)

    def test_of_another_size(self):
        """Half as large as the face that is found, and half as far from the corner."""

        def whole(image: np.ndarray) -> list[tuple[float, ...]]:
            if image.shape[:2] != (HEIGHT, WIDTH):
                return []
            low, high = FACE.min(0), FACE.max(0)
            side = 1.35 * (high - low).max() / 1.133
            x, y = (low + high) / 2 - [0, 0.08 * (high - low)[1]]
            return [(x - side / 2, y - 0.588 * side, side, 9.0)]

        assert wrong_frame([FACE], IMAGE, 1, whole) == ""
        assert wrong_frame([FACE * 0.5], IMAGE, 1, whole).startswith(
            "are off the face that is found, which they meet in a picture of about 200x150 px instead"
        )
        # Another face of the picture, whose place and size no scale explains.
        assert wrong_frame([FACE * 0.5 + [200, 0]], IMAGE, 1, whole) == ""

    def test_one_of_several(self):
        reason = wrong_frame([FACE, FACE[:, ::-1]], IMAGE, 1, nothing)
        assert "rows of y and x" in reason


class TestWrongFrameOf:
    """Known landmarks against those of networks that see a face."""

    @pytest.fixture
    def picture(self, tmp_path):
        path = tmp_path / "a.png"
        Image.fromarray(IMAGE).save(path)
        with Picture(path) as picture:
            yield picture

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda p: p + [5, -3], "^$"),
            (lambda p: (p - p.mean(0)) * 1.2 + p.mean(0), "^$"),
            (
                lambda p: p + [40, 0],
                r"^are off the face that is found there, by \d\d% of its crop, and 1\.0",
            ),
            (
                lambda p: (p - p.mean(0)) * 0.5 + p.mean(0),
                r"^are off the face that is found there, by \d+% of its crop, and 0\.50 times as large",
            ),
            (
                lambda p: 2 * p.mean(0) - p,
                "^are turned by 180 degrees against the face that is found",
            ),
        ],
    )
    @pytest.mark.parametrize("detect", [nothing, missing])
    def test_a_face_that_is_seen(self, picture, change, words, detect):
        reason = wrong_frame_of([change(FACE)], picture, 1280, detect, [FACE])
        assert re.search(words, reason), reason
        assert wrong_frame_of([change(FACE)], picture, 1280, detect) == ""  # nobody sees one

    def test_a_face_elsewhere(self, picture):
        """Another person's, unless no detector sees one where the points are."""
        small = (FACE - FACE.mean(0)) * 0.3
        here, there = small + [330, 230], small + [60, 60]
        assert "where no face is found" in wrong_frame_of([here], picture, 1280, nothing, [there])
        assert wrong_frame_of([here], picture, 1280, missing, [there]) == ""
        assert wrong_frame_of([here, there], picture, 1280, missing, [there, here]) == ""


class TestCertainty:
    @pytest.mark.parametrize("turn", range(4))
    def test_real_faces(self, data_dir: Path, turn):
        """Frontal faces are seen where their points are, however the picture is turned, and not beside."""
        detection = pytest.importorskip("mofa_nvdr.data.crops.detection")
        pytest.importorskip("cv2")
        detect = detection.FaceDetector(40, 0.0).boxes
        table = np.load(data_dir / "photos" / "ffhq10" / "landmarks68.npz")
        seen = 0
        for name, points in zip(table["files"][:4], table["lm68"][:4].astype(float)):
            image = read_image(data_dir / "photos" / "ffhq10" / str(name))
            for _ in range(turn):
                points = np.stack([points[:, 1], image.shape[1] - points[:, 0]], -1)
                image = np.ascontiguousarray(np.rot90(image))
            seen += certainty(points, image, detect) > 0
            assert certainty(points * 0.3, image, detect) == 0
            assert wrong_frame([points], image, 1, detect) == ""
        assert seen >= 3

    def test_nobody_is_asked(self):
        assert certainty(FACE, IMAGE, missing) is None
        assert certainty(FACE, IMAGE, nothing) == 0
