"""The G-buffer and the fused shading pass: by hand, against the plain twin, and gradients."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from mofa_nvdr import dr
from mofa_nvdr.dr import reference
from mofa_nvdr.scene.lighting import LAMBERT_CONSTANTS
from mofa_nvdr.shaders.gbuffer import draw_mesh, make_gbuffer, shade_mesh, shade_mesh_ref
from tests.helpers.clip_matrices import centred_pinhole


def scene(
    batch: int = 2, height: int = 21, width: int = 150, vertices: int = 40, seed: int = 0
) -> tuple[Tensor, ...]:
    """Random normals, albedo, rast (some 70 % covered), triangles and light; wider than a block."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    triangles = torch.randint(0, vertices, (60, 3), generator=generator, dtype=torch.int32)
    rast = torch.rand(batch, height, width, 4, generator=generator)
    rast[..., :2] *= 0.5
    ids = torch.randint(1, 61, (batch, height, width), generator=generator)
    rast[..., 3] = ids * (rast[..., 3] > 0.3)
    rast[..., :3] *= rast[..., 3:] > 0
    rast[:, -1] = 0  # a row without a triangle
    return (
        normal(batch, vertices, 3),
        normal(batch, vertices, 3),
        rast,
        triangles,
        normal(batch, 9, 3),
    )


def step(function, inputs, device="cpu", wanted=("normals", "albedo", "rast", "light")):
    """Image and mask, and the gradients of a random sum of the image."""
    normals, albedo, rast, triangles, light = (t.to(device) for t in inputs)
    leaves = {"normals": normals, "albedo": albedo, "rast": rast, "light": light}
    leaves = {name: t.clone().requires_grad_(name in wanted) for name, t in leaves.items()}
    image, mask = function(
        leaves["normals"], leaves["albedo"], leaves["rast"], triangles, leaves["light"]
    )
    weights = torch.randn(image.shape, generator=torch.Generator().manual_seed(1)).to(image)
    (image * weights).sum().backward()
    return image.detach(), mask, {name: leaves[name].grad for name in wanted}


