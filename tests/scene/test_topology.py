"""How triangles hang together: edges, pieces, orientation and fans, counted by hand."""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr.scene.topology import edge_counts, topology
from tests.helpers.meshes import TETRAHEDRON, sphere


class TestEdgeCounts:
    def test_tetrahedron(self):
        edges, counts = edge_counts(TETRAHEDRON)
        assert edges.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
        assert counts.tolist() == [2] * 6

    def test_two_triangles(self):
        edges, counts = edge_counts(torch.tensor([[0, 1, 2], [2, 1, 5]]))
        assert dict(zip(map(tuple, edges.tolist()), counts.tolist())) == {
            (0, 1): 1,
            (0, 2): 1,
            (1, 2): 2,
            (1, 5): 1,
            (2, 5): 1,
        }

    def test_errors(self):
        with pytest.raises(ValueError, match=r"edge_counts: triangles is \[2\]"):
            edge_counts(torch.tensor([0, 1]))


class TestTopology:
    def test_sphere(self):
        found = topology(sphere()[1])
        assert found.euler_number == 2 and found.num_components == 1
        assert found.is_manifold and found.num_boundary_edges == 0

    def test_disc(self):
        found = topology(torch.tensor([[0, 1, 2], [0, 2, 3]]))
        assert (found.num_vertices, found.num_edges, found.num_triangles) == (4, 5, 2)
        assert found.euler_number == 1 and found.num_boundary_edges == 4 and found.is_manifold

    def test_two_components_and_unused_vertices(self):
        found = topology(torch.cat([TETRAHEDRON, TETRAHEDRON + 10]))
        assert found.num_components == 2 and found.euler_number == 4 and found.num_vertices == 8
        assert found.is_manifold

    def test_three_triangles_at_an_edge(self):
        found = topology(torch.tensor([[0, 1, 2], [1, 0, 3], [0, 1, 4]]))
        assert found.max_triangles_per_edge == 3
        assert not found.is_manifold and not found.is_oriented

    def test_flipped_triangle(self):
        found = topology(torch.tensor([[0, 1, 2], [0, 3, 2]]))
        assert not found.is_oriented and not found.is_manifold
        assert found.max_triangles_per_edge == 2

    def test_bow_tie(self):
        # Two triangles that touch in a vertex: every edge is fine, the vertex is not.
        found = topology(torch.tensor([[0, 1, 2], [0, 3, 4]]))
        assert found.is_oriented and found.max_triangles_per_edge == 1
        assert found.num_components == 1 and not found.is_manifold

    def test_triangle_that_uses_a_vertex_twice(self):
        assert not topology(torch.tensor([[0, 1, 1]])).is_oriented

    def test_errors(self):
        with pytest.raises(ValueError, match=r"topology: triangles is \[0, 3\], expected at least"):
            topology(torch.zeros(0, 3, dtype=torch.int64))
        with pytest.raises(ValueError, match="int32 or int64"):
            topology(TETRAHEDRON.float())
