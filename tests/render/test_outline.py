"""Outline gradients: closed forms on quads and spheres, finite differences of whole pictures."""

import math

import numpy as np
import pytest
import torch

from mofa_nvdr import dr
from mofa_nvdr.dr import reference
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.render.outline import find_outline, triangle_neighbors
from mofa_nvdr.render.renderer import FaceRenderer
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.pose import axis_angle_to_matrix
from tests.helpers.small_face import small_face

CAMERA = Camera((32, 48), focal=100.0)  # at 500 mm a pixel is 5 mm


def quad(left, right, bottom, top, depth=500.0):
    """Two triangles facing the camera, mm."""
    corners = [[left, bottom], [right, bottom], [left, top], [right, top]]
    vertices = torch.tensor([[*corner, -depth] for corner in corners])
    return vertices, torch.tensor([[0, 1, 2], [1, 3, 2]], dtype=torch.int32)


def sphere(num_rings):
    """A unit sphere of num_rings rings of 2 num_rings quads."""
    theta = np.linspace(0, np.pi, num_rings + 1)[:, None]
    phi = np.linspace(0, 2 * np.pi, 2 * num_rings, endpoint=False)
    parts = [np.sin(theta) * np.cos(phi), np.cos(theta) + 0 * phi, np.sin(theta) * np.sin(phi)]
    vertices = torch.from_numpy(np.stack(parts, -1).reshape(-1, 3)).float()
    ring, spoke = np.meshgrid(np.arange(num_rings), np.arange(2 * num_rings), indexing="ij")
    a, b = ring * 2 * num_rings + spoke, ring * 2 * num_rings + (spoke + 1) % (2 * num_rings)
    c, d = a + 2 * num_rings, b + 2 * num_rings
    triangles = np.concatenate([np.stack([a, b, c], -1), np.stack([b, d, c], -1)]).reshape(-1, 3)
    # Rings at the poles have triangles without area: left in on purpose.
    turn = axis_angle_to_matrix(torch.tensor([[0.3, 0.5, 0.2]]))[0]
    return vertices @ turn.T, torch.from_numpy(triangles).int()


def outline_of(vertices, triangles, camera):
    """The outline and the mask of camera-space vertices [V, 3] or [B, V, 3]."""
    vertices = vertices if vertices.ndim == 3 else vertices[None]
    pos = camera.clip_space(vertices).contiguous()
    rast, _ = dr.rasterize(dr.RasterizeContext(), pos, triangles, camera.size)
    outline = find_outline(pos, triangles, rast, 1 / camera.focal_px)
    return outline, (rast[..., 3] > 0).float()[:, None].flip(2), rast


class TestQuad:
    """A rectangle of 16 x 12 px: areas and moments by hand."""

    def _gradient(self, weight, device):
        vertices, triangles = quad(-41.0, 39.0, -29.0, 31.0)
        vertices = vertices.to(device).requires_grad_()
        outline, mask, _ = outline_of(vertices, triangles.to(device), CAMERA)
        assert mask.sum() == 16 * 12
        (outline.attach(mask)[0, 0] * weight.to(device)).sum().backward()
        return vertices.grad.cpu()

    def test_area(self, device):
        gradient = self._gradient(torch.ones(32, 48), device)
        # Moving both right corners by 1 mm moves the side of 12 px by 0.2 px.
        assert gradient[[1, 3], 0].sum().item() == pytest.approx(12 * 0.2, rel=1e-5)
        assert gradient[[0, 2], 0].sum().item() == pytest.approx(-12 * 0.2, rel=1e-5)
        assert gradient[[2, 3], 1].sum().item() == pytest.approx(16 * 0.2, rel=1e-5)
        assert gradient[[0, 1], 1].sum().item() == pytest.approx(-16 * 0.2, rel=1e-5)
        # Nearer: the area 80 mm * 60 mm * (100 / depth)^2 grows by 2 / 500 of itself per mm.
        assert gradient[:, 2].sum().item() == pytest.approx(2 * 192 / 500, rel=0.02)

    def test_rows_count_downwards(self, device):
        """The weight sits at the rectangle's upper side only: just that side feels it."""
        weight = torch.zeros(32, 48)
        weight[:14] = 1.0
        gradient = self._gradient(weight, device)
        assert gradient[[2, 3], 1].sum().item() == pytest.approx(16 * 0.2, rel=1e-5)
        assert gradient[[0, 1], 1].abs().sum() == 0

    def test_values_stay(self, device):
        vertices, triangles = quad(-41.0, 39.0, -29.0, 31.0)
        outline, _, _ = outline_of(vertices.to(device), triangles.to(device), CAMERA)
        picture = torch.rand(1, 5, 32, 48, generator=torch.Generator().manual_seed(0)).to(device)
        assert torch.equal(outline.attach(picture), picture)

    def test_gradient_of_the_picture_passes(self):
        vertices, triangles = quad(-41.0, 39.0, -29.0, 31.0)
        outline, _, _ = outline_of(vertices, triangles, CAMERA)
        picture = torch.rand(1, 2, 32, 48, requires_grad=True)
        weight = torch.rand(1, 2, 32, 48)
        (gradient,) = torch.autograd.grad((outline.attach(picture) * weight).sum(), picture)
        assert torch.equal(gradient, weight)

    def test_the_frame_is_no_outline(self):
        vertices, triangles = quad(-1000.0, 1000.0, -1000.0, 1000.0)
        outline, mask, _ = outline_of(vertices, triangles, CAMERA)
        assert mask.all()
        assert len(outline.image) == 0

    def test_nothing_in_sight(self):
        vertices, triangles = quad(1000.0, 1100.0, 0.0, 1.0)
        vertices.requires_grad_()
        outline, mask, _ = outline_of(vertices, triangles, CAMERA)
        outline.attach(mask).sum().backward()
        assert (vertices.grad == 0).all()


