"""Points through affine maps: by hand, against the plain twin, gradients, the same bits always."""

import pytest
import torch
from torch.autograd import gradcheck

from mofa_nvdr.rigid import transform_points, transform_points_ref


def inputs(batch=3, points=700, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    shapes = (batch, points, 3), (batch, 3, 3), (batch, 3)
    tensors = (torch.randn(*shape, generator=generator, dtype=dtype) for shape in shapes)
    return [t.requires_grad_() for t in tensors]


def step(function, leaves):
    out = function(*leaves)
    (out * torch.linspace(-1, 1, out.numel()).reshape(out.shape).to(out)).sum().backward()
    return [out.detach(), *(leaf.grad for leaf in leaves)]


def test_by_hand():
    """A quarter turn about z takes x to y, then the shift."""
    matrix = torch.tensor([[[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]])
    out = transform_points(torch.tensor([[[1.0, 2, 3]]]), matrix, torch.tensor([[10.0, 20, 30]]))
    assert out.tolist() == [[[8, 21, 33]]]


def test_is_its_twin(device):
    one, two = (
        step(f, [t.detach().to(device).requires_grad_() for t in inputs()])
        for f in (transform_points, transform_points_ref)
    )
    for a, b in zip(one, two):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-5)


def test_gradcheck():
    assert gradcheck(transform_points, inputs(2, 5, dtype=torch.float64))


@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_gradient_of_one_input_alone(wanted):
    every = step(transform_points, inputs())[1 + wanted]
    leaves = [t.detach().requires_grad_(k == wanted) for k, t in enumerate(inputs())]
    assert torch.equal(step(transform_points, leaves)[1 + wanted], every)


def test_other_memory_layouts():
    points, matrix, shift = inputs()
    plain = transform_points(points, matrix, shift)
    turned = transform_points(
        points.mT.contiguous().mT, matrix.mT.contiguous().mT, shift[:1].expand(3, -1)
    )
    assert torch.equal(turned[0], plain[0])


def test_same_bits_for_any_thread_count():
    before, results = torch.get_num_threads(), []
    try:
        for num_threads in (1, 2, 5):
            torch.set_num_threads(num_threads)
            results.append(step(transform_points, inputs()))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))
