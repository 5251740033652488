"""Meshes and cameras in PyTorch3D's terms."""

from __future__ import annotations

import math

import pytest
import torch

from mofa_nvdr.compat.pytorch3d_scene import FoVPerspectiveCameras, Meshes, PerspectiveCameras

VERTS = [torch.arange(12.0).view(4, 3), torch.arange(9.0).view(3, 3)]
FACES = [torch.tensor([[0, 1, 2], [1, 2, 3]]), torch.tensor([[0, 1, 2]])]


class TestMeshes:
    def test_packed_and_padded(self):
        meshes = Meshes(VERTS, FACES)
        assert len(meshes) == 2 and meshes.device.type == "cpu"
        assert meshes.verts_packed().shape == (7, 3)
        assert meshes.faces_packed().tolist() == [[0, 1, 2], [1, 2, 3], [4, 5, 6]]
        assert meshes.verts_padded().shape == (2, 4, 3) and not meshes.verts_padded()[1, 3].any()
        assert meshes.num_verts_per_mesh().tolist() == [4, 3]
        assert meshes.num_faces_per_mesh().tolist() == [2, 1]
        assert meshes.mesh_to_verts_packed_first_idx().tolist() == [0, 4]
        assert meshes.mesh_to_faces_packed_first_idx().tolist() == [0, 2]
        assert [len(v) for v in meshes.verts_list()] == [4, 3]

    def test_padding_of_faces(self):
        faces = torch.tensor([[[0, 1, 2], [1, 2, 3]], [[0, 1, 2], [-1, -1, -1]]])
        assert [len(f) for f in Meshes(torch.zeros(2, 4, 3), faces).faces_list()] == [2, 1]

    def test_update(self):
        moved = Meshes(VERTS, FACES).update_padded(torch.ones(2, 4, 3))
        assert [len(v) for v in moved.verts_list()] == [4, 3] and (moved.verts_packed() == 1).all()

    def test_refusals(self):
        with pytest.raises(
            ValueError, match="verts has 2 meshes and faces has 1, expected as many"
        ):
            Meshes(VERTS, FACES[:1])
        with pytest.raises(ValueError, match="verts has 0 meshes"):
            Meshes([], [])
        with pytest.raises(ValueError, match=r"Meshes: faces\[1\] is \[3\], expected \[F, 3\]"):
            Meshes(VERTS, [FACES[0], FACES[1][0]])
        with pytest.raises(
            TypeError, match="Meshes: verts is a NoneType, expected a torch.Tensor or"
        ):
            Meshes(None, FACES)
        with pytest.raises(
            TypeError, match=r"Meshes: faces\[0\] is a list, expected a torch.Tensor"
        ):
            Meshes(VERTS, [f.tolist() for f in FACES])
        with pytest.raises(TypeError, match=r"Meshes: verts\[0\] is torch.int64, expected floats"):
            Meshes([v.long() for v in VERTS], FACES)
        with pytest.raises(ValueError, match=r"faces\[1\] is on meta, but verts\[0\] is on cpu"):
            Meshes(VERTS, [FACES[0], FACES[1].to("meta")])


class TestCameras:
    def test_points_by_hand(self):
        quarter = torch.tensor([[[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]])  # row vectors: x to z
        cameras = PerspectiveCameras(2.0, R=quarter, T=torch.tensor([[0, 0, 1.0]]))
        # (3, 2, 4) R + T = (-4, 2, 4).
        found = cameras.transform_points(torch.tensor([[[3.0, 2, 4]]]))
        assert found.tolist() == [[[-2, 1, 0.25]]]
        view = cameras.get_world_to_view_transform().transform_points(torch.tensor([[[3.0, 2, 4]]]))
        assert view.tolist() == [[[-4, 2, 4]]]
        assert cameras.is_perspective() and cameras.get_znear() is None and len(cameras) == 1

    def test_a_depth_of_zero_with_eps(self):
        found = PerspectiveCameras().transform_points(torch.tensor([[[1.0, 0, 0]]]), eps=0.5)
        assert found.tolist() == [[[2, 0, 2]]]
        transform = PerspectiveCameras().get_ndc_camera_transform()
        transform.matrix[0, 3, 3] = 0
        assert transform.transform_points(torch.ones(1, 1, 3), eps=0.5).tolist() == [[[2, 2, 2]]]

    def test_go_where_their_tensors_are(self, device):
        turn, shift = torch.eye(3, device=device)[None], torch.zeros(1, 3)
        for cameras in (PerspectiveCameras(2.0, R=turn), FoVPerspectiveCameras(R=turn, T=shift)):
            assert cameras.device == turn.device
            found = cameras.transform_points(torch.ones(1, 1, 3, device=device))
            assert found.device == turn.device
        assert PerspectiveCameras(2.0, T=shift, device="meta").device.type == "meta"

    def test_rows_of_numbers(self):
        cameras = PerspectiveCameras(
            ((2.0,),), R=[[[1, 0, 0], [0, 1, 0], [0, 0, 1]]], T=((0, 0, 1),)
        )
        assert cameras.transform_points(torch.tensor([[[3.0, 2, 1]]])).tolist() == [[[3, 2, 0.5]]]

    def test_field_of_view(self):
        cameras = FoVPerspectiveCameras(znear=0.3, fov=90, aspect_ratio=2.0)
        found = cameras.transform_points(torch.tensor([[[2.0, 1, 1]]]))
        assert torch.allclose(found[0, 0, :2], torch.tensor([1.0, 1]))
        radians = FoVPerspectiveCameras(fov=math.pi / 2, aspect_ratio=2.0, degrees=False)
        assert torch.allclose(radians.transform_points(torch.tensor([[[2.0, 1, 1]]])), found)
        assert cameras.get_znear() == 0.3

    def test_refusals(self):
        with pytest.raises(ValueError, match="PerspectiveCameras: image_size is None"):
            PerspectiveCameras(100.0, in_ndc=False)
        for kind in (PerspectiveCameras, FoVPerspectiveCameras):
            name = f"^{kind.__name__}"
            # As [3, 3] it would be three cameras, each with one row for all of its axes.
            with pytest.raises(ValueError, match=rf"{name}: R is \[3, 3\], expected \[N, 3, 3\]"):
                kind(R=torch.eye(3))
            with pytest.raises(ValueError, match=rf"{name}: T is \[3\], expected \[N, 3\]"):
                kind(T=torch.zeros(3))
            with pytest.raises(TypeError, match=f"{name}: R is a str, expected numbers or a"):
                kind(R="eye")
        with pytest.raises(
            ValueError, match=r"focal_length is \[1, 3\], expected a number, \[N\] or"
        ):
            PerspectiveCameras(torch.ones(1, 3))
        with pytest.raises(ValueError, match=r"principal_point is \[2\], expected \[N, 2\]"):
            PerspectiveCameras(principal_point=(0.0, 0.0))
        with pytest.raises(ValueError, match=r"image_size is \[1, 3\], expected \[N, 2\]"):
            PerspectiveCameras(in_ndc=False, image_size=(4, 4, 3))
        for fov in (0.0, 180.0, float("nan")):
            with pytest.raises(
                ValueError, match="fov is .*, expected more than 0 and less than 180"
            ):
                FoVPerspectiveCameras(fov=fov)
        with pytest.raises(
            TypeError, match="FoVPerspectiveCameras: znear is None, expected a number"
        ):
            FoVPerspectiveCameras(znear=None)
        with pytest.raises(ValueError, match="for 2, 3 cameras, expected one number"):
            PerspectiveCameras(R=torch.eye(3).repeat(2, 1, 1), T=torch.zeros(3, 3))
