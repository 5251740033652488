"""Ratios of shadings: bounds, exposure, filling, and what they do to pixels."""

import math

import pytest
import torch

from mofa_nvdr.apply.ratio_image import (
    FLOOR,
    bounded,
    dulled,
    exposure,
    filled,
    floored,
    gloss,
    paler,
    relit,
    smooth_outside,
    warmed,
)
from mofa_nvdr.scene.light_sources import LUMINANCE


class TestShading:
    def test_floored_keeps_what_is_bright(self):
        shading = torch.tensor([[1.0, 1, 1], [0.5, 0.5, 0.5], [-0.2, 0.01, 0.0]])
        out = floored(shading)
        assert torch.equal(out[:2], shading[:2])
        mean = (1 + 0.5 + 0.01 * 0.7152) / 3
        assert torch.allclose(out[2], torch.full((3,), FLOOR * mean), atol=1e-5)

    def test_floor_follows_the_strength(self):
        shading = torch.rand(50, 3) - 0.2
        assert torch.allclose(floored(8 * shading), 8 * floored(shading))

    def test_paler(self):
        shading = torch.tensor([[0.8, 0.4, 0.2]])
        assert torch.allclose(paler(shading, 1.0), shading)
        grey = paler(shading, 0.0)
        assert torch.allclose(grey, grey[:, :1].expand(1, 3))
        half = paler(shading, 0.5)
        assert torch.allclose((half[0, 0] / half[0, 2]), torch.tensor(2.0**0.5))  # a quarter of 4

    def test_paler_keeps_more_of_what_differs(self):
        """Red by 4 on one side and blue by 4 on the other, around a mean that is grey: half of each stays."""
        half = paler(torch.tensor([[0.8, 0.5, 0.2], [0.2, 0.5, 0.8]]), 0.5)
        assert torch.allclose(half[:, 0] / half[:, 2], torch.tensor([2.0, 0.5]))

    def test_warmed(self):
        """Darker places are redder at the same luminance; brighter ones and a ratio of one stay."""
        ratio = torch.tensor([[-0.8], [0.0], [0.5]]).expand(3, 3)
        warm = warmed(ratio, 1.0)
        assert torch.equal(warm[1:], ratio[1:]) and torch.equal(warmed(ratio, 0.0), ratio)
        assert warm[0, 0] > warm[0, 1] > warm[0, 2]
        assert torch.allclose(warm @ torch.tensor(LUMINANCE), ratio[:, 0], atol=1e-3)
        assert torch.equal(warmed(ratio[:0], 1.0), ratio[:0])


class TestGloss:
    SKIN = torch.tensor([0.42, 0.26, 0.2])

    def face(self, shine: float = 0.0) -> torch.Tensor:
        """Skin of one colour, darker and brighter by a tenth, with a patch of white light on it."""
        shading = torch.linspace(0.9, 1.1, 40).view(1, 1, 40)
        linear = (self.SKIN.view(3, 1, 1) * shading).expand(3, 40, 40).clone()
        linear[:, 10:18, 10:18] += shine
        return linear

    def test_finds_the_patch_alone(self):
        shine = gloss(self.face(0.3), torch.ones(40, 40), 1.0)
        assert shine[:, 12:16, 12:16].min() > 0.02
        assert shine[:, 25:].abs().max() == 0 and (shine >= 0).all()

    def test_what_is_left_has_the_color_of_skin(self):
        linear = self.face(0.3)
        matte = (linear - gloss(linear, torch.ones(40, 40), 1.0))[:, 14, 14]
        redder = float(matte[0] / matte[2])
        assert float(linear[0, 14, 14] / linear[2, 14, 14]) * 1.15 < redder < 2.1  # skin has 2.1

    def test_skin_of_one_color_has_none(self):
        assert gloss(self.face(), torch.ones(40, 40), 1.0).abs().max() == 0

    def test_where_no_skin_is_seen_there_is_none(self):
        assert gloss(self.face(0.3), torch.zeros(40, 40), 1.0).abs().max() == 0
        skin = torch.ones(40, 40)
        skin[:, :20] = 0  # the patch lies there
        assert gloss(self.face(0.3), skin, 1.0).abs().max() == 0

    def test_black_and_white(self):
        for value in (0.0, 1.0):
            shine = gloss(torch.full((3, 12, 12), value), torch.ones(12, 12), 1.0)
            assert torch.isfinite(shine).all()

    def test_dulled(self):
        """A ratio of one leaves gloss; both ways from there it fades."""
        linear, shine = self.face(0.3), torch.full((3, 40, 40), 0.05)
        ratio = torch.zeros(3, 40, 40)
        assert torch.equal(dulled(linear, shine, ratio), linear)
        for sign in (-1, 1):
            out = dulled(linear, shine, ratio + sign * math.log(2))
            assert torch.allclose(linear - out, torch.full_like(out, 0.025), atol=1e-5)


