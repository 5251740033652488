"""Two lamps at random."""

from __future__ import annotations

import dataclasses

import torch

from mofa_nvdr.data.random_numbers import random_generator
from mofa_nvdr.data.synthetic.lamps import LampPrior, random_lamps, skin_highlights
from mofa_nvdr.scene.camera import DEFAULT_POSITION


class TestRandomLamps:
    def test_where_they_are(self):
        light, prior = random_lamps(500, random_generator(0)), LampPrior()
        away = light.positions - torch.tensor(DEFAULT_POSITION)
        distance = away.norm(dim=-1)
        assert light.positions.shape == (500, 2, 3)
        assert prior.distance[0] <= distance.min() and distance.max() <= prior.distance[1]
        assert (away[..., 2] > 0).all()  # none is behind the face
        elevation = torch.asin(away[..., 1] / distance)
        assert prior.elevation[0] - 1e-4 <= elevation.min()
        assert elevation.max() <= prior.elevation[1] + 1e-4

    def test_both_are_of_one_color(self):
        """Apart from a few per cent; and the whole light is as bright as it should be, on average."""
        light = random_lamps(2000, random_generator(1))
        hue = light.colors / light.colors.mean(-1, keepdim=True)
        assert (hue[:, 0] - hue[:, 1]).abs().max() < 0.2
        plain = dataclasses.replace(LampPrior(), perturbed=0.0)
        hue = random_lamps(50, random_generator(1), plain).colors
        hue = hue / hue.mean(-1, keepdim=True)
        torch.testing.assert_close(hue[:, 0], hue[:, 1])
        total = (light.colors.sum(1) + light.ambient) @ torch.tensor([0.2126, 0.7152, 0.0722])
        assert abs(total.median().item() / LampPrior().exposure - 1) < 0.05

    def test_warm_and_cold(self):
        """Lamps and tubes are redder than blue, shade the other way round."""
        ambient = random_lamps(500, random_generator(2)).ambient
        ratio = ambient[:, 0] / ambient[:, 2]
        assert 0.9 < ratio.min() < 1 and 1.3 < ratio.max() < 2.0

    def test_is_a_function_of_its_generator(self):
        first, again = (random_lamps(3, random_generator(5, 7)) for _ in range(2))
        other = random_lamps(3, random_generator(5, 8))
        assert torch.equal(first.positions, again.positions)
        assert torch.equal(first.colors, again.colors)
        assert not torch.equal(first.colors, other.colors)


def test_skin_highlights():
    """White skin has none, black skin c."""
    albedo = torch.tensor([[1.0, 0.5, 0.0]])
    torch.testing.assert_close(skin_highlights(albedo, 0.2), torch.tensor([[0.0, 0.1, 0.2]]))
