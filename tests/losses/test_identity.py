"""Rendered faces look like the people in their photographs."""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr.losses.identity import identity_cosine, identity_distance


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


class TestIdentityCosine:
    def test_by_hand(self):
        """About their mean: alike but for their length, at right angles, opposite."""
        mean = torch.tensor([3.0, 1.0])
        a = mean + torch.tensor([[1.0, 0], [1, 0], [0, 2]])
        b = mean + torch.tensor([[5.0, 0], [0, 3], [0, -1]])
        torch.testing.assert_close(identity_cosine(a, b, mean), torch.tensor([0.0, 1, 2]))

    def test_gradcheck(self):
        g = torch.Generator().manual_seed(0)
        a, b, mean = (torch.randn(*s, generator=g).double() for s in ((3, 5), (3, 5), (5,)))
        assert torch.autograd.gradcheck(identity_cosine, (a.requires_grad_(), b, mean))

    def test_shapes_must_agree(self):
        some = torch.zeros(2, 128)
        with pytest.raises(ValueError, match=r"identity_cosine: embeddings are \[2, 128\] of rend"):
            identity_cosine(some, torch.zeros(3, 128), torch.zeros(128))
        with pytest.raises(ValueError, match=r"mean is \[5\], expected \[128\] \(from rendered\)"):
            identity_cosine(some, some, torch.zeros(5))
