"""Lambertian shading: closed forms, the twin, gradients, errors."""

import math

import pytest
import torch
import torch.nn.functional as F

from mofa_nvdr.scene.lighting import ambient_light, directional_light, rotate_sh
from mofa_nvdr.scene.pose import axis_angle_to_matrix
from mofa_nvdr.shaders.sh_lambert import (
    sh_irradiance,
    sh_irradiance_ref,
    sh_lambert,
    sh_lambert_ref,
)


def random_inputs(*shape: int, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """Unit normals and albedo [*shape, 3], light [B, 9, 3]."""
    generator = torch.Generator().manual_seed(0)
    normal = F.normalize(torch.randn(*shape, 3, generator=generator, dtype=torch.float64), dim=-1)
    albedo = torch.rand(*shape, 3, generator=generator, dtype=torch.float64)
    light = torch.randn(shape[0], 9, 3, generator=generator, dtype=torch.float64)
    return [x.to(dtype) for x in (normal, albedo, light)]


class TestShLambert:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("shape", [(2, 5), (2, 4, 6), (1, 1)])
    def test_pixels_and_vertices(self, shape, dtype):
        normal, albedo, light = random_inputs(*shape, dtype=dtype)
        color = sh_lambert(normal, albedo, light)
        assert color.shape == (*shape, 3)
        assert color.dtype == dtype

    def test_one_function_for_both(self):
        normal, albedo, light = random_inputs(2, 4, 6)
        pixels = sh_lambert(normal, albedo, light)
        vertices = sh_lambert(normal.flatten(1, 2), albedo.flatten(1, 2), light)
        assert torch.equal(pixels.flatten(1, 2), vertices)

    def test_constant_light_shades_every_normal_alike(self):
        """H_0 = pi / sqrt(4 pi) = sqrt(pi) / 2 = 0.886."""
        normal, albedo, light = random_inputs(2, 50)
        light[:, 1:] = 0
        light[:, 0] = torch.tensor([0.7, 0.5, 0.3])
        want = albedo * light[:, :1] * (math.sqrt(math.pi) / 2)
        torch.testing.assert_close(sh_lambert(normal, albedo, light), want)

    def test_light_from_above_is_brightest_on_top(self):
        normal, _, _ = random_inputs(1, 500)
        normal[0, 0] = torch.tensor([0.0, 1.0, 0.0])
        normal[0, 1] = torch.tensor([0.0, -1.0, 0.0])
        light = directional_light(torch.tensor([[0.0, 3.0, 0.0]])).double()
        irradiance = sh_irradiance(normal, light)[..., 0]
        assert irradiance.argmax() == 0
        # (3 + 16 t + 15 t^2) / 32 at t = 1 and -1
        torch.testing.assert_close(irradiance[0, :2], torch.tensor([34 / 32, 2 / 32]).double())

    def test_ninth_function_by_hand(self):
        """x^2 - y^2: constant sqrt(15 / 16 pi) pi / 4, positive on x, negative on y."""
        light = torch.zeros(1, 9, 3, dtype=torch.float64)
        light[:, 8] = 1
        h = math.sqrt(15 / (16 * math.pi)) * math.pi / 4
        want = torch.tensor([h, -h, 0], dtype=torch.float64)[None, :, None].expand(1, 3, 3)
        got = sh_irradiance(torch.eye(3, dtype=torch.float64)[None], light)
        torch.testing.assert_close(got, want)

    def test_turning_light_and_normals_together_changes_nothing(self):
        normal, albedo, light = random_inputs(3, 40)
        turn = axis_angle_to_matrix(torch.tensor([[0.3, -1.2, 2.0]], dtype=torch.float64))
        turned = sh_lambert(normal @ turn.mT, albedo, rotate_sh(light, turn))
        torch.testing.assert_close(turned, sh_lambert(normal, albedo, light))

    def test_not_clamped(self):
        normal, albedo, _ = random_inputs(1, 5)
        light = ambient_light(3.0).double()[None]
        torch.testing.assert_close(sh_lambert(normal, albedo, light), 3 * albedo)
        torch.testing.assert_close(sh_lambert(normal, albedo, -light), -3 * albedo)

    @pytest.mark.parametrize("shape", [(2, 7), (2, 3, 4)])
    def test_equals_its_twin(self, shape):
        """Forward and backward in float64, normals of any length: measured 1.8e-15 on x86-64."""
        inputs = [x.requires_grad_() for x in random_inputs(*shape)]
        inputs[0] = (inputs[0].detach() * 1.7).requires_grad_()
        color, reference = sh_lambert(*inputs), sh_lambert_ref(*inputs)
        torch.testing.assert_close(color, reference, rtol=1e-12, atol=1e-12)
        cotangent = torch.randn(color.shape, generator=torch.Generator().manual_seed(1)).double()
        ours = torch.autograd.grad(color, inputs, cotangent)
        theirs = torch.autograd.grad(reference, inputs, cotangent)
        for name, a, b in zip(("normal", "albedo", "light"), ours, theirs):
            torch.testing.assert_close(
                a, b, rtol=1e-12, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}"
            )

    def test_float32_equals_its_float64_twin(self):
        """Measured 9e-7 on x86-64."""
        inputs = random_inputs(2, 60, 60)
        color = sh_lambert(*(x.float() for x in inputs))
        torch.testing.assert_close(color.double(), sh_lambert_ref(*inputs), rtol=0, atol=5e-6)

    def test_noncontiguous_inputs(self):
        """Planes that were permuted to channels-last, as a renderer hands them over."""
        normal, albedo, light = random_inputs(2, 4, 6)
        planes = [x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1) for x in (normal, albedo)]
        planes = [x.requires_grad_() for x in planes]
        color = sh_lambert(*planes, light)
        torch.testing.assert_close(color, sh_lambert_ref(normal, albedo, light))
        cotangent = torch.randn(2, 3, 4, 6, dtype=torch.float64).permute(0, 2, 3, 1)
        (ours,) = torch.autograd.grad(color, planes[:1], cotangent)
        (theirs,) = torch.autograd.grad(sh_lambert_ref(*planes, light), planes[:1], cotangent)
        torch.testing.assert_close(ours, theirs)

    def test_gradcheck(self):
        inputs = [x.requires_grad_() for x in random_inputs(2, 2, 3)]
        assert torch.autograd.gradcheck(sh_lambert, inputs)

    @pytest.mark.parametrize("which", [0, 1, 2])
    def test_gradient_of_one_input_alone(self, which):
        inputs = random_inputs(1, 4)
        inputs[which].requires_grad_()
        (ours,) = torch.autograd.grad(sh_lambert(*inputs).sum(), inputs[which])
        (theirs,) = torch.autograd.grad(sh_lambert_ref(*inputs).sum(), inputs[which])
        torch.testing.assert_close(ours, theirs)

    def test_second_derivative_is_refused(self):
        """Its backward formula is differentiable once; silence would be a wrong number."""
        normal, albedo, light = random_inputs(1, 4)
        normal.requires_grad_()
        loss = sh_lambert(normal, albedo, light).square().sum()
        (first,) = torch.autograd.grad(loss, normal, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            first.sum().backward()

    def test_on_the_device(self, device):
        inputs = [x.to(device) for x in random_inputs(2, 8, 8, dtype=torch.float32)]
        color = sh_lambert(*inputs)
        assert color.device.type == device.type
        torch.testing.assert_close(color, sh_lambert_ref(*inputs), rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize(
        ("shapes", "message"),
        [
            (
                ((2, 5, 4), (2, 5, 4), (2, 9, 3)),
                r"normal is \[2, 5, 4\], expected \[B, \.\.\., 3\]",
            ),
            (((5, 3), (5, 3), (1, 9, 3)), r"normal is \[5, 3\], expected \[B, \.\.\., 3\]"),
            (((2, 5, 3), (1, 5, 3), (2, 9, 3)), r"albedo is \[1, 5, 3\], expected \[2, 5, 3\]"),
            (((2, 5, 3), (2, 5, 3), (2, 3, 9)), r"light is \[2, 3, 9\], expected .* with B = 2"),
            (((2, 5, 3), (2, 5, 3), (1, 9, 3)), r"light is \[1, 9, 3\], expected .* with B = 2"),
        ],
    )
    def test_bad_shapes(self, shapes, message):
        with pytest.raises(ValueError, match=f"sh_lambert: {message}"):
            sh_lambert(*(torch.zeros(shape) for shape in shapes))

    def test_bad_dtypes(self):
        normal, albedo, light = random_inputs(2, 5)
        with pytest.raises(
            TypeError, match="inputs are torch.float32, torch.float64, expected one"
        ):
            sh_lambert(normal, albedo.float(), light)


class TestShIrradiance:
    def test_is_the_shading_of_white(self):
        normal, albedo, light = random_inputs(2, 4, 6)
        white = sh_lambert(normal, torch.ones_like(albedo), light)
        assert torch.equal(sh_irradiance(normal, light), white)
        torch.testing.assert_close(sh_irradiance_ref(normal, light), white)

    def test_gradcheck(self):
        normal, _, light = random_inputs(2, 5)
        assert torch.autograd.gradcheck(
            sh_irradiance, (normal.requires_grad_(), light.requires_grad_())
        )

    def test_bad_light(self):
        with pytest.raises(
            ValueError, match=r"sh_irradiance: light is \[9, 3\], expected \[B, 9, 3\]"
        ):
            sh_irradiance(torch.zeros(2, 5, 3), torch.zeros(9, 3))

    def test_bad_dtypes(self):
        with pytest.raises(TypeError, match="sh_irradiance: inputs are"):
            sh_irradiance(torch.zeros(2, 5, 3), torch.zeros(2, 9, 3).double())
