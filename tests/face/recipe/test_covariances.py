"""Gaussian processes on the face and their principal modes."""

import numpy as np
import pytest

from mofa_nvdr.face.recipe.covariances import principal, scalar_process, vector_fields

FLIP = np.array([-1, 1, 1], np.float32)


class TestScalarProcess:
    SCALES = ((1.0, 1.0), (3.0, 2.0))

    @pytest.fixture
    def points(self) -> np.ndarray:
        """Ten points, five of each row, the middle one on the plane of symmetry."""
        return np.array(
            [[x, y, 0.5 * x * x] for y in (0.0, 1.0) for x in (-2.0, -1.0, 0.0, 1.0, 2.0)]
        )

    def test_all_functions_give_the_kernel(self, points):
        """With every point of the half as an inducing one, Nystrom's approximation is exact."""
        amplitude = 1 + 0.25 * np.abs(points[:, 0]) + points[:, 1]
        even, odd = scalar_process(points, amplitude, self.SCALES, keep=6, num_inducing=6)
        squared = ((points[:, None] - points) ** 2).sum(-1)
        kernel = np.exp(-0.5 * squared) + 4 * np.exp(-0.5 * squared / 9)
        kernel = kernel * amplitude[:, None] * amplitude
        # measured 2e-7: the jitter is 1e-8 of the variance
        assert even @ even.T + odd @ odd.T == pytest.approx(kernel, abs=2e-6)

    def test_even_and_odd(self, points):
        mirror = np.array([4, 3, 2, 1, 0, 9, 8, 7, 6, 5])
        even, odd = scalar_process(points, np.ones(10), self.SCALES, keep=3, num_inducing=6)
        assert even.shape == odd.shape == (10, 3)
        assert even[mirror] == pytest.approx(even) and odd[mirror] == pytest.approx(-odd)
        assert (odd[points[:, 0] == 0] == 0).all()

    def test_the_strongest_are_kept(self, points):
        all_of_them = scalar_process(points, np.ones(10), self.SCALES, keep=6, num_inducing=6)
        few = scalar_process(points, np.ones(10), self.SCALES, keep=2, num_inducing=6)
        for every, some in zip(all_of_them, few):
            assert np.array_equal(every[:, :2], some)
            assert (np.diff((every**2).sum(0)) < 1e-9).all()


class TestVectorFields:
    def test_by_hand(self):
        """A symmetric field is odd across and even up and out; the axes are scaled, sqrt(2) each."""
        even, odd = np.array([[1.0], [2.0]]), np.array([[3.0], [-4.0]])
        symmetric, antisymmetric = vector_fields(even, odd, (1.0, 10.0, 100.0), 0.25)
        root = np.sqrt(2)
        assert symmetric / root == pytest.approx(
            np.array([
                [[3, 0, 0], [-4, 0, 0]], [[0, 10, 0], [0, 20, 0]], [[0, 0, 100], [0, 0, 200]],
            ])
        )  # fmt: skip
        assert antisymmetric / root == pytest.approx(
            0.5
            * np.array([
                [[1, 0, 0], [2, 0, 0]], [[0, 30, 0], [0, -40, 0]], [[0, 0, 300], [0, 0, -400]],
            ])
        )  # fmt: skip


class TestPrincipal:
    def test_signs_do_not_hang_on_rounding(self):
        """Mirror-symmetric modes peak twice with opposite signs; noise must not choose between the two."""
        rng = np.random.default_rng(0)
        half = rng.normal(size=(4, 30, 3))
        fields = np.concatenate([half, half * FLIP], axis=1)  # symmetric
        none = np.zeros((0, 60, 3))
        modes = principal(fields, none, 4)
        for seed in range(5):
            noise = 1e-12 * np.random.default_rng(seed).normal(size=fields.shape)
            assert principal(fields + noise, none, 4) == pytest.approx(modes, abs=1e-6)
        rms = np.sqrt((modes**2).sum((1, 2)))
        assert (np.diff(rms) < 0).all()
        assert (modes**2).sum() == pytest.approx(
            (fields**2).sum()
        )  # nothing of the variance is lost

    def test_both_kinds_by_variance(self):
        """Lengths 3 and 1 of the one kind, 2 of the other; the sign makes the largest entry positive."""
        symmetric, antisymmetric = np.zeros((2, 2, 3)), np.zeros((1, 2, 3))
        symmetric[0, 0, 1], symmetric[1, 1, 2], antisymmetric[0, 1, 0] = -3.0, 1.0, -2.0
        modes = principal(symmetric, antisymmetric, 9)
        want = np.zeros((3, 2, 3))
        want[0, 0, 1], want[1, 1, 0], want[2, 1, 2] = 3.0, 2.0, 1.0
        assert modes == pytest.approx(want)
        assert principal(symmetric, antisymmetric, 2) == pytest.approx(want[:2])

    def test_fields_that_repeat_add_their_variance(self):
        field = np.full((1, 1, 3), 2.0)
        modes = principal(np.repeat(field, 4, axis=0), np.zeros((0, 1, 3)), 4)
        assert modes == pytest.approx(
            2 * field
        )  # one mode: four times the variance, twice the length
