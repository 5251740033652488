"""Points of a surface: the nearest one of a triangle by hand, and where a model's dense landmarks lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mofa_nvdr.face import ibug_points
from mofa_nvdr.face.dense_landmarks import (
    DENSE_INNER_LIPS,
    DENSE_MIRROR,
    DENSE_OPENINGS,
    EYELIDS,
    MIDDLE,
    NUM_DENSE,
    OVAL,
    DenseLandmarks,
    closest_points,
)
from mofa_nvdr.face.landmarks import MIRROR as MIRROR_68
from mofa_nvdr.face.landmarks import OPENINGS
from mofa_nvdr.face.model import FaceModel

_TRIANGLE = np.array([[0.0, 0, 0], [4, 0, 0], [0, 3, 0]])
_ONE = np.array([[0, 1, 2]])


class TestClosestPoints:
    @pytest.mark.parametrize(
        ("point", "shares", "distance"),
        [
            ((1, 1, 2), (5 / 12, 1 / 4, 1 / 3), 2),  # over the inside
            ((1, 1, 0), (5 / 12, 1 / 4, 1 / 3), 0),  # in it
            ((2, -2, 0), (1 / 2, 1 / 2, 0), 2),  # beyond the first edge
            ((2 + 3, 1.5 + 4, 0), (0, 1 / 2, 1 / 2), 5),  # beyond the longest one, straight out
            ((-2, 1, 0), (2 / 3, 0, 1 / 3), 2),  # beyond the last one
            ((-3, -4, 12), (1, 0, 0), 13),  # corners
            ((7, -4, 0), (0, 1, 0), 5),
            ((0, 5, 0), (0, 0, 1), 2),
        ],
    )
    def test_by_hand(self, point, shares, distance):
        numbers, got, away = closest_points(np.array([point]), _TRIANGLE, _ONE)
        assert numbers.tolist() == [0]
        np.testing.assert_allclose(got, [shares], atol=1e-12)
        np.testing.assert_allclose(away, [distance], atol=1e-12)

    def test_a_line_for_a_triangle(self):
        """Of a triangle without an area the nearest of its edges counts."""
        flat = np.array([[0.0, 0, 0], [4, 0, 0], [2, 0, 0]])
        _, shares, away = closest_points(np.array([[3.0, 1, 0]]), flat, _ONE)
        np.testing.assert_allclose(shares @ flat, [[3, 0, 0]], atol=1e-12)
        np.testing.assert_allclose(away, [1])

    def test_the_nearest_of_many(self):
        """As found by trying points all over every triangle; large triangles next to small ones."""
        rng = np.random.default_rng(0)
        vertices = rng.normal(size=(30, 3)) * rng.choice([0.3, 3], (30, 1))
        triangles = rng.permutation(30).reshape(10, 3)
        points = 2 * rng.normal(size=(20, 3))
        numbers, shares, away = closest_points(points, vertices, triangles)
        places = (vertices[triangles[numbers]] * shares[..., None]).sum(1)
        np.testing.assert_allclose(np.linalg.norm(places - points, axis=1), away, atol=1e-12)
        assert (shares >= 0).all()
        np.testing.assert_allclose(shares.sum(1), 1)
        tried = rng.dirichlet(np.ones(3), 2000)
        surface = (tried @ vertices[triangles]).reshape(-1, 3)
        least = np.linalg.norm(points[:, None] - surface[None], axis=2).min(1)
        assert (away <= least).all()
        assert (least - away).max() < 0.3  # measured 0.08: the points are as fine as that


@pytest.fixture(scope="module")
def places(face_model: FaceModel) -> DenseLandmarks:
    found = face_model.dense_landmarks
    assert found is not None
    return found


def test_openings_are_where_those_of_68_are():
    assert len(DENSE_OPENINGS) == len(OPENINGS) == 7
    for pair, pair_68 in zip(DENSE_OPENINGS, OPENINGS):
        assert pair == tuple(ibug_points._POINTS[k][0] for k in pair_68)


def test_mirrors_the_landmarks_made_of_them():
    """Each of iBUG's 68 is of points whose twins its own twin is of."""
    for landmark, (first, second, _) in enumerate(ibug_points._POINTS):
        twin = ibug_points._POINTS[MIRROR_68[landmark]]
        assert (DENSE_MIRROR[first], DENSE_MIRROR[second]) == twin[:2]


