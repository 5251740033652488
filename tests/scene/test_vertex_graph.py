"""Differences and Laplacians over a mesh: by hand, against the plain twins, the same bits always."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from mofa_nvdr.scene.vertex_graph import VertexGraph
from tests.helpers.small_face import small_face

# A square of two triangles, 0-1-2 and 0-2-3, and a vertex that no triangle uses.
TRIANGLES = torch.tensor([[0, 1, 2], [0, 2, 3]])
VALUES = torch.tensor([[[0.0], [6.0], [3.0], [1.0], [9.0]]])


def graph_and_values(dtype=torch.float32):
    model = small_face(12)
    graph = VertexGraph.of(model.triangles, model.num_vertices)
    generator = torch.Generator().manual_seed(0)
    return graph, torch.randn(3, model.num_vertices, 3, generator=generator, dtype=dtype)


class TestVertexGraph:
    def test_by_hand(self):
        graph = VertexGraph.of(TRIANGLES, 5)
        assert graph.edges.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [2, 3]]
        assert graph.differences(VALUES)[0, :, 0].tolist() == [-6, -3, -1, 3, 2]
        expected = [0 - 10 / 3, 6 - 3 / 2, 3 - 7 / 3, 1 - 3 / 2, 0]
        assert graph.laplacian(VALUES)[0, :, 0].tolist() == pytest.approx(expected)

    def test_laplacian_of_equal_values(self):
        graph, values = graph_and_values()
        assert graph.laplacian(torch.ones_like(values)).abs().max() < 1e-6

    @pytest.mark.parametrize("name", ["differences", "laplacian"])
    def test_is_its_twin(self, name):
        graph, values = graph_and_values()
        results = []
        for function in (getattr(graph, name), getattr(graph, f"{name}_ref")):
            own = values.clone().requires_grad_()
            out = function(own)
            weight = torch.linspace(-1, 1, out.numel()).view_as(out)
            (out * weight).sum().backward()
            results.append((out, own.grad))
        for one, two in zip(*results):
            torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)  # measured 5e-7

    @pytest.mark.parametrize("name", ["differences", "laplacian"])
    def test_gradcheck(self, name):
        graph = VertexGraph.of(TRIANGLES, 5)
        values = torch.randn(2, 5, 2, dtype=torch.float64, requires_grad=True)
        assert gradcheck(getattr(graph, name), values)

    @pytest.mark.parametrize("name", ["differences", "laplacian"])
    def test_same_bits_for_any_thread_count(self, name):
        graph, values = graph_and_values()
        before, results = torch.get_num_threads(), []
        try:
            for threads in (1, 3):
                torch.set_num_threads(threads)
                own = values.clone().requires_grad_()
                out = getattr(graph, name)(own)
                out.square().sum().backward()
                results.append((out, own.grad))
        finally:
            torch.set_num_threads(before)
        for one, two in zip(*results):
            assert torch.equal(one, two)

    @pytest.mark.parametrize("shape", [(1, 4, 3), (5, 3)])
    def test_wrong_values(self, shape):
        graph = VertexGraph.of(TRIANGLES, 5)
        for name in ("differences", "laplacian"):
            with pytest.raises(
                ValueError, match=r"VertexGraph: values are .* expected \[B, 5, C\]"
            ):
                getattr(graph, name)(torch.zeros(shape))
