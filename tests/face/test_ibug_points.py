"""iBUG's 68 landmarks from the face mesh: what moves with the face, what mirrors with it."""

import numpy as np
import pytest

from mofa_nvdr.face import ibug_points
from mofa_nvdr.face.ibug_points import ibug_landmarks
from mofa_nvdr.face.landmarks import MIRROR, NUM_LANDMARKS


@pytest.fixture
def points():
    return np.random.default_rng(0).normal(size=(2, 478, 3))


def test_by_hand(points):
    """A landmark is on the line through its two points, at its share."""
    found = ibug_landmarks(points)
    assert found.shape == (2, NUM_LANDMARKS, 2)
    for landmark, (first, second, share) in enumerate(ibug_points._POINTS):
        a, b = points[1, first, :2], points[1, second, :2]
        assert np.allclose(found[1, landmark], (1 - share) * a + share * b)


def test_moves_with_the_face(points):
    turn = 3 * np.array([[0.8, -0.6], [0.6, 0.8]])
    moved = points[..., :2] @ turn.T + [5, -7]
    assert np.allclose(ibug_landmarks(moved), ibug_landmarks(points) @ turn.T + [5, -7])


def test_keeps_precision(points):
    assert ibug_landmarks(points.astype(np.float32)).dtype == np.float32


def test_sides_are_alike():
    """Both sides of the face have the same shares, of points that differ unless they are on the middle."""
    rows = ibug_points._POINTS
    assert len(rows) == NUM_LANDMARKS and len({row[0] for row in rows}) == NUM_LANDMARKS
    for landmark, mirror in enumerate(MIRROR):
        assert rows[landmark][2] == rows[mirror][2]
        assert (rows[landmark][0] == rows[mirror][0]) == (landmark == mirror)
        assert abs(rows[landmark][2]) < 0.5
