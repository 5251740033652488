"""The place for shaders: a new one in ten lines, what it gets, the statement of its parameters, errors."""

import pickle
from copy import deepcopy
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr import dr
from mofa_nvdr.dr import reference
from mofa_nvdr.render.renderer import FaceRenderer
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.shaders.gbuffer import draw_mesh, shade_mesh
from mofa_nvdr.shaders.phong import Phong, PhongLight
from mofa_nvdr.shaders.sh_lambert import ShLambert, sh_irradiance, sh_lambert
from mofa_nvdr.shaders.shader import Parameter, Shader, at_points
from tests.helpers.clip_matrices import centred_pinhole
from tests.helpers.small_face import small_face


class Toon(Shader):
    """As it would stand in a file of its own: a band of gloss, the fog of a distance."""

    name = "toon"
    parameters = (
        Parameter("direction", (("B", 3),), "towards the light, unit"),
        Parameter("gloss", (("B", "V"),), "what each vertex adds"),
    )

    def colors(self, normal, albedo, position, direction, gloss):
        cosine = (normal * at_points(direction, normal)).sum(-1, keepdim=True)
        fog = (position[..., 2:] / 1000).exp()
        return fog * albedo * cosine.sigmoid() + gloss[..., None]


def scene(dtype=torch.float32):
    """A cap in two places, and the toon's parameters."""
    model = small_face(12)
    generator = torch.Generator().manual_seed(0)
    vertices = model.mean_shape + torch.tensor([[[5.0, 3.0, -1000.0]], [[-9.0, 4.0, -900.0]]])
    light = {
        "direction": F.normalize(torch.randn(2, 3, generator=generator), dim=-1),
        "gloss": torch.rand(2, vertices.shape[1], generator=generator),
    }
    light = {name: value.to(dtype) for name, value in light.items()}
    return vertices.to(dtype), model.triangles, model.mean_albedo.to(dtype), light


class TestOwnShader:
    @pytest.mark.parametrize("verbs", [dr, reference])
    @pytest.mark.parametrize("gradient", ["rendering", "surface"])
    def test_is_drawn_and_reaches_its_parameters(self, verbs, gradient):
        vertices, triangles, albedo, light = scene()
        leaves = [t.clone().requires_grad_() for t in (vertices, albedo, *light.values())]
        renderer = FaceRenderer(Camera(32), gradient, verbs, shader=Toon())
        named = dict(zip(light, leaves[2:]))
        rendering = renderer(leaves[0], triangles, leaves[1], named)
        covered = rendering.mask > 0
        assert covered.sum() > 200
        assert (rendering.image[~covered.expand_as(rendering.image)] == 0).all()
        # By hand, from the buffers: what multiplies the albedo is fog times cosine.
        cosine = torch.einsum("bchw,bc->bhw", rendering.normal, light["direction"])[:, None]
        want = torch.where(covered, cosine.sigmoid() * (-rendering.depth / 1000).exp(), 0.0)
        torch.testing.assert_close(rendering.shading, want.expand_as(rendering.shading))
        gloss = rendering.image - rendering.albedo * rendering.shading
        assert 0 < gloss[covered.expand_as(gloss)].min() and gloss.max() < 1
        for gradient_of_leaf in torch.autograd.grad(rendering.image.square().sum(), leaves):
            assert gradient_of_leaf.isfinite().all() and gradient_of_leaf.abs().sum() > 0

    def test_verbs_agree(self):
        vertices, triangles, albedo, light = scene()
        images = [
            FaceRenderer(Camera(32), dr=verbs, shader=Toon())(
                vertices, triangles, albedo, light
            ).image
            for verbs in (dr, reference)
        ]
        different = (images[0] - images[1]).abs().amax(1) > 1e-4
        assert different.float().mean() < 0.002  # pixels whose centre lies on an edge

    def test_with_an_outline(self):
        vertices, triangles, albedo, light = scene()
        renderer = FaceRenderer(Camera(32), outline="edges", shader=Toon())
        rendering = renderer(vertices.requires_grad_(), triangles, albedo, light)
        assert torch.equal(rendering.interior, rendering.image)
        (gradient,) = torch.autograd.grad(rendering.over(0.5).sum(), vertices)
        assert gradient.isfinite().all() and gradient.abs().sum() > 0

    def test_a_shader_without_parameters(self):
        class Depth(Shader):
            name = "depth"
            parameters = ()

            def colors(self, normal, albedo, position):
                return -position[..., 2:].expand_as(normal)

        vertices, triangles, albedo, _ = scene()
        rendering = FaceRenderer(Camera(32), shader=Depth())(vertices, triangles, albedo, {})
        torch.testing.assert_close(rendering.image[:, :1], rendering.depth, atol=1e-3, rtol=0)
        assert (rendering.shading == 0).all()

    def test_needs_colors(self):
        with pytest.raises(NotImplementedError):
            Shader().colors(*[torch.zeros(1, 1, 3)] * 3)


