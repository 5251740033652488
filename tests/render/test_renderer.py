"""FaceRenderer on meshes whose picture is known by hand: frontal and slanted quads, a cap."""

import math
import pickle
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F

from mofa_nvdr.dr import reference
from mofa_nvdr.losses.mofa import photometric_raster
from mofa_nvdr.render.renderer import FaceRenderer
from mofa_nvdr.scene.camera import BaseCamera, Camera
from mofa_nvdr.scene.intrinsics_camera import IntrinsicsCamera
from mofa_nvdr.scene.lighting import LAMBERT_CONSTANTS
from mofa_nvdr.scene.normals import vertex_normals
from mofa_nvdr.scene.orthographic_camera import OrthographicCamera
from mofa_nvdr.shaders.phong import Phong, PhongLight, phong_ref
from mofa_nvdr.shaders.sh_lambert import ShLambert, sh_irradiance_ref
from mofa_nvdr.shaders.unlit import Unlit
from tests.helpers.small_face import small_face

# 0.2 px/mm at a depth of 500 mm; the principal point is (24, 16).
CAMERA = Camera(image_size=(32, 48), focal=100.0)
BUFFERS = ("image", "mask", "albedo", "normal", "shading", "depth")


def quad(left=-40.0, right=40.0, bottom=-30.0, top=30.0, depth=500.0):
    """A rectangle that faces the camera: [1, 4, 3] mm and two triangles [2, 3].

    The first triangle is the lower right one, the second the upper left one. By default it projects
    to columns 16 to 31 and rows 10 to 21, its outline midway between pixel centres.
    """
    corners = [(left, bottom), (right, bottom), (right, top), (left, top)]
    vertices = torch.tensor([[(x, y, -depth) for x, y in corners]], dtype=torch.float32)
    return vertices, torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)


def colors(batch=1, count=4):
    """A constant albedo [batch, count, 3]."""
    return torch.tensor([0.2, 0.5, 0.8]).expand(batch, count, 3).contiguous()


def some_light(batch=1, seed=0):
    """Lights [batch, 9, 3] without symmetry."""
    light = 0.2 * torch.randn(batch, 9, 3, generator=torch.Generator().manual_seed(seed))
    light[:, 0] += 1.0
    return light


def box(buffer, rows=(10, 22), columns=(16, 32)):
    """What lies inside a rectangle of pixels of a buffer [..., H, W]."""
    return buffer[..., rows[0] : rows[1], columns[0] : columns[1]]


class TestFrontalQuad:
    """Every buffer by hand, in a picture that is wider than high."""

    @pytest.fixture
    def rendering(self, device):
        vertices, triangles = quad()
        return FaceRenderer(CAMERA, "surface")(
            vertices.to(device),
            triangles.to(device),
            colors().to(device),
            some_light().to(device),
        )

    def test_shapes(self, rendering):
        for name, channels in zip(BUFFERS, (3, 1, 3, 3, 3, 1)):
            assert getattr(rendering, name).shape == (1, channels, 32, 48), name
            assert getattr(rendering, name).dtype == torch.float32, name
        assert rendering.triangle_ids.shape == (1, 32, 48)
        assert rendering.triangle_ids.dtype == torch.int64
        assert rendering.surface_position.shape == (1, 2, 32, 48)
        assert rendering.log_area.shape == (1, 1, 32, 48)

    def test_mask(self, rendering):
        # 80 x 60 mm at 0.2 px/mm: 16 x 12 px
        assert rendering.mask.sum() == 192
        assert (box(rendering.mask) == 1).all()

    def test_empty_pixels_hold_zeros(self, rendering):
        empty = (rendering.mask == 0).cpu()
        for name in (*BUFFERS, "surface_position", "log_area"):
            buffer = getattr(rendering, name).cpu()
            assert (buffer[empty.expand_as(buffer)] == 0).all(), name
        assert (rendering.triangle_ids.cpu()[empty[:, 0]] == -1).all()

    def test_depth(self, rendering):
        # measured 3e-5 mm (AMD Zen 4)
        inside = box(rendering.depth)
        torch.testing.assert_close(inside, torch.full_like(inside, 500.0), atol=1e-3, rtol=0)

    def test_normal_and_albedo(self, rendering):
        # measured 0 and 6e-8 (AMD Zen 4)
        normal, albedo = box(rendering.normal).cpu(), box(rendering.albedo).cpu()
        facing = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand_as(normal)
        torch.testing.assert_close(normal, facing, atol=1e-6, rtol=0)
        expected = colors()[0, 0].view(1, 3, 1, 1).expand_as(albedo)
        torch.testing.assert_close(albedo, expected, atol=1e-6, rtol=0)

    def test_shading_and_image(self, rendering):
        facing = torch.tensor([[[0.0, 0.0, 1.0]]])
        irradiance = sh_irradiance_ref(facing, some_light())[0, 0]
        shading, image = box(rendering.shading).cpu(), box(rendering.image).cpu()
        # measured 3e-8 (AMD Zen 4)
        expected = irradiance.view(1, 3, 1, 1).expand_as(shading)
        torch.testing.assert_close(shading, expected, atol=2e-6, rtol=0)
        expected = (colors()[0, 0] * irradiance).view(1, 3, 1, 1).expand_as(image)
        torch.testing.assert_close(image, expected, atol=2e-6, rtol=0)

    def test_triangle_ids(self, rendering):
        ids = rendering.triangle_ids[0].cpu()
        assert ids[21, 31] == 0  # lower right
        assert ids[10, 16] == 1  # upper left
        assert set(box(ids).flatten().tolist()) == {0, 1}
        assert (ids >= 0).sum() == 192

    def test_surface_position_is_the_pixels_centre(self, rendering):
        y, x = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(48) + 0.5, indexing="ij")
        centres = torch.stack([x, y])[None]
        # measured 0 (AMD Zen 4)
        position = rendering.surface_position.cpu()
        torch.testing.assert_close(box(position), box(centres), atol=1e-3, rtol=0)

    def test_log_area(self, rendering):
        # 96 px^2 a triangle, plus the floor of 0.05
        inside = box(rendering.log_area)
        expected = torch.full_like(inside, math.log(96.05))
        torch.testing.assert_close(inside, expected, atol=1e-4, rtol=0)


