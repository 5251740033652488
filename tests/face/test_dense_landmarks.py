"""Places of a detector's points on a mesh, by hand, and their mirror images."""

from __future__ import annotations

import numpy as np
import torch

from mofa_nvdr.face import ibug_points
from mofa_nvdr.face.dense_landmarks import (
    EYELIDS,
    INNER_LIPS,
    MIRROR,
    NUM_DENSE,
    OPENINGS,
    OVAL,
    DenseLandmarks,
    closest_points,
)
from mofa_nvdr.face.landmarks import MIRROR as MIRROR_68
from mofa_nvdr.face.landmarks import OPENINGS as OPENINGS_68
from mofa_nvdr.face.model import FaceModel


class TestMirror:
    def test_there_and_back(self):
        assert sorted(MIRROR) == list(range(NUM_DENSE))
        assert all(MIRROR[twin] == k for k, twin in enumerate(MIRROR))
        between = [k for k, twin in enumerate(MIRROR) if k == twin]
        assert len(between) == 28 and {1, 10, 13, 14, 152} <= set(between)

    def test_sets_of_points(self):
        """The oval is its own mirror image, and so are the pairs of lids and lips."""
        assert {MIRROR[k] for k in OVAL} == set(OVAL)
        for pairs in (EYELIDS, INNER_LIPS):
            assert {(MIRROR[a], MIRROR[b]) for a, b in pairs} == set(pairs)

    def test_openings_are_where_those_of_68_are(self):
        assert len(OPENINGS) == len(OPENINGS_68) == 7
        for pair, pair_68 in zip(OPENINGS, OPENINGS_68):
            assert pair == tuple(ibug_points._POINTS[k][0] for k in pair_68)

    def test_mirrors_the_landmarks_made_of_them(self):
        """Each of iBUG's 68 is of points whose twins its own twin is of."""
        for landmark, (first, second, _) in enumerate(ibug_points._POINTS):
            twin = ibug_points._POINTS[MIRROR_68[landmark]]
            assert (MIRROR[first], MIRROR[second]) == twin[:2]


class TestDenseLandmarks:
    def test_by_hand(self):
        """A point in the middle of a triangle, one at a corner, and one without a place."""
        vertices = torch.tensor([[[0.0, 0, 0], [3, 0, 0], [0, 3, 6]]])
        corners = torch.tensor([[0, 1, 2]]).expand(3, -1)
        weights = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [0, 1, 0], [0, 0, 0]])
        places = DenseLandmarks(corners, weights, torch.tensor([2.0, 1, 0]))
        assert places.known.tolist() == [True, True, False]
        expected = torch.tensor([[[1.0, 1, 2], [3, 0, 0], [0, 0, 0]]])
        torch.testing.assert_close(places.of(vertices), expected)


def test_closest_points_by_hand():
    """Above the inside of a triangle, beyond an edge and beyond a corner."""
    vertices = np.array([[0.0, 0, 0], [4, 0, 0], [0, 4, 0], [9, 9, 9]])
    triangles = np.array([[0, 1, 2], [1, 2, 3]])
    points = np.array([[1.0, 1, 2], [2, -3, 0], [-3, -4, 0]])
    numbers, shares, gaps = closest_points(points, vertices, triangles)
    assert numbers.tolist() == [0, 0, 0]
    np.testing.assert_allclose(shares, [[0.5, 0.25, 0.25], [0.5, 0.5, 0], [1, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(gaps, [2, 3, 5])


def test_places_on_the_built_in_face():
    """As they were measured: of the points that have twins with places all are symmetric, to 0.09 mm."""
    model = FaceModel.load("default")
    places = model.dense_landmarks
    twin = list(MIRROR)
    assert places.known.sum() > 440 and (places.known == places.known[twin]).sum() >= 474
    points = places.of(model.mean_shape[None])[0]
    both = places.known & places.known[twin]
    away = points - points[twin] * torch.tensor([-1.0, 1, 1])
    assert away[both].norm(dim=1).max() < 0.15
    assert (places.spread[both] - places.spread[twin][both]).abs().max() < 0.05