class TestObjects:
    @pytest.mark.parametrize("copy", [deepcopy, lambda shader: pickle.loads(pickle.dumps(shader))])
    @pytest.mark.parametrize("shader", [ShLambert(), Phong(), Toon()])
    def test_compared_by_value(self, shader, copy):
        assert copy(shader) == shader and hash(copy(shader)) == hash(shader)
        assert ShLambert() != Phong()

    def test_options_are_part_of_the_value(self):
        @dataclass(frozen=True)
        class Bands(Shader):
            name = "bands"
            parameters = ()
            levels: int = 3

        assert Bands() == Bands(3) != Bands(4)

    @pytest.mark.parametrize("shader", [ShLambert(), Phong(), Toon()])
    def test_parameters_are_stated(self, shader):
        for parameter in shader.parameters:
            assert parameter.meaning and all(shape[0] == "B" for shape in parameter.shapes)
        assert str(Phong.parameters[3]) == "[B, 3] or [B, V, 3]"

    def test_sh_lambert(self):
        generator = torch.Generator().manual_seed(0)
        normal, albedo, light = (torch.randn(2, n, 3, generator=generator) for n in (7, 7, 9))
        shader = ShLambert()
        colors = shader.colors(normal, albedo, normal, light=light)
        assert torch.equal(colors, sh_lambert(normal, albedo, light))
        shading = shader.shading(normal, normal, light=light)
        assert torch.equal(shading, sh_irradiance(normal, light))
        # The base's difference of white and black is the same: measured 0 on x86-64.
        torch.testing.assert_close(Shader.shading(shader, normal, normal, light=light), shading)


def lamps(**change: Tensor | None) -> PhongLight:
    parts = {"positions": torch.zeros(2, 4, 3), "colors": torch.zeros(2, 4, 3), **change}
    return PhongLight(**parts)


class TestErrors:
    VERTICES = torch.zeros(2, 5, 3)

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            (
                {"colors": torch.zeros(2, 3, 3)}, ValueError,
                r"light.colors is \[2, 3, 3\], expected \[B, L, 3\] with B = 2 \(from vertices\), "
                r"L = 4 \(from light.positions\)",
            ),
            (
                {"positions": torch.zeros(1, 4, 3)}, ValueError,
                r"light.positions is \[1, 4, 3\], expected \[B, L, 3\] with B = 2 \(from vertices\)",
            ),
            (
                {"specular": torch.zeros(2, 6, 3), "shininess": torch.zeros(2)}, ValueError,
                r"light.specular is \[2, 6, 3\], expected \[B, 3\] or \[B, V, 3\] with "
                r"B = 2 \(from vertices\), V = 5 \(from vertices\)",
            ),
            (
                {"shininess": torch.zeros(2, 1), "specular": torch.zeros(2, 3)}, ValueError,
                r"light.shininess is \[2, 1\], expected \[B\] or \[B, V\] with B = 2",
            ),
            (
                {"ambient": torch.zeros(2, 3).double()}, TypeError,
                r"light.ambient is torch.float64, expected torch.float32 \(as vertices\)",
            ),
            (
                {"ambient": torch.zeros(2, 3, device="meta")}, ValueError,
                r"light.ambient is on meta, expected cpu \(as vertices\)",
            ),
            (
                {"ambient": 0.5}, TypeError,
                r"light.ambient is float, expected a tensor \(the shader phong\)",
            ),
            (
                {"positions": None}, TypeError,
                r"light is PhongLight of positions, colors, .*, expected an object or mapping with "
                r"positions, colors, ambient \(optional\), .* \(the shader phong\)",
            ),
            (
                {"specular": torch.zeros(2, 3)}, ValueError,
                r"light.shininess is None, expected a tensor \(light.specular is given\)",
            ),
            (
                {"shininess": torch.zeros(2)}, ValueError,
                r"light.specular is None, expected a tensor \(light.shininess is given\)",
            ),
        ],
    )  # fmt: skip
    def test_lights(self, change, error, message):
        with pytest.raises(error, match="someone: " + message):
            Phong().check("someone", lamps(**change), self.VERTICES)

    def test_light_of_another_shader(self):
        with pytest.raises(TypeError, match=r"someone: light is Tensor, expected .* positions"):
            Phong().check("someone", torch.zeros(2, 9, 3), self.VERTICES)
        with pytest.raises(
            TypeError, match=r"someone: light is PhongLight of positions, .* with light"
        ):
            ShLambert().check("someone", lamps(), self.VERTICES)
        with pytest.raises(
            TypeError, match=r"light is dict of direction, shine, expected .* gloss"
        ):
            Toon().check("someone", {"direction": torch.zeros(2, 3), "shine": 1}, self.VERTICES)

    def test_dtype_of_the_only_parameter(self):
        with pytest.raises(
            TypeError, match="someone: light is torch.float64, expected torch.float32"
        ):
            ShLambert().check("someone", torch.zeros(2, 9, 3).double(), self.VERTICES)

    def test_renderer_wants_an_object(self):
        with pytest.raises(
            TypeError, match=r"FaceRenderer: shader is <class .*Phong'>, expected an"
        ):
            FaceRenderer(shader=Phong)

    def test_gbuffer_functions(self):
        vertices, triangles, albedo, light = scene()
        albedo = albedo.expand(2, -1, -1)
        with pytest.raises(
            ValueError, match="draw_mesh: shader toon has no kernels, expected one with"
        ):
            draw_mesh(
                *(vertices, triangles, vertices, albedo, light, (8, 8)),
                *(centred_pinhole(1.0, 1.0, -1.0, -1.0), Toon()),
            )
        with pytest.raises(
            ValueError, match=r"shade_mesh: positions is None, expected \[B, V, 3\]"
        ):
            shade_mesh(vertices, albedo, torch.zeros(2, 8, 8, 4), triangles, light, shader=Toon())
