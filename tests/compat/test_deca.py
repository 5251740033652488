"""SRenderY: textures, light and shapes, by hand and against its formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from mofa_nvdr.compat import deca
from mofa_nvdr.importers.foreign import ModelFileError
from mofa_nvdr.scene.normals import vertex_normals
from tests.helpers.peer_scenes import random_values

SIZE = 24
# A square cut once, v/vt by corner; the texture coordinates are the square's own.
SQUARE = """v -1 -1 0
v 1 -1 0
v 1 1 0
v -1 1 0
vt 0 0
vt 1 0
vt 1 1
vt 0 1
f 1/1 2/2 3/3
f 1/1 3/3 4/4
"""
POINTS = torch.tensor([[[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]])


@pytest.fixture
def square(tmp_path):
    path = tmp_path / "square.obj"
    path.write_text(SQUARE)
    return deca.SRenderY(SIZE, path, uv_size=16)


@pytest.fixture
def bumpy(tmp_path):
    """A renderer of a bumpy grid, with its vertices in the world and in the picture."""
    side = 9
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    x, y = (2 * t.flatten() / (side - 1) - 1 for t in (column, row))
    z = 0.3 * (3 * x).sin() + 0.2 * (4 * y).cos()
    world = torch.stack([x, y, z], -1)
    a = (row * side + column)[:-1, :-1].flatten()
    faces = torch.cat(
        [torch.stack([a, a + 1, a + side], 1), torch.stack([a + 1, a + side + 1, a + side], 1)]
    )
    lines = [f"v {p[0]} {p[1]} {p[2]}" for p in world.tolist()]
    lines += [f"vt {(p[0] + 1) / 2} {(p[1] + 1) / 2}" for p in world.tolist()]
    lines += ["f " + " ".join(f"{k + 1}/{k + 1}" for k in face) for face in faces.tolist()]
    path = tmp_path / "grid.obj"
    path.write_text("\n".join(lines))
    world = world[None] + 0.05 * random_values(2, 1, 3)
    # As DECA's camera does: scaled, then y and z turned over.
    picture = world * 0.8 * torch.tensor([1, -1, -1.0])
    return deca.SRenderY(SIZE, path), world, picture


class TestConstruction:
    def test_buffers(self, square):
        assert square.faces.tolist() == [[[0, 1, 2], [0, 2, 3]]]
        assert square.uvfaces.tolist() == square.faces.tolist()
        assert square.raw_uvcoords.tolist() == [[[0, 0], [1, 0], [1, 1], [0, 1]]]
        assert square.uvcoords.tolist() == [[[-1, 1, 1], [1, 1, 1], [1, -1, 1], [-1, -1, 1]]]
        assert square.face_uvcoords.shape == square.face_colors.shape == (1, 2, 3, 3)
        # DECA's factors: no pi in the first.
        wanted = [1 / math.sqrt(4 * math.pi), 2 * math.pi / 3 * math.sqrt(3 / (4 * math.pi))]
        assert square.constant_factor[:2].tolist() == pytest.approx(wanted)

    def test_dense_faces(self, square):
        faces = square.dense_faces[0]
        # Columns 2 to 12 and rows 5 to 9 of 16: two triangles for each.
        assert len(faces) == 2 * 11 * 5 and faces.dtype == torch.int64
        first = 5 * 16 + 2
        assert faces[:2].tolist() == [
            [first, first + 16, first + 1],
            [first + 1, first + 16, first + 17],
        ]
        assert len(deca._dense_faces(4)) == 0

    def test_quads_and_a_seam(self, tmp_path):
        path = tmp_path / "a.obj"
        path.write_text(SQUARE.replace("f 1/1 2/2 3/3\nf 1/1 3/3 4/4", "f 1/1 2/2 3/3 4/1"))
        drawer = deca.SRenderY(SIZE, path)
        assert drawer.faces.tolist() == [[[0, 1, 2], [0, 2, 3]]]
        assert drawer.uvfaces.tolist() == [[[0, 1, 2], [0, 2, 0]]]

    def test_refusals(self, tmp_path):
        path = tmp_path / "a.obj"
        path.write_text(
            SQUARE.replace("/1", "").replace("/2", "").replace("/3", "").replace("/4", "")
        )
        with pytest.raises(ValueError, match="a.obj has polygons without texture coordinates"):
            deca.SRenderY(SIZE, path)
        with pytest.raises(ModelFileError, match="cannot read this file"):
            deca.SRenderY(SIZE, tmp_path / "b.obj")
        with pytest.raises(
            ValueError, match="SRenderY: rasterizer type is 'opengl', expected one of"
        ):
            deca.SRenderY(SIZE, path, rasterizer_type="opengl")
        with pytest.raises(
            ValueError, match="SRenderY: image_size is 2.5, expected a whole number"
        ):
            deca.SRenderY(2.5, path)
        with pytest.raises(ValueError, match="SRenderY: uv_size is 0, expected a whole number"):
            deca.SRenderY(SIZE, path, uv_size=0)
        with pytest.raises(ValueError, match="set_rasterizer: rasterizer type is 'cuda'"):
            deca.set_rasterizer("cuda")
        assert deca.set_rasterizer("standard") is None


class TestForward:
    def test_the_texture_upright(self, square):
        # The square fills the picture; y is down in image space, up in the texture.
        picture = POINTS * torch.tensor([1, -1.0, 1])
        texture = random_values(1, 3, SIZE, SIZE)
        found = square(POINTS, picture, texture)
        assert found["alpha_images"].all()
        assert torch.allclose(found["albedo_images"], texture, atol=1e-5)
        assert torch.equal(found["images"], found["albedo_images"])
        assert not found["shading_images"].any()
        assert found["grid"].shape == (1, SIZE, SIZE, 2)
        assert torch.allclose(found["grid"][0, 0, 0], torch.tensor([-1 + 1 / SIZE] * 2), atol=1e-5)

    @pytest.mark.parametrize("kind", ["sh", "point", "directional"])
    def test_light_by_its_formulas(self, bumpy, kind):
        drawer, world, picture = bumpy
        lights = random_values(2, 9, 3) if kind == "sh" else 2 * random_values(2, 3, 6) - 1
        texture = random_values(2, 3, 8, 8)
        kept = picture.clone()
        found = drawer(
            world, picture, texture, lights, light_type="point" if kind == "sh" else kind
        )
        assert torch.equal(picture, kept)
        normals = vertex_normals(world, drawer.faces[0])
        assert torch.equal(found["normals"], normals)
        drawn = drawer.rasterizer.draw(picture, drawer.faces.expand(2, -1, -1))
        n, p = drawn.of_vertices(torch.cat([normals, world], -1)).split(3, -1)
        if kind == "sh":
            x, y, z = n.unbind(-1)
            basis = torch.stack(
                [torch.ones_like(x), x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1], -1
            ) * drawer.constant_factor  # fmt: skip
            shading = torch.einsum("bhwk,bkc->bhwc", basis, lights)
        else:
            shading = 0
            for k in range(3):
                place, color = lights[:, None, None, k, :3], lights[:, None, None, k, 3:]
                towards = functional.normalize(place - (p if kind == "point" else 0), dim=-1)
                cosine = (n * towards).sum(-1, keepdim=True)
                shading = shading + (cosine if kind == "point" else cosine.clamp(0, 1)) * color / 3
        shading = shading.permute(0, 3, 1, 2)
        assert torch.allclose(found["shading_images"], shading, atol=1e-5)
        alpha = found["alpha_images"]
        albedo = functional.grid_sample(texture, found["grid"], align_corners=False)
        assert 0.2 < alpha.mean() < 0.9
        assert torch.allclose(found["images"], albedo * shading * alpha, atol=1e-5)
        assert torch.equal(found["normal_images"], n.permute(0, 3, 1, 2) * alpha)
        facing = drawn.of_vertices(found["transformed_normals"])[..., 2] < -0.05
        assert torch.equal(found["pos_mask"][:, 0] > 0, facing)

    def test_background_and_gradients(self, bumpy):
        drawer, *given = bumpy
        leaves = [t.clone().requires_grad_() for t in (*given, random_values(1, 3, 8, 8))]
        behind = random_values(2, 3, 30, 40)
        found = drawer(*leaves, random_values(2, 9, 3), h=30, w=40, background=behind)
        outside = (found["alpha_images"] == 0).expand_as(behind)
        assert torch.equal(found["images"][outside], behind[outside])
        assert torch.equal(found["albedo_images"][outside], behind[outside])
        found["images"].sum().backward()
        assert all(leaf.grad.isfinite().all() and leaf.grad.any() for leaf in leaves)

    def test_refusals(self, bumpy):
        drawer, world, picture = bumpy
        texture = random_values(2, 3, 8, 8)
        with pytest.raises(
            ValueError, match="light_type is 'area', expected 'point' or 'directional'"
        ):
            drawer(world, picture, texture, random_values(2, 1, 6), light_type="area")
        with pytest.raises(ValueError, match=r"lights is \[2, 4, 3\], expected \[B, 9, 3\] or"):
            drawer(world, picture, texture, random_values(2, 4, 3))
        with pytest.raises(ValueError, match=r"SRenderY: albedos is \[2, 8, 8\]"):
            drawer(world, picture, texture[:, 0])
        with pytest.raises(ValueError, match="SRenderY: transformed_vertices is .* V = 81"):
            drawer(world, picture[:, 1:], texture)
        with pytest.raises(
            ValueError, match=r"SRenderY: background is .* expected \[B, 3, 24, 24\]"
        ):
            drawer(world, picture, texture, background=random_values(2, 3, 8, 8))

    @pytest.mark.parametrize(
        ("name", "given", "message"),
        [
            ("add_SHlight", [(2, 8, 8, 3), (2, 9, 3)], r"normal_images is .* \[B, 3, h, w\]"),
            (
                "add_SHlight",
                [(2, 3, 8, 8), (2, 27)],
                r"sh_coeff is \[2, 27\], expected \[B, 9, 3\]",
            ),
            ("add_pointlight", [(2, 3, 5), (2, 5, 3), (2, 1, 6)], "vertices is .* expected"),
            (
                "add_pointlight",
                [(2, 5, 3), (1, 5, 3), (2, 1, 6)],
                r"normals is .* B = 2 \(from vert",
            ),
            (
                "add_pointlight",
                [(2, 5, 3), (2, 5, 3), (2, 0, 6)],
                "lights is .* every size above 0",
            ),
            (
                "add_directionlight",
                [(5, 3), (2, 1, 6)],
                r"normals is \[5, 3\], expected \[B, P, 3\]",
            ),
            ("add_directionlight", [(2, 5, 3), (2, 1, 3)], r"lights is \[2, 1, 3\], expected"),
        ],
    )
    def test_refusals_of_light(self, square, name, given, message):
        with pytest.raises(ValueError, match=f"{name}: {message}"):
            getattr(square, name)(*(torch.ones(shape) for shape in given))

    def test_light_of_one_type(self, square):
        with pytest.raises(
            TypeError, match="add_directionlight: lights is torch.float32, expected"
        ):
            square.add_directionlight(torch.ones(1, 5, 3).double(), torch.ones(1, 1, 6))


class TestOthers:
    def test_shape(self, bumpy):
        drawer, world, picture = bumpy
        behind = random_values(2, 3, SIZE, SIZE)
        found, normals, grid, alpha = drawer.render_shape(
            world, picture, images=behind, return_grid=True
        )
        assert torch.equal(
            found[(alpha == 0).expand_as(found)], behind[(alpha == 0).expand_as(behind)]
        )
        assert (
            normals.shape == found.shape
            and grid.shape == (2, SIZE, SIZE, 2)
            and 0 < alpha.mean() < 1
        )
        # A face that looks at the viewer under the five lights: 1.7 / 5 (4 / sqrt(3) + 1) of the grey.
        flat = torch.zeros_like(normals)
        flat[:, 2] = 1
        lit = drawer.render_shape(world, picture, detail_normal_images=flat)
        bright = 180 / 255 * 1.7 / 5 * (4 / math.sqrt(3) + 1)
        assert lit[alpha.expand_as(lit) > 0].mean().item() == pytest.approx(bright, abs=1e-5)
        with pytest.raises(ValueError, match="SRenderY: detail_normal_images is"):
            drawer.render_shape(world, picture, detail_normal_images=flat[..., 1:])
        with pytest.raises(ValueError, match=r"SRenderY: colors is .* \[B, F, 3, 3\]"):
            drawer.render_shape(world, picture, colors=world)

    def test_depth(self, bumpy):
        drawer, _, picture = bumpy
        depth = drawer.render_depth(picture)
        z = picture[..., 2]
        mask = drawer.rasterizer(picture, drawer.faces.expand(2, -1, -1))
        there = drawer.render_colors(picture, picture)[:, 2:]
        wanted = (z.max() - there) / (z.max() - z.min()) * mask
        assert depth.shape == (2, 1, SIZE, SIZE) and torch.allclose(depth, wanted, atol=1e-5)
        assert not drawer.render_depth(torch.zeros_like(picture)).any()

    def test_world2uv(self, bumpy):
        drawer, world, _ = bumpy
        found = drawer.world2uv(world)
        assert found.shape == (2, 3, 256, 256)
        with pytest.raises(
            ValueError, match=r"vertices is \[2, 80, 3\], expected .* V = 81 \(from the"
        ):
            drawer.world2uv(world[:, 1:])
        centres = (2 * torch.arange(256.0) + 1) / 256 - 1
        shift = world[:, 0] - torch.tensor([-1, -1, world[0, 0, 2] * 0])
        for k in range(2):  # u along x, v along y, row 0 at v = 1
            assert torch.allclose(found[k, 0, 100], centres + shift[k, 0], atol=1e-3)
            assert torch.allclose(found[k, 1, :, 100], -centres + shift[k, 1], atol=1e-3)
