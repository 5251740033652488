"""Phong's reflection model: by hand, the kernels against the twin, gradients, threads, errors."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck

from mofa_nvdr import dr
from mofa_nvdr.dr import reference
from mofa_nvdr.shaders.gbuffer import draw_mesh, make_gbuffer, shade_mesh, shade_mesh_ref
from mofa_nvdr.shaders.phong import Phong, PhongLight, phong, phong_ref
from tests.helpers.clip_matrices import centred_pinhole

NAMES = ("positions", "colors", "ambient", "specular", "shininess")
# Highlights for each image, and one or both of their parts for each point; none at all.
KINDS = {
    "image": ((), ()), "point": (("P", 3), ("P",)), "specular": (("P", 3), ()),
    "shininess": ((), ("P",)), "diffuse": None,
}  # fmt: skip


def lamp(*place: float, color: float = 1.0, **parts: float) -> PhongLight:
    """One light of one image; white or grey parts."""
    grey = {name: torch.full((1, 3), value) for name, value in parts.items() if name != "shininess"}
    if "shininess" in parts:
        grey["shininess"] = torch.tensor([parts["shininess"]])
    return PhongLight(torch.tensor([[place]]), torch.full((1, 1, 3), color), **grey)


def parts_of(light: PhongLight) -> dict[str, Tensor]:
    return {name: getattr(light, name) for name in NAMES if getattr(light, name) is not None}


def random_inputs(
    *shape: int, num_lights: int = 3, kind: str = "image", seed: int = 0
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Unit normals, albedo and positions [*shape, 3] some 600 mm away, and a light's parts."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, 3, generator=generator)

    towards = F.normalize(normal(*shape) + torch.tensor([0.0, 0.0, 1.5]), dim=-1)
    albedo = torch.rand(*shape, 3, generator=generator)
    position = 50 * normal(*shape) + torch.tensor([0.0, 0.0, -600.0])
    batch = shape[0]
    parts = {
        "positions": 300 * normal(batch, num_lights),
        "colors": torch.rand(batch, num_lights, 3, generator=generator),
        "ambient": torch.rand(batch, 3, generator=generator),
    }
    if (sizes := KINDS[kind]) is not None:
        own = [shape[:1] if not size else shape for size in sizes]
        parts["specular"] = torch.rand(*own[0], 3, generator=generator)
        parts["shininess"] = 1 + 30 * torch.rand(own[1], generator=generator)
    return [towards, albedo, position], parts


def step(function, points, parts, dtype=torch.float32):
    """The colours, and the gradients of a random sum of them, by name."""
    leaves = [t.to(dtype).requires_grad_() for t in (*points, *parts.values())]
    colors = function(*leaves[:3], PhongLight(**dict(zip(parts, leaves[3:]))))
    cotangent = torch.randn(colors.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    gradients = torch.autograd.grad(colors, leaves, cotangent, allow_unused=True)
    return colors.detach(), dict(zip(("normal", "albedo", "position", *parts), gradients))


def assert_near(one: Tensor, two: Tensor, tolerance: float, name: str) -> None:
    """Differences over the largest value."""
    error = (one.double() - two.double()).abs().max() / two.abs().max().clamp(min=1e-6)
    assert error < tolerance, f"{name}: {error:.1e}"


@pytest.mark.parametrize("function", [phong, phong_ref])
class TestByHand:
    """One point 500 mm before the eye, on its axis, facing it, with albedo (0.2, 0.5, 0.8)."""

    PLACE = torch.tensor([[[0.0, 0.0, -500.0]]])
    NORMAL = torch.tensor([[[0.0, 0.0, 1.0]]])
    ALBEDO = torch.tensor([[[0.2, 0.5, 0.8]]])

    def color(self, function, light, normal=NORMAL, place=PLACE):
        return function(normal, self.ALBEDO, place, light)[0, 0].tolist()

    def test_light_on_the_normal(self, function):
        """n . l = r . v = 1: albedo times colour plus all of the highlight, whatever the shininess."""
        light = lamp(0.0, 0.0, -100.0, color=0.5, ambient=0.1, specular=0.3, shininess=40.0)
        want = [0.6 * a + 0.5 * 0.3 for a in (0.2, 0.5, 0.8)]
        assert self.color(function, light) == pytest.approx(want, abs=1e-6)

    def test_distance_does_not_matter(self, function):
        near, far = (lamp(0.0, 0.0, z, specular=0.3, shininess=4.0) for z in (-499.0, 9000.0))
        assert self.color(function, near) == pytest.approx(self.color(function, far), abs=1e-6)

    def test_mirror_direction(self, function):
        """A normal turned by 30 degrees and a light at 60: the reflection hits the eye."""
        turned = torch.tensor([[[math.sin(math.pi / 6), 0.0, math.cos(math.pi / 6)]]])
        way = 100 * torch.tensor([math.sin(math.pi / 3), 0.0, math.cos(math.pi / 3)])
        light = lamp(*(self.PLACE[0, 0] + way).tolist(), specular=0.3, shininess=200.0)
        want = [a * math.cos(math.pi / 6) + 0.3 for a in (0.2, 0.5, 0.8)]
        # Measured 0 (AMD EPYC); one unit in the last place of r . v is 1e-5 after the power.
        assert self.color(function, light, turned) == pytest.approx(want, abs=5e-5)

    def test_besides_the_mirror_direction(self, function):
        """Light at 60 degrees to the normal, which points to the eye: r . v = cos 60 = 1 / 2."""
        light = lamp(math.sqrt(3) * 50, 0.0, -450.0, specular=0.8, shininess=3.0)
        want = [0.5 * a + 0.8 * 0.5**3 for a in (0.2, 0.5, 0.8)]
        assert self.color(function, light) == pytest.approx(want, abs=1e-6)

    def test_light_behind(self, function):
        """No diffuse light and no highlight, though the formula's r . v is positive."""
        light = lamp(10.0, 0.0, -900.0, ambient=0.1, specular=1.0, shininess=1.0)
        assert self.color(function, light) == pytest.approx([0.02, 0.05, 0.08], abs=1e-7)

    def test_reflection_away_from_the_eye(self, function):
        """n . l > 0 and r . v < 0: diffuse light alone, and no highlight for any shininess."""
        normal = torch.tensor([[[1.0, 0.0, 0.0]]])  # r = (0.6, 0, -0.8)
        for shininess in (0.0, 1.0, 7.0):
            light = lamp(60.0, 0.0, -420.0, specular=1.0, shininess=shininess)
            want = [0.6 * a for a in (0.2, 0.5, 0.8)]
            assert self.color(function, light, normal) == pytest.approx(want, abs=1e-6)

    def test_shininess_zero(self, function):
        """The highlight does not fall off: specular wherever the reflection leans to the eye."""
        light = lamp(math.sqrt(3) * 50, 0.0, -450.0, specular=0.8, shininess=0.0)
        want = [0.5 * a + 0.8 for a in (0.2, 0.5, 0.8)]
        assert self.color(function, light) == pytest.approx(want, abs=1e-6)

    def test_no_lights(self, function):
        light = PhongLight(torch.zeros(1, 0, 3), torch.zeros(1, 0, 3))
        assert self.color(function, light) == [0, 0, 0]
        light = replace(light, ambient=torch.full((1, 3), 0.5))
        assert self.color(function, light) == pytest.approx([0.1, 0.25, 0.4])

    @pytest.mark.parametrize("kind", KINDS)
    def test_lights_add_up(self, function, kind):
        points, parts = random_inputs(2, 9, kind=kind)
        whole = function(*points, PhongLight(**parts))
        dark = {**parts, "ambient": torch.zeros(2, 3)}
        one, two = (
            {**dark, "positions": parts["positions"][:, k], "colors": parts["colors"][:, k]}
            for k in (slice(0, 1), slice(1, 3))
        )
        total = function(*points, PhongLight(**one)) + function(*points, PhongLight(**two))
        total = total + points[1] * parts["ambient"][:, None]
        torch.testing.assert_close(whole, total)

    def test_values_for_each_point_are_those_of_images(self, function):
        points, parts = random_inputs(2, 4, 6)
        spread = {
            **parts,
            "specular": parts["specular"].view(2, 1, 1, 3).expand(2, 4, 6, 3),
            "shininess": parts["shininess"].view(2, 1, 1).expand(2, 4, 6),
        }
        one, two = (function(*points, PhongLight(**p)) for p in (parts, spread))
        assert torch.equal(one, two)

    def test_one_function_for_pixels_and_vertices(self, function):
        points, parts = random_inputs(2, 4, 6)
        pixels = function(*points, PhongLight(**parts))
        vertices = function(*(t.flatten(1, 2) for t in points), PhongLight(**parts))
        assert torch.equal(pixels.flatten(1, 2), vertices)

    def test_nothing_is_ever_nan(self, function):
        """A light at the point, the eye at the point, shininess 0 and 1/2, no normal, grazing light."""
        here = self.PLACE[0, 0].tolist()
        sideways = [90.0, 0.0, -500.0]
        normals = [self.NORMAL, torch.zeros(1, 1, 3), torch.tensor([[[1.0, 0.0, 0.0]]])]
        for normal in normals:
            for place in (self.PLACE, torch.zeros(1, 1, 3), self.PLACE + 1e-7):
                for at in (here, sideways, [0.0, 0.0, 0.0]):
                    for shininess in (0.0, 0.5, 1.0, 1e4):
                        light = lamp(*at, ambient=0.1, specular=0.5, shininess=shininess)
                        points = [normal, self.ALBEDO, place]
                        color, gradients = step(function, points, parts_of(light))
                        assert color.isfinite().all()
                        assert all(g.isfinite().all() for g in gradients.values())