class TestExposure:
    def test_undoes_a_gain(self):
        luminance = torch.rand(500, generator=torch.Generator().manual_seed(0))
        assert exposure(luminance, torch.full((500, 3), 4.0)) == pytest.approx(0.25)

    def test_of_no_change_is_one(self):
        assert exposure(torch.rand(500), torch.ones(500, 3)) == 1.0

    def test_the_mean_grows_a_little_at_most(self):
        luminance = torch.full((100,), 0.3)
        ratio = torch.ones(100, 3)
        ratio[:20] = 0.05  # most stays, a part is dark: bright parts alone would not change
        ratio[95:] = 30
        gain = exposure(luminance, ratio)
        assert float((luminance * ratio[:, 1] * gain).mean() / luminance.mean()) <= 1.0501

    def test_of_a_black_face_or_none(self):
        assert exposure(torch.zeros(10), torch.ones(10, 3)) == 1.0
        assert exposure(torch.zeros(0), torch.ones(0, 3)) == 1.0


class TestBounded:
    def test_limits_and_middle(self):
        log = torch.tensor([-50.0, 0.0, 50.0])
        assert torch.allclose(bounded(log), torch.tensor([-math.log(10), 0.0, math.log(2.2)]))
        small = torch.tensor([-0.05, 0.05])
        assert torch.allclose(bounded(small), small, rtol=2e-3)


class TestFilled:
    def test_a_ramp_goes_on_through_a_hole(self):
        ramp = torch.linspace(0, 1, 32).expand(1, 32, 32).clone()
        known = torch.ones(32, 32)
        known[12:20, 12:20] = 0
        damaged = ramp.clone()
        damaged[:, 12:20, 12:20] = 77
        out = filled(damaged, known, steps=60)
        assert torch.equal(out[:, known > 0], ramp[:, known > 0])
        assert float((out - ramp).abs().max()) < 0.03  # 0.011 measured

    def test_nothing_known(self):
        assert torch.isfinite(filled(torch.rand(3, 9, 13), torch.zeros(9, 13))).all()

    def test_odd_sizes_and_a_constant(self):
        known = torch.zeros(21, 35)
        known[3, 4] = 1
        out = filled(torch.full((3, 21, 35), 2.0), known)
        assert torch.allclose(out, torch.full_like(out, 2.0), atol=1e-4)


class TestSmoothOutside:
    def test_blurs_beyond_the_reach_alone(self):
        values = torch.rand(1, 20, 40, generator=torch.Generator().manual_seed(1))
        distance = torch.zeros(20, 40)
        distance[:, 20:] = 1.0
        out = smooth_outside(values, distance, 3.0, 0.5)
        assert torch.equal(out[:, :, :20], values[:, :, :20])
        assert out[:, :, 25:].std() < 0.5 * values[:, :, 25:].std()


class TestRelit:
    def test_a_ratio_of_one_changes_nothing(self):
        linear = torch.rand(3, 8, 8)
        assert torch.allclose(relit(linear, torch.zeros(3, 8, 8)), linear)

    def test_darkening_is_a_product(self):
        linear = torch.rand(3, 8, 8)
        log = torch.full((3, 8, 8), math.log(0.3))
        assert torch.allclose(relit(linear, log), 0.3 * linear)

    def test_brightening_below_the_shoulder_is_a_product(self):
        linear = torch.full((3, 2, 2), 0.2)
        out = relit(linear, torch.full((3, 2, 2), math.log(2)))
        assert torch.allclose(out, torch.full_like(out, 0.4))

    def test_no_clipping_halo(self):
        """Brighter pixels stay brighter than others, below white."""
        linear = torch.linspace(0.1, 0.98, 50).view(1, 1, 50).expand(3, 1, 50)
        out = relit(linear, torch.full((3, 1, 50), math.log(2)))[0, 0]
        assert (out.diff() > -1e-6).all() and out[10] < out[30] < out[45] and out.max() <= 1.0
        assert (out >= linear[0, 0]).all()

    def test_no_channel_is_clipped_alone(self):
        """Bright skin that grows brighter keeps its colour below white."""
        skin = torch.tensor([0.8, 0.5, 0.4]).view(3, 1, 1)
        out = relit(skin, torch.full((3, 1, 1), math.log(2)))
        assert out.max() < 1 and torch.allclose(out / out[0], skin / skin[0])

    def test_black(self):
        out = relit(torch.zeros(3, 2, 2), torch.full((3, 2, 2), 1.2))
        assert torch.equal(out, torch.zeros(3, 2, 2))
