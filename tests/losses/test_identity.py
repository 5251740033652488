"""Rendered faces look like the people in their photographs."""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr.losses.identity import identity_distance


class TestIdentityDistance:
    def test_squared_distance(self):
        a = torch.tensor([[1.0, 2, 3], [0, 0, 0]], requires_grad=True)
        b = torch.tensor([[1.0, 0, 3], [0, 3, 4]])
        distance = identity_distance(a, b)
        assert distance.tolist() == [4, 25]
        distance.sum().backward()
        assert a.grad.tolist() == [[0, 4, 0], [0, -6, -8]]

    @pytest.mark.parametrize("shape", [(3, 128), (2, 64), (128,)])
    def test_shapes_must_agree(self, shape):
        with pytest.raises(ValueError, match=r"embeddings are \[2, 128\] of rendered faces"):
            identity_distance(torch.zeros(2, 128), torch.zeros(*shape))