class TestOrientation:
    @pytest.mark.parametrize(
        ("x", "y", "rows", "columns"),
        [
            ((-100, -40), (30, 60), (4, 10), (4, 16)),  # mm left and up: upper left
            ((40, 100), (30, 60), (4, 10), (32, 44)),
            ((-100, -40), (-60, -30), (22, 28), (4, 16)),
        ],
        ids=["upper left", "upper right", "lower left"],
    )
    def test_where_a_quad_appears(self, device, x, y, rows, columns):
        vertices, triangles = quad(*x, *y)
        rendering = FaceRenderer(CAMERA)(
            vertices.to(device), triangles.to(device), colors().to(device), some_light().to(device)
        )
        expected = torch.zeros(32, 48)
        expected[rows[0] : rows[1], columns[0] : columns[1]] = 1
        assert torch.equal(rendering.mask[0, 0].cpu(), expected)

    def test_triangle_in_the_upper_left(self):
        vertices = torch.tensor(
            [[[-110.0, 70.0, -500.0], [-110.0, 20.0, -500.0], [-60.0, 70, -500]]]
        )
        triangles = torch.tensor([[0, 1, 2]], dtype=torch.int32)
        mask = FaceRenderer(CAMERA)(vertices, triangles, colors(1, 3), some_light()).mask[0, 0]
        rows, columns = mask.nonzero().unbind(1)
        assert mask.sum() > 20
        assert rows.max() < 16  # the upper half
        assert columns.max() < 24  # the left half
        # Its right angle is at the upper left (column 2, row 2): full there, empty across.
        assert mask[2, 2] == 1
        assert mask[11, 11] == 0


class TestSlantedPlane:
    """The plane z = -500 + x / 2: attributes are interpolated in space, not on the screen."""

    @staticmethod
    def _mesh():
        vertices, triangles = quad()
        vertices[..., 2] += vertices[..., 0] / 2
        albedo = (vertices[0] / 100 + 0.5) * torch.tensor([1.0, 1.0, 0.0])  # red = x, green = y
        return vertices, triangles, albedo

    def test_perspective_correct(self, device):
        vertices, triangles, albedo = self._mesh()
        rendering = FaceRenderer(CAMERA)(
            vertices.to(device), triangles.to(device), albedo.to(device), some_light().to(device)
        )
        mask = rendering.mask.cpu() > 0
        assert mask.sum() > 150
        # The ray x = k d, d = 500 - x / 2 of each pixel meets the plane at x = 500 k / (1 + k / 2).
        y, x = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(48) + 0.5, indexing="ij")
        k = (x - 24) / 100
        met = 500 * k / (1 + k / 2)
        depth = 500 - met / 2
        height = (16 - y) / 100 * depth
        # measured 6e-5 mm and 1.2e-7 (AMD Zen 4)
        torch.testing.assert_close(
            rendering.depth.cpu()[mask], depth[None, None][mask], atol=2e-3, rtol=0
        )
        for channel, expected in enumerate((met / 100 + 0.5, height / 100 + 0.5)):
            torch.testing.assert_close(
                rendering.albedo[:, channel : channel + 1].cpu()[mask],
                expected[None, None][mask],
                atol=1e-5,
                rtol=0,
            )
        normal = rendering.normal.cpu().permute(0, 2, 3, 1)[mask[:, 0]]
        expected = F.normalize(torch.tensor([-0.5, 0.0, 1.0]), dim=0).expand_as(normal)
        torch.testing.assert_close(normal, expected, atol=1e-5, rtol=0)


class TestGradients:
    """How the two formulas differ for a moving frontal quad whose red grows by 1/100 per mm."""

    @staticmethod
    def _render(gradient, device):
        vertices, triangles = quad()
        albedo = (vertices[0] / 100 + 0.5) * torch.tensor([1.0, 1.0, 0.0])
        shift = torch.zeros(3, device=device, requires_grad=True)
        light = torch.zeros(1, 9, 3)
        light[:, 0] = 1 / LAMBERT_CONSTANTS[0]  # shading 1
        rendering = FaceRenderer(CAMERA, gradient)(
            vertices.to(device) + shift, triangles.to(device), albedo.to(device), light.to(device)
        )
        return rendering, shift

    def test_rendering_moves_the_picture(self, device):
        rendering, shift = self._render("rendering", device)
        red = rendering.image[0, 0, 15, 20]
        (gradient,) = torch.autograd.grad(red, shift, retain_graph=True)
        # Under a fixed pixel passes what lies to the left: -1/100 per mm. The pixel's ray meets the
        # plane 3.5 px = 17.5 mm left of the axis; nearer by 1 mm of 500, at 17.5 / 500 mm less.
        expected = torch.tensor([-0.01, 0.0, 0.01 * 17.5 / 500])
        torch.testing.assert_close(gradient.cpu(), expected, atol=1e-6, rtol=0)
        (gradient,) = torch.autograd.grad(rendering.depth[0, 0, 15, 20], shift)
        torch.testing.assert_close(
            gradient.cpu(), torch.tensor([0.0, 0.0, -1.0]), atol=1e-4, rtol=0
        )
        assert rendering.surface_position is None
        assert rendering.log_area is None

    def test_surface_follows_the_points(self, device):
        rendering, shift = self._render("surface", device)
        red, position = rendering.image[0, 0, 15, 20], rendering.surface_position[0, :, 15, 20]

        def gradient(value):
            return torch.autograd.grad(value, shift, retain_graph=True)[0].cpu()

        torch.testing.assert_close(gradient(red), torch.zeros(3), atol=1e-7, rtol=0)
        # 0.2 px/mm, y turned over; along z away from the principal point by offset / depth.
        torch.testing.assert_close(
            gradient(position[0]), torch.tensor([0.2, 0.0, -3.5 / 500]), atol=1e-5, rtol=0
        )
        torch.testing.assert_close(
            gradient(position[1]), torch.tensor([0.0, -0.2, -0.5 / 500]), atol=1e-5, rtol=0
        )
        # An area grows as 1 / depth^2; the floor of 0.05 px^2 takes its part.
        torch.testing.assert_close(
            gradient(rendering.log_area[0, 0, 15, 20]),
            torch.tensor([0.0, 0.0, 2 / 500 * 96 / 96.05]),
            atol=1e-6,
            rtol=0,
        )

    def test_same_buffers(self, device):
        model = small_face(16)
        vertices = (model.mean_shape[None] + torch.tensor([5.0, 3.0, -1000.0])).to(device)
        arguments = (
            vertices,
            model.triangles.to(device),
            model.mean_albedo.to(device),
            some_light().to(device),
        )
        camera = Camera(64)
        rendering = FaceRenderer(camera, "rendering")(*arguments)
        surface = FaceRenderer(camera, "surface")(*arguments)
        assert rendering.mask.sum() > 500
        for name in (*BUFFERS, "triangle_ids"):
            torch.testing.assert_close(getattr(rendering, name), getattr(surface, name), msg=name)

    def test_surface_position_on_a_curved_mesh(self, device):
        model = small_face(16)
        vertices = (model.mean_shape[None] + torch.tensor([5.0, 3.0, -1000.0])).to(device)
        rendering = FaceRenderer(Camera(64), "surface")(
            vertices,
            model.triangles.to(device),
            model.mean_albedo.to(device),
            some_light().to(device),
        )
        y, x = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
        mask = rendering.mask.cpu() > 0
        away = (rendering.surface_position.cpu() - torch.stack([x, y])).abs()[
            mask.expand(1, 2, -1, -1)
        ]
        # At the outline coverage is decided on a grid of 1/16 px, so the nearest surface point can lie
        # that far off. Measured: 1 % of the numbers above 1e-3 px, the largest 0.027 px (AMD Zen 4).
        assert (away < 1e-3).float().mean() > 0.98
        assert away.max() < 1 / 16
        # Over all triangles the projected areas add up to the mask, but for the outline.
        ids = rendering.triangle_ids.cpu()[mask[:, 0]]
        area = rendering.log_area.cpu()[mask].exp() - 0.05
        seen, first = torch.unique(ids, return_inverse=True)
        per_triangle = torch.zeros(len(seen)).index_copy(0, first, area)
        assert per_triangle.sum().item() == pytest.approx(mask.sum().item(), rel=0.05)


