"""The authored numbers: what the docstring promises of them, and that tables fit each other."""

import numpy as np
import pytest

from mofa_nvdr.face.recipe import tables as t


class TestLoft:
    def test_rows_from_the_hairline_to_below_the_chin(self):
        heights = np.array([row[0] for row in t.LOFT_ROWS])
        assert (np.diff(heights) < 0).all()
        assert heights[0] == t.TOP and heights[-1] == t.BOTTOM
        assert t.TOP > t.EYE_ROW > t.MOUTH_ROW > t.BOTTOM

    @pytest.mark.parametrize("row", t.LOFT_ROWS, ids=lambda row: str(row[0]))
    def test_columns_from_the_midline_to_the_ear(self, row):
        """x grows, the surface falls back, and the midline lies at x = 0 at its nominal height."""
        _, x, z, offset = row
        assert len(x) == len(z) == len(offset) == len(t.LOFT_COLUMNS)
        assert x[0] == offset[0] == 0
        assert (np.diff(x) > 0).all() and (np.diff(z) < 0).all()


class TestMeans:
    def test_published_means(self):
        """Pupils 63 mm apart, mouth 51 wide, nose 20 mm out: the figures that the tables say they follow."""
        assert 2 * t.PUPIL_X == 63 and 2 * t.MOUTH_HALF_WIDTH == 51
        assert np.ptp(t.NOSE_PROFILE[:, 1]) == pytest.approx(20, abs=4)
        breadth = 2 * max(row[1][-1] for row in t.LOFT_ROWS)  # in front of the ears
        assert breadth == pytest.approx(137, rel=0.12)

    def test_eyeball_reaches_both_canthi_and_holds_the_iris(self):
        centre, radii = t.EYEBALL_CENTRE, t.EYEBALL_RADII
        assert centre[0] - radii[0] < t.EYE_INNER and t.EYE_OUTER < centre[0] + radii[0]
        assert t.PUPIL_RADIUS < t.IRIS_RADIUS < radii.min()


class TestProfiles:
    @pytest.mark.parametrize("profile", [t.UPPER_LIP, t.LOWER_LIP])
    def test_lips_meet_at_the_seam_and_end_in_the_skin(self, profile):
        way, depth = profile
        assert (np.diff(way) > 0).all() and way[0] == 0 and 1 in way
        assert depth[-1] == 0 and depth[0] == t.UPPER_LIP[1][0]

    @pytest.mark.parametrize("line", [t.BROW_LINE, t.BROW_THICKNESS])
    def test_brows_run_outwards(self, line):
        x, values = line
        assert len(x) == len(values) and (np.diff(x) > 0).all() and min(values) > 0

    @pytest.mark.parametrize("profile", [t.NOSE_PROFILE, t.NOSE_WIDTH])
    def test_nose_runs_down(self, profile):
        assert (np.diff(profile[:, 0]) < 0).all()

    def test_the_flank_is_wider_than_the_ridge(self):
        assert (t.NOSE_WIDTH[:, 1] < t.NOSE_WIDTH[:, 2]).all()


class TestMouthBag:
    def test_every_row_has_a_colour(self):
        assert len(t.MOUTH_BAG) == len(t.MOUTH_BAG_COLORS) == t.MOUTH_POCKET_ROWS
        assert 0 < t.UPPER_BAG_ROWS < t.MOUTH_POCKET_ROWS

    def test_lies_behind_the_lips_and_is_deepest_at_the_throat(self):
        depth = np.array([dz for dz, _ in t.MOUTH_BAG])
        assert depth.max() < 0
        assert t.MOUTH_BAG_COLORS[int(depth.argmin())] is t.THROAT


class TestColors:
    def test_are_reflectances(self):
        colors = [t.SKIN, t.LIP, t.BROW, t.SCLERA, t.IRIS, t.LASH, *t.MOUTH_BAG_COLORS]
        for color in map(np.asarray, colors):
            assert color.shape == (3,) and 0 < color.min() and color.max() < 1

    def test_skin_and_lips_are_reddish_and_the_beard_darkens(self):
        for color in (t.SKIN, t.LIP):
            assert color[0] > color[1] > color[2]
        assert (t.LIP < t.SKIN).all() and 0 < t.BEARD.min() and (t.BEARD < 0.1 * t.SKIN).all()