class TestSphere:
    """d area / d radius = 2 pi r, whatever the density of the mesh."""

    # Measured: 2.9 %, 0.5 % (both the polyhedron's own), 0.01 % (AMD Zen 5).
    @pytest.mark.parametrize(("num_rings", "tolerance"), [(8, 0.04), (20, 0.01), (110, 0.002)])
    def test_area(self, num_rings, tolerance):
        camera, distance = Camera(240), 1000.0
        unit, triangles = sphere(num_rings)
        radius = torch.tensor(80.0, requires_grad=True)
        place = torch.tensor([3.3, -2.1, -distance], requires_grad=True)
        outline, mask, _ = outline_of(radius * unit + place, triangles, camera)
        column = torch.arange(240) + 0.5
        attached = outline.attach(mask)
        grads = torch.autograd.grad(attached.sum(), [radius, place], retain_graph=True)
        # The contour of a sphere seen from d: r = f R / sqrt(d^2 - R^2).
        root = math.sqrt(distance**2 - 80.0**2)
        size = camera.focal_px * 80.0 / root
        expected = 2 * math.pi * size * camera.focal_px * distance**2 / root**3
        assert grads[0].item() == pytest.approx(expected, rel=tolerance)
        assert grads[1][:2].abs().max() < 0.002 * expected
        # The first moment follows a shift: d/dx of the sum of columns = area * px per mm.
        (shift,) = torch.autograd.grad((attached * column).sum(), place)
        expected = math.pi * size**2 * camera.focal_px / distance
        assert shift[0].item() == pytest.approx(expected, rel=0.01 + tolerance)

    def test_turning_a_dense_sphere_moves_nothing(self):
        """The points under the pixels' centres do move, 10 px deep at the contour: here to 1 %.

        Measured: 0.004 of a shift's gradient (AMD Zen 5).
        """
        camera = Camera(240)
        unit, triangles = sphere(110)
        angle = torch.zeros(1, 3, requires_grad=True)
        turned = unit @ axis_angle_to_matrix(angle)[0].T
        outline, mask, _ = outline_of(
            80 * turned + torch.tensor([3.3, -2.1, -1000.0]), triangles, camera
        )
        moment = (outline.attach(mask) * (torch.arange(240) + 0.5)).sum()
        (gradient,) = torch.autograd.grad(moment, angle)
        arc = 80 * mask.sum() * camera.focal_px / 1000  # as if the outline moved like the front
        assert (gradient.abs() < 0.01 * arc).all()

    def test_antialias_loses_the_dense_outline(self):
        """Why this module exists. Measured: 0.79 of 2 pi r for 144 vertices, 0.012 for 24,420."""
        share = []
        for num_rings in (8, 110):
            unit, triangles = sphere(num_rings)
            radius = torch.tensor(80.0, requires_grad=True)
            camera = Camera(240)
            _, mask, rast = outline_of(
                radius * unit + torch.tensor([3.3, -2.1, -1000.0]), triangles, camera
            )
            pos = camera.clip_space(radius * unit + torch.tensor([3.3, -2.1, -1000.0]))[None]
            color = mask.flip(2).permute(0, 2, 3, 1).contiguous()
            area = dr.antialias(color, rast.detach(), pos.contiguous(), triangles).sum()
            share.append(torch.autograd.grad(area, radius)[0].item() / 602.15)
        assert share[0] > 0.7
        assert share[1] < 0.05


