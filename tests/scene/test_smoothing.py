"""Smoothing along a mesh's edges."""

import torch

from mofa_nvdr.scene.smoothing import MeshSmoother

TRIANGLES = torch.tensor([[0, 1, 2], [2, 1, 3]])
CORNERS = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]])


class TestMeshSmoother:
    def test_a_step_goes_half_way_to_the_neighbours_mean(self):
        values = torch.tensor([[4.0], [0.0], [0.0], [0.0]])
        out = MeshSmoother(TRIANGLES, CORNERS)(values, 1)
        # 0 has the neighbours 1 and 2; 1 has 0, 2 and 3.
        assert torch.allclose(out, torch.tensor([[2.0], [2 / 3], [2 / 3], [0.0]]))

    def test_constants_stay_and_differences_fade(self):
        smoother = MeshSmoother(TRIANGLES, CORNERS)
        assert torch.allclose(smoother(torch.full((4, 3), 2.5), 9), torch.full((4, 3), 2.5))
        values = torch.tensor([[1.0], [-1], [3], [2]])
        assert smoother(values, 60).std() < 1e-3 < values.std()

    def test_a_vertex_of_no_triangle_keeps_its_value(self):
        values = torch.tensor([[1.0], [2], [3], [4], [9]])
        assert MeshSmoother(TRIANGLES, torch.cat([CORNERS, CORNERS[:1]]))(values, 5)[4] == 9

    def test_no_step_is_no_change(self):
        values = torch.rand(4, 2)
        assert torch.equal(MeshSmoother(TRIANGLES, CORNERS)(values, 0), values)

    def test_steps_of_a_length(self):
        """A spike on a large grid spreads over the length that was asked for."""
        rows = 61
        index = torch.arange(rows * rows).view(rows, rows)
        a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
        triangles = torch.cat([torch.stack([a, c, b], -1), torch.stack([b, c, d], -1)]).view(-1, 3)
        x = 2.0 * torch.stack(torch.meshgrid(*[torch.arange(rows).float()] * 2, indexing="ij"), -1)
        points = torch.cat([x.view(-1, 2), torch.zeros(rows * rows, 1)], 1)
        smoother = MeshSmoother(triangles, points)
        spike = torch.zeros(rows * rows, 1)
        spike[index[rows // 2, rows // 2]] = 1
        out = smoother(spike, smoother.steps(12.0))
        away = (points - points[index[rows // 2, rows // 2]]).square().sum(1)
        assert abs(float((out[:, 0] * away).sum() / out.sum()) ** 0.5 - 12) < 1
