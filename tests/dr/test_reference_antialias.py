"""What sets `antialias` in plain torch apart; its values are compared in test_antialias."""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr.dr import reference
from tests.helpers.triangles import RIGHT_TRIANGLE, random_scene, triangles_of


class TestTopologyHash:
    def test_two_triangles(self):
        """Edge (1, 2) faces the first vertex of the one and the last of the other."""
        table = reference.antialias_construct_topology_hash(triangles_of((0, 1, 2), (2, 1, 3)))
        assert table.tolist() == [[3, -1, -1], [-1, -1, 0]]

    def test_of_three_at_an_edge_the_first_two_count(self):
        table = reference.antialias_construct_topology_hash(
            triangles_of((0, 1, 2), (3, 2, 1), (4, 1, 2))
        )
        assert table.tolist() == [[3, -1, -1], [0, -1, -1], [-1, -1, -1]]

    def test_a_triangle_that_uses_a_vertex_twice_has_no_neighbours(self):
        table = reference.antialias_construct_topology_hash(triangles_of((0, 1, 1), (0, 1, 2)))
        assert (table == -1).all()

    def test_wrong_indices(self):
        with pytest.raises(RuntimeError, match="topology_hash: tri is int64, expected int32"):
            reference.antialias_construct_topology_hash(torch.tensor([[0, 1, 2]]))


class TestAntialias:
    def test_without_an_edge_a_copy(self):
        color, rast = torch.rand(1, 3, 3, 2), torch.zeros(1, 3, 3, 4)
        pos = torch.tensor([RIGHT_TRIANGLE], dtype=torch.float32)
        out = reference.antialias(color, rast, pos, triangles_of((0, 1, 2)))
        assert torch.equal(out, color) and out.data_ptr() != color.data_ptr()

    def test_boost_is_a_factor_of_the_positions_gradient(self):
        pos, tri = random_scene(0)
        pos = pos.double()
        rast, _ = reference.rasterize(None, pos, tri, (16, 16))
        color = torch.rand(2, 16, 16, 1, generator=torch.Generator().manual_seed(0)).double()
        outs, grads = [], []
        for boost in (1.0, 4.0):
            leaf = pos.clone().requires_grad_()
            out = reference.antialias(color, rast, leaf, tri, pos_gradient_boost=boost)
            out.square().sum().backward()
            outs.append(out.detach())
            grads.append(leaf.grad)
        assert torch.equal(*outs) and grads[0].abs().max() > 0
        torch.testing.assert_close(grads[1], 4 * grads[0])