class TestNormals:
    def test_none_means_vertex_normals(self, device):
        model = small_face(12)
        vertices = (model.mean_shape[None] + torch.tensor([0.0, 0.0, -1000.0])).to(device)
        triangles = model.triangles.to(device)
        renderer = FaceRenderer(Camera(32))
        common = (model.mean_albedo.to(device), some_light().to(device))
        computed = renderer(vertices, triangles, *common)
        given = renderer(vertices, triangles, *common, vertex_normals(vertices, triangles))
        assert computed.mask.sum() > 100
        for name in BUFFERS:
            torch.testing.assert_close(getattr(computed, name), getattr(given, name), msg=name)

    def test_given_normals_shade(self, device):
        vertices, triangles = quad()
        tilted = F.normalize(torch.tensor([1.0, 2.0, 2.0]), dim=0)
        rendering = FaceRenderer(CAMERA)(
            vertices.to(device),
            triangles.to(device),
            colors().to(device),
            some_light().to(device),
            tilted.expand(1, 4, 3).contiguous().to(device),
        )
        expected = sh_irradiance_ref(tilted[None, None], some_light())[0, 0]
        torch.testing.assert_close(rendering.normal[0, :, 15, 20].cpu(), tilted, atol=1e-6, rtol=0)
        torch.testing.assert_close(
            rendering.shading[0, :, 15, 20].cpu(), expected, atol=2e-6, rtol=0
        )

    def test_interpolated_normals_have_length_one(self):
        vertices, triangles = quad()
        sides = torch.tensor([[-1.0, 0.0, 1.0], [1.0, 0.0, 1.0], [1.0, 0.0, 1.0], [-1.0, 0.0, 1.0]])
        normals = F.normalize(sides, dim=-1)[None].requires_grad_()
        rendering = FaceRenderer(CAMERA)(vertices, triangles, colors(), some_light(), normals)
        length = box(rendering.normal).norm(dim=1)
        torch.testing.assert_close(length, torch.ones_like(length), atol=1e-6, rtol=0)
        # x grows linearly from -1 to 1 across the quad, before the length is made one.
        x = 2 * (23.5 - 16) / 16 - 1
        expected = F.normalize(torch.tensor([x, 0.0, 1.0]), dim=0)
        torch.testing.assert_close(rendering.normal[0, :, 15, 23], expected, atol=1e-6, rtol=0)
        rendering.image.sum().backward()
        assert normals.grad.isfinite().all()
        assert normals.grad.abs().sum() > 0


