"""Landmark terms beside the paper's, by hand: distances, weights by spread, openings."""

from __future__ import annotations

import math

import pytest
import torch

from mofa_nvdr.face.dense_landmarks import OVAL
from mofa_nvdr.losses.landmark_terms import (
    aligned,
    dense_opening_alignment,
    dense_weights,
    opening_alignment,
    openings,
)


class TestAligned:
    def test_by_hand(self):
        projected, target = torch.zeros(2, 3, 2), torch.zeros(2, 3, 2)
        target[0, 0] = torch.tensor([3.0, 4.0])  # 25 px^2
        target[1, 2] = torch.tensor([0.0, 2.0])  # 4 px^2
        weight = torch.tensor([2.0, 1.0, 0.5])
        value = aligned(projected, target, weight, 2.0)
        torch.testing.assert_close(value, torch.tensor([50 / 4, 2 / 4]))
        each = torch.stack([weight, 2 * weight])
        torch.testing.assert_close(aligned(projected, target, each, 2.0)[1], torch.tensor(1.0))

    def test_unknown_points_do_not_count(self):
        projected = torch.zeros(1, 2, 2, requires_grad=True)
        target = torch.tensor([[[math.nan, 1.0], [1.0, 0.0]]])
        value = aligned(projected, target, torch.ones(2), 1.0)
        value.sum().backward()
        assert value.item() == 1 and projected.grad.tolist() == [[[0, 0], [-2, 0]]]


class TestDenseWeights:
    def test_by_hand(self):
        """A point of 2 mm counts half as much as one without spread, one of 6 mm a tenth."""
        spread = torch.full((478,), 2.0)
        spread[1], spread[4], spread[5] = 1e-6, 6.0, 0.0
        weight = dense_weights(spread)
        assert weight.sum().item() == pytest.approx(46, rel=1e-5)
        assert (weight[1] / weight[2]).item() == pytest.approx(2)
        assert (weight[4] / weight[1]).item() == pytest.approx(0.1)
        assert weight[5] == 0 and (weight[list(OVAL)] == 0).all()

    def test_no_point_has_a_place(self):
        assert (dense_weights(torch.zeros(478)) == 0).all()


class TestOpenings:
    def test_same_pairs_of_both_sets(self):
        points, dense = torch.zeros(1, 68, 2), torch.zeros(1, 478, 2)
        points[0, 46], points[0, 44] = torch.tensor([1.0, 5]), torch.tensor([0.0, 2])
        dense[0, 373], dense[0, 387] = torch.tensor([1.0, 5]), torch.tensor([0.0, 2])
        assert openings(points)[0, 3].tolist() == [1, 3]
        assert (openings(points) == openings(dense)).all()


class TestOpeningAlignment:
    def test_by_hand(self):
        """One lid 3 px further open and one mouth 1 px further to the side, in a unit of 2 px."""
        projected = torch.rand(1, 68, 2, generator=torch.Generator().manual_seed(0))
        target = projected + 7.0  # all moved alike: nothing is more open
        target[0, 41, 1] += 3
        target[0, 66, 0] += 1
        confidence = torch.ones(1, 68)
        value = opening_alignment(projected, target, confidence, 2.0)
        torch.testing.assert_close(value, torch.tensor([10 / 4]))
        confidence[0, 37] = 0.5  # of the pair 37, 41 the less sure one counts
        value = opening_alignment(projected, target, confidence, 2.0)
        torch.testing.assert_close(value, torch.tensor([5.5 / 4]))

    def test_unknown(self):
        projected = torch.zeros(1, 68, 2, requires_grad=True)
        target = torch.full((1, 68, 2), math.nan)
        value = opening_alignment(projected, target, torch.zeros(1, 68), 1.0)
        value.sum().backward()
        assert value.item() == 0 and (projected.grad == 0).all()


class TestDenseOpeningAlignment:
    def test_by_hand(self):
        """A shut eye and mouth; of the eye the lower lid has no place, and the 68 are 4 px apart."""
        projected, dense, target = (torch.zeros(1, n, 2) for n in (68, 478, 478))
        known = torch.ones(478, dtype=torch.bool)
        known[144] = False
        projected[0, [41, 66], 1] = 4.0
        dense[0, [144, 14], 1] = 3.0
        value = dense_opening_alignment(projected, dense, known, target, 1.0)
        assert value.item() == 4**2 + 3**2
        target[0, [144, 14], 1] = 1.0
        value = dense_opening_alignment(projected, dense, known, target, 1.0)
        assert value.item() == 3**2 + 2**2

    def test_unknown(self):
        projected = torch.zeros(1, 68, 2, requires_grad=True)
        dense, target = torch.zeros(1, 478, 2), torch.full((1, 478, 2), math.nan)
        value = dense_opening_alignment(
            projected, dense, torch.zeros(478, dtype=torch.bool), target, 1.0
        )
        value.sum().backward()
        assert value.item() == 0 and (projected.grad == 0).all()
