"""The pinhole with all of its intrinsics: K by hand, clip space, derivatives, errors."""

import dataclasses
import json
import math

import pytest
import torch

from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.intrinsics_camera import IntrinsicsCamera

CAMERA = IntrinsicsCamera((180, 240), fx=700.0, fy=650.0, cx=100.5, cy=110.25, skew=12.0)


def some_points(count=50):
    generator = torch.Generator().manual_seed(11)
    points = torch.randn(count, 3, generator=generator, dtype=torch.float64) * 80
    return points - torch.tensor([0.0, 0.0, 1000.0], dtype=torch.float64)


class TestProject:
    def test_is_k(self):
        """K of OpenCV's and COLMAP's axes, x right, y down, z forward, on homogeneous points."""
        points = some_points()
        k = torch.tensor([[700.0, 12, 100.5], [0, 650, 110.25], [0, 0, 1]], dtype=torch.float64)
        u, v, w = (points * torch.tensor([1.0, -1, -1], dtype=torch.float64) @ k.T).unbind(-1)
        torch.testing.assert_close(CAMERA.project(points), torch.stack([u / w, v / w], dim=-1))

    def test_by_hand(self):
        points = torch.tensor([[0.0, 0, -500], [100, 0, -1000], [0, -100, -1000]])
        assert CAMERA.project(points).tolist() == [
            [100.5, 110.25],
            [170.5, 110.25],
            [pytest.approx(100.5 + 1.2), pytest.approx(110.25 + 65)],
        ]

    def test_is_the_default_camera_with_its_numbers(self):
        plain = Camera((180, 240), focal=700.0)
        same = IntrinsicsCamera((180, 240), fx=700.0, fy=700.0, cx=120.0, cy=90.0)
        points = some_points()
        torch.testing.assert_close(same.project(points), plain.project(points))
        torch.testing.assert_close(same.clip_space(points), plain.clip_space(points))
        assert same.pixel_angle == pytest.approx(plain.pixel_angle)

    def test_behind_the_camera_is_finite(self):
        points = torch.tensor([[10.0, 5, 0], [10, 5, 500], [10, 5, -50]], requires_grad=True)
        pixels = CAMERA.project(points)
        want = CAMERA.project(torch.tensor([[10.0, 5, -CAMERA.near]])).expand(3, 2)
        torch.testing.assert_close(pixels, want)
        (gradient,) = torch.autograd.grad(pixels.sum(), points)
        assert gradient.isfinite().all() and (gradient[:, 2] == 0).all()

    def test_gradcheck(self):
        points = some_points(3).requires_grad_()
        assert torch.autograd.gradcheck(CAMERA.project, points)

    def test_bad_shape(self):
        message = r"IntrinsicsCamera.project: points_camera is \[5, 4\], expected"
        with pytest.raises(ValueError, match=message):
            CAMERA.project(torch.zeros(5, 4))


class TestClipSpace:
    def test_consistent_with_project(self):
        points = some_points()
        x, y, _, w = CAMERA.clip_space(points).unbind(-1)
        pixels = torch.stack([(x / w + 1) / 2 * 240, (1 - y / w) / 2 * 180], dim=-1)
        torch.testing.assert_close(pixels, CAMERA.project(points))
        torch.testing.assert_close(w, -points[..., 2])

    def test_near_and_far(self):
        ends = torch.tensor([[3.0, 4, -100], [3, 4, -10_000]], dtype=torch.float64)
        _, _, z, w = CAMERA.clip_space(ends).unbind(-1)
        torch.testing.assert_close(z / w, torch.tensor([-1.0, 1.0], dtype=torch.float64))

    def test_gradcheck(self):
        assert torch.autograd.gradcheck(CAMERA.clip_space, some_points(3).requires_grad_())


def test_survives_json():
    again = IntrinsicsCamera(**json.loads(json.dumps(dataclasses.asdict(CAMERA))))
    assert again == CAMERA and hash(again) == hash(CAMERA)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 0}, "image_size is 0, expected 1 or more"),
        ({"fx": 0.0}, "fx is 0.0 and fy is 650.0, expected positive numbers of pixels"),
        ({"fy": math.nan}, "fx is 700.0 and fy is nan, expected positive"),
        ({"cx": math.inf}, "cx is inf, cy is 110.25 and skew is 12.0, expected finite"),
        ({"skew": math.nan}, "skew is nan, expected finite numbers of pixels"),
        ({"near": 0.0}, "near is 0.0 and far is 10000.0, expected 0 < near < far in mm"),
        ({"position": (0, 0)}, r"position is \(0, 0\), expected three finite numbers in mm"),
    ],
)
def test_bad_arguments(change, message):
    with pytest.raises(ValueError, match=f"IntrinsicsCamera: .*{message}"):
        dataclasses.replace(CAMERA, **change)
