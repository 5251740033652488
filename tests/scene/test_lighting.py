"""SH basis and its rotation, light probes, exposure, presets, and the Radiance reader."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mofa_nvdr.scene.hdr import read_hdr, write_hdr
from mofa_nvdr.scene.light_sources import (
    encode_light,
    light_from_probe,
    light_presets,
    load_light,
    normalize_exposure,
    panorama_directions,
)
from mofa_nvdr.scene.lighting import (
    AMBIENT_OFFSET,
    DEFAULT_EXPOSURE,
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

PROBES = (
    "brown_photostudio_02_512",
    "kloppenheim_05_512",
    "leadenhall_market_512",
    "noon_grass_512",
    "potsdamer_platz_512",
    "st_fagans_interior_512",
)


def random_directions(count: int, seed: int = 0) -> torch.Tensor:
    """Unit vectors [count, 3], float64."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, 3, generator=generator, dtype=torch.float64), dim=-1)


def random_light(seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(9, 3, generator=generator, dtype=torch.float64)


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


def brute_force_irradiance(radiance: torch.Tensor, normals: torch.Tensor) -> torch.Tensor:
    """Sum radiance times clamped cosine times solid angle over a panorama: [N, 3]."""
    height, width = radiance.shape[:2]
    directions = panorama_directions(height, width).flatten(0, 1)
    row = torch.arange(height, dtype=torch.float64)
    solid_angle = (row * math.pi / height).cos() - ((row + 1) * math.pi / height).cos()
    weight = (solid_angle * 2 * math.pi / width).repeat_interleave(width)
    cosine = (normals @ directions.mT).clamp(min=0)
    return (cosine * weight) @ radiance.flatten(0, 1).double()


class TestPanoramaDirections:
    def test_axes(self):
        """Up, behind the face, to the right, to the left, behind the camera."""
        directions = panorama_directions(9, 17)
        assert (directions[0, :, 1] > 0.95).all()
        centre = torch.tensor([[0.0, 0, -1]], dtype=torch.float64)
        torch.testing.assert_close(directions[4, 8:9], centre)
        assert directions[4, 12, 0] > 0.95  # three quarters across: +x
        assert directions[4, 4, 0] < -0.95
        assert directions[4, 0, 2] > 0.95  # both edges: +z
        assert directions[4, 16, 2] > 0.95
        torch.testing.assert_close(directions.norm(dim=-1), torch.ones(9, 17).double())


class TestLightFromProbe:
    def test_constant(self):
        """sqrt(4 pi) L, exactly at any size; the others vanish but for the sampling of a pixel."""
        for height in (4, 64):
            light = light_from_probe(torch.full((height, 2 * height, 3), 0.25))
            torch.testing.assert_close(
                light[0], torch.full((3,), 0.25 * math.sqrt(4 * math.pi)).double()
            )
            assert light[1:].abs().max() < 0.25 * 10 / height**2
        irradiance = sh_basis(random_directions(20)) @ light
        torch.testing.assert_close(
            irradiance, torch.full((20, 3), 0.25 * math.pi).double(), rtol=1e-3, atol=0
        )

    def test_recovers_coefficients(self):
        """A panorama painted with known coefficients gives them back: measured 1.3e-3, 8e-5."""
        light = random_light()
        radiance = sh_basis_radiance(panorama_directions(64, 128)) @ light
        torch.testing.assert_close(light_from_probe(radiance), light, rtol=0, atol=2e-3)
        fine = sh_basis_radiance(panorama_directions(256, 512)) @ light
        torch.testing.assert_close(light_from_probe(fine), light, rtol=0, atol=1e-4)

    @pytest.mark.parametrize("towards", [(0.0, 1, 0), (0, 0, 1), (1, 0, 0), (0.6, 0.0, -0.8)])
    def test_hemisphere(self, towards):
        """Light L from one half of the sphere: irradiance (1 + cos) / 2 * pi L.

        This irradiance has bands 0 and 1 alone (the even ones vanish), so order 2 is exact.
        """
        towards = torch.tensor(towards, dtype=torch.float64)
        lit = (panorama_directions(256, 512) @ towards > 0).double()[..., None].expand(-1, -1, 3)
        normals = random_directions(50)
        irradiance = sh_basis(normals) @ light_from_probe(0.8 * lit)
        want = 0.8 * math.pi * (1 + normals @ towards)[:, None].expand(50, 3) / 2
        # measured 7e-3: the edge of a hemisphere cuts pixels
        torch.testing.assert_close(irradiance, want, rtol=0, atol=0.015)

    def test_cosine_lobe(self):
        """Radiance max(0, cos): irradiance 2 pi / 3 facing it, as brute force everywhere else."""
        towards = torch.tensor([0.0, 0.6, 0.8], dtype=torch.float64)
        radiance = (
            (panorama_directions(128, 256) @ towards).clamp(min=0)[..., None].expand(-1, -1, 3)
        )
        light = light_from_probe(radiance)
        normals = torch.cat([towards[None], random_directions(50)])
        irradiance = sh_basis(normals) @ light
        exact = brute_force_irradiance(radiance, normals)
        torch.testing.assert_close(exact[0, 0].item(), 2 * math.pi / 3, rtol=0, atol=1e-3)
        # what order 2 leaves out: measured 0.016, under 1 % of the peak
        torch.testing.assert_close(irradiance, exact, rtol=0, atol=0.03)

    @pytest.mark.parametrize("towards", [(0.0, 0.3, 1), (1, 0, 0), (0, 1, 0), (-0.5, -0.7, -0.4)])
    def test_small_disc(self, towards):
        """A disc of radius 0.1 acts as a directional light of its radiance times solid angle."""
        towards = F.normalize(torch.tensor(towards, dtype=torch.float64), dim=0)
        inside = panorama_directions(256, 512) @ towards > math.cos(0.1)
        light = light_from_probe(100.0 * inside.double()[..., None].expand(-1, -1, 3))
        power = 100 * 2 * math.pi * (1 - math.cos(0.1))
        # measured 0.024 of at most 0.55: whole pixels count at the disc's edge
        torch.testing.assert_close(light / power, directional_light(towards), rtol=0, atol=0.03)

    def test_float32_array(self):
        image = np.random.default_rng(0).random((8, 16, 3)).astype(np.float32)
        light = light_from_probe(image)
        assert light.shape == (9, 3)
        torch.testing.assert_close(light, light_from_probe(torch.from_numpy(image).double()))

    @pytest.mark.parametrize("shape", [(8, 16), (8, 16, 4), (0, 16, 3)])
    def test_bad_shape(self, shape):
        with pytest.raises(
            ValueError, match=r"light_from_probe: image is .*, expected \[H, W, 3\]"
        ):
            light_from_probe(np.zeros(shape))

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_not_finite(self, value):
        with pytest.raises(ValueError, match="image holds values that are not finite"):
            light_from_probe(np.full((4, 8, 3), value))


class TestNormalizeExposure:
    def test_mean_irradiance_and_colour(self):
        """The average over all normals, weighted for luminance, is the target."""
        light = random_light()
        light[0] = torch.tensor([4.0, 2.0, 1.0])
        scaled = normalize_exposure(light, 0.5)
        directions = panorama_directions(64, 128)
        weight = (1 - directions[..., 1] ** 2).sqrt()[..., None]
        mean = ((sh_basis(directions) @ scaled) * weight).sum((0, 1)) / weight.sum()
        luminance = mean @ torch.tensor([0.2126, 0.7152, 0.0722], dtype=torch.float64)
        assert luminance.item() == pytest.approx(0.5, abs=1e-3)
        torch.testing.assert_close(scaled / light, (scaled / light)[0, 0].expand(9, 3))

    def test_default(self):
        torch.testing.assert_close(normalize_exposure(7 * ambient_light()), ambient_light())
        assert (
            sh_basis(torch.tensor([0.0, 0.0, 1.0])) @ ambient_light()
        ).tolist() == pytest.approx([DEFAULT_EXPOSURE] * 3)

    def test_turning_keeps_it(self):
        light = normalize_exposure(directional_light(torch.tensor([0.3, 0.4, -1.0])))
        turned = rotate_sh(light, axis_angle_to_matrix(torch.tensor([0.0, 2.0, 0.0])))
        torch.testing.assert_close(normalize_exposure(turned), turned)

    def test_no_light(self):
        with pytest.raises(ValueError, match="mean irradiance of 0, expected more than 0"):
            normalize_exposure(torch.zeros(9, 3))

    def test_bad_shape(self):
        with pytest.raises(ValueError, match=r"light is \[9\], expected \[\.\.\., 9, 3\]"):
            normalize_exposure(torch.zeros(9))


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


class TestEncodeLight:
    def test_ambient(self):
        """Irradiance 0.2140411 everywhere is encoded as 0.5 everywhere."""
        encoded = encode_light(ambient_light(0.2140411).double())
        torch.testing.assert_close(encoded, ambient_light(0.5).double(), rtol=0, atol=2e-3)

    def test_follows_the_encoded_irradiance(self):
        """Softer than the linear light, and near the encoded shading of a grey surface."""
        light = (
            ambient_light(0.15) + 0.3 * directional_light(torch.tensor([0.5, 0.5, 1.0]))
        ).double()
        normals = random_directions(200)
        linear = sh_basis(normals) @ light
        encoded = sh_basis(normals) @ encode_light(light)
        # measured 0.02
        torch.testing.assert_close(encoded, linear_to_srgb(linear), rtol=0, atol=0.04)
        grey = torch.tensor(0.5, dtype=torch.float64)
        shown = linear_to_srgb(srgb_to_linear(grey) * linear)
        torch.testing.assert_close(grey * encoded, shown, rtol=0, atol=0.04)

    def test_dtype(self):
        assert encode_light(ambient_light()).dtype == torch.float32

    def test_bad_shape(self):
        with pytest.raises(
            ValueError, match=r"encode_light: light is \[1, 9, 3\], expected \[9, 3\]"
        ):
            encode_light(torch.zeros(1, 9, 3))


class TestLightPresets:
    @pytest.mark.parametrize("name", list(light_presets()))
    def test_exposes_a_face(self, name):
        """Normals that a frontal face shows: neither black on average nor burnt out anywhere."""
        light = light_presets()[name]
        assert light.shape == (9, 3)
        assert light.dtype == torch.float32
        normals = random_directions(500).float()
        irradiance = sh_basis(normals[normals[:, 2] > 0.2]) @ light
        assert 0.35 < irradiance.mean() < 1.05
        assert irradiance.min() > 0.05
        assert irradiance.max() < 1.55

    def test_directions(self):
        presets = light_presets()
        left, right, top, bottom, front = torch.tensor(
            [[-0.8, 0, 0.6], [0.8, 0, 0.6], [0, 0.8, 0.6], [0, -0.8, 0.6], [0, 0, 1]]
        )

        def brighter(name, here, there):
            return ((sh_basis(here) - sh_basis(there)) @ presets[name] > 0.1).all()

        assert brighter("key_left", left, right)
        assert brighter("key_right", right, left)
        assert brighter("top", top, bottom)
        assert brighter("below", bottom, top)
        assert brighter("front", front, left)
        assert brighter("rim", left, front) and brighter("rim", right, front)
        warm, cool = sh_basis(left) @ presets["warm_cool"], sh_basis(right) @ presets["warm_cool"]
        assert warm[0] > warm[2] + 0.1 and cool[2] > cool[0] + 0.1

    def test_fresh_each_time(self):
        light_presets()["ambient"].zero_()
        assert light_presets()["ambient"][0, 0] > 0


class TestLoadLight:
    def test_preset(self):
        assert torch.equal(load_light("key_left"), light_presets()["key_left"])

    @pytest.mark.parametrize("radiance", [0.001, 1.0, 1000.0])
    def test_grey_probe_is_the_ambient_preset(self, tmp_path, radiance):
        path = tmp_path / "grey.HDR"
        write_hdr(path, np.full((32, 64, 3), radiance))
        torch.testing.assert_close(load_light(str(path)), ambient_light(), rtol=0, atol=3e-3)

    def test_unknown(self):
        with pytest.raises(
            ValueError, match="sunset: neither an .hdr light probe nor a preset; .*ambient, "
        ):
            load_light("sunset")

    def test_missing_file(self, tmp_path):
        path = tmp_path / "none.hdr"
        with pytest.raises(ValueError, match=r"none\.hdr: cannot read \(No such file"):
            load_light(str(path))

    def test_black_probe(self, tmp_path):
        path = tmp_path / "black.hdr"
        write_hdr(path, np.zeros((4, 8, 3)))
        with pytest.raises(
            ValueError, match=r"black\.hdr: normalize_exposure: .* expected more than 0"
        ):
            load_light(str(path))

    @pytest.mark.parametrize("name", PROBES)
    def test_real_probes(self, data_dir, name):
        """Mean as SOURCES.md's table implies, positive shading, brighter from above than below."""
        path = data_dir / "light_probes" / f"{name}.hdr"
        if not path.is_file():
            pytest.skip(f"no light probe at {path}")
        image = read_hdr(path)
        assert image.shape == (256, 512, 3)
        light = load_light(str(path))
        irradiance = sh_basis(random_directions(500).float()) @ light
        assert torch.isfinite(light).all()
        assert 0.1 < irradiance.min()
        assert irradiance.max() < 1.75
        up, down = sh_basis(torch.tensor([[0.0, 1, 0], [0, -1, 0]])) @ light
        assert up.mean() > down.mean()