class TestOcclusion:
    def _brightness(self, front_shift, vertices_front, vertices_back, triangles, camera=CAMERA):
        """Sum over the picture of a bright front part before a dark back part."""
        vertices = torch.cat([vertices_front + front_shift, vertices_back])
        faces = torch.cat([triangles, triangles + len(vertices_front)])
        outline, _, rast = outline_of(vertices, faces, camera)
        ids = rast[:, None, ..., 3].flip(2)
        picture = torch.where(ids > 0, 0.2, 0.0)
        picture = torch.where((ids > 0) & (ids <= len(triangles)), 0.9, picture)
        return outline.attach(picture).sum()

    @pytest.mark.parametrize("depth", [495.0, 400.0])
    def test_front_over_back(self, depth):
        """Widening the front square replaces 0.2 by 0.9 along its sides, and leaves the back alone."""
        front, triangles = quad(-20.0, 20.0, -20.0, 20.0, depth)
        back, _ = quad(-70.0, 70.0, -60.0, 60.0)
        grow = torch.zeros(4, 3)
        grow[[1, 3], 0] = 1.0  # the right side
        amount = torch.tensor(0.0, requires_grad=True)
        total = self._brightness(amount * grow, front, back, triangles)
        (gradient,) = torch.autograd.grad(total, amount)
        rows = round(40 * 100 / depth)
        assert gradient.item() == pytest.approx(0.7 * rows * 100 / depth, rel=1e-3)

    @pytest.mark.parametrize("axis", [0, 2])
    def test_intersection(self, axis):
        """Two slanted planes cut each other in x = 0; moving one moves the cut.

        The bright one rises to the left and the dark one to the right, depth 500 -+ x / 2: shifted by s
        along x the bright one wins s / 2 there, shifted by s towards the camera s.
        """
        bright, triangles = quad(-60.0, 60.0, -50.0, 50.0)
        dark = bright.clone()
        bright[:, 2] -= bright[:, 0] / 2
        dark[:, 2] += dark[:, 0] / 2
        amount = torch.tensor(0.0, requires_grad=True)
        direction = torch.zeros(3)
        direction[axis] = 1.0
        # Only the pixels about the cut count: the borders move too.
        vertices = torch.cat([bright + amount * direction, dark])
        faces = torch.cat([triangles, triangles + 4])
        outline, mask, rast = outline_of(vertices, faces, CAMERA)
        ids = rast[:, None, ..., 3].flip(2)
        picture = torch.where(ids <= 2, 0.9, 0.2) * mask
        assert picture[0, 0, 16, 20] == pytest.approx(0.9)
        assert picture[0, 0, 16, 28] == pytest.approx(0.2)
        (gradient,) = torch.autograd.grad(outline.attach(picture)[..., 10:22, 18:30].sum(), amount)
        expected = 0.7 * 12 * 0.2 * (0.5 if axis == 0 else 1.0)
        assert gradient.item() == pytest.approx(expected, rel=0.05)

    def test_smooth_surface_has_no_outline_inside(self):
        """A sphere's only outline is its contour: every record touches the background."""
        unit, triangles = sphere(110)
        outline, mask, _ = outline_of(
            80 * unit + torch.tensor([0.0, 0.0, -1000.0]), triangles, Camera(240)
        )
        at_far = mask[outline.image, 0, outline.far[:, 0], outline.far[:, 1]]
        assert len(at_far) > 600
        # Measured: 2.9 %, in the last pixel before the contour (AMD Zen 5); nothing jumps there.
        assert at_far.mean() < 0.05