class TestShadeMesh:
    def test_by_hand(self):
        """Normals of length 2 towards the viewer, light along z only; row 0 of rast is the last row."""
        normals = torch.tensor([[[0.0, 0, 2]] * 3])
        albedo = torch.tensor([[[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]])
        triangles = torch.tensor([[0, 1, 2]], dtype=torch.int32)
        rast = torch.zeros(1, 3, 1, 4)
        rast[0, 0, 0] = torch.tensor([0.5, 0.25, -0.3, 1])
        light = torch.zeros(1, 9, 3)
        light[0, 2] = torch.tensor([1.0, 2.0, 3.0])  # the function z
        image, mask = shade_mesh(normals, albedo, rast, triangles, light)
        z = LAMBERT_CONSTANTS[2]
        assert image[0, :, 2, 0].tolist() == pytest.approx([0.5 * z, 0.5 * z, 0.75 * z])
        assert mask[0, 0, :, 0].tolist() == [0, 0, 1]
        assert (image[0, :, :2] == 0).all()

    def test_is_its_twin(self, device):
        inputs = scene()
        image, mask, gradients = step(shade_mesh, inputs, device)
        ref_image, ref_mask, ref_gradients = step(shade_mesh_ref, inputs, device)
        assert torch.equal(mask, ref_mask)
        torch.testing.assert_close(image, ref_image, atol=2e-6, rtol=2e-5)
        for name, gradient in gradients.items():
            torch.testing.assert_close(
                gradient,
                ref_gradients[name],
                atol=2e-4,
                rtol=1e-4,
                msg=lambda m, n=name: f"{n}: {m}",
            )

    @pytest.mark.parametrize("name", ["normals", "albedo", "rast", "light"])
    def test_gradient_of_one_input_alone(self, name):
        alone, together = (step(shade_mesh, scene(), wanted=w)[2] for w in ([name], ("rast", name)))
        assert torch.equal(alone[name], together[name])

    def test_mask_has_no_gradient(self):
        normals, *rest = scene()
        _, mask = shade_mesh(normals.requires_grad_(), *rest)
        assert not mask.requires_grad

    def test_triangles_that_are_not_there_are_empty(self):
        """As in dr.interpolate: a foreign rast shows nothing rather than reading past the mesh."""
        normals, albedo, rast, triangles, light = scene()
        triangles[3, 1] = 40
        triangles[4, 2] = -1
        rast[0, 0, :3, 3] = torch.tensor([61.0, 4.0, 5.0])
        image, mask = shade_mesh(normals, albedo, rast, triangles, light)
        assert image.isfinite().all()
        assert (mask[0, 0, -1, :3] == 0).all() and (image[0, :, -1, :3] == 0).all()

    def test_same_bits_for_any_thread_count(self):
        before, results = torch.get_num_threads(), []
        try:
            for num_threads in (1, 2, 5):
                torch.set_num_threads(num_threads)
                results.append(step(shade_mesh, scene(3, 33, 140)))
        finally:
            torch.set_num_threads(before)
        image, _, gradients = results[0]
        for other_image, _, other_gradients in results[1:]:
            assert torch.equal(image, other_image)
            assert all(torch.equal(gradients[name], other_gradients[name]) for name in gradients)

    def test_twin_gradcheck(self):
        normals, albedo, rast, triangles, light = scene(1, 2, 4, 12)
        rast[..., :2], rast[..., 3] = 0.3, 1
        triangles[0] = torch.tensor([2, 5, 7])
        leaves = [t.double().requires_grad_() for t in (normals, albedo, light)]

        def function(n, a, q):
            return shade_mesh_ref(n, a, rast.double(), triangles, q, reference)[0]

        assert gradcheck(function, leaves)


class TestDrawMesh:
    """Against the operators one after the other: the same bits, and one gradient for both."""

    @staticmethod
    def leaves():
        generator = torch.Generator().manual_seed(0)
        side = 14
        grid = torch.stack(
            torch.meshgrid(*[torch.linspace(-0.8, 0.8, side)] * 2, indexing="ij"), -1
        )
        xy = grid.reshape(1, -1, 2) + 0.02 * torch.randn(3, side * side, 2, generator=generator)
        w = 1 + 0.2 * torch.rand(3, side * side, 1, generator=generator)
        vertices = torch.cat([xy * w, -w], dim=-1)
        corner = torch.arange(side * side).reshape(side, side)[:-1, :-1].flatten()
        triangles = torch.cat(
            [torch.stack([corner, corner + side, corner + 1], 1),
             torch.stack([corner + side, corner + side + 1, corner + 1], 1)]
        ).int()  # fmt: skip
        normals, albedo, *_ = scene(3, vertices=side * side)
        light = scene(3)[-1]
        tensors = [t.requires_grad_() for t in (vertices, normals, albedo, light)]
        return tensors, triangles

    @staticmethod
    def apart(vertices, triangles, normals, albedo, light, size, clip_matrix):
        axes = (*vertices.unbind(-1), torch.ones_like(vertices[..., 0]))
        rows = [sum(factor * axis for factor, axis in zip(row, axes)) for row in clip_matrix]
        pos = torch.stack(rows, dim=-1)
        rast, _ = dr.rasterize(dr.RasterizeContext(), pos, triangles, size, grad_db=False)
        return *shade_mesh(normals, albedo, rast, triangles, light), rast

    OPTIONS = (37, 52), centred_pinhole(0.9, 1.1, -1.1, -0.3)
    # A principal point off the centre and skew; parallel lines of sight.
    MATRICES = (
        OPTIONS[1],
        (
            (0.9, -0.1, 0.2, 0.0),
            (0.0, 1.1, -0.1, 0.0),
            (0.0, 0.0, -1.1, -0.3),
            (0.0, 0.0, -1.0, 0.0),
        ),
        ((0.5, 0.0, 0.0, 0.1), (0.0, 0.6, 0.0, -0.1), (0.0, 0.0, -0.2, -0.9), (0.0, 0.0, 0.0, 1.0)),
    )

    @pytest.mark.parametrize("matrix", MATRICES, ids=["centred", "intrinsics", "orthographic"])
    @pytest.mark.parametrize("with_rast", [True, False])
    def test_is_rasterize_then_shade(self, with_rast, matrix):
        results, options = [], (self.OPTIONS[0], matrix)
        for function in (draw_mesh, self.apart):
            (vertices, normals, albedo, light), triangles = self.leaves()
            image, mask, rast = function(vertices, triangles, normals, albedo, light, *options)
            weights = torch.linspace(-1, 1, image.numel()).view(image.shape)
            loss = (image * weights).sum()
            if with_rast:  # as the buffers that are made later do
                loss = loss + (rast[..., :2] * weights[:, :2].permute(0, 2, 3, 1)).sum()
            gradients = torch.autograd.grad(loss, (vertices, normals, albedo, light))
            results.append((image, mask, rast, *gradients))
        assert results[0][1].sum() > 1000
        for one, two in zip(*results):
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6 * two.abs().max().item())
        for one, two in zip(results[0][:3], results[1][:3]):
            assert torch.equal(one, two)

    def test_rast_alone_has_a_gradient(self):
        (vertices, *rest), triangles = self.leaves()
        gradients = []
        for function in (draw_mesh, self.apart):
            rast = function(vertices, triangles, *rest, *self.OPTIONS)[2]
            gradients.append(torch.autograd.grad(rast[..., 0].square().sum(), vertices)[0])
        torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)

    def test_other_memory_layouts(self):
        (vertices, *rest), triangles = self.leaves()
        one = draw_mesh(vertices, triangles, *rest, *self.OPTIONS)[0]
        turned = vertices.mT.contiguous().mT
        assert torch.equal(draw_mesh(turned, triangles, *rest, *self.OPTIONS)[0], one)

    def test_wrong_triangles(self):
        (vertices, *rest), triangles = self.leaves()
        with pytest.raises(RuntimeError, match="draw_mesh: tri is int64, expected int32"):
            draw_mesh(vertices, triangles.long(), *rest, *self.OPTIONS)

    def test_same_bits_for_any_thread_count(self):
        before, results = torch.get_num_threads(), []
        try:
            for num_threads in (1, 2, 5):
                torch.set_num_threads(num_threads)
                leaves, triangles = self.leaves()
                image = draw_mesh(leaves[0], triangles, *leaves[1:], *self.OPTIONS)[0]
                results.append((image, *torch.autograd.grad(image.square().sum(), leaves)))
        finally:
            torch.set_num_threads(before)
        for other in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(results[0], other))


