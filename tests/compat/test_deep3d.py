"""deep3d.MeshRenderer: the contract in float64, its peer's defects, and every refusal.

Against the peer's own file (Deep3DFaceRecon_pytorch 9167c71, on this package's operators): mask, depth of
image 0, image and both gradients the same bits, on the built-in face at 224 px (docs/parity.md).
"""

from __future__ import annotations

import math

import pytest
import torch

from mofa_nvdr.compat.deep3d import MeshRenderer
from mofa_nvdr.dr import reference
from tests.helpers.peer_scenes import ball, random_values, relative

FOV = 2 * math.degrees(math.atan(112 / 1015))
SIZE = 48


@pytest.fixture
def scene():
    vertices, triangles = ball()
    return vertices + torch.tensor([0, 0, 10.0]), triangles, random_values(2, vertices.shape[1], 3)


def renderer(**options):
    return MeshRenderer(FOV, znear=5, zfar=15, rasterize_size=SIZE, **options)


def by_the_contract(vertex, triangles, feat):
    """(mask, depth, image) in float64, as docs of the peer's behaviour state it."""
    s, near, far = 1 / math.tan(math.radians(FOV) / 2), 5.0, 15.0
    x, y, z = vertex.unbind(-1)
    depth = (far + near) / (far - near) * z - 2 * far * near / (far - near)
    pos = torch.stack([s * x, -s * y, depth, z], -1)
    tri = triangles.int()
    rast, _ = reference.rasterize(None, pos, tri, (SIZE, SIZE))
    both, _ = reference.interpolate(torch.cat([z[..., None], feat], -1), rast, tri)
    planes = both.permute(0, 3, 1, 2)
    return (rast[..., 3] > 0).double()[:, None], planes[:, :1], planes[:, 1:]


