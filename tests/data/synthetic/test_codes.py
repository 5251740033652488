"""Random codes: the distributions that the prior states, and lights of probes."""

import math

import numpy as np
import pytest
import torch

from mofa_nvdr.data.synthetic.codes import CodePrior, load_lights, random_codes
from mofa_nvdr.face.code import CodeLayout, FaceCode
from mofa_nvdr.scene.lighting import AMBIENT_OFFSET, SH_CONSTANTS


@pytest.fixture(scope="module")
def codes() -> FaceCode:
    return random_codes(CodeLayout(4, 3, 5), 40_000, np.random.default_rng(0))


class TestRandomCodes:
    @pytest.mark.parametrize(
        ("part", "spread"),
        [
            ("shape", [0.8] * 4),
            # Three faces in ten have a quarter of the expression.
            ("expression", [0.7 * math.sqrt(0.7 + 0.3 / 16)] * 3),
            ("albedo", [1.0] * 5),
            # Cut at 2.5 deviations: 0.978 of the spread. 15 % of the heads turn 1.7 times as far.
            ("rotation", [0.978 * math.radians(a) for a in (13, 14 * math.sqrt(1.2835), 6)]),
            ("translation", [0.978 * a for a in (12.0, 12.0, 69.0)]),
        ],
    )
    def test_spreads(self, codes, part, spread):
        values = getattr(codes, part)
        # 40,000 draws: the standard error of a spread is 0.4 %, of a mean 0.5 % of the spread.
        expected = torch.tensor(spread)
        assert torch.allclose(values.std(0), expected, rtol=0.02)
        assert (values.mean(0).abs() < 0.025 * expected).all()

    def test_light(self, codes):
        """Ambient part: 0.7 (1.45 exp(0.15 n) (1 + 0.05 m) - 1) plus half of what the key light adds."""
        key = 0.4 * 0.5 * SH_CONSTANTS[0]
        mean = 0.7 * (1.45 * math.exp(0.15**2 / 2) - 1) + key
        assert torch.allclose(codes.light[:, 0].mean(0), torch.tensor(mean), atol=0.004)
        # Band 1 has the length of the key light's strength, tinted by a tenth.
        strength = codes.light[:, 1:4].norm(dim=1) / SH_CONSTANTS[1]  # [B, 3]
        assert strength.mean().item() == pytest.approx(0.4, rel=0.02)
        ratio = strength[:, 0] / strength[:, 2]
        assert ratio.log().std().item() == pytest.approx(0.1 * math.sqrt(2), rel=0.1)
        assert (codes.light[:, 4:].std(0) > 0.08 * 0.7 * 1.45).all()

    def test_pose_is_cut(self, codes):
        limit = 2.5 * torch.tensor([13, 1.7 * 14, 6]).deg2rad()
        assert (codes.rotation.abs().amax(0) <= limit + 1e-6).all()
        assert (codes.translation.abs().amax(0) <= 2.5 * torch.tensor([12, 12, 69.0])).all()

    def test_lights_of_probes(self):
        """Half of the faces; turned about the vertical axis, so that y and the ambient part stay."""
        probe = torch.zeros(9, 3)
        probe[0], probe[1], probe[3] = 1.1, 0.3, 0.2
        prior = CodePrior(ambient=0, exposure=1, tint=0)
        codes, plain = (
            random_codes(CodeLayout(4, 3, 5), 1500, np.random.default_rng(0), prior, lights)
            for lights in ([probe], ())
        )
        from_probe = (codes.light != plain.light).flatten(1).any(1)
        assert from_probe.float().mean().item() == pytest.approx(0.5, abs=0.03)
        light = codes.light[from_probe]
        torch.testing.assert_close(light[:, 0], torch.full_like(light[:, 0], 1.1 - AMBIENT_OFFSET))
        assert light[:, 1].mean().item() == pytest.approx(0.3, abs=0.01)  # tilted by 0.15
        assert light[:, 3].std() > 0.1 < light[:, 2].std()
        length = light[:, 1:4].norm(dim=1)
        torch.testing.assert_close(length, torch.full_like(length, math.hypot(0.3, 0.2)))
        for part in ("shape", "expression", "albedo", "rotation", "translation"):
            assert torch.equal(getattr(codes, part), getattr(plain, part))

    def test_folder_of_probes(self, tmp_path, data_dir):
        folder = data_dir / "light_probes"
        if not folder.is_dir():
            pytest.skip(f"no light probes at {folder}")
        lights = load_lights(str(folder))
        assert len(lights) == 6 and all(light.shape == (9, 3) for light in lights)

    def test_no_folder_of_probes(self, tmp_path):
        with pytest.raises(ValueError, match="none: no such folder of .hdr light probes"):
            load_lights(str(tmp_path / "none"))
        with pytest.raises(ValueError, match="no .hdr light probes in this folder"):
            load_lights(str(tmp_path))
        (tmp_path / "x.hdr").write_bytes(b"no")
        with pytest.raises(ValueError, match="x.hdr: not a Radiance .hdr picture"):
            load_lights(str(tmp_path))

    def test_direction_of_the_key_light(self, codes):
        """Order 1 is y, z, x: E sin(e) and E cos(e) cos(a) of normal angles, exp(-s^2 / 2) damped."""
        band = codes.light[:, 1:4, 0]
        band = band[band.norm(dim=1) > 0.05]  # nearly none: its direction means nothing
        towards = band / band.norm(dim=1, keepdim=True)
        y, z, x = towards.mean(0).tolist()
        damped = math.exp(-0.5 * math.radians(25) ** 2)
        assert y == pytest.approx(math.sin(math.radians(20)) * damped, abs=0.01)
        forward = math.cos(math.radians(20)) * damped * math.exp(-0.5 * math.radians(50) ** 2)
        assert z == pytest.approx(forward, abs=0.01)
        assert x == pytest.approx(0, abs=0.015)

    def test_prior(self):
        still = CodePrior(
            shape=0, albedo=0, yaw=0, depth=0, ambient=0, exposure=1, key=(0.0, 0.0), second=0
        )
        codes = random_codes(CodeLayout(4, 3, 5), 50, np.random.default_rng(0), still)
        assert codes.shape.abs().max() == 0 == codes.albedo.abs().max()
        assert codes.rotation[:, 1].abs().max() == 0 == codes.translation[:, 2].abs().max()
        assert codes.light[:, 1:].abs().max() == 0
        assert codes.light[:, 0].abs().max() < 0.25 * AMBIENT_OFFSET  # 5 % of colour are left

    def test_of_several_generators(self):
        """Each draws to the last bit what it draws alone, under lights of probes too."""
        layout, lights = CodeLayout(3, 2, 4), [torch.rand(9, 3), torch.rand(9, 3)]

        def generators() -> list[np.random.Generator]:
            return [np.random.default_rng(k) for k in range(7)]

        together = random_codes(layout, 2, generators(), None, lights).pack()
        alone = [random_codes(layout, 2, g, None, lights).pack() for g in generators()]
        assert together.dtype == torch.float32 and torch.equal(together, torch.cat(alone))

    def test_narrower_poses_change_nothing_else(self):
        layout = CodeLayout(3, 2, 4)
        wide = random_codes(layout, 50, np.random.default_rng(3))
        half = random_codes(layout, 50, np.random.default_rng(3), CodePrior().with_pose(0.5))
        torch.testing.assert_close(half.rotation, 0.5 * wide.rotation)
        torch.testing.assert_close(half.translation, 0.5 * wide.translation)
        for name in ("shape", "expression", "albedo", "light"):
            assert torch.equal(getattr(half, name), getattr(wide, name))