class TestAlbedo:
    def test_shared_and_per_image(self):
        vertices, triangles = quad()
        vertices = vertices.expand(2, -1, -1)
        albedo = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))
        renderer, light = FaceRenderer(CAMERA), some_light(2)
        shared = renderer(vertices, triangles, albedo, light)
        for repeated in (albedo[None], albedo.expand(2, -1, -1)):
            torch.testing.assert_close(
                renderer(vertices, triangles, repeated, light).image, shared.image
            )
        own = torch.stack([albedo, 1 - albedo])
        image = renderer(vertices, triangles, own, light).image
        torch.testing.assert_close(image[0], shared.image[0])
        total = image[1] + renderer(vertices, triangles, albedo, light).image[1]
        white = renderer(vertices, triangles, torch.ones(4, 3), light).image[1]
        torch.testing.assert_close(total, white)

    def test_shared_albedo_sums_the_gradients(self):
        vertices, triangles = quad()
        albedo = torch.rand(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
        light = some_light()
        renderer = FaceRenderer(CAMERA)
        renderer(vertices, triangles, albedo, light).image.sum().backward()
        single, albedo.grad = albedo.grad, None
        twice = renderer(vertices.expand(2, -1, -1), triangles, albedo, light.expand(2, -1, -1))
        twice.image.sum().backward()
        torch.testing.assert_close(albedo.grad, 2 * single)


class TestBatch:
    @pytest.mark.parametrize("gradient", ["rendering", "surface"])
    def test_entries_are_independent(self, device, gradient):
        model = small_face(12)
        place = torch.tensor([[[5.0, 3.0, -1000.0]], [[-20.0, 10.0, -900.0]]])
        vertices = (model.mean_shape[None] + place).to(device).requires_grad_()
        albedo = torch.stack([model.mean_albedo, 1 - model.mean_albedo]).to(device)
        triangles, light = model.triangles.to(device), some_light(2).to(device)
        renderer = FaceRenderer(Camera(48), gradient)
        both = renderer(vertices, triangles, albedo, light)
        for k in range(2):
            one = slice(k, k + 1)
            alone = renderer(vertices[one], triangles, albedo[one], light[one])
            for name in (*BUFFERS, "triangle_ids"):
                torch.testing.assert_close(
                    getattr(both, name)[one], getattr(alone, name), msg=f"{name} of {k}"
                )
        (gradient_first,) = torch.autograd.grad(both.image[0].square().sum(), vertices)
        assert gradient_first[0].abs().sum() > 0
        assert gradient_first[1].abs().sum() == 0


class TestVisibility:
    @pytest.mark.parametrize("near_first", [True, False])
    def test_nearer_hides_farther(self, device, near_first):
        near, triangles = quad(-20, 20, -20, 20, depth=400)  # 10 x 10 px
        far, _ = quad(-60, 60, -60, 60, depth=600)  # 20 x 20 px
        parts = [near, far] if near_first else [far, near]
        vertices = torch.cat(parts, dim=1)
        triangles = torch.cat([triangles, triangles + 4])
        albedo, light = colors(1, 8).to(device), some_light().to(device)
        rendering = FaceRenderer(CAMERA)(vertices.to(device), triangles.to(device), albedo, light)
        expected = torch.zeros(32, 48)
        expected[6:26, 14:34] = 600
        expected[11:21, 19:29] = 400
        torch.testing.assert_close(rendering.depth[0, 0].cpu(), expected, atol=1e-2, rtol=0)

    def test_nothing_in_sight(self, device):
        vertices, triangles = quad(left=1000.0, right=1100.0)
        vertices = vertices.to(device).requires_grad_()
        rendering = FaceRenderer(CAMERA, "surface")(
            vertices, triangles.to(device), colors().to(device), some_light().to(device)
        )
        assert rendering.mask.sum() == 0
        (rendering.image.sum() + rendering.surface_position.sum()).backward()
        assert (vertices.grad == 0).all()


class TestLight:
    def test_constant_light_shades_alike(self, device):
        model = small_face(12)
        vertices = (model.mean_shape[None] + torch.tensor([0.0, 0.0, -1000.0])).to(device)
        light = torch.zeros(1, 9, 3)
        light[0, 0] = torch.tensor([0.7, 0.5, 1.0])
        rendering = FaceRenderer(Camera(32))(
            vertices, model.triangles.to(device), model.mean_albedo.to(device), light.to(device)
        )
        mask = rendering.mask[0, 0].cpu() > 0
        shading = rendering.shading[0].cpu()[:, mask].T
        expected = (light[0, 0] * LAMBERT_CONSTANTS[0]).expand_as(shading)
        torch.testing.assert_close(shading, expected, atol=1e-6, rtol=0)

    def test_light_from_the_right(self):
        """A cap under light from +x is brighter on the picture's right."""
        model = small_face(12)
        vertices = model.mean_shape[None] + torch.tensor([0.0, 0.0, -1000.0])
        light = torch.zeros(1, 9, 3)
        light[0, 0], light[0, 3] = 1.0, 0.5  # ambient and x
        shading = FaceRenderer(Camera(32))(
            vertices, model.triangles, model.mean_albedo, light
        ).shading[0, 0, 16]
        lit = shading[shading > 0]
        assert len(lit) > 15
        assert (lit.diff() > 0).all()


def flash(**parts):
    """One white light at the eye; its colour adds 0.4 of highlight."""
    light = {"positions": torch.zeros(1, 1, 3), "colors": torch.ones(1, 1, 3)}
    light |= {"specular": torch.full((1, 3), 0.4), "shininess": torch.tensor([50.0])}
    return PhongLight(**{**light, **parts})


class TestPhong:
    def test_frontal_quad_by_hand(self, device):
        """Under a light at the eye n . l = cos, r . v = 2 cos^2 - 1 of the angle to the axis."""
        vertices, triangles = quad()
        light = flash(ambient=torch.full((1, 3), 0.1))
        light = PhongLight(**{name: part.to(device) for name, part in vars(light).items()})
        rendering = FaceRenderer(CAMERA, shader=Phong())(
            vertices.to(device), triangles.to(device), colors().to(device), light
        )
        y, x = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(48) + 0.5, indexing="ij")
        cosine = 100 / ((x - 24) ** 2 + (y - 16) ** 2 + 100**2).sqrt()
        shine = 0.4 * (2 * cosine**2 - 1) ** 50
        want = colors()[0, 0].view(3, 1, 1) * (0.1 + cosine) + shine
        # measured 5e-6 (AMD EPYC): one unit in the last place of r . v, times 50
        torch.testing.assert_close(box(rendering.image[0].cpu()), box(want), atol=5e-5, rtol=0)
        # The buffer holds what multiplies the albedo.
        shading = (0.1 + cosine).expand(3, -1, -1)
        torch.testing.assert_close(box(rendering.shading[0].cpu()), box(shading), atol=2e-6, rtol=0)
        assert (rendering.image.cpu()[rendering.mask.cpu().expand(-1, 3, -1, -1) == 0] == 0).all()

    @pytest.mark.parametrize("side", [-1, 1])
    def test_highlight_lies_half_way_to_the_light(self, side):
        """On a mirror through the eye's foot the reflection of a light is half way to its foot."""
        vertices, triangles = quad(-60, 60, -60, 60)
        place = torch.tensor([[[side * 40.0, 50.0, 0.0]]])
        light = flash(positions=place, shininess=torch.tensor([2000.0]))
        image = FaceRenderer(CAMERA, shader=Phong())(
            vertices, triangles, torch.zeros(4, 3), light
        ).image[0, 0]
        # Half way is (+-20, 25) mm, 0.2 px/mm: (24 +- 4, 16 - 5) px, on a corner of four pixels.
        row, column = divmod(image.argmax().item(), 48)
        assert row in (10, 11) and column in (23 + 4 * side, 24 + 4 * side)

    def test_is_its_function_at_every_pixel(self):
        """The G-buffer into `phong_ref`: measured 7e-5, of the rasterizer's grid of 1/16 px (AMD EPYC)."""
        model = small_face(12)
        vertices = model.mean_shape[None] + torch.tensor([0.0, 0.0, -1000.0])
        light = flash(positions=torch.tensor([[[300.0, 200.0, -200.0]]]))
        camera = Camera(48)
        made = FaceRenderer(camera, shader=Phong())(
            vertices, model.triangles, model.mean_albedo, light
        )
        y, x = torch.meshgrid(torch.arange(48) + 0.5, torch.arange(48) + 0.5, indexing="ij")
        depth = made.depth[0, 0]
        place = [(x - 24) * depth / camera.focal_px, (24 - y) * depth / camera.focal_px, -depth]
        planes = [made.normal[0], made.albedo[0], torch.stack(place)]
        want = phong_ref(*(plane.permute(1, 2, 0)[None] for plane in planes), light)
        covered = made.mask[0, 0] > 0
        got = made.image[0].permute(1, 2, 0)
        torch.testing.assert_close(got[covered], want[0][covered], atol=2e-4, rtol=0)

    @pytest.mark.parametrize("gradient", ["rendering", "surface"])
    def test_surface_points_keep_their_highlight(self, gradient):
        """Both gradients reach the vertices by the surface's place: a light near the surface."""
        vertices, triangles = quad()
        vertices.requires_grad_()
        light = flash(positions=torch.tensor([[[10.0, 5.0, -450.0]]]))
        normals = torch.tensor([0.0, 0.0, 1.0]).expand(1, 4, 3)
        rendering = FaceRenderer(CAMERA, gradient, shader=Phong())(
            vertices, triangles, colors(), light, normals
        )
        (slope,) = torch.autograd.grad(rendering.image.sum(), vertices)
        assert slope.isfinite().all() and slope[..., 2].abs().min() > 0

    def test_recovers_light_and_shininess_from_a_picture(self):
        """L-BFGS from a light on the wrong side, 320 mm off: measured 7e-5 mm and 0 of 12 (AMD EPYC)."""
        model = small_face(16)
        vertices = model.mean_shape[None] + torch.tensor([0.0, 0.0, -1000.0])
        renderer = FaceRenderer(Camera(48), shader=Phong())

        def render(place, log_shininess):
            light = flash(positions=500 * place, shininess=log_shininess.exp())
            return renderer(vertices, model.triangles, model.mean_albedo, light).image

        true = torch.tensor([[[0.3, 0.2, -1.4]]])
        picture = render(true, torch.tensor([12.0]).log())
        place = torch.tensor([[[-0.1, -0.1, -1.0]]], requires_grad=True)
        shininess = torch.tensor([4.0]).log().requires_grad_()
        optimizer = torch.optim.LBFGS(
            [place, shininess], max_iter=60, line_search_fn="strong_wolfe",
            tolerance_grad=1e-9, tolerance_change=1e-12,
        )  # fmt: skip

        def loss():
            optimizer.zero_grad()
            value = 1e3 * (render(place, shininess) - picture).square().mean()
            value.backward()
            return value

        optimizer.step(loss)
        assert (place - true).norm() * 500 < 0.1
        assert shininess.exp().item() == pytest.approx(12, abs=0.01)

    def test_wrong_light(self):
        vertices, triangles = quad()
        with pytest.raises(TypeError, match="FaceRenderer: light is Tensor, expected .* positions"):
            FaceRenderer(CAMERA, shader=Phong())(vertices, triangles, colors(), some_light())
        with pytest.raises(
            ValueError, match=r"FaceRenderer: light.specular is \[1, 5, 3\], expected"
        ):
            light = flash(specular=torch.zeros(1, 5, 3))
            FaceRenderer(CAMERA, shader=Phong())(vertices, triangles, colors(), light)


