"""Framing by hand: the same square from 68 landmarks, from 5 points and from a detector's box."""

from __future__ import annotations

import numpy as np
import pytest

from mofa_nvdr.data.crops.framing import (
    Crop,
    crop_from_box,
    crop_from_landmarks,
    sharpness,
    turned_away,
)
from tests.helpers.landmarked_photographs import POINTS_5, points_68


class TestCrop:
    def test_coordinates_by_hand(self):
        crop = Crop(10, 20, 50)
        assert crop.to_crop(np.array([35.0, 20.0]), 100).tolist() == [50, 0]
        points = np.random.default_rng(0).random((7, 2)) * 99
        np.testing.assert_allclose(crop.to_crop(crop.to_source(points, 64), 64), points)

    @pytest.mark.parametrize(
        ("crop", "inside"),
        [
            (Crop(5, 6, 20), Crop(5, 6, 20)),
            (Crop(-5, 30, 20), Crop(0, 20, 20)),  # moved
            (Crop(-10, -30, 80), Crop(10, 0, 40)),  # 40 x 100: shrunk about its centre, then moved
        ],
    )
    def test_inside(self, crop, inside):
        assert crop.inside(40, 100) == inside

    def test_cut_takes_the_pixels(self):
        image = np.arange(10 * 12 * 3, dtype=np.uint8).reshape(10, 12, 3)
        assert np.array_equal(Crop(3, 2, 4).cut(image, 4), image[2:6, 3:7])

    def test_cut_beyond_the_edge(self):
        image = np.zeros((4, 4, 3), np.uint8)
        image[:, 0] = 200
        cut = Crop(-2, -1, 6).cut(image, 6)
        assert (cut[:, :3] == 200).all() and (cut[:, 3:] == 0).all()


class TestFraming:
    def test_68_landmarks_by_hand(self):
        crop = crop_from_landmarks(points_68())
        assert crop.side == pytest.approx(1.35 * 100)
        assert crop.left + crop.side / 2 == pytest.approx(100)
        assert crop.top + crop.side / 2 == pytest.approx(100 - 0.08 * 100)

    def test_5_points_by_hand(self):
        crop = crop_from_landmarks(POINTS_5)
        assert crop.side == pytest.approx(1.488 * (40 + 50))
        assert (crop.left + crop.side / 2, crop.top + crop.side / 2) == pytest.approx((100, 115))

    def test_box_by_hand(self):
        crop = crop_from_box(10, 20, 100)
        assert crop.side == pytest.approx(113.3)
        assert (crop.left + crop.side / 2, crop.top + crop.side / 2) == pytest.approx((60, 78.8))

    def test_5_points_frame_as_68_do(self, data_dir):
        path = data_dir / "faces" / "landmarks68.npz"
        if not path.is_file():
            pytest.skip(f"no {path}")
        ratios, shifts = [], []
        for points in np.load(path)["lm68"][::50]:
            five = [
                points[36:42].mean(0),
                points[42:48].mean(0),
                points[30],
                points[48],
                points[54],
            ]
            one, two = crop_from_landmarks(points), crop_from_landmarks(np.array(five))
            ratios.append(two.side / one.side)
            shifts.append([(two.left - one.left) / one.side, (two.top - one.top) / one.side])
        # Measured: sides within 5 % (one standard deviation), centres within 9 % across and 3 % down.
        assert abs(np.mean(ratios) - 1) < 0.02 and np.std(ratios) < 0.07
        assert np.abs(np.mean(shifts, axis=0)).max() < 0.02

    @pytest.mark.parametrize("points", [np.zeros((4, 2)), np.full((5, 2), np.nan)])
    def test_wrong_points(self, points):
        with pytest.raises(ValueError, match=r"points is \[., 2\], expected finite"):
            crop_from_landmarks(points)

    def test_turned_away(self):
        assert turned_away(POINTS_5) == 0
        profile = POINTS_5.copy()
        profile[2, 0] = 120  # the nose under the left eye
        assert turned_away(profile) == pytest.approx(1)
        tilted = POINTS_5 @ np.array([[0.8, 0.6], [-0.6, 0.8]])
        assert turned_away(tilted) == pytest.approx(0, abs=1e-9)
        assert turned_away(points_68()) == pytest.approx(0, abs=0.05)  # noise of the points

    def test_sharpness(self):
        board = np.indices((128, 128)).sum(0) % 2 * 255
        sharp = np.repeat(board[..., None], 3, axis=2).astype(np.uint8)
        # Each Laplacian is +-4 x 255.
        assert sharpness(sharp) == pytest.approx((4 * 255) ** 2)
        assert sharpness(np.full((64, 64, 3), 90, np.uint8)) == 0
