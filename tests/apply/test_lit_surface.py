"""Irradiance of drawn surfaces: closed forms on a ball and on a floor under a plate."""

import math

import pytest
import torch
import torch.nn.functional as F

from mofa_nvdr.apply.lit_surface import Surface
from mofa_nvdr.scene.illumination import Illumination
from mofa_nvdr.scene.lighting import ambient_light, sh_basis

NOTHING = (
    torch.tensor([[0.0, 0, -500], [1, 0, -500], [0, 1, -500]]),
    torch.tensor([[0, 1, 2]]).int(),
)


def ball(size: int = 64, radius: float = 60.0):
    """A ball seen from +z, a px a pixel of 2.5 mm: positions and normals [H, W, 6], mask."""
    x = (torch.arange(size) + 0.5 - size / 2) * 2.5
    across, up = torch.meshgrid(x, -x, indexing="xy")
    squared = across.square() + up.square()
    mask = squared < (0.9 * radius) ** 2
    depth = (radius**2 - squared).clamp(min=0).sqrt()
    points = torch.stack([across, up, depth], -1)
    return torch.cat([points, points / radius], -1), mask.float()


def floor_of(size: int = 64):
    """A wall across z, facing the camera."""
    x = (torch.arange(size) + 0.5 - size / 2) * 2.5
    across, up = torch.meshgrid(x, -x, indexing="xy")
    zero, one = torch.zeros_like(across), torch.ones_like(across)
    return torch.stack([across, up, zero, zero, zero, one], -1), torch.ones(size, size)


def lamp(x: float, y: float, z: float) -> Illumination:
    direction = F.normalize(torch.tensor([[float(x), y, z]]), dim=1)
    return Illumination(torch.zeros(9, 3), direction, torch.tensor([[1.0, 0.5, 0.25]]))


class TestSurface:
    def test_without_shadows_it_is_the_irradiance_of_smooth_normals(self):
        drawn, mask = ball()
        surface = Surface(drawn, mask, 0.4, NOTHING, shadows=False)
        light = Illumination.of_sh(torch.randn(9, 3, generator=torch.Generator().manual_seed(0)))
        inner = (mask > 0) & (drawn[..., 5] > 0.7)
        got = surface(light)[inner[mask > 0]]
        want = sh_basis(drawn[..., 3:][inner]) @ light.sh
        assert (got - want).abs().max() < 0.12 * want.abs().max()  # 0.06: 8 mm of blur on 60 mm

    def test_a_fold_is_flatter_where_the_form_is_rough(self):
        drawn, mask = floor_of()
        drawn[:, 32, 3:] = torch.tensor([-1.0, 0, 0])  # looks to the left
        plain, rough = (
            Surface(drawn, mask, 0.4, NOTHING, False, torch.full_like(mask, share))
            for share in (0.0, 1.0)
        )
        # Under a lamp ahead the fold is dark, and less so.
        dark, less = (s.spread(s(lamp(0, 0, 1)))[0, 32, 32] for s in (plain, rough))
        assert dark < less - 0.02 < 0.98

    def test_folds_that_look_up_are_flatter_than_those_that_look_aside(self):
        """A strip of the width of a nose's bridge, at 45 degrees to the lamp; where little is known."""
        rise = {}
        for name, axis in (("up", 1), ("aside", 0)):
            for rough in (0.0, 1.0):
                drawn, mask = floor_of()
                strip = drawn[28:36] if axis else drawn[:, 28:36]  # 20 mm
                strip[..., 3:] = F.normalize(torch.tensor([1.0 - axis, axis, 1]), dim=0)
                surface = Surface(drawn, mask, 0.4, NOTHING, False, torch.full_like(mask, rough))
                lit = surface.spread(surface(lamp(1 - axis, axis, 1)))[0]
                rise[name, rough] = float(lit[32, 32] - lit[4, 4])
        assert 0.1 < rise["up", 1.0] < 0.85 * rise["aside", 1.0]
        assert rise["up", 1.0] < 0.85 * rise["up", 0.0] < rise["aside", 0.0]

    def test_of_a_lamp_it_is_the_cosine_and_the_lamps_colour(self):
        drawn, mask = floor_of()
        for angle in (0.0, 0.5, 1.0):
            got = Surface(drawn, mask, 0.4, NOTHING, shadows=False)(
                lamp(math.sin(angle), 0, math.cos(angle))
            )
            want = math.cos(angle) * torch.tensor([1.0, 0.5, 0.25])
            assert torch.allclose(got, want.expand_as(got), atol=0.02)  # a lamp is 24 degrees wide

    def test_a_plate_shades_the_middle_of_a_wall(self):
        drawn, mask = floor_of()
        corners = torch.tensor([[-30.0, -30, 40], [30, -30, 40], [30, 30, 40], [-30, 30, 40]])
        casters = (corners, torch.tensor([[0, 1, 2], [0, 2, 3]]).int())
        surface = Surface(drawn, mask, 0.4, casters)
        from_front = surface.spread(surface(lamp(0, 0, 1)))[0]
        assert from_front[28:36, 28:36].max() < 0.02 and from_front[:4].min() > 0.95
        # From the right the shadow falls on the left.
        slanted = surface.spread(surface(lamp(1, 0, 1)))[0]
        assert slanted[32, 14:18].max() < 0.05 and slanted[32, 44:].min() > 0.6
        ambient = surface.spread(surface(Illumination.of_sh(ambient_light(1.0))))[0]
        # The plate takes 0.413 of the sky of the point under its middle (form factor of a rectangle).
        assert float(ambient[32, 32]) == pytest.approx(1 - 0.413, abs=0.03)
        assert 0.9 < ambient[0, 0] and (ambient <= 1.001).all()
        plain = Surface(drawn, mask, 0.4, casters, shadows=False)
        assert plain(lamp(0, 0, 1))[:, 0].min() > 0.95

    def test_what_no_light_reaches_is_dark_not_negative(self):
        drawn, mask = ball()
        got = Surface(drawn, mask, 0.4, NOTHING)(lamp(0, 0, -1))
        assert got.min() >= 0 and got.max() < 1e-3

    @pytest.mark.parametrize("pixels", [1, 3])
    def test_of_a_few_pixels(self, pixels):
        drawn, mask = floor_of(8)
        mask[:] = 0
        mask[3, 3 : 3 + pixels] = 1
        surface = Surface(drawn, mask, 0.4, NOTHING)
        assert surface(lamp(0, 0, 1)).shape == (pixels, 3)
        assert torch.isfinite(surface(lamp(0, 0, 1))).all()

    def test_spread(self):
        drawn, mask = ball()
        values = torch.rand(int(mask.sum()), 2)
        out = Surface(drawn, mask, 0.4, NOTHING, shadows=False).spread(values)
        assert torch.equal(out[:, mask > 0].T, values) and (out[:, mask == 0] == 0).all()