class TestLazyBuffers:
    @staticmethod
    def scene(device="cpu"):
        vertices, triangles = quad()
        return tuple(t.to(device) for t in (vertices, triangles, colors(), some_light()))

    def test_differentiable_as_if_made_with_the_image(self, device):
        vertices, triangles, albedo, light = self.scene(device)
        rendering = FaceRenderer(CAMERA)(vertices, triangles, albedo.requires_grad_(), light)
        with torch.no_grad():
            made = rendering.albedo  # asked for where gradients are off
        assert made.requires_grad and made is rendering.albedo
        (gradient,) = torch.autograd.grad(made[:, 0].sum(), albedo)
        pixels = rendering.mask.sum().item()  # the weights of the corners sum to one in each
        assert gradient[..., 0].sum().item() == pytest.approx(pixels, rel=1e-5)

    def test_no_graph_where_the_rendering_has_none(self):
        vertices, triangles, albedo, light = self.scene()
        with torch.no_grad():
            rendering = FaceRenderer(CAMERA)(vertices, triangles, albedo.requires_grad_(), light)
        assert not rendering.shading.requires_grad

    def test_a_rendering_is_pickled(self):
        rendering = FaceRenderer(CAMERA)(*self.scene())
        other = pickle.loads(pickle.dumps(rendering))
        assert torch.equal(other.image, rendering.image)
        assert torch.equal(other.depth, rendering.depth)


