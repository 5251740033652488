"""Rotation, the paper's pose, projection and clip space."""

import dataclasses
import json
import math

import pytest
import torch

from mofa_nvdr.camera import (
    Camera,
    axis_angle_to_matrix,
    axis_angle_to_matrix_ref,
    from_paper_pose,
    matrix_to_axis_angle,
    to_paper_pose,
)


def random_rotations(count: int, seed: int = 0, largest: float = math.pi) -> torch.Tensor:
    """Axis-angle vectors [count, 3] with angles in (0, largest), float64."""
    generator = torch.Generator().manual_seed(seed)
    axis = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    angle = torch.rand(count, 1, generator=generator, dtype=torch.float64) * largest
    return axis / axis.norm(dim=1, keepdim=True) * angle


class TestAxisAngleToMatrix:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_zero_is_the_identity(self, dtype):
        matrix = axis_angle_to_matrix(torch.zeros(2, 3, dtype=dtype))
        assert matrix.dtype == dtype
        assert torch.equal(matrix, torch.eye(3, dtype=dtype).expand(2, 3, 3))

    @pytest.mark.parametrize(
        ("axis", "start", "end"),
        [(0, (0, 1, 0), (0, 0, 1)), (1, (0, 0, 1), (1, 0, 0)), (2, (1, 0, 0), (0, 1, 0))],
    )
    def test_quarter_turns(self, axis, start, end):
        """Right-handed: x takes y to z, y takes z to x (the face turns to the subject's left)."""
        rotation = torch.zeros(3, dtype=torch.float64)
        rotation[axis] = math.pi / 2
        turned = axis_angle_to_matrix(rotation) @ torch.tensor(start, dtype=torch.float64)
        torch.testing.assert_close(turned, torch.tensor(end, dtype=torch.float64))

    def test_half_turn(self):
        matrix = axis_angle_to_matrix(torch.tensor([[math.pi, 0, 0]], dtype=torch.float64))
        want = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))[None]
        torch.testing.assert_close(matrix, want, rtol=0, atol=1e-15)

    def test_is_the_matrix_exponential(self):
        """Also across the switch from series to sine at an angle of 0.316."""
        rotation = torch.cat([random_rotations(50), random_rotations(50, 1, 0.64)])
        x, y, z = rotation.unbind(1)
        zero = torch.zeros_like(x)
        skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).view(-1, 3, 3)
        # measured 1.2e-15 on x86-64
        torch.testing.assert_close(
            axis_angle_to_matrix(rotation), torch.linalg.matrix_exp(skew), rtol=0, atol=1e-14
        )

    def test_agrees_with_kornia(self):
        conversions = pytest.importorskip("kornia.geometry.conversions")
        rotation = random_rotations(50)
        # kornia before 0.9 is off by 9e-7 in float64
        torch.testing.assert_close(
            axis_angle_to_matrix(rotation),
            conversions.axis_angle_to_rotation_matrix(rotation),
            rtol=0,
            atol=2e-6,
        )

    @pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 0.3162, 0.3163, 1.0, math.pi - 1e-6, 4.0])
    def test_gradcheck(self, angle):
        axis = torch.tensor([[0.6, -0.64, 0.48]], dtype=torch.float64)
        rotation = (axis * angle).requires_grad_()
        assert torch.autograd.gradcheck(axis_angle_to_matrix, (rotation,))
        assert torch.autograd.gradgradcheck(axis_angle_to_matrix, (rotation,))

    @pytest.mark.parametrize("scale", [0.0, 1e-6, 0.1, 0.3162, 0.3163, 1.0, 9.0])
    def test_is_its_twin(self, device, scale):
        """Values, gradients and the gradients' gradients, on both sides of the series' limit."""
        results = []
        for function in (axis_angle_to_matrix, axis_angle_to_matrix_ref):
            rotation = (scale * random_rotations(20).float()).to(device).requires_grad_()
            matrix = function(rotation)
            weights = torch.linspace(-1, 1, matrix.numel(), device=device).view(matrix.shape)
            (gradient,) = torch.autograd.grad((matrix * weights).sum(), rotation, create_graph=True)
            (second,) = torch.autograd.grad(gradient.square().sum(), rotation)
            results.append((matrix, gradient, second))
        for one, two in zip(*results):
            torch.testing.assert_close(one, two, rtol=1e-5, atol=2e-6 * max(1, scale))

    def test_gradient_at_zero_is_the_generator(self):
        rotation = torch.zeros(3, requires_grad=True)
        (gradient,) = torch.autograd.grad(axis_angle_to_matrix(rotation)[2, 1], rotation)
        assert gradient.tolist() == [1.0, 0.0, 0.0]

    def test_float32_gradient_stays_accurate(self):
        rotation = torch.cat([random_rotations(200, 2, 3.0), random_rotations(200, 3, 0.5)])
        cotangent = torch.randn(3, 3, generator=torch.Generator().manual_seed(4)).double()
        gradients = []
        for dtype in (torch.float32, torch.float64):
            leaf = rotation.to(dtype).requires_grad_()
            loss = (axis_angle_to_matrix(leaf) * cotangent.to(dtype)).sum()
            gradients.append(torch.autograd.grad(loss, leaf)[0].double())
        # measured 7e-7 on x86-64
        torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-5)

    @pytest.mark.parametrize("shape", [(2, 4), (), (3, 3, 1)])
    def test_bad_shape(self, shape):
        with pytest.raises(ValueError, match=r"rotation is \[.*\], expected \[\.\.\., 3\]"):
            axis_angle_to_matrix(torch.zeros(shape))


