"""Vertex normals: by hand, the kernel against its twin, degenerate vertices."""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr.scene import normals as module
from mofa_nvdr.scene.normals import vertex_normals, vertex_normals_ref
from tests.helpers.meshes import TETRAHEDRON, sphere

# A tetrahedron with one corner at the origin; triangles counter-clockwise from outside.
CORNER = torch.tensor([[[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]]])


def random_mesh(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    vertices = torch.randn(3, 30, 3, generator=generator)
    return vertices, torch.randint(0, 28, (60, 3), generator=generator)


@pytest.fixture(params=[vertex_normals, vertex_normals_ref])
def normals_of(request):
    return request.param


class TestVertexNormals:
    def test_flat_square_faces_up(self, normals_of, device):
        vertices = torch.tensor([[[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]]], device=device)
        triangles = torch.tensor([[0, 1, 2], [0, 2, 3]], device=device)
        expected = torch.tensor([0, 0, 1.0], device=device).expand(1, 4, 3)
        torch.testing.assert_close(normals_of(vertices, triangles), expected)
        torch.testing.assert_close(normals_of(vertices, triangles.flip(1)), -expected)

    def test_weighted_by_area(self, normals_of, device):
        # At (1, 0, 0) meet normals -z and -y of area 1/2 and (1, 1, 1)/2, which is sqrt(3)/2 long:
        # the sum is (1, 0, 0).
        normals = normals_of(CORNER.to(device), TETRAHEDRON.to(device))
        expected = torch.tensor([[[-(3**-0.5)] * 3, [1, 0, 0], [0, 1, 0], [0, 0, 1.0]]])
        torch.testing.assert_close(normals.cpu(), expected)

    def test_sphere(self, normals_of, device):
        vertices, triangles = sphere(24)
        normals = normals_of(vertices.to(device), triangles.to(device)).cpu()
        # A 7.5 degree grid: measured 0.9996 at the worst vertex.
        assert float((normals * vertices).sum(-1).min()) > 0.999
        torch.testing.assert_close(normals.norm(dim=-1), torch.ones(vertices.shape[:2]))

    def test_scale_and_index_type_do_not_matter(self, normals_of):
        vertices, triangles = random_mesh()
        expected = normals_of(vertices, triangles)
        torch.testing.assert_close(normals_of(1000 * vertices, triangles.int()), expected)

    def test_degenerate_vertices(self, normals_of):
        # Vertex 3 has no triangle; vertices 4 to 6 lie on one line.
        line = [[5, 0, 0], [6, 0, 0], [7, 0, 0.0]]
        vertices = torch.tensor([[[0, 0, 0], [1, 0, 0], [0, 1, 0], [9, 9, 9.0], *line]])
        vertices.requires_grad_()
        normals = normals_of(vertices, torch.tensor([[0, 1, 2], [4, 5, 6]]))
        assert normals[0, 3:].tolist() == [[0, 0, 1]] * 4
        normals.backward(torch.full_like(normals, 3.0))
        assert (vertices.grad[0, 3:] == 0).all()
        assert vertices.grad.isfinite().all() and (vertices.grad[0, :3] != 0).any()

    def test_kernel_against_twin(self):
        vertices, triangles = random_mesh()
        cotangent = torch.randn(vertices.shape, generator=torch.Generator().manual_seed(1))
        ours, exact = vertices.clone().requires_grad_(), vertices.double().requires_grad_()
        kernel, twin = vertex_normals(ours, triangles), vertex_normals_ref(exact, triangles)
        torch.testing.assert_close(kernel.double(), twin, rtol=0, atol=2e-6)
        kernel.backward(cotangent)
        twin.backward(cotangent.double())
        torch.testing.assert_close(ours.grad.double(), exact.grad, rtol=1e-5, atol=2e-5)

    def test_float64_gradcheck(self):
        vertices, triangles = random_mesh(2)
        vertices = vertices[:1, :, :].double().requires_grad_()
        assert vertex_normals(vertices, triangles).dtype == torch.float64
        assert torch.autograd.gradcheck(lambda v: vertex_normals(v, triangles), vertices)

    def test_not_contiguous_vertices(self):
        vertices, triangles = random_mesh()
        turned = vertices.transpose(1, 2).contiguous().transpose(1, 2)
        expected = vertex_normals(vertices, triangles)
        assert torch.equal(vertex_normals(turned, triangles), expected)

    def test_triangles_changed_in_place_are_noticed(self):
        vertices, triangles = random_mesh()
        vertex_normals(vertices, triangles)
        triangles.copy_(triangles.flip(1))
        expected = vertex_normals_ref(vertices, triangles)
        torch.testing.assert_close(vertex_normals(vertices, triangles), expected)

    def test_tables_do_not_pile_up(self):
        vertices, _ = random_mesh()
        for seed in range(10):
            vertex_normals(vertices, random_mesh(seed)[1])
        assert len(module._tables) == 4

    def test_same_bits_for_any_thread_count(self):
        vertices, triangles = random_mesh()
        before, results = torch.get_num_threads(), []
        try:
            for num_threads in (1, 3, 1):
                torch.set_num_threads(num_threads)
                leaf = vertices.clone().requires_grad_()
                normals = vertex_normals(leaf, triangles)
                normals[..., 0].square().sum().backward()
                results.append((normals, leaf.grad))
        finally:
            torch.set_num_threads(before)
        for result in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(result, results[0]))

    @pytest.mark.parametrize(
        "vertices, triangles, message",
        [
            (CORNER[0], TETRAHEDRON, r"vertices is \[4, 3\], expected \[B, V, 3\]"),
            (CORNER.long(), TETRAHEDRON, "vertices is torch.int64, expected float32"),
            (CORNER, TETRAHEDRON[0], r"triangles is \[3\], expected \[T, 3\]"),
            (CORNER, TETRAHEDRON.float(), "triangles is torch.float32, expected int32"),
            (CORNER, TETRAHEDRON.to("meta"), "triangles is on meta, but vertices on cpu"),
        ],
    )
    def test_errors(self, normals_of, vertices, triangles, message):
        with pytest.raises(ValueError, match="vertex_normals.*: " + message):
            normals_of(vertices, triangles)

    @pytest.mark.parametrize("index", [-1, 4])
    def test_index_outside(self, index):
        with pytest.raises(ValueError, match="holds indices .*, expected 0 to 3"):
            vertex_normals(CORNER, torch.tensor([[0, 1, index]]))
