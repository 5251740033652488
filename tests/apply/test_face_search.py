"""Where the faces of a photograph are, and what is decoded of each."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from mofa_nvdr.apply.face_search import BY_DETECTOR, WHOLE, FaceSearch, whole
from mofa_nvdr.data.crops.framing import Crop
from mofa_nvdr.data.decoding import Picture
from tests.helpers.photographs_of_faces import CROP, dog, drawing, photograph


def picture_of(image) -> Picture:
    file = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(file, "PNG")
    return Picture(file.getvalue(), "a.png")


@pytest.fixture(scope="module")
def search():
    return FaceSearch(64)


class TestFaceSearch:
    def test_the_largest_first(self, search):
        tiles = [(20, 30, 120), (220, 60, 180)]
        found = search(picture_of(photograph(300, 420, tiles)))
        assert [c.found_by for c in found] == [BY_DETECTOR] * 2
        for candidate, (left, _, side) in zip(found, tiles[::-1]):
            assert candidate.crop.side == pytest.approx(CROP * side, rel=0.25)
            assert candidate.crop.left + candidate.crop.side / 2 == pytest.approx(
                left + side / 2, abs=0.1 * side
            )
            assert candidate.pixels.shape == (64, 64, 3) and candidate.size == (300, 420)

    def test_another_framing_is_of_the_same_photograph(self, search):
        image = photograph(300, 420, [(220, 60, 180)])
        (candidate,) = search(picture_of(image))
        crop = Crop(candidate.crop.left + 9, candidate.crop.top - 7, candidate.crop.side * 1.1)
        np.testing.assert_allclose(
            candidate.cut(crop, 64).astype(int), crop.cut(image, 64).astype(int), atol=1
        )

    def test_beyond_the_edges_nothing_is_known(self, search):
        (candidate,) = search(picture_of(photograph(300, 420, [(220, 60, 180)])))
        known = candidate.known(Crop(400.0, 100.0, 40.0), 32)
        assert torch.equal(known.isfinite().all(0), torch.arange(32).expand(32, 32) < 16)

    @pytest.mark.parametrize("make", [dog, drawing])
    def test_what_shows_no_face_is_taken_whole(self, search, make):
        image = np.asarray(make())
        (candidate,) = search(picture_of(image))
        height, width = image.shape[:2]
        assert candidate.found_by == WHOLE and candidate.points is None
        assert candidate.crop == Crop((width - height) // 2, 0, height)

    def test_whole_is_what_a_viewer_shows(self):
        image = photograph(64, 64, [(0, 0, 64)])
        assert np.array_equal(whole(picture_of(image), 64).pixels, image)
