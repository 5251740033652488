"""Points through rigid maps: by hand, against the plain twin, gradients, the same bits always."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.pose import (
    axis_angle_to_matrix,
    axis_angle_to_matrix_ref,
    from_paper_pose,
    matrix_to_axis_angle,
    to_paper_pose,
    transform_points,
    transform_points_ref,
)
from tests.helpers.rotations import random_rotations


def inputs(batch=3, points=700, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    shapes = (batch, points, 3), (batch, 3, 3), (batch, 3)
    tensors = (torch.randn(*shape, generator=generator, dtype=dtype) for shape in shapes)
    return [t.requires_grad_() for t in tensors]


def step(function, leaves):
    out = function(*leaves)
    (out * torch.linspace(-1, 1, out.numel()).reshape(out.shape).to(out)).sum().backward()
    return [out.detach(), *(leaf.grad for leaf in leaves)]


def test_by_hand():
    """A quarter turn about z takes x to y, then the shift."""
    matrix = torch.tensor([[[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]])
    out = transform_points(torch.tensor([[[1.0, 2, 3]]]), matrix, torch.tensor([[10.0, 20, 30]]))
    assert out.tolist() == [[[8, 21, 33]]]


def test_is_its_twin(device):
    one, two = (
        step(f, [t.detach().to(device).requires_grad_() for t in inputs()])
        for f in (transform_points, transform_points_ref)
    )
    for a, b in zip(one, two):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-5)


def test_gradcheck():
    assert gradcheck(transform_points, inputs(2, 5, dtype=torch.float64))


@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_gradient_of_one_input_alone(wanted):
    every = step(transform_points, inputs())[1 + wanted]
    leaves = [t.detach().requires_grad_(k == wanted) for k, t in enumerate(inputs())]
    assert torch.equal(step(transform_points, leaves)[1 + wanted], every)


def test_other_memory_layouts():
    points, matrix, shift = inputs()
    plain = transform_points(points, matrix, shift)
    turned = transform_points(
        points.mT.contiguous().mT, matrix.mT.contiguous().mT, shift[:1].expand(3, -1)
    )
    assert torch.equal(turned[0], plain[0])


def test_same_bits_for_any_thread_count():
    before, results = torch.get_num_threads(), []
    try:
        for num_threads in (1, 2, 5):
            torch.set_num_threads(num_threads)
            results.append(step(transform_points, inputs()))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


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
