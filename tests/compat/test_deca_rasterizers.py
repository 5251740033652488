"""DECA's rasterizers: the contract in float64, batches of different meshes, z, and every refusal.

Against the peer's own class on PyTorch3D's own C++ kernel (DECA a11554a, PyTorch3D 9381c401): docs/parity.md.
"""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr.compat.deca_rasterizers import Pytorch3dRasterizer, StandardRasterizer
from mofa_nvdr.dr import reference
from tests.helpers.peer_scenes import ball, random_values, relative

SIZE = 48


@pytest.fixture
def scene():
    vertices, triangles = ball()
    faces = triangles.expand(2, -1, -1)
    return vertices * 0.6, faces, random_values(*faces.shape, 4)


def by_the_contract(vertices, triangles, attributes, height, width):
    """[B, D + 1, h, w] in float64: screen-linear, x right, y down, smaller z nearer."""
    x, y, z = vertices.unbind(-1)
    pos = torch.stack([x, y, z / 10, torch.ones_like(z)], -1)
    rast, _ = reference.rasterize(None, pos, triangles.int(), (height, width))
    count = len(triangles)
    corners = torch.arange(3 * count, dtype=torch.int32).view(-1, 3)
    out, _ = reference.interpolate(attributes.reshape(2, 3 * count, -1), rast, corners)
    return torch.cat([out, (rast[..., 3:] > 0).double()], -1).permute(0, 3, 1, 2)


class TestPytorch3dRasterizer:
    @pytest.mark.parametrize(("height", "width"), [(None, None), (40, 64), (64, 40)])
    def test_is_the_contract_in_float64(self, scene, height, width):
        vertices, faces, attributes = scene
        found = [t.clone().requires_grad_() for t in (vertices, attributes)]
        wanted = [t.double().requires_grad_() for t in (vertices, attributes)]
        picture = Pytorch3dRasterizer(SIZE)(found[0], faces, found[1], height, width)
        size = (height or SIZE, width or SIZE)
        in_double = by_the_contract(wanted[0], faces[0], wanted[1], *size)
        assert picture.shape == (2, 5, *size)
        assert torch.equal(picture[:, -1], in_double[:, -1].float())
        assert (picture - in_double).abs().max() < 1e-5
        weight = random_values(*picture.shape, seed=3)
        (picture * weight).sum().backward()
        (in_double * weight).sum().backward()
        # nvdiffrast's area term of the backward pass, on triangles of a few pixels: 0.030 at most.
        assert relative(found[0].grad, wanted[0].grad) < 0.05
        assert relative(found[1].grad, wanted[1].grad) < 1e-5

    def test_y_is_down_and_smaller_z_is_nearer(self):
        near = torch.tensor([[-0.9, -0.9, 1], [-0.1, -0.9, 1], [-0.9, -0.1, 1.0]])
        vertices = torch.cat([near, near + torch.tensor([0, 0, 5.0])])[None]
        faces = torch.tensor([[[3, 4, 5], [0, 1, 2]]])
        attributes = torch.tensor([2.0, 1.0]).view(1, 2, 1, 1).expand(1, 2, 3, 1).clone()
        picture = Pytorch3dRasterizer(16)(vertices, faces, attributes)
        rows, columns = torch.nonzero(picture[0, 1], as_tuple=True)
        assert len(rows) and rows.max() < 8 and columns.max() < 8
        assert set(picture[0, 0][rows, columns].tolist()) == {1.0}

    def test_meshes_of_a_batch_may_differ(self, scene):
        vertices, faces, attributes = scene
        half = faces.shape[1] // 2
        own = torch.stack([faces[0, :half], faces[0, half : 2 * half]])
        together = Pytorch3dRasterizer(SIZE)(vertices, own, attributes[:, :half])
        for k in range(2):
            alone = Pytorch3dRasterizer(SIZE)(
                vertices[k : k + 1], own[k : k + 1], attributes[k : k + 1, :half]
            )
            assert torch.equal(together[k], alone[0])
        same = Pytorch3dRasterizer(SIZE)(vertices, faces.clone(), attributes)
        assert torch.equal(same, Pytorch3dRasterizer(SIZE)(vertices, faces, attributes))

    def test_mask_alone_and_one_side_alone(self, scene):
        vertices, faces, attributes = scene
        mask = Pytorch3dRasterizer(SIZE)(vertices, faces)
        assert torch.equal(mask, Pytorch3dRasterizer(SIZE)(vertices, faces, attributes)[:, -1:])
        assert Pytorch3dRasterizer(SIZE)(vertices, faces, h=20).shape == (2, 1, 20, SIZE)
        assert Pytorch3dRasterizer(SIZE)(vertices, faces, w=20).shape == (2, 1, SIZE, 20)

    def test_any_depth_is_drawn_unless_exact(self, scene):
        vertices, faces, attributes = scene
        shift = torch.tensor([0, 0, 10.0])
        wanted = Pytorch3dRasterizer(SIZE)(vertices + shift, faces, attributes)
        here = Pytorch3dRasterizer(SIZE)(vertices, faces, attributes)
        assert (here - wanted).abs().max() < 1e-4
        # exact: triangles with a vertex at z < 0 are not drawn, and the others keep their attributes.
        found = Pytorch3dRasterizer(SIZE, exact=True)(vertices, faces, attributes)
        for k in range(2):
            kept = (vertices[k, :, 2][faces[0]] >= 1e-8).all(1)
            assert 0 < kept.sum() < len(kept)
            alone = Pytorch3dRasterizer(SIZE)(
                vertices[k : k + 1], faces[:1, kept], attributes[k : k + 1, kept]
            )
            assert torch.allclose(found[k], alone[0], atol=1e-4)
        shifted = Pytorch3dRasterizer(SIZE, exact=True)(vertices + shift, faces, attributes)
        assert torch.equal(shifted, wanted)

    def test_inputs_stay_and_settings_are_there(self, scene):
        kept = [t.clone() for t in scene]
        drawer = Pytorch3dRasterizer(SIZE)
        drawer(*scene)
        assert all(torch.equal(a, b) for a, b in zip(scene, kept))
        assert drawer.raster_settings.image_size == SIZE and drawer.raster_settings.blur_radius == 0


