"""Vertices in one pass: against plain torch, forward and backward, the same bits always."""

import pytest
import torch

from mofa_nvdr.render.vertex_shading import shade_vertices, shade_vertices_ref
from mofa_nvdr.scene.projection import Pinhole

LENS = Pinhole(900.0, 950.0, 3.0, 120.0, 118.0, 100.0)


def inputs(batch=3, vertices=1000):
    """Points in front of the eye, free normals, colours and light, with gradients; and who is counted."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    points = 60 * normal(batch, vertices, 3) + torch.tensor([0, 0, -900.0])
    points[0, :3, 2] = torch.tensor([-50.0, 20.0, -100.0])  # nearer than the near plane, and behind
    unit = torch.nn.functional.normalize(normal(batch, vertices, 3), dim=-1)
    leaves = [
        points,
        unit,
        torch.rand(batch, vertices, 3, generator=generator),
        normal(batch, 9, 3),
    ]
    counted = torch.rand(vertices, generator=generator) > 0.2
    return [t.requires_grad_() for t in leaves], counted


def both(function, batch=3):
    leaves, counted = inputs(batch)
    positions, colors, facing = function(*leaves, counted, LENS)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(t.shape, generator=generator) for t in (positions, colors)]
    total = (positions * weights[0]).sum() + (colors * weights[1]).sum()
    return [positions, colors, facing, *torch.autograd.grad(total, leaves)]


class TestShadeVertices:
    def test_is_its_twin(self):
        for one, two in zip(both(shade_vertices), both(shade_vertices_ref)):
            if one.dtype == torch.bool:
                assert torch.equal(one, two) and 0 < one.sum() < one.numel()
            else:
                torch.testing.assert_close(one, two, rtol=2e-5, atol=2e-5)

    def test_by_hand(self):
        point, unit = torch.tensor([[[90.0, -90, -900]]]), torch.tensor([[[0, 0, 1.0]]])
        light = torch.zeros(1, 9, 3)
        light[0, 0] = 1
        positions, colors, facing = shade_vertices(
            point, unit, torch.tensor([[[1, 0.5, 0]]]), light, torch.tensor([True]),
            Pinhole(1000.0, 1000.0, 0.0, 120.0, 120.0, 100.0),
        )  # fmt: skip
        assert positions[0, 0].tolist() == pytest.approx([220, 220], abs=1e-4)
        assert colors[0, 0].tolist() == pytest.approx([0.8862, 0.4431, 0], abs=1e-4)
        assert facing.tolist() == [[True]]

    @pytest.mark.parametrize("batch", [1, 3, 4])
    def test_same_bits_for_any_thread_count(self, batch):
        before, results = torch.get_num_threads(), []
        try:
            for count in (1, 2, 5, 2):
                torch.set_num_threads(count)
                results.append(both(shade_vertices, batch))
        finally:
            torch.set_num_threads(before)
        for result in results[1:]:
            for one, two in zip(result, results[0]):
                assert torch.equal(one, two)

    def test_one_output_alone(self):
        leaves, counted = inputs()
        positions, colors, _ = shade_vertices(*leaves, counted, LENS)
        grads = torch.autograd.grad(positions.sum(), leaves, retain_graph=True)
        assert grads[0].abs().sum() > 0
        assert not any(g.any() for g in grads[1:])
        grads = torch.autograd.grad(colors.sum(), leaves)
        assert not grads[0].any() and all(g.abs().sum() > 0 for g in grads[1:])
