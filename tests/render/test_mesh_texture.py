"""Textures in place of albedo: every texel by hand, gradients, mipmaps, seams, errors."""

import pytest
import torch

from mofa_nvdr.dr import reference
from mofa_nvdr.render.mesh_texture import Texture
from mofa_nvdr.render.renderer import FaceRenderer
from mofa_nvdr.scene.orthographic_camera import OrthographicCamera
from mofa_nvdr.shaders.phong import Phong
from mofa_nvdr.shaders.unlit import Unlit
from tests.render.test_renderer import colors, flash, quad, some_light

# A texel of 2 x 2 pixels: a picture of 4 x 6 texels on a quad of 12 x 8 pixels in one of 12 x 16.
CAMERA = OrthographicCamera((12, 16), scale=1.0)
UV = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]])


def mesh(device="cpu"):
    vertices, triangles = quad(-6.0, 6.0, -4.0, 4.0)
    return vertices.to(device), triangles.to(device)


def picture(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def unlit(texture, verbs=None, dtype=torch.float32):
    vertices, triangles = mesh()
    renderer = FaceRenderer(CAMERA, shader=Unlit(), **({} if verbs is None else {"dr": verbs}))
    return renderer(vertices.to(dtype), triangles, texture)


class TestValues:
    def test_one_texel_a_pixel(self, device):
        """A picture of the quad's own size appears as it is, its row 0 on top: measured 4e-7 (AMD EPYC)."""
        vertices, triangles = mesh(device)
        image = picture(1, 8, 12, 3).to(device)
        rendering = FaceRenderer(CAMERA, shader=Unlit())(
            vertices, triangles, Texture(image, UV.to(device))
        )
        expected = torch.zeros(1, 3, 12, 16)
        expected[:, :, 2:10, 2:14] = image.permute(0, 3, 1, 2).cpu()
        torch.testing.assert_close(rendering.image.cpu(), expected, atol=5e-6, rtol=0)
        torch.testing.assert_close(rendering.albedo.cpu(), expected, atol=5e-6, rtol=0)

    def test_between_texels(self):
        """Four pixels to a texel: a quarter of the way from each texel's centre to the next one's."""
        image = picture(1, 4, 6, 2)
        drawn = unlit(Texture(image, UV, boundary="clamp")).image[:, :, 2:10, 2:14]
        expected = torch.nn.functional.interpolate(
            image.permute(0, 3, 1, 2), size=(8, 12), mode="bilinear", align_corners=False
        )
        torch.testing.assert_close(drawn, expected, atol=2e-5, rtol=0)

    def test_is_lit(self):
        """One grey of 0.5 is an albedo of 0.5, under any light."""
        vertices, triangles = mesh()
        grey = Texture(torch.full((1, 2, 2, 3), 0.5), UV)
        for shader, light in ((None, some_light()), (Phong(), flash())):
            renderer = FaceRenderer(CAMERA, shader=shader)
            wanted = renderer(vertices, triangles, torch.full((4, 3), 0.5), light)
            found = renderer(vertices, triangles, grey, light)
            torch.testing.assert_close(found.image, wanted.image, atol=2e-6, rtol=0)
            torch.testing.assert_close(found.shading, wanted.shading, atol=2e-6, rtol=0)

    def test_each_image_has_its_own(self):
        vertices, triangles = mesh()
        images = picture(2, 8, 12, 3)
        renderer = FaceRenderer(CAMERA, shader=Unlit())
        both = renderer(vertices.expand(2, -1, -1), triangles, Texture(images, UV)).image
        for k in range(2):
            assert torch.equal(both[k], unlit(Texture(images[k : k + 1], UV)).image[0])

    def test_seams(self):
        """Triangles of uv that tear the quad: each shows the whole picture's colour at its own corners."""
        vertices, triangles = mesh()
        image = torch.zeros(1, 1, 2, 3)
        image[0, 0, 0, 0], image[0, 0, 1, 1] = 1, 1  # left red, right green
        uv = torch.tensor([[0.25, 0.5], [0.75, 0.5]])
        corners = torch.tensor([[0, 0, 0], [1, 1, 1]])
        rendering = unlit(Texture(image, uv, corners))
        ids = rendering.triangle_ids[0]
        for k in range(2):
            colour = rendering.image[0][:, ids == k]
            assert colour.shape[1] > 30
            torch.testing.assert_close(
                colour, torch.eye(3)[k, :, None].expand_as(colour), atol=1e-6, rtol=0
            )

    @pytest.mark.parametrize(("boundary", "expected"), [("wrap", 0), ("clamp", 1), ("zero", None)])
    def test_beyond_the_edge(self, boundary, expected):
        image = torch.zeros(1, 1, 2, 3)
        image[0, 0, 0, 0], image[0, 0, 1, 1] = 1, 1
        place = torch.tensor([1.25, 0.5]).expand(4, 2)
        colour = unlit(Texture(image, place, boundary=boundary)).image[0, :, 6, 8]
        want = torch.zeros(3) if expected is None else torch.eye(3)[expected]
        torch.testing.assert_close(colour, want, atol=1e-6, rtol=0)

    def test_mipmaps(self):
        """Stripes of half a pixel: grey with mipmaps, whatever they hit without."""
        vertices, triangles = mesh()
        stripes = (torch.arange(24 * 8) % 2).float().view(1, 1, -1, 1).expand(1, 8 * 16, -1, 3)
        uv = UV + 0.3 / 192  # of a texel, so that no pixel's centre is midway between two
        sharp, soft = (unlit(Texture(stripes, uv, mipmaps=mip)).image for mip in (False, True))
        covered = unlit(Texture(stripes, UV)).mask.expand_as(soft) > 0
        assert (soft[covered] - 0.5).abs().max() < 1e-4
        assert (sharp[covered] - 0.5).abs().max() > 0.1

    def test_mipmaps_of_odd_sides(self):
        """3 x 5 texels have no level above them: as without mipmaps."""
        image = picture(1, 3, 5, 3)
        assert torch.equal(
            unlit(Texture(image, UV, mipmaps=True)).image, unlit(Texture(image, UV)).image
        )


class TestGradients:
    def test_a_texel_gets_its_pixels(self):
        """The sum over the picture: four pixels to each of 4 x 6 texels, but for what wraps around."""
        image = picture(1, 4, 6, 3).requires_grad_()
        (gradient,) = torch.autograd.grad(
            unlit(Texture(image, UV, boundary="clamp")).image.sum(), image
        )
        torch.testing.assert_close(gradient, torch.full_like(image, 4.0), atol=1e-4, rtol=0)

    @pytest.mark.parametrize("mipmaps", [False, True])
    def test_gradcheck(self, mipmaps):
        """Picture, uv and vertices in float64 by the reference verbs; nothing crosses a pixel's centre."""
        vertices, triangles = (t.clone() for t in mesh())
        slanted = vertices.double()
        slanted[..., 2] += slanted[..., 0] / 3
        slanted[..., :2] *= 1.03  # outlines away from pixel centres
        inner = (0.3 + 0.4 * UV.double() @ torch.tensor([[1.0, 0.1], [-0.1, 1.0]]).double()) * 0.9
        image = picture(1, 8, 8, 2).double()
        renderer = FaceRenderer(CAMERA, dr=reference, shader=Unlit())
        weights = torch.randn(
            1, 2, 12, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64
        )

        def draw(image, uv, points):
            texture = Texture(image, uv, mipmaps=mipmaps)
            return (renderer(points, triangles, texture).image * weights).sum()

        leaves = [t.requires_grad_() for t in (image, inner, slanted)]
        assert torch.autograd.gradcheck(draw, leaves, eps=1e-7, atol=1e-5, rtol=1e-4)

    @pytest.mark.parametrize("mipmaps", [False, True])
    def test_compiled_is_the_reference(self, mipmaps):
        """float32 against float64: measured 7e-7 of the largest number (AMD EPYC)."""
        results = []
        for verbs, dtype in ((None, torch.float32), (reference, torch.float64)):
            image, uv = picture(1, 16, 16, 3).to(dtype), (0.1 + 0.8 * UV).to(dtype)
            leaves = [image.requires_grad_(), uv.requires_grad_()]
            made = unlit(Texture(*leaves, mipmaps=mipmaps), verbs, dtype).image
            weights = torch.linspace(-1, 1, made.numel(), dtype=dtype).view(made.shape)
            results.append((made, *torch.autograd.grad((made * weights).sum(), leaves)))
        for found, wanted in zip(*results):
            scale = wanted.abs().max().item()
            torch.testing.assert_close(found.double(), wanted, atol=1e-5 * scale, rtol=0)

    def test_same_bits_for_any_thread_count(self):
        before, results = torch.get_num_threads(), []
        try:
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                image = picture(1, 16, 16, 3).requires_grad_()
                vertices, triangles = mesh()
                vertices.requires_grad_()
                made = FaceRenderer(CAMERA)(
                    vertices, triangles, Texture(image, UV, mipmaps=True), some_light()
                ).image
                grads = torch.autograd.grad(made.square().sum(), (image, vertices))
                results.append((made, *grads))
        finally:
            torch.set_num_threads(before)
        for other in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(results[0], other))


