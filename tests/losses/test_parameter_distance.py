"""The parameter loss of Genova et al."""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.losses.parameter_distance import parameter_distance

LAYOUT = CodeLayout(4, 2, 5)


class TestParameterDistance:
    def test_by_hand(self):
        """Two of four shapes off by 2, every albedo by 3; other parts are free."""
        true = LAYOUT.zeros(2)
        code = true.replace(
            shape=torch.tensor([[2.0, -2, 0, 0], [0, 0, 0, 0]]),
            albedo=torch.tensor([[0.0] * 5, [3] * 5]),
            rotation=torch.ones(2, 3),
        )
        distance = parameter_distance(code, true, 0.4, 0.002)
        torch.testing.assert_close(distance, torch.tensor([0.4 * 2, 0.002 * 9]))

    def test_both_get_a_gradient(self):
        """Of the loopback loss: the two paths are each other's negative."""
        code, true = (LAYOUT.zeros(1) for _ in range(2))
        shapes = torch.tensor([[1.0, 0, 0, 0]]).requires_grad_(), torch.zeros(1, 4).requires_grad_()
        code, true = code.replace(shape=shapes[0]), true.replace(shape=shapes[1])
        parameter_distance(code, true, 1.0, 1.0).sum().backward()
        assert torch.equal(shapes[0].grad, -shapes[1].grad)
        assert shapes[0].grad.tolist() == [[0.5, 0, 0, 0]]

    def test_gradcheck(self):
        g = torch.Generator().manual_seed(0)
        codes = [torch.randn(3, LAYOUT.size, generator=g).double().requires_grad_() for _ in "ab"]
        assert torch.autograd.gradcheck(
            lambda a, b: parameter_distance(LAYOUT.unpack(a), LAYOUT.unpack(b), 0.4, 0.2), codes
        )

    @pytest.mark.parametrize("other", [CodeLayout(4, 2, 5).zeros(3), CodeLayout(5, 2, 4).zeros(2)])
    def test_codes_must_agree(self, other):
        with pytest.raises(ValueError, match=r"parameter_distance: 2 codes of .*true ones of"):
            parameter_distance(LAYOUT.zeros(2), other, 1.0, 1.0)