class TestMatrixToAxisAngle:
    @pytest.mark.parametrize("largest", [1e-9, 1e-3, 3.0, math.pi])
    def test_round_trip(self, largest):
        rotation = random_rotations(100, 5, largest)
        back = matrix_to_axis_angle(axis_angle_to_matrix(rotation))
        torch.testing.assert_close(back, rotation, rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9, 0.0])
    def test_near_pi(self, gap):
        """Compared as matrices: at pi both signs of the axis are right."""
        axis = random_rotations(50, 6)
        axis = torch.cat([axis, torch.eye(3, dtype=torch.float64)])
        matrix = axis_angle_to_matrix(axis / axis.norm(dim=1, keepdim=True) * (math.pi - gap))
        back = matrix_to_axis_angle(matrix)
        assert (back.norm(dim=1) <= math.pi + 1e-12).all()
        torch.testing.assert_close(axis_angle_to_matrix(back), matrix, rtol=0, atol=1e-12)

    def test_identity_and_dtype(self):
        back = matrix_to_axis_angle(torch.eye(3).expand(2, 4, 3, 3))
        assert back.dtype == torch.float32
        assert torch.equal(back, torch.zeros(2, 4, 3))

    def test_float32_matrix(self):
        """Rounded matrices of large angles: measured 1.2e-7 on x86-64."""
        rotation = random_rotations(100, 7, 3.0)
        back = matrix_to_axis_angle(axis_angle_to_matrix(rotation).float())
        torch.testing.assert_close(back, rotation.float(), rtol=0, atol=5e-6)

    @pytest.mark.parametrize("scale", [-1.0, 2.0, math.nan])
    def test_not_a_rotation(self, scale):
        with pytest.raises(ValueError, match="matrix is not a rotation, expected R R"):
            matrix_to_axis_angle(scale * torch.eye(3))

    def test_bad_shape(self):
        with pytest.raises(ValueError, match=r"matrix is \[3, 4\], expected \[\.\.\., 3, 3\]"):
            matrix_to_axis_angle(torch.zeros(3, 4))


class TestPaperPose:
    def setup_method(self):
        generator = torch.Generator().manual_seed(8)
        self.rotation = axis_angle_to_matrix(random_rotations(5, 9))
        self.shift = torch.randn(5, 3, generator=generator, dtype=torch.float64) * 100
        self.shift[:, 2] -= 1000
        self.vertices = torch.randn(5, 7, 3, generator=generator, dtype=torch.float64) * 80

    def test_same_camera_points(self):
        """Phi(v) = T^-1 (v - t), literally, against R v + s."""
        orientation, place = to_paper_pose(self.rotation, self.shift)
        phi = (
            torch.linalg.inv(orientation)[:, None] @ (self.vertices - place[:, None])[..., None]
        )[..., 0]
        ours = Camera(position=(0, 0, 0)).to_camera(self.vertices, self.rotation, self.shift)
        torch.testing.assert_close(phi, ours)

    def test_round_trip(self):
        rotation, shift = from_paper_pose(*to_paper_pose(self.rotation, self.shift))
        torch.testing.assert_close(rotation, self.rotation)
        torch.testing.assert_close(shift, self.shift)

    def test_frontal(self):
        """A face 1 m in front of the camera: the camera stands 1 m in front of the face."""
        orientation, place = to_paper_pose(torch.eye(3)[None], torch.tensor([[0.0, 0, -1000]]))
        assert torch.equal(orientation, torch.eye(3)[None])
        assert place.tolist() == [[0, 0, 1000]]

    @pytest.mark.parametrize(
        ("function", "names"),
        [(to_paper_pose, ("rotation", "shift")), (from_paper_pose, ("orientation", "place"))],
    )
    def test_bad_shapes(self, function, names):
        with pytest.raises(ValueError, match=rf"{names[0]} is \[3, 3\], expected \[B, 3, 3\]"):
            function(torch.eye(3), torch.zeros(1, 3))
        with pytest.raises(ValueError, match=rf"{names[1]} is \[3\], expected \[B, 3\] with B = 1"):
            function(torch.eye(3)[None], torch.zeros(3))


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
