"""The largest face of a photograph: its crop, what of it is known, its landmarks."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from mofa_nvdr.apply import largest_face as module
from mofa_nvdr.apply.largest_face import largest_face
from mofa_nvdr.data.decoding import Picture
from mofa_nvdr.data.images import ImageError
from tests.helpers.fake_landmarks import FakeDetector, KnownLandmarks


def face(left: float, top: float, side: float, score: float = 0.9) -> KnownLandmarks:
    """Points spread over a square of a picture."""
    generator = np.random.default_rng(0)
    unit = generator.random((478, 3))
    unit[:2, :2] = [[0, 0], [1, 1]]
    points = unit * side + [left, top, 0]
    return KnownLandmarks(points, points[:68, :2], score)


@pytest.fixture
def seen(tmp_path: Path) -> tuple[Path, FakeDetector, np.ndarray]:
    """A photograph that grows brighter to the right, and a detector that knows a face in its corner."""
    picture = np.zeros((200, 300, 3), np.uint8)
    picture[:] = (np.arange(300) * 0.8).astype(np.uint8)[:, None]
    picture[0, 0] = (1, 2, 3)
    path = tmp_path / "a.png"
    iio.imwrite(path, picture)
    return path, FakeDetector(), picture


class TestLargestFace:
    def test_crop_points_and_score(self, seen):
        path, detector, picture = seen
        known = face(90, 60, 80)
        detector.know(picture, [known])
        with Picture(path) as opened:
            found = largest_face(opened, path, detector)
        assert found.photo.shape == (3, module.FIT_SIZE, module.FIT_SIZE)
        assert found.points.shape == (478, 2) and found.score == 0.9
        scale = module.FIT_SIZE / found.crop.side
        want = (known.points[:, :2] - [found.crop.left, found.crop.top]) * scale
        np.testing.assert_allclose(found.points.numpy(), want, atol=1e-3)
        # The picture's ramp is the crop's, at the place of the points.
        x = found.points[:, 0].numpy()
        column = np.clip(np.round(x - 0.5), 0, module.FIT_SIZE - 1).astype(int)
        bright = found.photo[0, module.FIT_SIZE // 2, column].numpy() * 255
        np.testing.assert_allclose(bright, known.points[:, 0] * 0.8, atol=2)

    def test_68_landmarks(self, seen):
        path, detector, picture = seen
        known = face(90, 60, 80)
        detector.know(picture, [known])
        with Picture(path) as opened:
            found = largest_face(opened, path, detector, dense=False)
        assert found.points.shape == (68, 2)

    def test_beyond_the_edges(self, seen):
        """Unknown there, not black: the crop of a face in the corner reaches out of the picture."""
        path, detector, picture = seen
        detector.know(picture, [face(2, 2, 80)])
        with Picture(path) as opened:
            found = largest_face(opened, path, detector)
        assert found.crop.left < 0
        scale = module.FIT_SIZE / found.crop.side
        outside = int(-found.crop.left * scale)
        unknown = found.photo.isnan().all(0)
        assert unknown[:, : outside - 1].all() and not unknown[-1, outside + 1 :].any()
        assert found.photo[:, ~unknown].isfinite().all()

    def test_the_first_of_several_and_a_note(self, seen, capsys):
        path, detector, picture = seen
        detector.know(picture, [face(90, 60, 80), face(10, 60, 40)])
        with Picture(path) as opened:
            found = largest_face(opened, path, detector)
        assert found.crop.left > 60
        assert capsys.readouterr().err == f"note: {path}: 2 faces, the largest is fitted\n"

    def test_no_face(self, seen):
        path, detector, _ = seen
        with Picture(path) as opened, pytest.raises(ImageError, match=f"^{path}: no face found$"):
            largest_face(opened, path, detector)