class TestCopies:
    @pytest.mark.parametrize("copy", [deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
    def test_renderers_are_copied_and_pickled(self, copy):
        renderer = FaceRenderer(CAMERA, dr=reference)
        twin = copy(renderer)
        assert twin.dr is reference
        scene = TestLazyBuffers.scene()
        assert torch.equal(twin(*scene).image, renderer(*scene).image)
        assert renderer.shader == ShLambert() == copy(FaceRenderer(shader=ShLambert())).shader
        assert copy(FaceRenderer(shader=Phong())).shader == Phong()

    def test_a_rendering_of_another_shader_is_pickled(self):
        vertices, triangles = quad()
        rendering = FaceRenderer(CAMERA, shader=Phong())(vertices, triangles, colors(), flash())
        other = pickle.loads(pickle.dumps(rendering))
        assert torch.equal(other.image, rendering.image)
        assert torch.equal(other.shading, rendering.shading)


class TestMeshesOfOthers:
    @pytest.mark.parametrize("dtype", [torch.int64, torch.int16])
    def test_triangles_of_any_integer_type(self, dtype):
        vertices, triangles = quad()
        given = (colors(), flash())
        wanted = FaceRenderer(CAMERA, shader=Phong())(vertices, triangles, *given)
        found = FaceRenderer(CAMERA, shader=Phong())(vertices, triangles.to(dtype), *given)
        assert torch.equal(found.image, wanted.image) and torch.equal(found.depth, wanted.depth)

    @pytest.mark.parametrize("shader", [None, Unlit()], ids=["sh", "unlit"])
    @pytest.mark.parametrize("outline", ["none", "edges"])
    def test_a_loop_over_meshes(self, shader, outline):
        """Meshes of 4 to 400 vertices by one renderer, twice: the bits of one made for each."""
        renderer = FaceRenderer(CAMERA, outline=outline, shader=shader)
        light = some_light() if shader is None else None
        meshes = [quad()]
        for rows in (4, 20, 7):
            model = small_face(rows)
            meshes.append((model.mean_shape[None] - torch.tensor([0.0, 0, 700]), model.triangles))
        for vertices, triangles in (*meshes, *meshes):
            albedo = torch.rand(vertices.shape[1], 3, generator=torch.Generator().manual_seed(0))
            results = []
            for one in (renderer, FaceRenderer(CAMERA, outline=outline, shader=shader)):
                leaf = vertices.clone().requires_grad_()
                image = one(leaf, triangles.long(), albedo, light).image
                results.append((image, *torch.autograd.grad(image.square().sum(), leaf)))
            assert results[0][0].sum() > 10
            assert all(torch.equal(a, b) for a, b in zip(*results))

    def test_other_topologies_with_one_renderer(self):
        renderer, (vertices, triangles) = FaceRenderer(CAMERA, shader=Phong()), quad()
        for part in (triangles, triangles[:1], triangles.flip(0)):
            new = FaceRenderer(CAMERA, shader=Phong())(vertices, part, colors(), flash())
            assert torch.equal(renderer(vertices, part, colors(), flash()).image, new.image)


# The same scale as CAMERA's at a depth of 500 mm; principal points elsewhere.
INTRINSICS = IntrinsicsCamera((32, 48), fx=100.0, fy=150.0, cx=27.0, cy=13.0, skew=20.0)
PARALLEL = OrthographicCamera((32, 48), scale=0.2, center=(27.0, 13.0))


class TestCameras:
    """Full intrinsics and parallel lines of sight: pixels by hand, depth, gradients."""

    @pytest.mark.parametrize(
        ("camera", "rows", "columns"),
        [
            (IntrinsicsCamera((32, 48), fx=100.0, fy=150.0, cx=27.0, cy=13.0), (4, 22), (19, 35)),
            (PARALLEL, (7, 19), (19, 35)),
        ],
        ids=["intrinsics", "orthographic"],
    )
    def test_pixels_by_hand(self, device, camera, rows, columns):
        """80 x 60 mm: 16 px wide about column 27, and 18 or 12 px high about row 13."""
        vertices, triangles = quad()
        rendering = FaceRenderer(camera)(
            vertices.to(device), triangles.to(device), colors().to(device), some_light().to(device)
        )
        expected = torch.zeros(32, 48)
        expected[rows[0] : rows[1], columns[0] : columns[1]] = 1
        assert torch.equal(rendering.mask[0, 0].cpu(), expected)

    @pytest.mark.parametrize(
        ("camera", "place"),
        [
            # u = 100 X + 20 Y + 27, v = 150 Y + 13 with Y down
            (INTRINSICS, lambda x, y, z: (100 * x - 20 * y) / -z + 27),
            (PARALLEL, lambda x, y, z: 0.2 * x + 27 + 0 * z),
        ],
        ids=["intrinsics", "orthographic"],
    )
    def test_pixels_see_what_projects_to_their_centre(self, camera, place):
        """What a pixel sees projects to + 0.5, up to the rasterizer's grid: a hand-written u, `project`."""
        model = small_face(16)
        vertices = model.mean_shape[None] + torch.tensor([-25.0, 5.0, -500.0])
        rendering = FaceRenderer(camera)(vertices, model.triangles, model.mean_albedo, some_light())
        points = rendering.interpolate(vertices)
        mask = rendering.mask[0, 0] > 0
        assert mask.sum() > 200
        columns = torch.arange(48.0).expand(32, 48) + 0.5
        rows = torch.arange(32.0)[:, None].expand(32, 48) + 0.5
        off = (place(*points[0]) - columns)[mask].abs()
        # Measured: 0 as a rule, 0.026 px at the outline (AMD EPYC), where coverage has a grid of 1/16 px.
        assert off.median() < 1e-4 and off.max() < 1 / 16
        seen = camera.project(points[0].permute(1, 2, 0))[mask]
        assert (seen - torch.stack([columns, rows], -1)[mask]).abs().max() < 1 / 16
        torch.testing.assert_close(rendering.depth[0, 0][mask], -points[0, 2][mask])

    @pytest.mark.parametrize("near_first", [True, False])
    def test_nearer_hides_farther(self, near_first):
        """At one scale whatever the depth: 8 x 8 px in front of 24 x 24, back faces drawn too."""
        near, triangles = quad(-20, 20, -20, 20, depth=400)
        far, _ = quad(-60, 60, -60, 60, depth=600)
        vertices = torch.cat([near, far] if near_first else [far, near], dim=1)
        behind = triangles.flip(1) + 4  # turned away
        camera = OrthographicCamera((32, 48), scale=0.2)
        rendering = FaceRenderer(camera)(
            vertices, torch.cat([triangles, behind]), colors(1, 8), some_light()
        )
        expected = torch.zeros(32, 48)
        expected[4:28, 12:36] = 600
        expected[12:20, 20:28] = 400
        torch.testing.assert_close(rendering.depth[0, 0], expected, atol=1e-2, rtol=0)

    def test_only_between_near_and_far(self):
        vertices, triangles = quad(depth=500)
        for near, far, drawn in ((0.0, 499.0, 0), (501.0, 999.0, 0), (-10.0, 501.0, 192)):
            camera = OrthographicCamera((32, 48), scale=0.2, near=near, far=far)
            mask = FaceRenderer(camera)(vertices, triangles, colors(), some_light()).mask
            assert mask.sum() == drawn

    def test_unit_meshes_around_the_origin(self):
        """The space of many programs: all within [-1, 1], in front of the origin and behind."""
        vertices = torch.tensor([[[-1.0, -1, 0.9], [1, -1, 0], [1, 1, -0.9], [-1, 1, 0]]])
        camera = OrthographicCamera(16, scale=8.0, near=-1.0, far=1.0)
        triangles = torch.tensor([[0, 1, 2], [0, 2, 3]])
        rendering = FaceRenderer(camera, shader=Unlit())(vertices, triangles, torch.ones(4, 1))
        assert (rendering.mask == 1).all()
        assert rendering.depth.min() < -0.7 and rendering.depth.max() > 0.7

    @pytest.mark.parametrize("shader", [None, Phong(), Unlit()], ids=["sh", "phong", "unlit"])
    @pytest.mark.parametrize("gradient", ["rendering", "surface"])
    @pytest.mark.parametrize("camera", [INTRINSICS, PARALLEL], ids=["intrinsics", "orthographic"])
    def test_gradients_are_the_reference_verbs(self, camera, gradient, shader):
        """A photometric loss, compiled in float32 against float64: measured 4e-5 (AMD EPYC)."""
        model = small_face(10)
        vertices = model.mean_shape[None] + torch.tensor([-25.0, 5.0, -500.0])
        photo = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(1))
        photo = F.avg_pool2d(photo, 5, 1, 2)
        results = []
        for verbs, dtype in ((None, torch.float32), (reference, torch.float64)):
            leaves = [t.to(dtype).requires_grad_() for t in (vertices, model.mean_albedo[None])]
            light = None
            if shader is None:
                light = some_light().to(dtype)
            elif isinstance(shader, Phong):
                parts = vars(flash(positions=torch.tensor([[[90.0, 50.0, -200.0]]])))
                light = PhongLight(
                    **{k: None if v is None else v.to(dtype) for k, v in parts.items()}
                )
            options = {} if verbs is None else {"dr": verbs}
            made = FaceRenderer(camera, gradient, shader=shader, **options)(
                leaves[0], model.triangles, leaves[1], light
            )
            loss = photometric_raster(made, photo.to(dtype)).sum() + 1e-3 * made.depth.mean()
            results.append((made.mask, loss, *torch.autograd.grad(loss, leaves)))
        (mask, loss, *found), (ref_mask, ref_loss, *wanted) = results
        assert ((mask - ref_mask) != 0).sum() <= 4  # pixels on an edge
        assert loss.item() == pytest.approx(ref_loss.item(), rel=1e-4)
        for one, two in zip(found, wanted):
            assert (one - two).norm() < 1e-3 * two.norm()

    @pytest.mark.parametrize("camera", [INTRINSICS, PARALLEL], ids=["intrinsics", "orthographic"])
    def test_gradcheck(self, camera):
        """Vertices, albedo and lights of Phong in float64; no centre of a pixel is at an edge."""
        vertices, triangles = quad(-21.3, 18.7, -16.1, 14.9)
        points = vertices.double()
        points[..., 2] += points[..., 0] / 2
        renderer = FaceRenderer(camera, dr=reference, shader=Phong())
        weights = torch.randn(
            1, 3, 32, 48, generator=torch.Generator().manual_seed(1), dtype=torch.float64
        )
        normals = F.normalize(torch.tensor([[0.1, 0.2, 1.0]], dtype=torch.float64), dim=-1)

        def draw(points, albedo, place):
            light = PhongLight(
                place,
                torch.ones_like(place),
                None,
                place.new_full((1, 3), 0.4),
                place.new_tensor([8.0]),
            )
            image = renderer(points, triangles, albedo, light, normals.expand(1, 4, 3)).image
            return (image * weights).sum()

        albedo = colors().double()
        place = torch.tensor([[[30.0, 40.0, -300.0]]], dtype=torch.float64)
        assert torch.autograd.gradcheck(
            draw, [t.requires_grad_() for t in (points, albedo, place)], atol=1e-6, rtol=1e-4
        )

    def test_highlight_under_parallel_lines_of_sight(self):
        """A frontal mirror shines where the light is right above it, wherever in the picture that is."""
        vertices, triangles = quad(-100, 100, -60, 60)
        light = flash(
            positions=torch.tensor([[[50.0, 25.0, -300.0]]]), shininess=torch.tensor([500.0])
        )
        camera = OrthographicCamera((32, 48), scale=0.2)
        image = FaceRenderer(camera, shader=Phong())(
            vertices, triangles, torch.zeros(4, 3), light
        ).image[0, 0]
        row, column = divmod(image.argmax().item(), 48)
        assert row in (10, 11) and column in (
            33,
            34,
        )  # (24 + 10, 16 - 5) px, on a corner of four pixels

    @pytest.mark.parametrize("camera", [INTRINSICS, PARALLEL], ids=["intrinsics", "orthographic"])
    def test_same_bits_for_any_thread_count(self, camera):
        model = small_face(12)
        vertices = (model.mean_shape[None] + torch.tensor([-25.0, 5.0, -500.0])).requires_grad_()
        before, results = torch.get_num_threads(), []
        try:
            for threads in (1, 2, 5):
                torch.set_num_threads(threads)
                image = FaceRenderer(camera)(
                    vertices, model.triangles, model.mean_albedo, some_light()
                ).image
                results.append((image, *torch.autograd.grad(image.square().sum(), vertices)))
        finally:
            torch.set_num_threads(before)
        for other in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(results[0], other))

    def test_outlines_move_under_intrinsics(self):
        """1 mm to the right uncovers a column of 12 px by 0.2 px and covers another: the mean stays."""
        vertices, triangles = quad()
        camera = IntrinsicsCamera((32, 48), fx=100.0, fy=100.0, cx=27.0, cy=13.0)
        shift = torch.zeros(3, requires_grad=True)
        mask = FaceRenderer(camera, outline="edges", shader=Unlit())(
            vertices + shift, triangles, torch.ones(4, 1)
        ).mask
        left = mask[..., :27].sum()
        (gradient,) = torch.autograd.grad(left, shift)
        assert gradient[0].item() == pytest.approx(-12 * 0.2, rel=1e-3)

    def test_outlines_need_a_pinhole(self):
        message = (
            r"outline is 'edges' with a camera of parallel lines .*OrthographicCamera\), expected"
        )
        with pytest.raises(ValueError, match=message):
            FaceRenderer(PARALLEL, outline="edges")

    def test_what_is_no_camera(self):
        with pytest.raises(TypeError, match="FaceRenderer: camera is 240, expected a Camera"):
            FaceRenderer(240)

    def test_a_camera_of_ones_own(self):
        """Two methods make one: here the picture is mirrored."""

        class Mirrored(BaseCamera):
            image_size, near, far, position = (32, 48), 100.0, 10_000.0, (0.0, 0.0, 0.0)

            @property
            def clip_matrix(self):
                (x_scale, *rest), *others = CAMERA.clip_matrix
                return ((-x_scale, *rest), *others)

        vertices, triangles = quad(left=-100.0)
        common = (triangles, colors(), some_light(), torch.tensor([0.0, 0, 1]).expand(1, 4, 3))
        plain = FaceRenderer(CAMERA)(vertices, *common)
        found = FaceRenderer(Mirrored())(vertices, *common)
        assert torch.equal(found.mask, plain.mask.flip(3)) and 192 < plain.mask.sum() < 600


