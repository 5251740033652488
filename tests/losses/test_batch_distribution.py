"""The people of a batch are distributed as those of the face model."""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.losses.batch_distribution import batch_distribution

LAYOUT = CodeLayout(3, 2, 4)


class TestBatchDistribution:
    def test_by_hand(self):
        """Shapes 1 and 3: mean 2, variance 1. Albedos 0 and 4: mean 2, variance 4. Nothing else counts."""
        code = LAYOUT.zeros(2)
        code = code.replace(
            shape=torch.tensor([[1.0], [3.0]]).expand(2, 3),
            albedo=torch.tensor([[0.0], [4.0]]).expand(2, 4),
            expression=torch.full((2, 2), 9.0),
        )
        assert batch_distribution(code).item() == pytest.approx(4 + 0 + 4 + 9)

    def test_of_equal_faces(self):
        """No spread: each variance is 1 too small; each mean is that of the face."""
        code = LAYOUT.zeros(5)
        assert batch_distribution(code).item() == 2
        assert batch_distribution(code.replace(shape=code.shape + 0.5)).item() == 2.25

    def test_of_people_of_the_model(self):
        """B draws: 1 / B in each term of a mean, (2 B - 1) / B^2 in each of a variance."""
        layout, count = CodeLayout(4000, 0, 4000), 8
        g = torch.Generator().manual_seed(0)
        code = layout.zeros(count).replace(
            shape=torch.randn(count, 4000, generator=g),
            albedo=torch.randn(count, 4000, generator=g),
        )
        expected = 2 * (1 / count + (2 * count - 1) / count**2)
        # Measured 0.5 % off: 8,000 coefficients.
        assert batch_distribution(code).item() == pytest.approx(expected, rel=0.03)

    def test_each_face_stays_free(self):
        """Which face has which coefficient does not matter."""
        g = torch.Generator().manual_seed(0)
        shape = torch.randn(4, 3, generator=g)
        code = LAYOUT.zeros(4).replace(shape=shape)
        other = code.replace(shape=torch.stack([shape[:, 0].flip(0), *shape.T[1:]], 1))
        torch.testing.assert_close(batch_distribution(code), batch_distribution(other))

    def test_gradcheck(self):
        g = torch.Generator().manual_seed(0)
        parts = [torch.randn(4, n, generator=g).double().requires_grad_() for n in (3, 4)]
        zeros = LAYOUT.zeros(4, dtype=torch.float64)
        assert torch.autograd.gradcheck(
            lambda shape, albedo: batch_distribution(zeros.replace(shape=shape, albedo=albedo)),
            parts,
        )