class TestPhong:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("shape", [(2, 301), (3, 9, 21)])
    def test_equals_its_twin(self, shape, kind):
        """Kernels in float32 against float64: measured 3e-6 for colours, 1.1e-5 for gradients (AMD EPYC)."""
        color, gradients = step(phong, *random_inputs(*shape, kind=kind))
        ref_color, ref_gradients = step(phong_ref, *random_inputs(*shape, kind=kind), torch.float64)
        assert_near(color, ref_color, 1e-5, "color")
        for name, gradient in gradients.items():
            assert gradient.abs().sum() > 0, name
            assert_near(gradient, ref_gradients[name], 4e-5, name)

    def test_on_the_device(self, device):
        points, parts = random_inputs(2, 8, 8)
        light = PhongLight(**{name: value.to(device) for name, value in parts.items()})
        points = [t.to(device) for t in points]
        color = phong(*points, light)
        assert color.device.type == device.type
        torch.testing.assert_close(color, phong_ref(*points, light), rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("kind", KINDS)
    def test_gradcheck(self, kind):
        points, parts = random_inputs(2, 2, 3, num_lights=2, kind=kind)
        leaves = [t.double().requires_grad_() for t in (*points, *parts.values())]
        assert gradcheck(
            lambda n, a, p, *rest: phong(n, a, p, PhongLight(**dict(zip(parts, rest)))), leaves
        )

    def test_other_memory_layouts(self):
        points, parts = random_inputs(2, 4, 6)
        planes = [t.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1) for t in points]
        assert torch.equal(phong(*planes, PhongLight(**parts)), phong(*points, PhongLight(**parts)))

    def test_second_derivative_is_refused(self):
        points, parts = random_inputs(1, 4)
        loss = phong(points[0].requires_grad_(), *points[1:], PhongLight(**parts)).square().sum()
        (first,) = torch.autograd.grad(loss, points[0], create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            first.sum().backward()

    @pytest.mark.parametrize(
        ("name", "shape", "message"),
        [
            ("normal", (2, 5, 4), r"normal is \[2, 5, 4\], expected \[B, \.\.\., 3\]"),
            ("normal", (5, 3), r"normal is \[5, 3\], expected \[B, \.\.\., 3\]"),
            ("albedo", (1, 5, 3), r"albedo is \[1, 5, 3\], expected \[2, 5, 3\] \(as normal\)"),
            ("position", (2, 4, 3), r"position is \[2, 4, 3\], expected \[2, 5, 3\] \(as normal\)"),
            ("positions", (2, 3), r"light.positions is \[2, 3\], expected \[B, L, 3\] with B = 2"),
            ("colors", (2, 1, 3), r"light.colors is \[2, 1, 3\], expected .* as the positions"),
            ("ambient", (3,), r"light.ambient is \[3\], expected \[B, 3\] with B = 2"),
            ("specular", (2, 4, 3), r"light.specular is .*, expected \[B, 3\] or as normal"),
            ("shininess", (2, 1), r"light.shininess is \[2, 1\], expected \[B\] or as normal with"),
        ],
    )
    def test_bad_shapes(self, name, shape, message):
        points, parts = random_inputs(2, 5)
        inputs = {**dict(zip(("normal", "albedo", "position"), points)), **parts}
        inputs[name] = torch.zeros(shape)
        light = PhongLight(**{key: inputs[key] for key in NAMES})
        with pytest.raises(ValueError, match="phong: " + message):
            phong(inputs["normal"], inputs["albedo"], inputs["position"], light)

    def test_half_a_highlight(self):
        points, parts = random_inputs(2, 5)
        with pytest.raises(ValueError, match="phong: light.shininess is None, expected a tensor"):
            phong(*points, PhongLight(**{**parts, "shininess": None}))

    def test_bad_dtypes(self):
        points, parts = random_inputs(2, 5)
        with pytest.raises(TypeError, match="phong: inputs are torch.float32, torch.float64"):
            phong(points[0].double(), *points[1:], PhongLight(**parts))


def mesh_scene(kind: str = "image", batch: int = 3, seed: int = 0):
    """A bumpy sheet before the eye: vertices, triangles, normals, albedo, and a light's parts."""
    side = 14
    grid = torch.stack(torch.meshgrid(*[torch.linspace(-0.8, 0.8, side)] * 2, indexing="ij"), -1)
    xy = grid.reshape(1, -1, 2).expand(batch, -1, -1)
    (normals, albedo, bumps), parts = random_inputs(batch, side * side, kind=kind, seed=seed)
    w = 500 + 0.5 * bumps[..., :1].abs()
    vertices = torch.cat([xy * w, -w], dim=-1)
    corner = torch.arange(side * side).reshape(side, side)[:-1, :-1].flatten()
    triangles = torch.cat(
        [torch.stack([corner, corner + side, corner + 1], 1),
         torch.stack([corner + side, corner + side + 1, corner + 1], 1)]
    ).int()  # fmt: skip
    return [vertices, normals, albedo], triangles, parts


SCALES = (0.9, 1.1, -1.1, -300.0)
SIZE, CLIP = (37, 152), centred_pinhole(*SCALES)  # wider than a block of pixels


def draw(mesh, triangles, parts, shade=None, verbs=dr, dtype=torch.float32, threads=None):
    """Image, mask and gradients by name; `shade`: rasterize, then that function, else draw_mesh."""
    leaves = [t.to(dtype).requires_grad_() for t in (*mesh, *parts.values())]
    (vertices, normals, albedo), light = leaves[:3], dict(zip(parts, leaves[3:]))
    if shade is None:
        image, mask, _ = draw_mesh(
            vertices, triangles, normals, albedo, PhongLight(**light), SIZE, CLIP, Phong()
        )
    else:
        sx, sy, sz, tz = SCALES
        x, y, z = vertices.unbind(-1)
        pos = torch.stack([sx * x, sy * y, sz * z + tz, -z], dim=-1)
        rast, _ = verbs.rasterize(verbs.RasterizeContext(), pos, triangles, SIZE, grad_db=False)
        image, mask = shade(
            normals, albedo, rast, triangles, PhongLight(**light), verbs, Phong(), vertices
        )
    weights = torch.randn(image.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    gradients = torch.autograd.grad((image * weights).sum(), leaves)
    return image.detach(), mask, dict(zip(("vertices", "normals", "albedo", *parts), gradients))


class TestMeshes:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("shade", [None, shade_mesh])
    def test_is_its_twin(self, shade, kind):
        """Against interpolation and `phong_ref`: measured 3e-6, gradients 1.1e-5 (AMD EPYC)."""
        scene = mesh_scene(kind)
        image, mask, gradients = draw(*scene, shade=shade)
        ref_image, ref_mask, ref_gradients = draw(*scene, shade=shade_mesh_ref)
        assert torch.equal(mask, ref_mask) and 5000 < mask.sum() < mask.numel()
        assert_near(image, ref_image, 1e-5, "image")
        for name, gradient in gradients.items():
            assert_near(gradient, ref_gradients[name], 4e-5, name)

    def test_float64(self):
        """The steps in float64 by the reference verbs: all but the pixels on an edge."""
        scene = mesh_scene("point")
        image, _, _ = draw(*scene)
        ref_image, _, gradients = draw(
            *scene, shade=shade_mesh, verbs=reference, dtype=torch.float64
        )
        assert ref_image.dtype == torch.float64
        assert ((image - ref_image).abs().amax(1) > 1e-3).float().mean() < 0.01
        assert all(gradient.isfinite().all() for gradient in gradients.values())

    @pytest.mark.parametrize("kind", ["image", "point"])
    def test_same_bits_for_any_thread_count(self, kind):
        before, results = torch.get_num_threads(), []
        try:
            for num_threads in (1, 2, 5):
                torch.set_num_threads(num_threads)
                image, _, gradients = draw(*mesh_scene(kind))
                color, of_points = step(phong, *random_inputs(3, 301, kind=kind))
                results.append((image, *gradients.values(), color, *of_points.values()))
        finally:
            torch.set_num_threads(before)
        for other in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(results[0], other))

    def test_gbuffer(self):
        """What multiplies the albedo, and the highlights next to it."""
        (vertices, normals, albedo), triangles, parts = mesh_scene("point")
        image, mask, rast = draw_mesh(
            vertices, triangles, normals, albedo, PhongLight(**parts), SIZE, CLIP, Phong()
        )
        made = make_gbuffer(
            normals, albedo, vertices, rast, triangles, PhongLight(**parts), dr, Phong()
        )
        diffuse = {name: parts[name] for name in NAMES[:3]}
        dull = draw_mesh(
            vertices, triangles, normals, albedo, PhongLight(**diffuse), SIZE, CLIP, Phong()
        )[0]
        torch.testing.assert_close(made.albedo * made.shading, dull, atol=2e-6, rtol=2e-5)
        assert torch.equal(made.triangle_ids[:, None] >= 0, mask > 0)
        assert (image - dull).min() >= -1e-6 < 0.1 < (image - dull).max()

    def test_nan_behind_the_mesh_stays_there(self):
        """A cotangent without a number where nothing is drawn reaches nothing."""
        (vertices, normals, albedo), triangles, parts = mesh_scene("image")
        leaves = [t.requires_grad_() for t in (vertices, normals, albedo, *parts.values())]
        image, mask, _ = draw_mesh(
            *(vertices, triangles, normals, albedo), PhongLight(**parts), SIZE, CLIP, Phong()
        )
        cotangent = torch.where(mask > 0, 1.0, math.nan).expand_as(image)
        for gradient in torch.autograd.grad(image, leaves, cotangent):
            assert gradient.isfinite().all()


class TestDistantEye:
    """Under an orthographic camera the eye is infinitely far along +z."""

    def test_is_the_limit_of_a_far_eye(self):
        """All 1e8 mm farther away, in float64: lines of sight are (0, 0, 1) to 1e-6. Measured 2e-6."""
        points, parts = random_inputs(2, 40)
        normal, albedo, position = (t.double() for t in points)
        light = {name: value.double() for name, value in parts.items()}
        away = torch.tensor([0.0, 0.0, 1e8], dtype=torch.float64)
        far = {**light, "positions": light["positions"] - away}
        limit = phong_ref(normal, albedo, position - away, PhongLight(**far))
        found = phong_ref(normal, albedo, position, PhongLight(**light), distant_eye=True)
        near = phong_ref(normal, albedo, position, PhongLight(**light))
        torch.testing.assert_close(found, limit, atol=2e-5, rtol=0)
        assert (near - found).abs().max() > 0.1

    def test_mirror_by_hand(self):
        """A light straight above shines back to the eye from every point below it that faces it."""
        normal = torch.tensor([[[0.0, 0, 1], [0.6, 0, 0.8]]])
        position = torch.tensor([[[250.0, 0, -500], [250, 0, -500]]])
        light = lamp(250.0, 0.0, 0.0, color=1.0, specular=1.0, shininess=3.0)
        color = phong(normal, torch.zeros_like(normal), position, light, distant_eye=True)
        # r . v = 2 cos^2 - 1 with v = l = (0, 0, 1)
        want = torch.tensor([1.0, (2 * 0.64 - 1) ** 3])
        torch.testing.assert_close(color[0, :, 0], want, atol=1e-6, rtol=1e-6)

    @pytest.mark.parametrize("kind", KINDS)
    def test_kernels_are_their_twin(self, kind):
        """Measured 1e-7, gradients 7e-7 of the largest number (AMD EPYC)."""
        points, parts = random_inputs(2, 301, kind=kind)
        results = []
        for function in (phong, phong_ref):
            leaves = [t.clone().requires_grad_() for t in (*points, *parts.values())]
            light = PhongLight(**dict(zip(parts, leaves[3:])))
            color = function(*leaves[:3], light, distant_eye=True)
            weights = torch.linspace(-1, 1, color.numel()).view(color.shape)
            grads = torch.autograd.grad((color * weights).sum(), leaves, allow_unused=True)
            results.append((color, *grads))
        for found, wanted in zip(*results):
            wanted = torch.zeros_like(found) if wanted is None else wanted
            assert_near(found, wanted, 1e-5, "a result")

    def test_a_mesh_is_its_twin(self):
        """Measured 3e-6 of the largest number (AMD EPYC)."""
        (vertices, normals, albedo), triangles, parts = mesh_scene("point")
        shader, results = Phong().for_distant_eye(), []
        assert shader != Phong() and shader == Phong().for_distant_eye()
        for compiled in (True, False):
            leaves = [t.clone().requires_grad_() for t in (vertices, normals, albedo)]
            light = PhongLight(**parts)
            if compiled:
                image = draw_mesh(leaves[0], triangles, *leaves[1:], light, SIZE, CLIP, shader)[0]
            else:
                axes = (*leaves[0].unbind(-1), torch.ones_like(leaves[0][..., 0]))
                rows = [sum(f * axis for f, axis in zip(row, axes)) for row in CLIP]
                pos = torch.stack(rows, dim=-1)
                rast, _ = dr.rasterize(dr.RasterizeContext(), pos, triangles, SIZE, grad_db=False)
                image = shade_mesh_ref(*leaves[1:], rast, triangles, light, dr, shader, leaves[0])[
                    0
                ]
            weights = torch.linspace(-1, 1, image.numel()).view(image.shape)
            results.append((image, *torch.autograd.grad((image * weights).sum(), leaves)))
        for found, wanted in zip(*results):
            assert_near(found, wanted, 4e-5, "a result")
