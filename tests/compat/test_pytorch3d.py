"""The PyTorch3D-like rasterizer: float64, clipping and culling by hand, and every refusal.

Against PyTorch3D's own C++ kernel and classes (9381c401): docs/parity.md.
"""

from __future__ import annotations

import math

import pytest
import torch

from mofa_nvdr.compat import pytorch3d as p3d
from mofa_nvdr.dr import reference
from tests.helpers.peer_scenes import ball, random_values, relative

SIZE = 40


@pytest.fixture
def meshes():
    """Two meshes of different sizes in NDC, 3 away."""
    vertices, triangles = ball()
    vertices = 0.5 * vertices + torch.tensor([0, 0, 3.0])
    return [vertices[0], vertices[1]], [triangles, triangles[: len(triangles) // 2]]


def rasterize(vertices, faces, **options):
    return p3d.rasterize_meshes(
        p3d.Meshes(vertices, faces), **{"image_size": SIZE, "faces_per_pixel": 1, **options}
    )


def by_the_contract(vertices, faces, height, width, perspective):
    """pix_to_face of one mesh, bary and z in float64: x left, y up, the shorter side from -1 to 1."""
    x, y, z = vertices.unbind(-1)
    short = min(height, width)
    x, y = -x * short / width, -y * short / height
    w = z if perspective else torch.ones_like(z)
    depth = 5 / 4 - 9 / 2 / z if perspective else z / 10 - 0.3
    pos = torch.stack([x * w, y * w, depth * w, w], -1)[None]
    rast, _ = reference.rasterize(None, pos, faces.int(), (height, width))
    u, v = rast[..., 0], rast[..., 1]
    at, _ = reference.interpolate(z[None, :, None].contiguous(), rast, faces.int())
    return rast[..., 3].long() - 1, torch.stack([u, v, 1 - u - v], -1), at


class TestRasterizeMeshes:
    @pytest.mark.parametrize("perspective", [False, True])
    @pytest.mark.parametrize("size", [SIZE, (30, 44), (44, 30)])
    def test_is_the_contract_in_float64(self, meshes, perspective, size):
        vertices, faces = meshes
        height, width = (size, size) if isinstance(size, int) else size
        leaves = [v.clone().requires_grad_() for v in vertices]
        found = rasterize(leaves, faces, image_size=size, perspective_correct=perspective)
        assert found[0].shape == found[1].shape == found[3].shape == (2, height, width, 1)
        assert found[2].shape == (2, height, width, 1, 3)
        weight = random_values(height, width, 1, seed=2)
        first = 0
        for k, (mesh, triangles) in enumerate(zip(vertices, faces)):
            double = mesh.double().requires_grad_()
            face, bary, z = by_the_contract(double, triangles, height, width, perspective)
            assert torch.equal(
                found[0][k, ..., 0], torch.where(face[0] < 0, face[0], face[0] + first)
            )
            seen = face[0] >= 0
            assert torch.allclose(found[2][k, ..., 0, :][seen], bary[0][seen].float(), atol=2e-5)
            assert torch.allclose(found[1][k][seen], z[0][seen].float(), atol=2e-5)
            assert all((part[k][~seen] == -1).all() for part in found)
            ((bary[0][..., :1] + z[0]) * weight)[seen].sum().backward()
            ((found[2][k, ..., 0, :1] + found[1][k]) * weight)[seen].sum().backward(
                retain_graph=True
            )
            assert relative(leaves[k].grad, double.grad) < 0.02
            first += len(triangles)

    def test_axes_by_hand(self):
        # Up and to the right as seen: y > 0, x < 0.
        triangle = torch.tensor([[-0.9, 0.1, 1], [-0.1, 0.1, 1], [-0.5, 0.9, 1]])
        face = rasterize([triangle], [torch.tensor([[0, 1, 2]])], image_size=16)[0][0, ..., 0]
        rows, columns = torch.nonzero(face >= 0, as_tuple=True)
        assert len(rows) and rows.max() < 8 <= columns.min()

    def test_distances_by_hand(self):
        # A square half as wide as the picture; its middle pixel is 1/2 - 1/16 from three of its edges' lines.
        corners = torch.tensor([[0.5, -0.5, 1], [-0.5, -0.5, 1], [-0.5, 0.5, 1], [0.5, 0.5, 1]])
        faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
        dists = rasterize([corners], [faces], image_size=8)[3][0, ..., 0]
        # Pixel (5, 5): x = -3/8, y = -3/8: 1/8 from the right edge and the lower one.
        assert dists[5, 5].item() == pytest.approx(-1 / 64)
        # Pixel (2, 5): x = -3/8, y = 3/8, on the diagonal. Pixel (3, 2): 1/8 from the left edge.
        assert dists[2, 5].item() == pytest.approx(0, abs=1e-6)
        assert dists[3, 2].item() == pytest.approx(-1 / 64)
        assert dists[0, 0] == -1

    def test_distances_have_gradients(self, meshes):
        vertices, faces = meshes
        leaf = vertices[0].clone().requires_grad_()
        rasterize([leaf], faces[:1])[3].sum().backward()
        moved = vertices[0].clone()
        direction = torch.zeros_like(moved)
        direction[:, 0] = 1  # a shift of everything by a hair moves no pixel into another face
        step = 1e-4
        ahead, behind = (rasterize([moved + s * direction], faces[:1])[3] for s in (step, -step))
        seen = (ahead != -1) & (behind != -1)
        wanted = ((ahead - behind)[seen].double().sum() / (2 * step)).item()
        assert (leaf.grad[:, 0].sum().item()) == pytest.approx(wanted, rel=0.1, abs=0.05)

    def test_back_faces(self, meshes):
        vertices, faces = meshes
        both = rasterize(vertices[:1], faces[:1])[0]
        kept = rasterize(vertices[:1], faces[:1], cull_backfaces=True)[0]
        turned = rasterize(vertices[:1], [faces[0].flip(1)], cull_backfaces=True)[0]
        # x is left, so that the view mirrors: the ball's outward triangles run clockwise in it.
        assert torch.equal(turned, both) or torch.equal(kept, both)
        assert not torch.equal(kept, turned) and (kept >= 0).any() and (turned >= 0).any()

    def test_counter_clockwise_is_kept(self):
        # As seen: right, up, left. x is to the left.
        triangle = torch.tensor([[-0.5, 0, 1], [0, 0.5, 1], [0.5, 0, 1.0]])
        faces = torch.tensor([[0, 1, 2]])
        assert (rasterize([triangle], [faces], cull_backfaces=True)[0] >= 0).any()
        assert not (rasterize([triangle], [faces.flip(1)], cull_backfaces=True)[0] >= 0).any()

    def test_faces_behind(self):
        # One vertex behind the camera: dropped, or cut at z_clip_value.
        triangle = torch.tensor([[-0.5, -0.5, 2], [0.5, -0.5, 2], [0, 0.5, -0.5]])
        faces = [torch.tensor([[0, 1, 2]])]
        assert (rasterize([triangle], faces)[0] == -1).all()
        assert (rasterize([triangle], faces, perspective_correct=True)[0] == -1).all()
        cut = rasterize([triangle], faces, perspective_correct=True, z_clip_value=0.5)
        assert (cut[0] == 0).any() and cut[1][cut[0] == 0].min() > 0.49
        nothing = torch.tensor([[0, 0, -1.0], [1, 0, -1], [0, 1, -1]])
        assert (
            rasterize([nothing], faces, perspective_correct=True, z_clip_value=1.0)[0] == -1
        ).all()

    def test_refusals(self, meshes):
        with pytest.raises(
            ValueError, match="faces_per_pixel is 8 and blur_radius is 0.0, expected 1 and 0.0"
        ):
            p3d.rasterize_meshes(p3d.Meshes(*meshes))
        with pytest.raises(ValueError, match="blur_radius is 0.1"):
            rasterize(*meshes, blur_radius=0.1)
        with pytest.raises(ValueError, match="rasterize_meshes: image_height is 0"):
            rasterize(*meshes, image_size=(0, 4))
        for bad in (None, 4.0, (4,), "4"):
            with pytest.raises(
                ValueError, match="image_size is .*, expected pixels or .height, width"
            ):
                rasterize(*meshes, image_size=bad)
        with pytest.raises(TypeError, match="z_clip_value is '0.1', expected a number"):
            rasterize(*meshes, z_clip_value="0.1")
        with pytest.raises(ValueError, match=r"faces_packed is \[0, 3\].*without triangles"):
            rasterize(meshes[0], [part[:0] for part in meshes[1]])
        with pytest.raises(TypeError, match="verts_packed is torch.float64"):
            rasterize([v.double() for v in meshes[0]], meshes[1])


class TestMeshRasterizer:
    def cameras(self, **options):
        turned = torch.diag(torch.tensor([-1.0, 1, -1]))[None]  # looks down -z of the world
        return {"R": turned, "T": torch.tensor([[0.1, 0, 3]]), **options}

    def world(self):
        vertices, triangles = ball()
        return p3d.Meshes([0.7 * vertices[0], 0.7 * vertices[1]], [triangles, triangles])

    def test_as_the_camera_sees(self):
        cameras = p3d.FoVPerspectiveCameras(fov=50, znear=0.1, **self.cameras())
        settings = p3d.RasterizationSettings(image_size=SIZE)
        found = p3d.MeshRasterizer(cameras, settings)(self.world())
        view = self.world().verts_padded() @ cameras.R + cameras.T
        focal = 1 / math.tan(math.radians(25))
        ndc = torch.cat([focal * view[..., :2] / view[..., 2:], view[..., 2:]], -1)
        wanted = rasterize(
            list(ndc), self.world().faces_list(), perspective_correct=True, z_clip_value=0.05
        )
        for part, other in zip(
            (found.pix_to_face, found.zbuf, found.bary_coords, found.dists), wanted
        ):
            assert torch.equal(part, other)
        assert not found.detach().zbuf.requires_grad

    def test_pixels_and_ndc_are_the_same_camera(self):
        size = torch.tensor([[30, 50]])
        ndc = p3d.PerspectiveCameras(((2.0, 1.8),), ((0.2, -0.1),), **self.cameras())
        pixels = p3d.PerspectiveCameras(
            ((30.0, 27.0),), ((25 - 15 * 0.2, 15 + 15 * 0.1),), in_ndc=False, image_size=size,
            **self.cameras()
        )  # fmt: skip
        settings = p3d.RasterizationSettings(image_size=(30, 50))
        found, wanted = (p3d.MeshRasterizer(c, settings)(self.world()) for c in (pixels, ndc))
        assert (found.pix_to_face == wanted.pix_to_face).float().mean() > 0.998
        assert found.pix_to_face.max() > 0

    def test_camera_with_the_call(self):
        cameras = p3d.PerspectiveCameras(2.0, **self.cameras())
        settings = p3d.RasterizationSettings(image_size=SIZE, perspective_correct=False)
        found = p3d.MeshRasterizer()(self.world(), cameras=cameras, raster_settings=settings)
        same = p3d.MeshRasterizer(cameras, settings).to("cpu")(self.world())
        assert torch.equal(found.bary_coords, same.bary_coords)

    def test_refusals(self):
        with pytest.raises(
            ValueError, match=r"MeshRasterizer: no cameras; give them to MeshRasterizer"
        ):
            p3d.MeshRasterizer()(self.world())
        three = p3d.PerspectiveCameras(R=torch.eye(3).repeat(3, 1, 1), T=torch.zeros(3, 3))
        with pytest.raises(ValueError, match="MeshRasterizer: 3 cameras for 2 meshes"):
            p3d.MeshRasterizer(three)(self.world())
        one = p3d.MeshRasterizer(p3d.PerspectiveCameras())
        with pytest.raises(
            TypeError, match="MeshRasterizer: meshes_world is a Tensor, expected Meshes"
        ):
            one(torch.zeros(1, 3, 3))
        double = p3d.Meshes(
            self.world().verts_padded().double(), torch.stack(self.world().faces_list())
        )
        with pytest.raises(TypeError, match="MeshRasterizer: the vertices are torch.float64"):
            one(double)
        away = p3d.MeshRasterizer(p3d.PerspectiveCameras(device="meta"))
        with pytest.raises(ValueError, match="the cameras are on meta, but the meshes are on cpu"):
            away(self.world())