class TestMeshRenderer:
    def test_is_the_contract_in_float64(self, scene):
        vertices, triangles, feat = scene
        wanted = [t.double().requires_grad_() for t in (vertices, feat)]
        found = [t.clone().requires_grad_() for t in (vertices, feat)]
        in_double = by_the_contract(wanted[0], triangles, wanted[1])
        result = renderer()(found[0], triangles, found[1])
        assert torch.equal(result[0], in_double[0].float())
        assert (result[1] - in_double[1]).abs().max() < 2e-5  # 4e-6 measured
        assert (result[2] - in_double[2]).abs().max() < 2e-5  # 1e-6 measured
        weight = random_values(1, 4, SIZE, SIZE, seed=3)
        (torch.cat(in_double[1:], 1) * weight).sum().backward()
        (torch.cat(result[1:], 1) * weight).sum().backward()
        # 0.02: nvdiffrast's area term of the backward pass, on triangles of a few pixels.
        assert relative(found[0].grad, wanted[0].grad) < 0.02
        assert relative(found[1].grad, wanted[1].grad) < 1e-5

    def test_shapes_and_zeros_outside(self, scene):
        mask, depth, image = renderer()(*scene)
        assert mask.shape == depth.shape == (2, 1, SIZE, SIZE) and image.shape == (2, 3, SIZE, SIZE)
        assert set(mask.unique().tolist()) == {0, 1}
        assert (depth[mask == 0] == 0).all() and (image[(mask == 0).expand_as(image)] == 0).all()
        assert renderer()(*scene[:2])[2] is None

    def test_row_0_is_the_top_and_the_left_is_left(self):
        # A small triangle up (y > 0) and to the right (x > 0) of the axis.
        vertex = torch.tensor([[[0.5, 0.5, 10], [0.8, 0.5, 10], [0.5, 0.8, 10.0]]])
        mask, _, _ = renderer()(vertex, torch.tensor([[0, 1, 2]]))
        rows, columns = torch.nonzero(mask[0, 0], as_tuple=True)
        assert rows.max() < SIZE // 2 <= columns.min()

    def test_depth_of_every_image_is_its_own(self):
        square = torch.tensor([[-1, -1.0], [1, -1], [-1, 1], [1, 1]])
        vertex = torch.stack([torch.cat([square, torch.full((4, 1), z)], 1) for z in (9.0, 12.0)])
        _, depth, _ = renderer()(vertex, torch.tensor([[0, 1, 2], [1, 3, 2]]))
        middle = SIZE // 2
        assert depth[:, 0, middle, middle].tolist() == pytest.approx([9, 12], abs=1e-5)

    @pytest.mark.parametrize("kind", ["list", "tensor"])
    def test_triangles_of_each_image(self, scene, kind):
        vertices, triangles, feat = scene
        half = len(triangles) // 2
        parts = [triangles[:half], triangles[half : 2 * half]]
        kept = [part.clone() for part in parts]
        given = parts if kind == "list" else torch.stack(parts)
        together = renderer()(vertices, given, feat)
        for k in range(2):
            alone = renderer()(vertices[k : k + 1], parts[k], feat[k : k + 1])
            for found, wanted in zip(together, alone):
                assert torch.equal(found[k], wanted[0])
        assert all(torch.equal(a, b) for a, b in zip(parts, kept))

    def test_homogeneous_vertices_are_downward_already(self, scene):
        vertices, triangles, feat = scene
        downward = vertices * torch.tensor([1, -1.0, 1])
        homogeneous = torch.cat([downward, torch.ones_like(vertices[..., :1])], -1)
        for found, wanted in zip(renderer()(homogeneous, triangles, feat), renderer()(*scene)):
            assert torch.equal(found, wanted)

    def test_inputs_stay_and_attributes_are_there(self, scene):
        kept = [t.clone() for t in scene]
        drawer = renderer(use_opengl=False)
        assert drawer.ctx is None and drawer.use_opengl is False and drawer.rasterize_size == SIZE
        drawer(*scene)
        assert all(torch.equal(a, b) for a, b in zip(scene, kept))
        assert (
            drawer.ctx is not None and drawer.ndc_proj.shape == (4, 4) and not drawer.state_dict()
        )

    def test_shared_attributes(self, scene):
        vertices, triangles, feat = scene
        shared = renderer()(vertices, triangles, feat[:1])[2]
        wanted = renderer()(vertices, triangles, feat[:1].expand(2, -1, -1))[2]
        assert torch.equal(shared, wanted)

    def test_in_autocast(self, scene):
        wanted = renderer()(*scene)
        with torch.autocast("cpu", torch.bfloat16):
            found = renderer()(*scene)
        assert torch.equal(found[2], wanted[2])


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"rasterize_fov": 0}, "rasterize_fov is 0, expected degrees between 0 and 180"),
            ({"znear": 5, "zfar": 5}, "znear is 5 and zfar is 5, expected 0 < znear < zfar"),
            ({"rasterize_size": 0}, "rasterize_size is 0, expected a whole number of pixels"),
            ({"rasterize_size": 22.5}, "rasterize_size is 22.5, expected a whole number of pixels"),
            ({"zfar": float("inf")}, "MeshRenderer: zfar is inf, expected a finite number"),
        ],
    )
    def test_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            MeshRenderer(**{"rasterize_fov": FOV, **options})

    @pytest.mark.parametrize("name", ["rasterize_fov", "znear", "zfar"])
    def test_options_that_are_no_numbers(self, name):
        with pytest.raises(TypeError, match=f"MeshRenderer: {name} is None, expected a number"):
            MeshRenderer(**{"rasterize_fov": FOV, name: None})

    def test_a_size_that_was_computed(self, scene):
        given = MeshRenderer(FOV, 5, 15, rasterize_size=48.0)(*scene)
        assert given[0].shape[2:] == (48, 48)

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({0: lambda v: v[0]}, ValueError, r"vertex is \[\d+, 3\], expected \[B, N, 3\] or"),
            (
                {0: lambda v: v.double()},
                TypeError,
                "vertex is torch.float64, expected torch.float32",
            ),
            ({0: lambda v: v.numpy()}, TypeError, "vertex is a ndarray, expected a torch.Tensor"),
            ({0: lambda v: v[:0]}, ValueError, r"vertex is \[0, \d+, 3\].*every size above 0"),
            ({1: lambda t: t.float()}, TypeError, "tri is torch.float32, expected integers"),
            ({1: lambda t: t[:0]}, ValueError, r"tri is \[0, 3\].*a mesh without triangles"),
            (
                {1: lambda t: t.numpy()},
                TypeError,
                "tri is a ndarray, expected a torch.Tensor or a list",
            ),
            ({1: lambda t: t + 1}, ValueError, r"tri holds indices 1 to \d+, expected 0 to"),
            ({1: lambda t: [t]}, ValueError, "tri has triangles for 1 images, expected 2"),
            ({2: lambda f: f[:, :-1]}, ValueError, r"feat is .* with .*N = \d+ \(from vertex\)"),
            ({1: lambda t: t.to("meta")}, ValueError, "tri is on meta, but vertex is on cpu"),
        ],
    )
    def test_calls(self, scene, change, error, message):
        given = [change.get(k, lambda x: x)(value) for k, value in enumerate(scene)]
        with pytest.raises(error, match=f"MeshRenderer: {message}"):
            renderer()(*given)