class TestWholePicture:
    """The composed picture's loss against finite differences of a supersampled render."""

    # part of the code, entry, step of the finite difference, tolerance
    MOTIONS = {
        "translation x": ("translation", 0, 1.0),
        "scale": ("translation", 2, 10.0),
        "roll": ("rotation", 2, 0.02),
        "yaw": ("rotation", 1, 0.02),
        "shape 0": ("shape", 0, 0.25),
        "shape 2": ("shape", 2, 0.25),
    }

    @staticmethod
    def _picture(size):
        y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        x, y = (x + 0.5) / size, (y + 0.5) / size
        waves = [
            0.5 + 0.3 * torch.sin(5 * x + 2 * y + 1),
            0.4 + 0.3 * torch.sin(2 * x - 6 * y),
            0.5 + 0.25 * torch.cos(4 * x * y + 3 * x),
        ]
        return torch.stack(waves)[None]

    def _loss(self, rendering, size):
        target = self._picture(size)
        return (rendering.over(0.5 * target.flip(1, 3)) - target).square().sum(1).mean()

    def test_built_in_face(self, face_model):
        """24k vertices at 240 px, a turned face; mean of 4 places within a pixel.

        Measured: off by 0.8 to 4.9 % (AMD Zen 5).
        """
        where = face_model.layout.slices
        code = torch.zeros(1, face_model.layout.size)
        generator = torch.Generator().manual_seed(4)
        code[:, where["shape"]] = 0.5 * torch.randn(1, 80, generator=generator)
        code[:, where["translation"]] = torch.tensor([3.0, -2.0, -60.0])
        code[:, where["rotation"]] = torch.tensor([0.1, 0.6, 0.05])
        decoder = FaceDecoder(face_model, 240, outline="edges")
        slopes = []
        for x, y in ((-0.2, 0.1), (0.2, -0.1), (0.1, 0.3), (-0.1, -0.3)):
            placed = code.clone()
            placed[0, where["translation"].start] += x
            placed[0, where["translation"].start + 1] += y
            placed.requires_grad_()
            slopes += torch.autograd.grad(self._loss(decoder(placed), 240), placed)
        slope = torch.stack(slopes).mean(0)[0]
        large = FaceDecoder(face_model, 720)
        for name, (part, entry, step) in self.MOTIONS.items():
            index = where[part].start + entry
            moved = code.repeat(2, 1)
            moved[0, index] += step
            moved[1, index] -= step
            with torch.no_grad():
                ahead, behind = (self._loss(large(one[None]), 720).item() for one in moved)
            expected = (ahead - behind) / (2 * step)
            assert slope[index].item() == pytest.approx(expected, rel=0.1), name


class TestRenderer:
    def _render(self, outline, threads=None):
        model = small_face(24)
        vertices = model.mean_shape[None] + torch.tensor([5.0, 3.0, -1000.0])
        vertices = torch.cat([vertices, vertices + 7.0]).requires_grad_()
        light = torch.zeros(2, 9, 3)
        light[:, 0] = 0.8
        light[:, 3] = 0.3
        rendering = FaceRenderer(Camera(64), outline=outline)(
            vertices, model.triangles, model.mean_albedo, light
        )
        return rendering, vertices

    def test_values_do_not_change(self):
        plain, edges = self._render("none")[0], self._render("edges")[0]
        for name in ("image", "mask", "albedo", "normal", "shading", "depth", "triangle_ids"):
            assert torch.equal(getattr(plain, name), getattr(edges, name)), name
        assert plain.outline is None and plain.interior is None
        assert torch.equal(edges.interior, edges.image)

    def test_interior_is_the_image_without_the_outlines_gradient(self):
        (plain, vertices), (edges, moved) = self._render("none"), self._render("edges")
        (want,) = torch.autograd.grad(plain.image.square().sum(), vertices)
        slopes = [
            torch.autograd.grad(picture.square().sum(), moved, retain_graph=True)[0]
            for picture in (edges.interior, edges.image)
        ]
        # Measured 2e-8, and 1.6 with the outline's part (AMD EPYC).
        near, far = ((slope - want).norm() / want.norm() for slope in slopes)
        assert near < 1e-5 and far > 0.5

    def test_over(self):
        rendering, _ = self._render("none")
        composed = rendering.over(0.25)
        empty = (rendering.mask == 0).expand(-1, 3, -1, -1)
        assert (composed[empty] == 0.25).all()
        assert torch.equal(composed[~empty], rendering.image[~empty])

    def test_same_bits_for_every_thread_count(self):
        gradients = []
        before = torch.get_num_threads()
        try:
            for threads in (1, 2, 3, 3):
                torch.set_num_threads(threads)
                rendering, vertices = self._render("edges")
                (g,) = torch.autograd.grad(rendering.over(0.5).square().sum(), vertices)
                gradients.append(g)
        finally:
            torch.set_num_threads(before)
        assert gradients[0].abs().sum() > 0
        for gradient in gradients[1:]:
            assert torch.equal(gradient, gradients[0])

    def test_float64(self):
        model = small_face(12)
        gradients = []
        for dtype, verbs in ((torch.float32, dr), (torch.float64, reference)):
            vertices = model.mean_shape[None].to(dtype) + torch.tensor([5.0, 3.0, -1000.0])
            vertices = vertices.to(dtype).requires_grad_()
            light = torch.zeros(1, 9, 3, dtype=dtype)
            light[:, 0] = 0.8
            rendering = FaceRenderer(Camera(48), dr=verbs, outline="edges")(
                vertices, model.triangles, model.mean_albedo.to(dtype), light
            )
            gradients += torch.autograd.grad(rendering.over(0.9).sum(), vertices)
        assert gradients[1].dtype == torch.float64
        # The mean over a mesh: single vertices differ where a pixel's centre lies on an edge.
        difference = (gradients[0] - gradients[1]).norm()
        assert difference < 1e-3 * gradients[1].norm()

    def test_errors(self):
        with pytest.raises(ValueError, match=r"outline is 'soft', expected one of none, edges"):
            FaceRenderer(outline="soft")
        with pytest.raises(ValueError, match=r"outline is 'edges' with gradient 'surface'"):
            FaceRenderer(gradient="surface", outline="edges")