class TestStandardRasterizer:
    def test_its_own_width(self, scene):
        picture = StandardRasterizer(30, 50)(*scene)
        assert picture.shape == (2, 5, 30, 50)
        assert torch.equal(picture, Pytorch3dRasterizer(SIZE)(*scene, 30, 50))
        assert StandardRasterizer(30)(*scene).shape == (2, 5, 30, 30)


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            (
                {0: lambda v: v[..., :2]},
                ValueError,
                r"vertices is \[2, \d+, 2\], expected \[B, V, 3\]",
            ),
            (
                {0: lambda v: v.half()},
                TypeError,
                "vertices is torch.float16, expected torch.float32",
            ),
            (
                {1: lambda f: f[0]},
                ValueError,
                r"faces is \[\d+, 3\], expected \[B, F, 3\] with B = 2",
            ),
            ({1: lambda f: f[:, :0]}, ValueError, r"faces is \[0, 3\].*a mesh without triangles"),
            ({1: lambda f: f.tolist()}, ValueError, "faces is list, expected"),
            ({1: lambda f: f.to("meta")}, ValueError, "faces is on meta, but vertices is on cpu"),
            ({1: lambda f: f + 1000}, ValueError, "faces holds indices 1000 to"),
            ({2: lambda a: a[:, 1:]}, ValueError, r"attributes is .* F = \d+"),
            ({2: lambda a: a[:, :, :2]}, ValueError, r"attributes is .* expected \[B, F, 3, D\]"),
        ],
    )
    def test_calls(self, scene, change, error, message):
        given = [change.get(k, lambda x: x)(value) for k, value in enumerate(scene)]
        with pytest.raises(error, match=f"Pytorch3dRasterizer: {message}"):
            Pytorch3dRasterizer(SIZE)(*given)

    def test_sizes(self, scene):
        with pytest.raises(ValueError, match="Pytorch3dRasterizer: image_size is 0"):
            Pytorch3dRasterizer(0)
        with pytest.raises(ValueError, match="StandardRasterizer: height is 0"):
            StandardRasterizer(0)
        with pytest.raises(ValueError, match="StandardRasterizer: width is -1"):
            StandardRasterizer(4, -1)
        with pytest.raises(ValueError, match="StandardRasterizer: h is 2.5"):
            StandardRasterizer(4)(*scene, h=2.5)