class TestBackground:
    """One picture over numbers, colours and pictures."""

    @pytest.fixture
    def rendering(self):
        vertices, triangles = quad()
        return FaceRenderer(CAMERA)(vertices.expand(2, -1, -1), triangles, colors(), some_light(2))

    @pytest.mark.parametrize(
        "background",
        [
            0.25,
            [0.1, 0.2, 0.3],
            torch.tensor([0.1, 0.2, 0.3]),
            torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]),
            torch.rand(3, 32, 48),
            torch.rand(2, 3, 32, 48),
            torch.rand(1, 1, 32, 48),
        ],
        ids=["grey", "list", "colour", "two colours", "picture", "two pictures", "grey picture"],
    )
    def test_shows_where_nothing_is(self, rendering, background):
        made = rendering.over(background)
        plain = torch.as_tensor(background)
        plain = plain[..., None, None] if plain.ndim in (1, 2) else plain
        empty = rendering.mask.expand(2, 3, -1, -1) == 0
        assert torch.equal(made[empty], plain.expand(2, 3, 32, 48)[empty])
        assert torch.equal(made[~empty], rendering.image[~empty])

    def test_has_a_gradient(self, rendering):
        background = torch.rand(2, 3, requires_grad=True)
        rendering.over(background).sum().backward()
        assert (background.grad == 32 * 48 - 192).all()

    @pytest.mark.parametrize("shape", [(4,), (3, 3), (3, 48, 32), (2, 2, 32, 48)])
    def test_other_shapes(self, rendering, shape):
        with pytest.raises(ValueError, match=r"Rendering.over: background is \[.*a colour \[3\]"):
            rendering.over(torch.zeros(shape))


