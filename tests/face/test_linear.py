"""Affine models: by hand, against the plain twin, on every path, the same bits always."""

import pytest
import torch
from torch.autograd import gradcheck

from mofa_nvdr.face.linear import linear_model, linear_model_ref


def model(length=2500, modes=(7, 3), batch=5, dtype=torch.float32):
    """A length beyond one block, and numbers of modes that are no multiples of four."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    bases = [normal(k, length) for k in modes]
    return normal(length), bases, [normal(batch, k).requires_grad_() for k in modes]


class TestLinearModel:
    def test_by_hand(self):
        mean, basis = torch.tensor([1.0, 2.0]), torch.tensor([[1.0, 0.0], [0.0, 10.0]])
        out = linear_model(mean, [basis], [torch.tensor([[2.0, 3.0], [0.0, -1.0]])])
        assert out.tolist() == [[3, 32], [1, -8]]

    @pytest.mark.parametrize("modes", [(8, 4), (7, 3), (1, 0)])
    @pytest.mark.parametrize("batch", [1, 5, 40])
    def test_is_its_twin(self, modes, batch):
        results = []
        for function in (linear_model, linear_model_ref):
            mean, bases, coefficients = model(modes=modes, batch=batch)
            out = function(mean, bases, coefficients)
            out.square().sum().backward()
            results.append((out, *(c.grad for c in coefficients)))
        for one, two in zip(*results):
            torch.testing.assert_close(
                one, two, rtol=1e-4, atol=1e-2 if one.shape != out.shape else 1e-4
            )

    @pytest.mark.parametrize("batch", [1, 2])
    def test_the_model_stays_as_it_is(self, batch):
        mean, bases, coefficients = model(batch=batch)
        before = mean.clone()
        linear_model(mean, bases, coefficients)
        assert torch.equal(mean, before)

    def test_float64_gradcheck(self):
        mean, bases, coefficients = model(length=9, dtype=torch.float64)
        assert gradcheck(lambda *c: linear_model(mean, bases, list(c)), coefficients)

    @pytest.mark.parametrize("batch", [1, 5, 40])
    def test_a_basis_that_is_learned(self, batch):
        """One of two; the compiled pass gives its gradient as plain torch does."""
        results = []
        for function in (linear_model, linear_model_ref):
            mean, bases, coefficients = model(batch=batch)
            bases[1].requires_grad_()
            out = function(mean, bases, coefficients)
            out.square().sum().backward()
            assert bases[0].grad is None
            results.append((out, bases[1].grad, *(c.grad for c in coefficients)))
        for one, two in zip(*results):
            torch.testing.assert_close(
                one, two, rtol=1e-4, atol=1e-2 if one.shape != out.shape else 1e-4
            )

    def test_gradients_of_mean_and_bases(self):
        """A mean that is learned goes through plain torch."""
        mean, bases, coefficients = model(length=6)
        mean.requires_grad_()
        bases[0].requires_grad_()
        linear_model(mean, bases, coefficients).sum().backward()
        assert mean.grad.tolist() == [5.0] * 6
        torch.testing.assert_close(
            bases[0].grad, coefficients[0].detach().sum(0)[:, None].expand(7, 6)
        )

    def test_same_bits_for_any_thread_count(self):
        before, results = torch.get_num_threads(), []
        try:
            for num_threads in (1, 2, 4):
                torch.set_num_threads(num_threads)
                mean, bases, coefficients = model(length=40_000)
                bases[1].requires_grad_()
                out = linear_model(mean, bases, coefficients)
                out.square().sum().backward()
                results.append((out.detach(), bases[1].grad, coefficients[0].grad))
        finally:
            torch.set_num_threads(before)
        for first, second, third in zip(*results):
            assert torch.equal(first, second) and torch.equal(first, third)

    @pytest.mark.parametrize("wrong", [torch.zeros(5, 6), torch.zeros(7)])
    def test_wrong_coefficients(self, wrong):
        mean, bases, coefficients = model(length=9)
        with pytest.raises(
            ValueError, match=r"linear_model: mean is \[9\], a basis \[7, 9\] and its coeff"
        ):
            linear_model(mean, bases, [wrong, coefficients[1]])
