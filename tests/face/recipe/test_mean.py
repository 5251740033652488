"""The mean shape: lids, lips and eyeballs by formula, and what moves when the lids do."""

import numpy as np
import pytest

from mofa_nvdr.face.recipe import tables
from mofa_nvdr.face.recipe.mean import (
    Lids,
    brow_line,
    eye_axis,
    eye_position,
    eyeball_height,
    lower_vermilion,
    mean_shape,
    mouth_seam,
    upper_vermilion,
)

WAYS = np.linspace(0, 1, 21)


class TestLids:
    def test_peaks(self):
        """Arches s^a (1 - s)^b, highest at a / (a + b): 4.7 mm above the axis, 5 below."""
        peaks = np.array([0.62 / 1.42, 0.85 / 1.47])
        assert Lids().upper(peaks[:1]) == pytest.approx([4.7])
        assert Lids().lower(peaks[1:]) == pytest.approx([5.0])
        assert (Lids().upper(WAYS) <= 4.7).all() and (Lids().lower(WAYS) <= 5.0).all()

    @pytest.mark.parametrize("lids", [Lids(), Lids(blink=1), Lids(wide=1), Lids(squint=1)])
    def test_meet_at_the_corners(self, lids):
        ends = np.array([-0.5, 0, 1, 1.5])
        assert (lids.upper(ends) == 0).all() and (lids.lower(ends) == 0).all()

    def test_closed_lids_overlap_a_little(self):
        """By 0.05 mm all along, but for the corners: rounding must not show an eye between them."""
        lids = Lids(blink=1)
        gap = lids.upper(WAYS) + lids.lower(WAYS)
        assert gap[1:-1] == pytest.approx(-0.05) and gap[[0, -1]] == pytest.approx(0)

    def test_wide_and_squint_are_shares(self):
        upper, lower = Lids().upper(WAYS), Lids().lower(WAYS)
        assert Lids(wide=1).upper(WAYS) == pytest.approx(1.38 * upper)
        assert Lids(wide=1).lower(WAYS) == pytest.approx(lower)
        assert Lids(squint=1).upper(WAYS) == pytest.approx(0.88 * upper)
        assert Lids(squint=1).lower(WAYS) == pytest.approx(0.55 * lower)


class TestMouth:
    @pytest.mark.parametrize("line", [mouth_seam, upper_vermilion, lower_vermilion])
    def test_is_its_own_mirror_image(self, line):
        m = np.linspace(0, 1.5, 16)
        assert np.array_equal(line(m), line(-m))

    def test_lips_end_at_the_corners(self):
        """Full height in the middle (a Cupid's bow above), nothing from the corner on."""
        corners = np.array([1.0, 1.3])
        assert np.abs(upper_vermilion(corners)).max() < 1e-4  # the bow's Gaussians
        assert (lower_vermilion(corners) == 0).all()
        assert lower_vermilion(np.array([0.0])) == pytest.approx([8.8])
        bow = upper_vermilion(np.array([0.0, 0.2]))
        assert bow[0] == pytest.approx(7.0 - 1.2 + 0.4 * np.exp(-0.5 * (0.2 / 0.09) ** 2))
        assert bow[1] > bow[0]


class TestEyes:
    def test_position_and_axis(self, grid):
        corners = np.array(grid.eye)
        assert eye_position(corners, grid) == pytest.approx([0, 1])
        assert eye_position(-corners, grid) == pytest.approx([0, 1])
        assert eye_axis(np.array([0.0, 0.5, 1.0])) == pytest.approx([-1.6, 0, 1.6])

    def test_eyeball_by_hand(self):
        """At the axis, at the rim, and twice as far out, on either side; grown by 1.5 mm."""
        (cx, cy, cz), (rx, _, rz) = tables.EYEBALL_CENTRE, tables.EYEBALL_RADII
        for sign in (1, -1):
            x = sign * np.array([cx, cx + rx, cx + 2 * rx])
            height, distance = eyeball_height(x, np.full(3, cy))
            assert distance == pytest.approx([0, 1, 4])
            assert height == pytest.approx([cz + rz, cz, cz - 10 * np.sqrt(3)])
        assert eyeball_height(np.array([cx]), np.array([cy]), 1.5)[0] == pytest.approx(
            [cz + rz + 1.5]
        )


class TestBrowLine:
    def test_passes_through_the_table(self):
        pytest.importorskip("scipy")
        height, half = brow_line(np.array(tables.BROW_LINE[0], float))
        assert height == pytest.approx(tables.BROW_LINE[1])
        assert half[[0, -1]] == pytest.approx([2.4, 1.1])


class TestMeanShape:
    def test_is_the_shipped_one(self, mean, shipped_mean):
        assert np.abs(mean - shipped_mean).max() < 0.002  # mm; the file's step is 0.001

    def test_is_its_own_mirror_image(self, mean, grid):
        assert np.abs(mean[grid.mirror] * [-1, 1, 1] - mean).max() < 1e-9  # measured 1.4e-13

    def test_same_bits_each_time(self, mean):
        assert np.array_equal(mean_shape(), mean)

    def test_closed_lips_touch(self, mean, grid):
        upper, lower = grid.seams["mouth"]
        assert np.abs(mean[upper] - mean[lower]).max() < 0.05  # mm; measured 0.027, in depth

    def test_blinking_closes_the_eyes_and_moves_nothing_else(self, mean, grid):
        upper, lower = grid.seams["left_eye"]
        assert (mean[upper] - mean[lower])[:, 1].max() > 9  # measured 9.55 mm
        closed = mean_shape(Lids(blink=1), mean)
        assert np.abs((closed[upper] - closed[lower])[:, 1]).max() < 0.06  # the overlap of 0.05
        assert np.array_equal(closed[grid.num_skin :], mean[grid.num_skin :])  # pockets are kept
        moved = (closed != mean).any(axis=1)
        assert moved.sum() > 3000 and mean[moved, 1].min() > -30 and mean[moved, 1].max() < 35

    def test_eyeballs_lie_on_their_ellipsoid(self, mean, grid):
        """But for the cornea, which stands out by 0.35 mm, and the rims under the lids."""
        place = mean[grid.pockets["left_eye"][4:-4, 8:-8].ravel()]
        off = place[:, 2] - eyeball_height(place[:, 0], place[:, 1])[0]
        assert -0.01 < off.min() and off.max() == pytest.approx(0.35, abs=0.01)
