"""Landmark sets and mirror pairs."""

from __future__ import annotations

import numpy as np
import pytest

from mofa_nvdr.face import landmarks


class TestPaperSubset:
    def test_counts_of_the_paper(self):
        assert len(set(landmarks.PAPER_66)) == 66
        assert len(set(landmarks.PAPER_46)) == 46
        assert len(set(landmarks.INNER_FACE)) == 51

    def test_46_of_the_66(self):
        assert set(landmarks.PAPER_46) <= set(landmarks.PAPER_66)

    def test_is_symmetric(self):
        assert {landmarks.MIRROR[k] for k in landmarks.PAPER_46} == set(landmarks.PAPER_46)

    def test_the_parts_cover_the_68(self):
        parts = (
            landmarks.JAW
            + landmarks.BROWS
            + landmarks.NOSE
            + landmarks.EYES
            + landmarks.OUTER_LIPS
            + landmarks.INNER_LIPS
        )
        assert parts == tuple(range(68))


class TestMirror:
    def test_is_its_own_inverse(self):
        assert sorted(landmarks.MIRROR) == list(range(68))
        assert [landmarks.MIRROR[k] for k in landmarks.MIRROR] == list(range(68))

    @pytest.mark.parametrize(
        ("point", "other"),
        [
            (0, 16),  # jaw, at the ears
            (17, 26),  # brows, outer ends
            (21, 22),
            (31, 35),  # nostrils
            (36, 45),  # eyes, outer corners
            (39, 42),  # eyes, inner corners
            (37, 44),  # upper lids
            (41, 46),  # lower lids, outer
            (48, 54),  # mouth corners
            (59, 55),
            (60, 64),
            (67, 65),
        ],
    )
    def test_pairs(self, point: int, other: int):
        assert landmarks.MIRROR[point] == other

    def test_points_on_the_middle_stay(self):
        middle = [k for k in range(68) if landmarks.MIRROR[k] == k]
        assert middle == [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]

    def test_mean_face_of_the_photographs_is_symmetric(self, data_dir):
        path = data_dir / "faces" / "landmarks68.npz"
        if not path.is_file():
            pytest.skip(f"no {path}")
        points = np.load(path, allow_pickle=False)["lm68"]
        mean = np.nanmean(points, axis=0)
        mirrored = mean[list(landmarks.MIRROR)] * [-1, 1]
        difference = (mean - mean.mean(0)) - (mirrored - mirrored.mean(0))
        # measured 2.3 px at 256; exchanging any two neighbours in the table gives at least 8.2
        assert np.abs(difference).max() < 5
