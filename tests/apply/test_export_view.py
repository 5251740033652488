"""The camera next to an exported face: the photograph's, or its crop's."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from mofa_nvdr.apply.export_view import view_of, view_of_code
from mofa_nvdr.apply.photo_camera import PhotoFrame
from mofa_nvdr.render.decoder import FaceDecoder
from tests.helpers.exported_faces import some_face
from tests.helpers.small_face import textured_face


@pytest.fixture
def face(tmp_path):
    return some_face(textured_face(), tmp_path / "face.npz")


def _framed(face, distance=900.0, principal=(160.0, 120.0)):
    turn = np.array([[0, 0, 1.0], [0, 1, 0], [-1, 0, 0]])
    k = np.array([[500, 0, principal[0]], [0, 480.0, principal[1]], [0, 0, 1]])
    pose = np.concatenate([turn, [[10], [20], [distance]]], 1)
    return dataclasses.replace(face, frame=PhotoFrame((240, 320), k, pose, "given", 0.1))


class TestViewOf:
    def test_of_a_crop(self, face):
        """Vertices where the decoder has them."""
        model = textured_face()
        view = view_of(face)
        geometry = FaceDecoder(model, camera=face.camera).geometry(face.code)
        mesh = model.vertices(face.code.shape, face.code.expression)[0].double().numpy()
        np.testing.assert_allclose(view.place(mesh), geometry.vertices[0], atol=1e-3)
        assert view.camera is face.camera and view.off_centre == 0

    def test_of_a_photograph(self, face):
        """A point by hand: K (R v + t) is where the view's camera sees it."""
        view = view_of(_framed(face))
        point = np.array([30.0, -40, 50])
        # R v = (50, -40, -30) in axes x right, y down, z ahead; plus t.
        x, y, z = 50 + 10, -40 + 20, -30 + 900
        np.testing.assert_allclose(view.place(point), [x, -y, -z], atol=1e-9)
        pixel = view.camera.project(torch.from_numpy(view.place(point)))
        np.testing.assert_allclose(pixel, [500 * x / z + 160, 480 * y / z + 120], atol=1e-6)

    def test_principal_point_aside(self, face):
        assert view_of(_framed(face)).off_centre == 0
        assert view_of(_framed(face, principal=(163.0, 124.0))).off_centre == pytest.approx(5)

    def test_far_away(self, face):
        """A telephoto lens sees a face 40 m away: near and far hold it."""
        camera = view_of(_framed(face, distance=40_000.0)).camera
        assert camera.near < 39_000 and camera.far > 41_000

    def test_behind_the_camera(self, face):
        """A frame that makes no sense: the crop's camera is taken."""
        assert view_of(_framed(face, distance=-900.0)).camera is face.camera


class TestMeshCamera:
    def test_field_of_view(self, face):
        camera = view_of(_framed(face)).mesh_camera(0.001, posed=True)
        assert camera.field_of_view == pytest.approx(2 * math.atan(120 / 480))
        # Pixels are no squares: fx 500, fy 480.
        assert camera.aspect == pytest.approx(320 / 240 * 480 / 500)
        assert camera.position.tolist() == [0, 0, 0]

    def test_before_a_mesh_in_model_space(self, face):
        """What the camera's node does to camera space undoes the pose."""
        view = view_of_code(face.code, face.camera)
        camera = view.mesh_camera(0.001, posed=False)
        point = np.array([30.0, -40, 50])
        back = camera.rotation @ (view.place(point) * 0.001) + camera.position
        np.testing.assert_allclose(back, point * 0.001, atol=1e-9)
