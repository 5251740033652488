"""Rotation, the paper's pose, projection and clip space."""

import dataclasses
import json
import math

import pytest
import torch

from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.pose import (
    axis_angle_to_matrix,
)


class TestCamera:
    def test_default_focal(self):
        assert Camera().focal_px == 1087.5
        assert Camera(image_size=224).focal_px == 1015
        assert Camera(image_size=(480, 100)).focal_px == 2175  # the height counts
        assert Camera(image_size=(480, 100), focal=99.5).focal_px == 99.5

    def test_size(self):
        assert Camera(image_size=32).size == (32, 32)
        assert Camera(image_size=(32, 48)).size == (32, 48)

    def test_survives_json(self):
        camera = Camera(image_size=(32, 48), position=(1, 2.5, -900))
        again = Camera(**json.loads(json.dumps(dataclasses.asdict(camera))))
        assert again == camera
        assert hash(again) == hash(camera)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"image_size": 0}, "image_size is 0, expected 1 or more"),
            ({"image_size": (8, -1)}, r"image_size is \(8, -1\), expected 1 or more"),
            ({"image_size": 24.5}, "image_size is 24.5, expected an integer or"),
            ({"image_size": (8, 8, 3)}, r"image_size is \(8, 8, 3\), expected an integer or"),
            ({"image_size": "24"}, "image_size is '24', expected an integer or"),
            ({"focal": 0.0}, "focal is 0.0, expected a positive number of pixels"),
            ({"focal": math.nan}, "focal is nan"),
            ({"near": 0.0}, "near is 0.0 and far is 10000.0, expected 0 < near < far"),
            ({"near": 5.0, "far": 5.0}, "near is 5.0 and far is 5.0"),
            ({"position": (0, 0)}, r"position is \(0, 0\), expected three finite numbers in mm"),
            ({"position": (0, 0, math.nan)}, "expected three finite numbers in mm"),
            ({"position": (0, 0, math.inf)}, "expected three finite numbers in mm"),
            ({"position": None}, "position is None, expected three finite numbers in mm"),
        ],
    )
    def test_bad_arguments(self, arguments, message):
        with pytest.raises(ValueError, match=f"Camera: .*{message}"):
            Camera(**arguments)


class TestToCamera:
    def test_turns_then_shifts(self):
        camera = Camera(position=(1, 2, -1000))
        turn = axis_angle_to_matrix(torch.tensor([[0, math.pi / 2, 0]], dtype=torch.float64))
        nose = torch.tensor([[[0.0, 0.0, 100.0]]], dtype=torch.float64)
        shift = torch.tensor([[10.0, 20.0, 30.0]], dtype=torch.float64)
        want = torch.tensor([[[111.0, 22.0, -970.0]]], dtype=torch.float64)
        torch.testing.assert_close(camera.to_camera(nose, turn, shift), want)

    def test_gradcheck(self):
        generator = torch.Generator().manual_seed(10)
        inputs = [torch.randn(2, 5, 3), torch.randn(2, 3, 3), torch.randn(2, 3)]
        inputs = [
            torch.randn(x.shape, generator=generator).double().requires_grad_() for x in inputs
        ]
        assert torch.autograd.gradcheck(Camera().to_camera, inputs)

    def test_bad_shapes(self):
        camera, vertices = Camera(), torch.zeros(2, 5, 3)
        with pytest.raises(ValueError, match=r"vertices is \[5, 3\], expected \[B, V, 3\]"):
            camera.to_camera(vertices[0], torch.zeros(2, 3, 3), torch.zeros(2, 3))
        with pytest.raises(ValueError, match=r"rotation_matrix is \[1, 3, 3\] .* with B = 2"):
            camera.to_camera(vertices, torch.zeros(1, 3, 3), torch.zeros(2, 3))
        with pytest.raises(ValueError, match=r"translation is \[2, 1, 3\], expected .* with B = 2"):
            camera.to_camera(vertices, torch.zeros(2, 3, 3), torch.zeros(2, 1, 3))


