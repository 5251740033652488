"""Faces of photographs of any size: looked for in a small copy, cut as finely as the photograph is."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mofa_nvdr.data.crops.detection import FaceDetector
from mofa_nvdr.data.crops.finder import FaceFinder, cut_crop
from mofa_nvdr.data.crops.framing import Crop, crop_from_box
from mofa_nvdr.data.decoding import Picture
from tests.helpers.landmarked_photographs import frontal_68


def file_of(width: int, height: int, kind: str, **options) -> bytes:
    cells = np.random.default_rng(0).integers(0, 255, (24, 32, 3)).astype(np.uint8)
    stream = io.BytesIO()
    picture = Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)
    picture.save(stream, kind, **options)
    return stream.getvalue()


class TestCutCrop:
    @pytest.mark.parametrize(
        "crop", [Crop(0, 0, 100), Crop(31.3, 40.7, 211.9), Crop(1.5, 3.25, 590), Crop(203, 0, 600)]
    )
    @pytest.mark.parametrize("kind", ["PNG", "JPEG"])
    def test_same_as_from_the_whole(self, crop, kind):
        data = file_of(803, 601, kind)
        with Picture(data, "x") as picture:
            whole = picture.read().pixels
            small = cut_crop(picture, crop, 160)
        # Places between pixels are rounded: 2 of 76,800 values differed, by 1.
        difference = np.abs(small.astype(int) - crop.cut(whole, 160))
        assert difference.max() <= 1 and (difference > 0).mean() < 1e-3

    @pytest.mark.parametrize("kind", ["PNG", "JPEG"])
    def test_from_a_coarser_decoding(self, kind):
        crop = Crop(131.3, 40.7, 555.5)
        with Picture(file_of(803, 601, kind), "x") as picture:
            coarse = cut_crop(picture, crop, 48).astype(int)
            assert picture.read(4).factor == 4
            fine = crop.cut(picture.read().pixels, 48)
        # Measured: 2 for PNG, 3 for JPEG.
        assert np.abs(coarse - fine).max() <= 4


class TestFaceFinder:
    @pytest.fixture
    def seen(self, monkeypatch):
        """A detector that finds one box, and what it was asked."""
        seen: list[tuple[tuple[int, ...], int]] = []

        def boxes(self, image):
            seen.append((image.shape[:2], self.smallest))
            return [(60.0, 50.0, 100.0, 7.0)]

        def init(self, smallest, score):
            self.smallest = smallest

        monkeypatch.setattr(FaceDetector, "__init__", init)
        monkeypatch.setattr(FaceDetector, "boxes", boxes)
        return seen

    def test_boxes_are_of_the_photograph(self, seen):
        """A photograph of 1600 x 1200 seen at 400 x 300; the least box shrinks with it, but not below 20."""
        with Picture(file_of(1600, 1200, "JPEG"), "x") as picture:
            ((face,), astray) = FaceFinder(200, 2.0, 400).find(picture)
        with Picture(file_of(300, 200, "JPEG"), "x") as picture:
            ((small,), _) = FaceFinder(200, 2.0, 400).find(picture)
            FaceFinder(10, 2.0, 400).find(picture)
        assert seen == [((300, 400), 40), ((200, 300), 160), ((200, 300), 20)]
        assert face.crop == crop_from_box(240, 200, 400) and astray == 0
        assert small.crop == crop_from_box(60, 50, 100) and small.landmarks is None

    def test_landmarks_of_a_large_photograph(self, seen):
        """The model sees a part, coarser than the photograph; its points are of the photograph."""
        parts = []

        def model(image, box):
            parts.append((image.shape, box))
            left, top, side = box
            corners = np.array([[0.0, 0.1], [1.0, 1.0]])
            points = np.random.default_rng(0).uniform(0.1, 0.9, (68, 2))
            points[:2] = corners
            return points * side + [left, top]

        with Picture(file_of(3200, 2400, "JPEG"), "x") as picture:
            ((face,), astray) = FaceFinder(200, 2.0, 400, model).find(picture)
        ((shape, (_, _, side)),) = parts
        assert astray == 0 and side == pytest.approx(400)  # of 800: a half is fine enough
        assert max(shape) < 1400
        assert face.landmarks[:2] == pytest.approx(np.array([[480, 480], [1280, 1200]]))


class TestSure:
    def test_of_which_the_networks_are_sure(self, tmp_path):
        """Known landmarks are checked by these alone, in px of the photograph; without networks by none."""
        path = tmp_path / "a.png"
        Image.new("RGB", (400, 200)).save(path)
        points = frontal_68() * 20 + 30
        seen = lambda image: [(points, 0.9), (points + 50, 0.7)]  # noqa: E731
        with Picture(path) as picture:
            (sure,) = FaceFinder(20, 2.0, 200, networks=seen).sure(picture)
            np.testing.assert_allclose(sure, points * 2)  # found in a copy of half the size
            assert FaceFinder(20, 2.0, 200).sure(picture) == []
