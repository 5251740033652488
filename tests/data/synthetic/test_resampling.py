"""Codes around known ones."""

from __future__ import annotations

import torch

from mofa_nvdr.data.random_numbers import random_generator
from mofa_nvdr.data.synthetic.resampling import Resampling


def generators(count: int, seed: int = 0) -> list:
    return [random_generator(seed, k) for k in range(count)]


class TestResampling:
    def test_without_deviations(self):
        """One of the codes, each about as often."""
        codes = torch.arange(12.0).view(4, 3)
        drawn = Resampling(codes, torch.zeros(3)).draw(generators(400))
        rows = (drawn[:, None] == codes).all(2)
        assert (rows.sum(1) == 1).all()
        # Binomial: 100 and 8.7.
        assert (rows.sum(0) - 100).abs().max() < 35

    def test_deviations(self):
        """Each number its own, normal and cut at 2.5."""
        about = torch.tensor([[1.0, -2.0, 5.0]])
        drawn = Resampling(about, torch.tensor([0.1, 2.0, 0.0])).draw(generators(4000))
        torch.testing.assert_close(drawn.mean(0), about[0], atol=0.1, rtol=0)
        spread = drawn.std(0)
        torch.testing.assert_close(spread, torch.tensor([0.1, 2.0, 0.0]), rtol=0.05, atol=0)
        assert (drawn[:, 1] + 2).abs().max() <= 5

    def test_depends_on_its_own_generator(self):
        around = Resampling(torch.rand(5, 3), torch.ones(3))
        both, alone = around.draw(generators(2)), around.draw(generators(2)[1:])
        assert torch.equal(both[1:], alone)