class TestMakeGbuffer:
    def test_by_hand(self):
        """Two corners share a pixel half and half: planes, unit normal, depth and id by hand."""
        normals = torch.tensor([[[0.0, 0, 1], [0, 1, 0], [1, 0, 0]]])
        albedo = torch.tensor([[[0.2, 0.4, 0.6], [0.4, 0.4, 0.2], [1, 1, 1]]])
        vertices = torch.tensor([[[0.0, 0, -700], [0, 9, -500], [9, 0, -1]]])
        triangles = torch.tensor([[2, 2, 2], [0, 1, 2]], dtype=torch.int32)
        rast = torch.zeros(1, 2, 1, 4)
        rast[0, 1, 0] = torch.tensor([0.5, 0.5, 0, 2])
        light = torch.zeros(1, 9, 3)
        light[:, 2] = 1  # the function z
        made = make_gbuffer(normals, albedo, vertices, rast, triangles, light)
        half = 0.5**0.5
        want = {
            "albedo": [0.3, 0.4, 0.4], "normal": [0, half, half], "depth": [600],
            "shading": [LAMBERT_CONSTANTS[2] * half] * 3,
        }  # fmt: skip
        for name, values in want.items():
            plane = getattr(made, name)
            assert plane[0, :, 0, 0].tolist() == pytest.approx(values), name
            assert (plane[0, :, 1] == 0).all(), name
        assert made.triangle_ids.tolist() == [[[1], [-1]]]

    def test_albedo_times_shading_is_the_image(self, device):
        normals, albedo, rast, triangles, light = (t.to(device) for t in scene())
        image, mask = shade_mesh(normals, albedo, rast, triangles, light)
        made = make_gbuffer(normals, albedo, normals, rast, triangles, light, dr)
        torch.testing.assert_close(made.albedo * made.shading, image, atol=2e-6, rtol=2e-5)
        assert torch.equal(made.triangle_ids[:, None] >= 0, mask > 0)