class TestProject:
    def test_by_hand(self):
        """100 mm at 1 m and a focal length of 1000 px: 100 px; x right, y down from the corner."""
        camera = Camera(image_size=(200, 300), focal=1000.0)
        points = torch.tensor(
            [[0.0, 0, -500], [100, 0, -1000], [0, 100, -1000], [-150, -100, -1000]]
        )
        assert camera.project(points).tolist() == [[150, 100], [250, 100], [150, 0], [0, 200]]

    def test_scales_with_the_image(self):
        points = torch.tensor([[30.0, -40.0, -900.0]], dtype=torch.float64)
        small, large = Camera(image_size=120), Camera(image_size=240)
        torch.testing.assert_close(2 * small.project(points), large.project(points))

    def test_resized(self):
        """The same view, whatever the focal length: pixels grow with the picture."""
        camera = Camera(image_size=240, focal=900.0, position=(1.0, 2.0, -500.0))
        small = camera.resized(96)
        points = torch.tensor([[[10.0, -20.0, -500.0]]])
        torch.testing.assert_close(small.project(points), camera.project(points) * 0.4)
        assert small.size == (96, 96) and small.position == camera.position
        with pytest.raises(
            ValueError, match=r"Camera.resized: the picture is \(10, 20\), expected a"
        ):
            Camera(image_size=(10, 20)).resized(5)

    def test_behind_the_camera_is_finite(self):
        points = torch.tensor([[10.0, 0, 0], [10, 0, 500], [10, 0, -50]], requires_grad=True)
        camera = Camera()
        pixels = camera.project(points)
        want = camera.project(torch.tensor([[10.0, 0, -camera.near]])).expand(3, 2)
        torch.testing.assert_close(pixels, want)
        (gradient,) = torch.autograd.grad(pixels.sum(), points)
        assert torch.isfinite(gradient).all()
        assert (gradient[:, 2] == 0).all()

    def test_gradcheck(self):
        points = torch.tensor([[[30.0, -40, -900], [1, 2, -1200]]], dtype=torch.float64)
        assert torch.autograd.gradcheck(Camera().project, points.requires_grad_())

    def test_bad_shape(self):
        with pytest.raises(ValueError, match=r"project: points_camera is \[5, 4\], expected"):
            Camera().project(torch.zeros(5, 4))


class TestClipSpace:
    def test_consistent_with_project(self):
        camera = Camera(image_size=(180, 240), focal=700.0)
        generator = torch.Generator().manual_seed(11)
        points = torch.randn(4, 50, 3, generator=generator, dtype=torch.float64) * 80
        points[..., 2] -= 1000
        x, y, _, w = camera.clip_space(points).unbind(-1)
        pixels = torch.stack([(x / w + 1) / 2 * 240, (1 - y / w) / 2 * 180], dim=-1)
        torch.testing.assert_close(pixels, camera.project(points))
        torch.testing.assert_close(w, -points[..., 2])

    def test_near_and_far(self):
        camera = Camera(near=50.0, far=2000.0)
        points = torch.tensor([[0.0, 0, -50], [0, 0, -1000], [0, 0, -2000]], dtype=torch.float64)
        _, _, z, w = camera.clip_space(points).unbind(-1)
        depth = z / w
        torch.testing.assert_close(depth[[0, 2]], torch.tensor([-1.0, 1.0], dtype=torch.float64))
        assert depth[0] < depth[1] < depth[2]

    def test_depth_resolution(self):
        """A tenth of a millimetre at 1 m is told apart in float32."""
        depths = -1000 + 0.1 * torch.arange(100.0)
        points = torch.stack([torch.zeros(100), torch.zeros(100), depths], dim=-1)
        _, _, z, w = Camera().clip_space(points).unbind(-1)
        assert ((z / w).diff() < 0).all()

    def test_gradcheck(self):
        points = torch.tensor([[[30.0, -40, -900], [1, 2, 10]]], dtype=torch.float64)
        assert torch.autograd.gradcheck(Camera().clip_space, points.requires_grad_())

    def test_bad_shape(self):
        with pytest.raises(ValueError, match=r"clip_space: points_camera is \[\], expected"):
            Camera().clip_space(torch.zeros(()))


class TestViewDirections:
    def test_to_the_eye_at_the_origin(self):
        points = torch.tensor([[10.0, -20, -500]])
        assert Camera().view_directions(points).tolist() == [[-10, 20, 500]]

    def test_bad_shape(self):
        with pytest.raises(ValueError, match=r"view_directions: points_camera is \[2\], expected"):
            Camera().view_directions(torch.zeros(2))


def test_clip_matrix_is_clip_space():
    camera = Camera((180, 240), focal=700.0)
    points = torch.tensor([[30.0, -40, -900, 1], [1, 2, 10, 1]], dtype=torch.float64)
    matrix = torch.tensor(camera.clip_matrix, dtype=torch.float64)
    torch.testing.assert_close(points @ matrix.T, camera.clip_space(points[:, :3]))
