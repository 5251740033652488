"""Projection through a pinhole: the compiled pass against its twin."""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr.scene.projection import Pinhole, project_pinhole, project_pinhole_ref

PINHOLE = Pinhole(1100.0, 1050.0, 3.0, 118.0, 131.0, 100.0)


def points(*shape: int) -> torch.Tensor:
    """Around a face 0.9 m away."""
    generator = torch.Generator().manual_seed(0)
    return 80 * torch.randn(*shape, 3, generator=generator) + torch.tensor([0.0, 0, -900])


class TestProjectPinhole:
    def test_by_hand(self):
        """10 mm right and 20 mm up at 100 mm: a tenth and a fifth of the focal lengths."""
        pixel = project_pinhole(torch.tensor([10.0, 20, -100]), PINHOLE)
        assert pixel.tolist() == pytest.approx([118 + 110 - 0.2 * 3, 131 - 210], rel=1e-6)

    @pytest.mark.parametrize("shape", [(), (7,), (2, 501), (0,), (3, 2, 5)])
    def test_as_the_twin(self, shape):
        some = points(*shape)
        if some.numel() > 6:
            some.view(-1, 3)[1, 2] = -50.0  # before the near plane
            some.view(-1, 3)[2, 2] = 30.0  # behind the eye
        own, twin = some.clone().requires_grad_(), some.double().requires_grad_()
        out, want = project_pinhole(own, PINHOLE), project_pinhole_ref(twin, PINHOLE)
        # measured: 3e-5 px of 250, gradients 2e-7 of their size
        torch.testing.assert_close(out.double(), want, rtol=1e-6, atol=1e-4)
        given = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
        (grad,) = torch.autograd.grad(out, own, given)
        (wanted,) = torch.autograd.grad(want, twin, given.double())
        torch.testing.assert_close(grad.double(), wanted, rtol=1e-5, atol=1e-6)

    def test_what_is_no_number_stays_none(self):
        some = points(3)
        some[1, 2] = torch.nan
        out = project_pinhole(some, PINHOLE)
        assert out[1].isnan().all() and out[[0, 2]].isfinite().all()

    def test_the_same_bits_for_every_thread_count(self):
        some, before = points(5, 1001), torch.get_num_threads()
        try:
            outs = []
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                own = some.clone().requires_grad_()
                out = project_pinhole(own, PINHOLE)
                outs.append((out, *torch.autograd.grad(out.square().sum(), own)))
        finally:
            torch.set_num_threads(before)
        for out, grad in outs[1:]:
            assert torch.equal(out, outs[0][0]) and torch.equal(grad, outs[0][1])

    def test_differentiable_once(self):
        own = points(4).requires_grad_()
        (grad,) = torch.autograd.grad(
            project_pinhole(own, PINHOLE).square().sum(), own, create_graph=True
        )
        with pytest.raises(RuntimeError, match="once_differentiable"):
            grad.sum().backward()
