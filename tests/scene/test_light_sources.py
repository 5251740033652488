"""Light probes, exposure, encoded light, presets, and what `--light` names."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mofa_nvdr.scene.hdr import read_hdr, write_hdr
from mofa_nvdr.scene.light_sources import (
    decode_light,
    encode_light,
    light_from_probe,
    light_presets,
    load_light,
    normalize_exposure,
    panorama_directions,
)
from mofa_nvdr.scene.lighting import (
    DEFAULT_EXPOSURE,
    ambient_light,
    directional_light,
    linear_to_srgb,
    rotate_sh,
    sh_basis,
    sh_basis_radiance,
    srgb_to_linear,
)
from mofa_nvdr.scene.pose import axis_angle_to_matrix
from tests.helpers.lights import brute_force_irradiance, random_directions, random_light

PROBES = (
    "brown_photostudio_02_512",
    "kloppenheim_05_512",
    "leadenhall_market_512",
    "noon_grass_512",
    "potsdamer_platz_512",
    "st_fagans_interior_512",
)


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


class TestDecodeLight:
    def test_ambient(self):
        decoded = decode_light(ambient_light(0.5).double())
        torch.testing.assert_close(decoded, ambient_light(0.2140411).double(), rtol=0, atol=2e-3)

    def test_undoes_encode_light(self):
        """On the irradiance, but for what order 2 loses twice."""
        light = (
            ambient_light(0.15) + 0.3 * directional_light(torch.tensor([0.5, 0.5, 1.0]))
        ).double()
        basis = sh_basis(random_directions(200))
        # measured 0.021 of 0.48 at most
        torch.testing.assert_close(
            basis @ decode_light(encode_light(light)), basis @ light, rtol=0, atol=0.03
        )

    def test_bad_shape(self):
        with pytest.raises(ValueError, match=r"decode_light: light is \[9\], expected \[9, 3\]"):
            decode_light(torch.zeros(9))


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
            ValueError,
            match=r"sunset: neither a light probe \(.hdr, .exr\) nor a preset; .*ambient, ",
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
