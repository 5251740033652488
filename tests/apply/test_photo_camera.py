"""The photograph's camera: the crop's own in its pixels is exact, the full frame's is within a pixel."""

import numpy as np
import pytest
import torch

from mofa_nvdr.apply.photo_camera import (
    PhotoFrame,
    check_camera,
    crop_camera,
    extrinsics_of,
    full_frame_poses,
    photo_focal,
    photo_intrinsics,
)
from mofa_nvdr.data.crops.framing import Crop
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.pose import axis_angle_to_matrix

SIZE = (600, 800)  # of the photograph
CROP = Crop(430.5, 120.25, 210.0)  # well off its centre


@pytest.fixture(scope="module")
def placed(face_model):
    """A decoder at 120 px, a code, its vertices before the crop's camera, and every 40th of them."""
    decoder = FaceDecoder(face_model, camera=Camera(120))
    code = face_model.layout.zeros().replace(
        rotation=torch.tensor([[0.1, -0.3, 0.05]]), translation=torch.tensor([[4.0, -3.0, 20.0]])
    )
    index = face_model.frontal_triangles.unique()
    with torch.no_grad():
        geometry = decoder.geometry(code)
    return decoder, code, geometry.vertices[:, index].double(), index


def frame_of(placed, focal, principal_point=None):
    """The frame of the face in a photograph of this focal length."""
    decoder, code, points, _ = placed
    intrinsics = photo_intrinsics(SIZE, focal, principal_point)
    camera = crop_camera(decoder.pinhole, CROP, SIZE)
    turn, shift, error = full_frame_poses(points.numpy()[:, ::40], [camera], intrinsics[None])
    rotation = axis_angle_to_matrix(code.rotation.double())[0].numpy()
    place = code.translation[0].double().numpy() + np.array(decoder.pinhole.position)
    extrinsics = extrinsics_of(turn[0] @ rotation, turn[0] @ place + shift[0])
    return PhotoFrame(SIZE, intrinsics, extrinsics, "given", float(error[0]))


class TestCropCamera:
    def test_pixels_of_the_photograph(self, placed):
        """What the crop's camera sees at a pixel, this one sees at the pixel's place in the photograph."""
        decoder, _, points, _ = placed
        inside = decoder.camera.project(points)[0].numpy()
        want = CROP.to_source(inside, 120)
        got = crop_camera(decoder.pinhole, CROP, SIZE).project(points)[0].numpy()
        np.testing.assert_allclose(got, want, atol=1e-9)


class TestFullFramePoses:
    def test_exact_where_the_cameras_are_one(self, placed):
        own = crop_camera(placed[0].pinhole, CROP, SIZE)
        frame = frame_of(placed, own.fx, (own.cx, own.cy))
        assert frame.error < 1e-6

    @pytest.mark.parametrize("factor", [1.0, 1.3])
    def test_the_same_face_in_the_same_place(self, placed, face_model, factor):
        """Of a face beside the centre of its photograph: every vertex within a pixel, and so the picture."""
        decoder, code, points, index = placed
        own = crop_camera(decoder.pinhole, CROP, SIZE)
        frame = frame_of(placed, factor * own.fx)
        want = own.project(points)[0].numpy()
        with torch.no_grad():
            vertices = face_model.vertices(code.shape, code.expression)[0, index].double().numpy()
        homogeneous = (
            vertices @ frame.extrinsics[:, :3].T + frame.extrinsics[:, 3]
        ) @ frame.intrinsics.T
        got = homogeneous[:, :2] / homogeneous[:, 2:]
        apart = np.linalg.norm(got - want, axis=1)
        assert frame.error < 0.75 and np.quantile(apart, 0.99) < 2.0, (frame.error, apart.max())
        assert np.sqrt((apart**2).mean()) == pytest.approx(frame.error, abs=0.05)
        # Through the package's own camera: the same pixels.
        seen = frame.camera().project(torch.from_numpy(frame.place(vertices))).numpy()
        np.testing.assert_allclose(seen, got, atol=1e-6)

    def test_a_wide_angle_is_said(self, placed):
        """Near a camera faces look different: no rigid pose is the same picture, and `error` says so."""
        own = crop_camera(placed[0].pinhole, CROP, SIZE)
        assert frame_of(placed, 0.4 * own.fx).error > 1.0


class TestPhotoFocal:
    def test_given_before_exif_before_the_default(self):
        assert photo_focal(SIZE, 900.0, 50.0, 700.0) == (900.0, "given")
        # 43.27 mm on 35 mm film: as long as the picture's diagonal, here 1000 px.
        focal, origin = photo_focal(SIZE, 0.0, 43.2666, 700.0)
        assert focal == pytest.approx(1000.0) and origin == "exif"
        assert photo_focal(SIZE, 0.0, 0.0, 1400.0) == (1400.0, "default")
        assert photo_focal(SIZE, 0.0, 0.0, 300.0) == (960.0, "default")

    def test_what_is_none(self):
        with pytest.raises(ValueError, match="--focal-px is -1, expected pixels, more than 0"):
            check_camera(-1, None)
        with pytest.raises(
            ValueError, match="--principal-point is .*, expected two finite numbers"
        ):
            check_camera(0, (1.0, float("inf")))
