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
        with pytest.raises(ValueError, match="for 2, 3 cameras, expected one number"):
            PerspectiveCameras(R=torch.eye(3).repeat(2, 1, 1), T=torch.zeros(3, 3))