class TestErrors:
    def test_gradient(self):
        message = r"FaceRenderer: gradient is 'forward', expected one of rendering, surface"
        with pytest.raises(ValueError, match=message):
            FaceRenderer(CAMERA, "forward")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"vertices": torch.zeros(4, 3)}, r"vertices is \[4, 3\], expected \[B, V, 3\]"),
            ({"vertices": torch.zeros(1, 4, 4)}, r"vertices is \[1, 4, 4\], expected \[B, V, 3\]"),
            (
                {"triangles": torch.zeros(2, 4, dtype=torch.int32)},
                r"triangles is \[2, 4\] torch.int32, expected \[T, 3\] of integers",
            ),
            (
                {"triangles": torch.zeros(2, 3)},
                r"triangles is \[2, 3\] torch.float32, expected \[T, 3\] of integers",
            ),
            (
                {"albedo": torch.zeros(5, 3)},
                r"albedo is \[5, 3\], expected \[B, V, 3\] or \[V, 3\] with B = 1, V = 4",
            ),
            ({"albedo": torch.zeros(2, 4, 3)}, r"albedo is \[2, 4, 3\], expected .* with B = 1"),
            ({"albedo": torch.zeros(3)}, r"albedo is \[3\], expected"),
            (
                {"light": torch.zeros(1, 27)},
                r"light is \[1, 27\], expected \[B, 9, 3\] with B = 1 \(from vertices\)",
            ),
            ({"light": torch.zeros(2, 9, 3)}, r"light is \[2, 9, 3\], expected \[B, 9, 3\]"),
            (
                {"normals": torch.zeros(4, 3)},
                r"normals is \[4, 3\], expected \[1, 4, 3\] \(as vertices\)",
            ),
        ],
    )
    def test_shapes(self, change, message):
        vertices, triangles = quad()
        arguments = {
            "vertices": vertices,
            "triangles": triangles,
            "albedo": colors(),
            "light": some_light(),
            **change,
        }
        with pytest.raises(ValueError, match="FaceRenderer: " + message):
            FaceRenderer(CAMERA)(**arguments)