class TestDenseLandmarks:
    def test_points_of_a_mesh(self):
        """Corners and shares by hand; a point without a place has no spread."""
        places = DenseLandmarks(
            torch.tensor([[0, 1, 2], [2, 1, 0], [0, 0, 0]]),
            torch.tensor([[0.5, 0.25, 0.25], [0, 0, 1], [0, 0, 0]]),
            torch.tensor([1.5, 2.0, 0.0]),
        )
        meshes = torch.stack([torch.from_numpy(_TRIANGLE), 2 * torch.from_numpy(_TRIANGLE)])
        points = places.of(meshes)
        assert points[0].tolist() == [[1, 0.75, 0], [0, 0, 0], [0, 0, 0]]
        assert torch.equal(points[1], 2 * points[0])
        assert places.known.tolist() == [True, True, False]

    def test_of_the_built_in_face(self, face_model, places):
        """Shares that sum to 1, on the face, mirror-symmetric, each within 8 mm."""
        known = places.known
        assert known.sum() > 400  # measured: 446
        weights = places.weights[known]
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(1), torch.ones(int(known.sum())))
        assert places.spread.max() <= 8
        points = places.of(face_model.mean_shape[None])[0][known]
        mirrored = places.of(face_model.mean_shape[None])[0][list(DENSE_MIRROR)][known]
        # Measured 0.09 mm: they are put on triangles, whose two sides are not cut alike.
        assert (points - mirrored * torch.tensor([-1.0, 1, 1])).norm(dim=1).max() < 0.3
        assert torch.equal(known, known[list(DENSE_MIRROR)])

    def test_lids_and_lips(self, face_model, places):
        """Upper above lower, the subject's right eye first, which lies at smaller x."""
        points = places.of(face_model.mean_shape[None])[0]
        for pairs in (EYELIDS, DENSE_INNER_LIPS):
            for upper, lower in pairs:
                if places.known[upper] and places.known[lower]:
                    assert points[upper, 1] > points[lower, 1]
        assert all(places.known[upper] for upper, _ in (*EYELIDS, *DENSE_INNER_LIPS))
        assert all(points[upper, 0] < 0 for upper, _ in EYELIDS[:3])
        assert all(points[upper, 0] > 0 for upper, _ in EYELIDS[3:])

    def test_against_the_68_landmarks(self, face_model, places):
        """Corners of eyes and mouth, and the tip of the nose, next to iBUG's."""
        points = places.of(face_model.mean_shape[None])[0]
        theirs = face_model.mean_shape[face_model.landmarks]
        pairs = [(33, 36), (133, 39), (362, 42), (263, 45), (61, 48), (291, 54), (1, 30)]
        for dense, ibug in pairs:
            assert (points[dense] - theirs[ibug]).norm() < 12  # mm

    def test_numbers(self):
        used = [*OVAL, *np.ravel(EYELIDS), *np.ravel(DENSE_INNER_LIPS)]
        assert len(set(used)) == len(used) and max(used) < NUM_DENSE


class TestDenseMirror:
    def test_known_pairs(self):
        """Corners of eyes and mouth, lids, brows, pupils; what is in the middle is its own twin."""
        for one, other in ((33, 263), (133, 362), (61, 291), (160, 387), (70, 300), (468, 473)):
            assert DENSE_MIRROR[one] == other and DENSE_MIRROR[other] == one
        assert [k for k, other in enumerate(DENSE_MIRROR) if k == other] == list(MIDDLE)

    def test_is_its_own_inverse(self):
        assert [DENSE_MIRROR[k] for k in DENSE_MIRROR] == list(range(NUM_DENSE))

    def test_sets_are_symmetric(self):
        assert {DENSE_MIRROR[k] for k in OVAL} == set(OVAL)
        for pairs in (EYELIDS, DENSE_INNER_LIPS):
            assert {(DENSE_MIRROR[a], DENSE_MIRROR[b]) for a, b in pairs} == set(pairs)
