"""Modes by hand: orthogonal ones of the same distribution, blendshapes with twins and halves."""

from __future__ import annotations

import numpy as np
import pytest

from mofa_nvdr.importers.modes import blendshape_modes, coefficients, principal_modes


def at(vertex: int, x: float, count: int = 3) -> np.ndarray:
    """A motion of one vertex along x."""
    motion = np.zeros((count, 3))
    motion[vertex, 0] = x
    return motion


class TestPrincipalModes:
    def test_two_by_hand(self):
        """(3, 0) and (0, 4) are orthogonal: they come back in the order of their variance, 16 and 9."""
        modes, kept = principal_modes(np.stack([at(0, -3), at(1, 4)]), 2)
        assert modes.dtype == np.float32 and kept == pytest.approx(1)
        np.testing.assert_allclose(modes, np.stack([at(1, 4), at(0, 3)]), atol=1e-6)

    def test_share_that_is_kept(self):
        modes, kept = principal_modes(np.stack([at(0, 3), at(1, 4)]), 1)
        assert len(modes) == 1 and kept == pytest.approx(16 / 25)

    def test_the_same_distribution(self):
        """The covariance of all coordinates, from modes that are not orthogonal."""
        given = np.random.default_rng(0).normal(size=(5, 7, 3))
        modes, _ = principal_modes(given, 5)
        flat, want = modes.reshape(5, -1), given.reshape(5, -1)
        # float32: 1.1e-6 measured at numbers up to 11
        np.testing.assert_allclose(flat.T @ flat, want.T @ want, atol=1e-5)
        gram = flat @ flat.T
        assert np.abs(gram - np.diag(np.diag(gram))).max() < 1e-5  # 6e-7 measured
        assert (np.diff(np.diag(gram)) < 0).all()

    def test_directions_without_variance_are_left_out(self):
        modes, kept = principal_modes(np.stack([at(0, 3), at(0, 4)]), 2)
        assert len(modes) == 1 and kept == pytest.approx(1)
        np.testing.assert_allclose(modes[0], at(0, 5), atol=1e-6)

    def test_none(self):
        for given, count in ((np.zeros((0, 4, 3)), 3), (np.ones((2, 4, 3)), 0)):
            modes, kept = principal_modes(given, count)
            assert modes.shape == (0, 4, 3) and kept == 0


class TestBlendshapeModes:
    def test_one_alone(self):
        """A weight's second moment is 1/20: the mode is the motion over sqrt(20)."""
        modes, kept = blendshape_modes({"jawOpen": at(0, 2)}, 5)
        np.testing.assert_allclose(modes, at(0, 2)[None] / np.sqrt(20), atol=1e-6)
        assert kept == pytest.approx(1)

    @pytest.mark.parametrize("names", [("blink_L", "blink_R"), ("smileLeft", "smileRight")])
    def test_twins_move_together(self, names):
        """Their moments are 1/20 and half of it between them: sum and difference have 3/2 and 1/2."""
        modes, _ = blendshape_modes(dict(zip(names, (at(0, 1), at(1, 1)))), 2)
        together, apart = (modes**2).sum((1, 2)) * 20
        assert (together, apart) == pytest.approx((1.5, 0.5))
        np.testing.assert_allclose(modes[0, 0, 0], modes[0, 1, 0], atol=1e-6)

    def test_halves_where_there_is_no_twin(self):
        """Left and right half of one motion: 9/10 of the moment between them."""
        motion = at(0, 1) + at(1, 1)
        modes, _ = blendshape_modes({"frown": motion}, 5, np.array([1.0, 0, 0]))
        assert (modes**2).sum((1, 2)) * 20 == pytest.approx([1.9, 0.1])

    def test_sideways_motions_stay_whole(self):
        sides = np.array([1.0, 0, 0])
        motions = {"jawLeft": at(0, 1) + at(1, 1), "jawRight": -at(0, 1) - at(1, 1)}
        assert len(blendshape_modes(motions, 5, sides)[0]) == 1

    def test_none(self):
        assert blendshape_modes({}, 5)[0].shape == (0, 0, 3)


class TestCoefficients:
    def test_by_hand(self):
        modes = np.stack([at(0, 2), at(1, 4)])
        found = coefficients(modes, at(0, 1) + at(1, 1) + at(2, 9))  # the last one no mode reaches
        assert found.dtype == np.float32
        # A trace of the diagonal, 1e-9 of 10, is added to 4 and to 16.
        np.testing.assert_allclose(found, [0.5, 0.25], atol=1e-7)

    def test_the_same_mode_twice(self):
        """Neither is played against the other."""
        found = coefficients(np.stack([at(0, 1), at(0, 1)]), at(0, 1))
        np.testing.assert_allclose(found, [0.5, 0.5], atol=1e-5)
