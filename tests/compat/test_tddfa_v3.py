"""3DDFA-V3's renderers: the fourth result, and pictures over texture coordinates.

Against the peer's own file (3DDFA-V3 e153858, on this package's operators): everything the same bits.
"""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr.compat import deep3d, tddfa_v3
from tests.compat.test_deep3d import FOV, SIZE, renderer, scene  # noqa: F401 (a fixture)
from tests.helpers.peer_scenes import random_values


class TestMeshRenderer:
    def test_three_results_and_none(self, scene):  # noqa: F811
        found = tddfa_v3.MeshRenderer(FOV, 5, 15, SIZE)(*scene)
        assert found[3] is None and len(found) == 4
        for a, b in zip(found, renderer()(*scene)):
            assert torch.equal(a, b)

    def test_visible_vertices_by_hand(self):
        # Two triangles, one behind the other, and one beside them; vertex 9 belongs to none.
        front = torch.tensor([[-1, -1, 9], [1, -1, 9], [0, 1, 9.0]])
        behind = 0.5 * front + torch.tensor([0, 0, 6.0])
        beside = torch.tensor([[0.9, 0.9, 9], [0.99, 0.9, 9], [0.9, 0.99, 9.0]])
        vertex = torch.cat([front, behind, beside, torch.zeros(1, 3)])[None]
        tri = torch.arange(9).view(3, 3)
        drawer = tddfa_v3.MeshRenderer(FOV, 5, 15, 128)
        assert drawer(vertex, tri, visible_vertice=True)[3].tolist() == [0, 1, 2, 6, 7, 8]

    def test_triangle_0_is_in_the_mask(self):
        vertex = torch.tensor([[[-1, -1, 9], [1, -1, 9], [0, 1, 9.0]]])
        assert tddfa_v3.MeshRenderer_cpu(FOV, 5, 15, SIZE)(vertex, torch.tensor([[0, 1, 2]]))[
            0
        ].any()

    def test_names_of_the_cpu_renderers(self):
        assert tddfa_v3.MeshRenderer_cpu is tddfa_v3.MeshRenderer
        assert tddfa_v3.MeshRenderer_UV_cpu is tddfa_v3.MeshRenderer_UV
        assert issubclass(tddfa_v3.MeshRenderer, deep3d.MeshRenderer)


class TestMeshRendererUV:
    def test_attributes_at_their_coordinates(self):
        # A square over the whole picture whose attributes are its own coordinates; y is up, row 0 the top.
        corners = torch.tensor([[[-1.0, -1, 0], [1, -1, 0], [-1, 1, 0], [1, 1, 0]]])
        tri = torch.tensor([[0, 1, 2], [1, 3, 2]])
        drawer = tddfa_v3.MeshRenderer_UV(rasterize_size=8)
        mask, depth, image, visible = drawer(corners, tri, corners[..., :2].contiguous(), True)
        centres = (2 * torch.arange(8.0) + 1) / 8 - 1
        assert mask.all() and (depth == 0).all() and visible.tolist() == [0, 1, 2, 3]
        assert torch.allclose(image[0, 0], centres.expand(8, 8), atol=1e-6)
        assert torch.allclose(image[0, 1], -centres[:, None].expand(8, 8), atol=1e-6)

    def test_without_attributes(self):
        corners = torch.tensor([[[-1.0, -1, 0.5], [1, -1, 0.5], [-1, 1, 0.5]]]).expand(2, -1, -1)
        found = tddfa_v3.MeshRenderer_UV(8)(corners, torch.tensor([[0, 1, 2]]))
        assert found[2] is None and found[3] is None
        assert (found[1][found[0] > 0] == 0.5).all()

    def test_refusals(self):
        drawer = tddfa_v3.MeshRenderer_UV(8)
        with pytest.raises(ValueError, match="MeshRenderer_UV: rasterize_size is 0"):
            tddfa_v3.MeshRenderer_UV(0)
        with pytest.raises(ValueError, match=r"MeshRenderer_UV: vertex is \[1, 4, 2\]"):
            drawer(random_values(1, 4, 2), torch.tensor([[0, 1, 2]]))
        with pytest.raises(ValueError, match="MeshRenderer_UV: feat is .* N = 4"):
            drawer(random_values(1, 4, 3), torch.tensor([[0, 1, 2]]), random_values(1, 5, 3))
