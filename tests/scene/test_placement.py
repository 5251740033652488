"""Vertices and normals in one pass: against the steps, forward and backward, the same bits always."""

import pytest
import torch

from mofa_nvdr.scene.placement import placed_with_normals, placed_with_normals_ref
from mofa_nvdr.scene.pose import axis_angle_to_matrix
from tests.helpers.meshes import sphere


def inputs(batch=3, dtype=torch.float32):
    """A bumpy sphere in some poses, with gradients, and its triangles."""
    vertices, triangles = sphere(12)
    generator = torch.Generator().manual_seed(0)
    bumps = 1 + 0.1 * torch.randn(batch, vertices.shape[1], 1, generator=generator)
    points = (vertices * bumps).to(dtype)
    turn = 0.3 * torch.randn(batch, 3, generator=generator).to(dtype)
    shift = torch.randn(batch, 3, generator=generator).to(dtype)
    return [t.requires_grad_() for t in (points, axis_angle_to_matrix(turn), shift)], triangles


def both(function, which=(0, 1), batch=3):
    """Outputs, and gradients of a weighted sum of some of them."""
    leaves, triangles = inputs(batch)
    outs = function(*leaves, triangles)
    weights = [torch.randn(o.shape, generator=torch.Generator().manual_seed(3)) for o in outs]
    total = sum((outs[k] * weights[k]).sum() for k in which)
    return [*outs, *torch.autograd.grad(total, leaves, allow_unused=True)]


class TestPlacedWithNormals:
    @pytest.mark.parametrize("which", [(0,), (1,), (0, 1)])
    def test_is_its_twin(self, which):
        for one, two in zip(both(placed_with_normals, which), both(placed_with_normals_ref, which)):
            if two is None:  # normals do not know of a shift
                two = torch.zeros_like(one)
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)

    def test_quarter_turn_by_hand(self):
        points = torch.tensor([[[0, 0, 0], [1, 0, 0], [0, 1, 0.0]]])
        turn = axis_angle_to_matrix(torch.tensor([[0, torch.pi / 2, 0]]))
        vertices, normals = placed_with_normals(
            points, turn, torch.tensor([[0, 0, -5.0]]), torch.tensor([[0, 1, 2]])
        )
        expected = torch.tensor([[[0, 0, -5], [0, 0, -6], [0, 1, -5.0]]])
        torch.testing.assert_close(vertices, expected)
        torch.testing.assert_close(normals, torch.tensor([1, 0, 0.0]).expand(1, 3, 3))

    def test_float64_gradcheck(self):
        leaves, triangles = inputs(1, torch.float64)
        leaves = [t.detach().requires_grad_() for t in leaves]
        assert torch.autograd.gradcheck(lambda *t: placed_with_normals(*t, triangles), leaves)

    @pytest.mark.parametrize("batch", [1, 3, 4])
    def test_same_bits_for_any_thread_count(self, batch):
        before, results = torch.get_num_threads(), []
        try:
            for count in (1, 2, 5, 2):
                torch.set_num_threads(count)
                results.append(both(placed_with_normals, batch=batch))
        finally:
            torch.set_num_threads(before)
        for result in results[1:]:
            for one, two in zip(result, results[0]):
                assert torch.equal(one, two)

    def test_an_index_outside(self):
        leaves, triangles = inputs()
        with pytest.raises(ValueError, match="triangles holds indices 0 to 9999"):
            placed_with_normals(*leaves, torch.tensor([[0, 1, 9999]]))
