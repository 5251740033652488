"""Parallel lines of sight: by hand, clip space, derivatives, errors."""

import dataclasses
import json
import math

import pytest
import torch

from mofa_nvdr.scene.orthographic_camera import OrthographicCamera

CAMERA = OrthographicCamera((180, 240), scale=1.5, center=(100.0, 80.0), near=-50.0, far=200.0)


def some_points(count=50):
    generator = torch.Generator().manual_seed(12)
    return torch.randn(count, 3, generator=generator, dtype=torch.float64) * 40


class TestProject:
    def test_by_hand(self):
        points = torch.tensor([[0.0, 0, -500], [10, 0, -1000], [0, 10, 3], [-20, -10, 0]])
        assert CAMERA.project(points).tolist() == [[100, 80], [115, 80], [100, 65], [70, 95]]

    def test_centre_of_the_image_by_default(self):
        camera = OrthographicCamera((180, 240), scale=1.5)
        assert camera.project(torch.zeros(1, 3)).tolist() == [[120, 90]]

    def test_gradcheck(self):
        assert torch.autograd.gradcheck(CAMERA.project, some_points(3).requires_grad_())

    def test_bad_shape(self):
        message = r"OrthographicCamera.project: points_camera is \[5, 4\], expected"
        with pytest.raises(ValueError, match=message):
            CAMERA.project(torch.zeros(5, 4))


class TestClipSpace:
    def test_consistent_with_project(self):
        points = some_points()
        x, y, _, w = CAMERA.clip_space(points).unbind(-1)
        assert (w == 1).all()
        pixels = torch.stack([(x + 1) / 2 * 240, (1 - y) / 2 * 180], dim=-1)
        torch.testing.assert_close(pixels, CAMERA.project(points))

    def test_near_and_far(self):
        """At the distances -50 and 200, where z is 50 and -200; what is farther has the larger depth."""
        points = torch.tensor([[0.0, 0, 50], [0, 0, 0], [0, 0, -200]], dtype=torch.float64)
        depth = CAMERA.clip_space(points)[..., 2]
        expected = torch.tensor([-1.0, -0.6, 1.0], dtype=torch.float64)
        torch.testing.assert_close(depth, expected)

    def test_gradcheck(self):
        assert torch.autograd.gradcheck(CAMERA.clip_space, some_points(3).requires_grad_())


def test_the_eye_is_far_along_z():
    directions = CAMERA.view_directions(some_points(7).view(1, 7, 3))
    assert directions.shape == (1, 7, 3) and directions.dtype == torch.float64
    assert (directions == torch.tensor([0.0, 0, 1])).all()


def test_survives_json():
    again = OrthographicCamera(**json.loads(json.dumps(dataclasses.asdict(CAMERA))))
    assert again == CAMERA and hash(again) == hash(CAMERA)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": (8, -1)}, r"image_size is \(8, -1\), expected 1 or more"),
        ({"scale": 0.0}, "scale is 0.0, expected a positive number of pixels per mm"),
        ({"scale": math.inf}, "scale is inf"),
        ({"center": (1, 2, 3)}, r"center is \(1, 2, 3\), expected two finite numbers"),
        ({"center": (1, math.nan)}, "center is .*expected two finite numbers of pixels"),
        ({"near": 200.0}, "near is 200.0 and far is 200.0, expected near < far in mm"),
        ({"far": math.inf}, "far is inf, expected near < far"),
        ({"position": None}, "position is None, expected three finite numbers in mm"),
    ],
)
def test_bad_arguments(change, message):
    with pytest.raises(ValueError, match=f"OrthographicCamera: .*{message}"):
        dataclasses.replace(CAMERA, **change)
