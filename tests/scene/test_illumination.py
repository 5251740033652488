"""Linear light: turning, mirroring, where it comes from, and what it is made of."""

import math

import pytest
import torch

from mofa_nvdr.scene.illumination import (
    Illumination,
    code_illumination,
    preset_illumination,
    probe_illumination,
)
from mofa_nvdr.scene.light_sources import PRESETS, panorama_directions
from mofa_nvdr.scene.lighting import ambient_light, directional_light, sh_basis
from mofa_nvdr.scene.visibility import sphere_directions

NORMALS = sphere_directions(60)


def lamp_from(x: float, y: float, z: float) -> Illumination:
    direction = torch.nn.functional.normalize(torch.tensor([[x, y, z]]), dim=1)
    return Illumination(ambient_light(0.2), direction, torch.ones(1, 3))


class TestTurning:
    def test_sh_and_lamps_turn_together(self):
        towards = torch.tensor([0.3, 0.4, 1.0])
        both = Illumination(
            directional_light(towards),
            torch.nn.functional.normalize(towards, dim=0)[None],
            torch.ones(1, 3),
        )
        turned = both.turned(math.pi / 2)
        # From the camera (+z) to the picture's right (+x).
        assert torch.allclose(
            turned.directions[0],
            torch.nn.functional.normalize(torch.tensor([1.0, 0.4, -0.3]), dim=0),
            atol=1e-6,
        )
        want = sh_basis(NORMALS) @ directional_light(torch.tensor([1.0, 0.4, -0.3]))
        assert torch.allclose(sh_basis(NORMALS) @ turned.sh, want, atol=1e-5)

    def test_a_whole_turn(self):
        light = preset_illumination("warm_cool")
        back = light.turned(2 * math.pi)
        assert torch.allclose(back.directions, light.directions, atol=1e-5)

    def test_mirror(self):
        generator = torch.Generator().manual_seed(0)
        light = Illumination.of_sh(torch.randn(9, 3, generator=generator))
        flip = torch.tensor([-1.0, 1, 1])
        there = sh_basis(NORMALS) @ light.sh
        assert torch.allclose(sh_basis(NORMALS * flip) @ light.mirrored().sh, there, atol=1e-5)
        assert torch.equal(light.mirrored().mirrored().sh, light.sh)
        left, right = preset_illumination("key_left"), preset_illumination("key_right")
        assert torch.allclose(left.mirrored().directions, right.directions)


class TestMiddle:
    @pytest.mark.parametrize("degrees", [-170, -90, -20, 0, 20, 90, 170])
    def test_of_a_lamp_and_of_its_sh(self, degrees):
        angle = math.radians(degrees)
        lamp = lamp_from(math.sin(angle), 0.0, math.cos(angle))
        assert lamp.middle()[0] == pytest.approx(angle, abs=1e-5)
        soft = Illumination.of_sh(directional_light(lamp.directions[0]))
        assert soft.middle()[0] == pytest.approx(angle, abs=1e-5)

    @pytest.mark.parametrize("elevation", [-90.0, -30.0, 0.0, 60.0])
    def test_upright(self, elevation):
        angle = math.radians(elevation)
        towards = torch.tensor([[0.0, math.sin(angle), math.cos(angle)]])
        lamp = Illumination(torch.zeros(9, 3), towards, torch.full((1, 3), 2.0))
        soft = Illumination.of_sh(directional_light(towards[0]))
        for light in (lamp, soft):
            assert light.upright() == pytest.approx(math.sin(angle), abs=1e-5)
        assert preset_illumination("ambient").upright() == 0

    def test_from_all_sides_it_is_not_sided_and_never_turned(self):
        light = Illumination.of_sh(ambient_light(1.0))
        assert light.middle()[1] == pytest.approx(0, abs=1e-6) and light.turn_to_front() == 0

    @pytest.mark.parametrize("degrees", [-175, -80, 80, 175])
    def test_from_behind_it_is_turned_before_the_face_on_its_side(self, degrees):
        angle = math.radians(degrees)
        light = lamp_from(math.sin(angle), 0.3, math.cos(angle))
        turned = light.turned(light.turn_to_front())
        assert math.degrees(turned.middle()[0]) == pytest.approx(
            math.copysign(40, degrees), abs=0.1
        )

    @pytest.mark.parametrize("degrees", [-55, 0, 55])
    def test_in_front_it_stays(self, degrees):
        angle = math.radians(degrees)
        assert lamp_from(math.sin(angle), 0.3, math.cos(angle)).turn_to_front() == 0


class TestSources:
    def test_presets(self):
        for name, (_, lamps) in PRESETS.items():
            light = preset_illumination(name)
            assert len(light.directions) == len(light.colors) == len(lamps)
            assert torch.allclose(light.directions.norm(dim=1), torch.ones(len(lamps)))
        with pytest.raises(KeyError):
            preset_illumination("moonlight")

    def test_probe_of_any_strength(self):
        panorama = 1 + (panorama_directions(16, 32)[..., :1] > 0).float().expand(16, 32, 3)
        one, thousand = (probe_illumination(panorama * k) for k in (1, 1000))
        assert torch.allclose(one.sh, thousand.sh, rtol=1e-5, atol=1e-6)
        assert one.middle()[0] == pytest.approx(math.pi / 2, abs=1e-3)  # from the right

    def test_black_probe(self):
        with pytest.raises(ValueError, match="the panorama is black"):
            probe_illumination(torch.zeros(16, 32, 3))

    def test_light_of_a_code_has_no_colour(self):
        light = ambient_light(0.6)
        light[3] = torch.tensor([0.3, 0.1, 0.0])
        grey = code_illumination(light)
        assert torch.allclose(grey.sh[:, 0], grey.sh[:, 2]) and not len(grey.directions)
        colored = code_illumination(light, color=True)
        assert colored.sh[3, 0] > 2 * colored.sh[3, 1] > colored.sh[3, 2].abs()
        # 0.6 encoded is 0.319 in linear light.
        ambient = code_illumination(ambient_light(0.6))
        assert torch.allclose(sh_basis(NORMALS) @ ambient.sh, torch.tensor(0.3185), atol=1e-3)

    def test_wrong_shape(self):
        with pytest.raises(ValueError, match=r"of_sh: light is \[9\], expected"):
            Illumination.of_sh(torch.zeros(9))
