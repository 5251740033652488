"""SH basis and its rotation, the ambient offset, lamps, and sRGB."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mofa_nvdr.scene.light_sources import (
    panorama_directions,
)
from mofa_nvdr.scene.lighting import (
    AMBIENT_OFFSET,
    ambient_light,
    directional_light,
    linear_to_srgb,
    rotate_sh,
    sh_basis,
    sh_basis_radiance,
    srgb_to_linear,
    total_light,
)
from mofa_nvdr.scene.pose import axis_angle_to_matrix
from tests.helpers.lights import brute_force_irradiance, random_directions, random_light


class TestShBasis:
    def test_values_on_the_axes(self):
        """Rows x, y, z; the constants as Ramamoorthi and Hanrahan print them, 2 c2 = 1.0233 ..."""
        got = sh_basis(torch.eye(3, dtype=torch.float64))
        c1, c2, c4, c5 = 0.429043, 0.511664, 0.886227, 0.247708
        want = [
            [c4, 0, 0, 2 * c2, 0, 0, -c5, 0, c1],
            [c4, 2 * c2, 0, 0, 0, 0, -c5, 0, -c1],
            [c4, 0, 2 * c2, 0, 0, 0, 2 * c5, 0, 0],
        ]
        torch.testing.assert_close(got, torch.tensor(want).double(), rtol=0, atol=2e-6)

    def test_mixed_functions(self):
        """xy, yz and xz at the middle of the edges: 1.092548 / 2, times pi / 4 with the lobe."""
        middles = F.normalize(torch.tensor([[1.0, 1, 0], [0, 1, 1], [1, 0, 1]]).double(), dim=-1)
        want = torch.eye(3, dtype=torch.float64) * 1.092548 / 2
        torch.testing.assert_close(
            sh_basis_radiance(middles)[:, [4, 5, 7]], want, rtol=0, atol=1e-6
        )
        torch.testing.assert_close(
            sh_basis(middles)[:, [4, 5, 7]], want * math.pi / 4, rtol=0, atol=1e-6
        )

    def test_orthonormal(self):
        """Gauss-Legendre in y times equal steps in azimuth integrates degree 4 exactly."""
        nodes, weights = np.polynomial.legendre.leggauss(4)
        y = torch.from_numpy(nodes)[:, None].expand(4, 8)
        azimuth = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
        flat = (1 - y * y).sqrt()
        directions = torch.stack([flat * azimuth.sin(), y, flat * azimuth.cos()], dim=-1)
        solid_angle = (torch.from_numpy(weights)[:, None] * (math.pi / 4)).expand(4, 8)
        basis = sh_basis_radiance(directions).flatten(0, 1)
        gram = (basis * solid_angle.reshape(-1, 1)).mT @ basis
        torch.testing.assert_close(gram, torch.eye(9, dtype=torch.float64))

    def test_lobe_is_the_convolution_with_the_clamped_cosine(self):
        """Irradiance of each function, integrated over a fine panorama; measured 2.6e-4."""
        directions = panorama_directions(64, 128)
        normals = random_directions(5)
        for k in range(9):
            radiance = sh_basis_radiance(directions)[..., k : k + 1].expand(-1, -1, 3)
            irradiance = brute_force_irradiance(radiance, normals)[:, 0]
            torch.testing.assert_close(irradiance, sh_basis(normals)[:, k], rtol=0, atol=2e-3)

    @pytest.mark.parametrize("basis", [sh_basis, sh_basis_radiance])
    def test_shape_dtype_gradient(self, basis):
        assert basis(torch.zeros(2, 4, 3)).shape == (2, 4, 9)
        assert basis(torch.zeros(3)).dtype == torch.float32
        assert torch.autograd.gradcheck(basis, random_directions(3).requires_grad_())

    @pytest.mark.parametrize("basis", [sh_basis, sh_basis_radiance])
    def test_bad_shape(self, basis):
        with pytest.raises(
            ValueError, match=rf"{basis.__name__}: directions are \[3, 2\], expected"
        ):
            basis(torch.zeros(3, 2))


class TestTotalLight:
    def test_code_zero_is_ambient(self):
        light = total_light(torch.zeros(2, 9, 3))
        assert AMBIENT_OFFSET == 0.7
        torch.testing.assert_close(
            light, ambient_light(0.7 * math.sqrt(math.pi) / 2).expand(2, 9, 3)
        )
        irradiance = sh_basis(random_directions(20).float()) @ light[0]
        torch.testing.assert_close(irradiance, torch.full((20, 3), 0.7 * math.sqrt(math.pi) / 2))

    def test_gradient_and_input_untouched(self):
        light = torch.zeros(1, 9, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(total_light, light)
        assert (light == 0).all()

    @pytest.mark.parametrize("shape", [(27,), (2, 27), (2, 3, 9)])
    def test_bad_shape(self, shape):
        with pytest.raises(
            ValueError, match=r"total_light: light is .*, expected \[\.\.\., 9, 3\]"
        ):
            total_light(torch.zeros(shape))


class TestDirectionalLight:
    def test_profile(self):
        """(3 + 16 t + 15 t^2) / 32 at cosine t, whatever the direction and its length."""
        towards = random_directions(4, 2)
        normals = random_directions(6, 3)
        irradiance = sh_basis(normals) @ directional_light(5 * towards)  # [4, 6, 3]
        t = (towards @ normals.mT)[..., None]
        want = ((3 + 16 * t + 15 * t * t) / 32).expand(4, 6, 3)
        torch.testing.assert_close(irradiance, want)

    def test_channels_are_separate(self):
        """Writing to one coefficient must not write to its neighbours."""
        light = directional_light(torch.tensor([0.0, 0, 1]))
        light[0, 0] += 1
        assert light[0, 0] == light[0, 1] + 1

    def test_bad_shape(self):
        with pytest.raises(ValueError, match=r"directions are \[2\], expected"):
            directional_light(torch.ones(2))


class TestRotateSh:
    def test_moves_the_light(self):
        """A light at d comes from R d afterwards."""
        towards = random_directions(3, 4)
        turn = axis_angle_to_matrix(torch.tensor([0.4, 1.1, -2.0], dtype=torch.float64))
        torch.testing.assert_close(
            rotate_sh(directional_light(towards), turn), directional_light(towards @ turn.mT)
        )

    def test_quarter_turn_about_y(self):
        """+z goes to +x, +x to -z, so the coefficient of z becomes that of x."""
        light = torch.zeros(9, 3, dtype=torch.float64)
        light[2], light[4] = 1.0, 0.5  # z and xy
        turn = axis_angle_to_matrix(torch.tensor([0, math.pi / 2, 0], dtype=torch.float64))
        want = torch.zeros(9, 3, dtype=torch.float64)
        want[3], want[5] = 1.0, -0.5  # x and yz
        torch.testing.assert_close(rotate_sh(light, turn), want)

    def test_equals_turning_the_normals(self):
        light, normals = random_light(), random_directions(30)
        turn = axis_angle_to_matrix(random_directions(5, 5) * 2)
        turned = sh_basis(normals @ turn.mT) @ rotate_sh(light, turn)  # [5, 30, 3]
        torch.testing.assert_close(turned, (sh_basis(normals) @ light).expand(5, 30, 3))

    def test_composes_and_keeps_energy(self):
        light = random_light()
        first, second = axis_angle_to_matrix(random_directions(2, 6) * 2)
        once = rotate_sh(light, second @ first)
        torch.testing.assert_close(once, rotate_sh(rotate_sh(light, first), second))
        torch.testing.assert_close(once.square().sum(), light.square().sum())

    def test_float32_is_computed_in_float64(self):
        light = random_light().float()
        back = light
        quarter = axis_angle_to_matrix(torch.tensor([0.0, math.pi / 2, 0], dtype=torch.float64))
        for _ in range(4):
            back = rotate_sh(back, quarter)
        assert back.dtype == torch.float32
        torch.testing.assert_close(back, light, rtol=0, atol=1e-6)  # measured 1.2e-7 on x86-64

    def test_bad_shapes(self):
        with pytest.raises(ValueError, match=r"coefficients is \[27\], expected \[\.\.\., 9, 3\]"):
            rotate_sh(torch.zeros(27), torch.eye(3))
        with pytest.raises(
            ValueError, match=r"rotation_matrix is \[3\], expected \[\.\.\., 3, 3\]"
        ):
            rotate_sh(torch.zeros(9, 3), torch.zeros(3))


class TestSrgb:
    def test_known_values(self):
        encoded = torch.tensor([0.0, 0.04045, 0.5, 1.0, -0.5], dtype=torch.float64)
        want = torch.tensor([0.0, 0.04045 / 12.92, 0.2140411, 1.0, -0.2140411]).double()
        torch.testing.assert_close(srgb_to_linear(encoded), want, rtol=0, atol=1e-6)

    def test_inverse(self):
        values = torch.linspace(-1, 2, 301, dtype=torch.float64)
        # the standard's two pieces meet to 1e-6 only
        torch.testing.assert_close(
            linear_to_srgb(srgb_to_linear(values)), values, rtol=0, atol=1e-6
        )

    def test_gradient_is_finite(self):
        for function in (srgb_to_linear, linear_to_srgb):
            values = torch.tensor([-0.5, 0.0, 0.001, 0.5], requires_grad=True)
            (gradient,) = torch.autograd.grad(function(values).sum(), values)
            assert torch.isfinite(gradient).all()
            assert (gradient[2:] > 0).all()