class TestAnyScene:
    @pytest.mark.parametrize("seed", range(8))
    def test_soups_of_triangles(self, seed):
        """Shared and unshared edges, intersections, vertices behind the camera or not finite."""
        generator = torch.Generator().manual_seed(seed)
        vertices = 120 * torch.randn(3, 40, 3, generator=generator)
        vertices[..., 2] -= 250  # some are behind the camera
        vertices[0, 0] = math.nan
        vertices[1, 1, 0] = math.inf
        vertices[:, 2] = vertices[:, 3]
        triangles = torch.randint(40, (60, 3), generator=generator, dtype=torch.int32)
        vertices.requires_grad_()
        outline, mask, _ = outline_of(vertices, triangles, Camera((20, 30), focal=25.0, near=1.0))
        picture = torch.rand(3, 2, 20, 30, generator=generator)
        assert len(outline.image) > 50
        assert outline.motion.isfinite().all()
        assert ((outline.reach >= 0) & (outline.reach <= 1)).all()
        assert ((outline.near - outline.far).abs().sum(1) == 1).all()
        (gradient,) = torch.autograd.grad((outline.attach(picture) * mask).sum(), outline.pos)
        assert gradient.isfinite().all()


class TestNeighbors:
    def test_by_hand(self):
        # 0-1-2 and 1-3-2 share the edge 1-2, which faces vertex 0 of the first (place 0) and vertex 3
        # of the second (place 1).
        triangles = torch.tensor([[0, 1, 2], [1, 3, 2]], dtype=torch.int32)
        assert triangle_neighbors(triangles).tolist() == [[1, -1, -1], [-1, 0, -1]]

    def test_three_at_an_edge_go_round(self):
        triangles = torch.tensor([[0, 1, 2], [0, 1, 3], [0, 1, 4]], dtype=torch.int32)
        assert triangle_neighbors(triangles)[:, 2].tolist() == [1, 2, 0]

    def test_none(self):
        assert triangle_neighbors(torch.zeros(0, 3, dtype=torch.int32)).shape == (0, 3)


class TestErrors:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"pos": torch.zeros(4, 4)}, r"pos is \[4, 4\], expected \[B, V, 4\]"),
            ({"triangles": torch.zeros(2, 3)}, r"triangles is \[2, 3\] torch.float32, expected"),
            ({"rast": torch.zeros(2, 8, 8, 4)}, r"rast is \[2, 8, 8, 4\], expected .* with B = 1"),
            (
                {"triangles": torch.full((2, 3), 4, dtype=torch.int32)},
                "triangles holds indices 4 to 4, expected 0 to 3",
            ),
            (
                {"rast": torch.full((1, 8, 8, 4), 3.0)},
                "rast holds triangle ids 3 to 3, expected 0 to 2",
            ),
            ({"rast": torch.full((1, 8, 8, 4), math.nan)}, "rast holds triangle ids nan"),
            ({"pixel_angle": 0.0}, r"pixel_angle is 0.0, expected more than 0"),
        ],
    )
    def test_find_outline(self, change, message):
        arguments = {
            "pos": torch.zeros(1, 4, 4),
            "triangles": torch.zeros(2, 3, dtype=torch.int32),
            "rast": torch.zeros(1, 8, 8, 4),
            "pixel_angle": 0.01,
            **change,
        }
        with pytest.raises(ValueError, match="find_outline: " + message):
            find_outline(**arguments)

    def test_attach(self):
        vertices, triangles = quad(-41.0, 39.0, -29.0, 31.0)
        outline, _, _ = outline_of(vertices, triangles, CAMERA)
        with pytest.raises(ValueError, match=r"picture is \[2, 1, 32, 48\], expected .* B = 1"):
            outline.attach(torch.zeros(2, 1, 32, 48))