class TestErrors:
    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            (
                {"image": torch.zeros(8, 8, 3)},
                ValueError,
                r"image is \[8, 8, 3\], expected \[B, Ht",
            ),
            ({"uv": torch.zeros(4, 3)}, ValueError, r"uv is \[4, 3\], expected \[U, 2\]"),
            ({"uv": UV.double()}, TypeError, "image is torch.float32 and uv is torch.float64"),
            ({"triangles": torch.zeros(2, 3)}, ValueError, r"triangles is \[2, 3\] torch.float32"),
            ({"boundary": "mirror"}, ValueError, "boundary is 'mirror', expected one of wrap, cl"),
        ],
    )
    def test_alone(self, change, error, message):
        with pytest.raises(error, match=f"Texture: {message}"):
            Texture(**{"image": torch.zeros(1, 8, 8, 3), "uv": UV, **change})

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            (
                {"image": torch.zeros(2, 8, 8, 3)},
                ValueError,
                r"albedo.image is \[2, 8, 8, 3\], expected \[1 or 1, Ht, Wt, 3\]",
            ),
            ({"image": torch.zeros(1, 8, 8, 4)}, ValueError, r"image is \[1, 8, 8, 4\], expected"),
            ({"uv": UV.expand(2, 4, 2)}, ValueError, r"albedo.uv is \[2, 4, 2\], expected"),
            ({"uv": UV[:3]}, ValueError, r"albedo.uv is \[3, 2\], expected one for each of 4 vert"),
            (
                {"triangles": torch.zeros(3, 3, dtype=torch.int64)},
                ValueError,
                r"albedo.triangles is \[3, 3\], expected \[2, 3\], one row for each of triangles",
            ),
            (
                {"image": torch.zeros(1, 8, 8, 3).double(), "uv": UV.double()},
                TypeError,
                "albedo.image is torch.float64, expected torch.float32",
            ),
        ],
    )
    def test_on_a_mesh(self, change, error, message):
        texture = Texture(**{"image": torch.zeros(1, 8, 8, 3), "uv": UV, **change})
        with pytest.raises(error, match=f"FaceRenderer: .*{message}"):
            FaceRenderer(CAMERA)(*mesh(), texture, some_light())

    def test_on_another_device(self):
        texture = Texture(torch.zeros(1, 8, 8, 3, device="meta"), UV)
        with pytest.raises(ValueError, match="albedo.image is on meta, expected cpu"):
            FaceRenderer(CAMERA)(*mesh(), texture, some_light())


def test_albedo_per_vertex_is_as_before():
    vertices, triangles = mesh()
    plain = FaceRenderer(CAMERA)(vertices, triangles, colors(), some_light())
    assert plain.mask.sum() == 96
