"""Measures of the built-in face's people against published standard deviations."""

import numpy as np
import pytest

from mofa_nvdr.face.recipe import anthropometry
from tests.helpers.random_people import people


@pytest.fixture(scope="module")
def measured(face, grid, shipped_mean) -> dict[str, np.ndarray]:
    where = anthropometry.places(shipped_mean, grid)
    used = np.unique(np.concatenate(list(where.values())))
    row = {name: np.searchsorted(used, vertices) for name, vertices in where.items()}
    return anthropometry.measure(people(face, used, 1.0, 1000), row)


class TestAnthropometry:
    def test_standard_deviations_over_1000_people(self, measured):
        """Within a fifth of the published ones, those that nothing was matched to included."""
        tables_ = (anthropometry.DISTANCES, anthropometry.PROFILE, anthropometry.DERIVED)
        for name, (_, _, published) in [item for table in tables_ for item in table.items()]:
            assert measured[name].std() == pytest.approx(published, rel=0.2), name

    def test_plain_figures(self, measured):
        """The same, against numbers that stand here: mm, adults of both sexes."""
        for name, low, high in (
            ("face height", 6.0, 8.5),
            ("face breadth", 5.3, 8.0),
            ("jaw breadth", 6.0, 9.0),
            ("nose breadth", 2.7, 4.5),
            ("nose height", 3.4, 4.6),
            ("mouth breadth", 3.3, 4.8),
            ("inner canthi", 2.3, 3.2),
            ("pupils", 2.9, 4.0),
        ):
            assert low < measured[name].std() < high, name

    def test_large_faces_are_large_all_over(self, measured):
        """Height and breadth go together, but not much."""
        assert 0.15 < np.corrcoef(measured["face height"], measured["face breadth"])[0, 1] < 0.6
        assert np.corrcoef(measured["jaw breadth"], measured["face breadth"])[0, 1] > 0.4

    def test_matching_is_exact_to_first_order_and_leaves_the_rest(self, grid, shipped_mean):
        mean, rng = shipped_mean, np.random.default_rng(0)
        where = anthropometry.places(mean, grid)
        used = np.unique(np.concatenate(list(where.values())))
        modes = np.zeros((40, len(mean), 3))
        modes[:, used] = rng.normal(size=(40, len(used), 3))
        unseen = next(v for v in range(len(mean)) if v not in used)
        modes[39], modes[39, unseen] = 0.0, 1.0  # a mode that no measure sees
        matched = anthropometry.match_deviations(modes, mean, grid)
        for name, (a, b, published) in anthropometry.PROFILE.items():
            out = matched[:, where[a], 2].mean(1) - matched[:, where[b], 2].mean(1)
            assert np.sqrt((out**2).sum()) == pytest.approx(published, rel=1e-6), name
        assert matched[39] == pytest.approx(modes[39])


class TestPlaces:
    def test_landmarks_by_number_and_the_rest_in_pairs(self, grid, shipped_mean, face):
        where = anthropometry.places(shipped_mean, grid)
        assert [int(where[k][0]) for k in range(68)] == face["marks"].tolist()
        for name in ("temple", "ala", "brow", "cheekbone"):
            left, right = where[f"left {name}"], where[f"right {name}"]
            assert np.array_equal(grid.mirror[left], right) and shipped_mean[left, 0] > 0
        for name in ("chin", "glabella", "forehead"):
            assert abs(shipped_mean[where[name][0], 0]) < 0.01

    def test_every_measure_knows_its_places(self, grid, shipped_mean):
        where = anthropometry.places(shipped_mean, grid)
        for table in (anthropometry.DISTANCES, anthropometry.PROFILE, anthropometry.DERIVED):
            assert {place for a, b, _ in table.values() for place in (a, b)} <= where.keys()


class TestMeasure:
    def test_twice_as_large(self, grid, shipped_mean):
        """Distances and what stands out double with the face; a move changes neither."""
        where = anthropometry.places(shipped_mean, grid)
        found = anthropometry.measure(
            np.stack([shipped_mean, 2 * shipped_mean, shipped_mean + [5, 6, 7]]), where
        )
        assert len(found) == 27
        for name, (once, twice, moved) in found.items():
            assert twice == pytest.approx(2 * once) and moved == pytest.approx(once), name

    def test_means_are_plausible(self, grid, shipped_mean):
        """The published means that the tables follow, in mm."""
        where = anthropometry.places(shipped_mean, grid)
        found = anthropometry.measure(shipped_mean[None], where)
        assert found["pupils"][0] == pytest.approx(63, abs=3)
        assert found["mouth breadth"][0] == pytest.approx(51, abs=2)
        assert found["face height"][0] == pytest.approx(120, abs=3)


class TestPower:
    def test_by_hand(self):
        turned = np.array([[0.6, -0.8], [0.8, 0.6]])
        matrix = turned @ np.diag([4.0, 9.0]) @ turned.T
        root = turned @ np.diag([2.0, 3.0]) @ turned.T
        assert anthropometry._power(matrix, 0.5) == pytest.approx(root)
        assert anthropometry._power(matrix, -0.5) == pytest.approx(np.linalg.inv(root))
