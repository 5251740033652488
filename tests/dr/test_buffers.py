"""Memory of the operators' outputs."""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr import dr
from mofa_nvdr.dr import buffers


class TestUnwritten:
    @pytest.mark.parametrize("shape", [(), (0,), (2, 3), (3, 2**22)])
    def test_shape_and_kind(self, shape):
        tensor = buffers.unwritten(*shape)
        assert tensor.shape == shape and tensor.dtype == torch.float32
        assert tensor.is_contiguous() and not tensor.requires_grad

    def test_large_outputs_are_the_small_ones(self, monkeypatch):
        """Operators give the same bits and gradients whoever lends the memory."""
        pos = torch.tensor([[[-1.0, -1, 0, 1], [1, -1, 0.2, 1], [0, 1, 0.4, 1]]])
        tri = torch.tensor([[0, 1, 2]], dtype=torch.int32)
        results = []
        for large in (buffers._LARGE, 0):
            monkeypatch.setattr(buffers, "_LARGE", large)
            own = pos.clone().requires_grad_()
            context = dr.RasterizeContext()
            rast, _ = dr.rasterize(context, own, tri, (16, 16))
            color, _ = dr.interpolate(own[..., :3].contiguous(), rast, tri)
            smooth = dr.antialias(color, rast, own, tri)
            (grad,) = torch.autograd.grad(smooth.square().sum(), own)
            results.append((rast.detach(), smooth.detach(), grad))
        for one, other in zip(*results):
            assert torch.equal(one, other)
