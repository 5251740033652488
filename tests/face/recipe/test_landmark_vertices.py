"""The 68 landmarks and the frontal region of the built-in face."""

import numpy as np
import pytest

from mofa_nvdr.face.landmarks import MIRROR
from mofa_nvdr.face.recipe.landmark_vertices import (
    detected_vertices,
    frontal_mask,
    landmark_vertices,
)


class TestPlaces:
    def test_distances(self, face):
        """Published means of adults: 63 mm between the pupils, mouth 51, face about 137 wide."""
        points = face["mean_shape"][face["marks"]]
        eyes = [points[36:42].mean(0), points[42:48].mean(0)]
        assert np.linalg.norm(eyes[0] - eyes[1]) == pytest.approx(63, abs=3)
        assert np.linalg.norm(points[48] - points[54]) == pytest.approx(51, abs=2)
        assert points[42, 0] - points[39, 0] == pytest.approx(32, abs=2)  # inner canthi
        assert np.ptp(face["mean_shape"][:, 0]) == pytest.approx(148, abs=8)
        assert points[30, 2] - points[33, 2] > 8  # the tip stands out before the nose's base

    @pytest.mark.parametrize("which", ["marks", "landmarks"])
    def test_order(self, face, which):
        """iBUG's order: from the subject's right (-x) to the left, brows above eyes above mouth."""
        x, y = face["mean_shape"][face[which], :2].T
        assert (np.diff(x[1:16]) > 0).all() and y[8] == y.min()
        assert x[0] < -70 and x[16] > 70
        assert (np.diff(x[17:27]) > 0).all()
        assert (np.diff(y[27:31]) < 0).all()
        assert (np.diff(x[31:36]) > 0).all()
        for first in (36, 42):
            eye_x, eye_y = x[first : first + 6], y[first : first + 6]
            assert (np.diff(eye_x[:4]) > 0).all() and (np.diff(eye_x[3:]) < 0).all()
            assert eye_y[1:3].min() > eye_y[4:].max()
        assert (np.diff(x[48:55]) > 0).all() and (np.diff(x[54:60]) < 0).all()
        assert y[49:54].min() > y[55:60].max()
        assert (np.diff(x[60:65]) > 0).all() and (np.diff(x[64:68]) < 0).all()
        assert y[17:27].min() > y[36:48].max() > y[48:68].max()

    def test_frontal_region_holds_the_inner_landmarks(self, face):
        assert face["frontal_mask"][face["landmarks"][17:]].all()
        assert 0.7 < face["frontal_mask"].mean() < 1


class TestDetectedVertices:
    def test_are_the_shipped_ones(self, mean, grid, face):
        found = detected_vertices(mean, grid)
        assert found.dtype == np.int64 and np.array_equal(found, face["landmarks"])

    def test_mirror_images_but_for_the_midline(self, mean, grid):
        found = detected_vertices(mean, grid)
        assert np.array_equal(grid.mirror[found], found[list(MIRROR)])

    def test_apart_from_the_marks(self, mean, grid):
        """The jaw but for the chin stays; brows and chin are higher, the eyes' inner corners further in."""
        marks, found = landmark_vertices(mean, grid), detected_vertices(mean, grid)
        jaw = [k for k in range(17) if k not in (7, 8, 9)]
        assert np.array_equal(found[jaw], marks[jaw])
        moved = mean[found] - mean[marks]
        assert (moved[[8, 18, 19, 20, 21], 1] > 2).all()
        assert moved[39, 0] < -2 and moved[42, 0] > 2
        assert np.linalg.norm(moved, axis=1).max() < 11  # the chin's, 10.0


class TestLandmarkVertices:
    def test_mirror_images_but_for_the_midline(self, mean, grid):
        found = landmark_vertices(mean, grid)
        assert np.array_equal(grid.mirror[found], found[list(MIRROR)])

    def test_eyes_and_inner_lips_lie_on_the_slits(self, mean, grid):
        found = landmark_vertices(mean, grid)
        for name, first in (("right_eye", 36), ("left_eye", 42)):
            assert set(found[first : first + 6]) <= set(np.concatenate(grid.seams[name]))
        upper, lower = grid.seams["mouth"]
        assert set(found[60:65]) <= set(upper) and set(found[65:68]) <= set(lower)
        assert {int(found[48]), int(found[54])} == {int(upper[0]), int(upper[-1])}


class TestFrontalMask:
    def test_forehead_and_ears_by_hand(self, grid):
        """Lower than 58 mm on the midline, than 43 at 50 mm beside it; not behind z = -80."""
        points = np.array([
            [0, 57, 0], [0, 59, 0], [50, 42, 0], [50, 44, 0], [-50, 42, 0], [70, 0, -79], [70, 0, -81],
        ], float)  # fmt: skip
        assert frontal_mask(points, grid).tolist() == [True, False, True, False, True, True, False]
