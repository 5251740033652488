"""Which pixels show the face: the probability by hand, an occluder found, and its weight in the loss."""

from __future__ import annotations

import math

import pytest
import torch

from mofa_nvdr.losses.occlusion import inlier_probability, visibility, visible_weight


class TestInlierProbability:
    def test_by_hand(self):
        """Bayes' rule of a normal density in three channels against a uniform one of density 1."""
        variance, squared = 0.01, torch.tensor([0.0, 0.05, 1.0])
        density = (2 * math.pi * variance) ** -1.5 * (-squared / (2 * variance)).exp()
        expected = 0.8 * density / (0.8 * density + 0.2)
        torch.testing.assert_close(inlier_probability(squared, variance, 0.8), expected)

    @pytest.mark.parametrize("share", [0.0, 1.0, 1.5])
    def test_bad_share(self, share):
        with pytest.raises(ValueError, match=f"inliers is {share}, expected between 0 and 1"):
            inlier_probability(torch.zeros(1), 0.01, share)


def occluded(size: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """A rendering, and a photograph of it with noise and a bright square in its lower right quarter."""
    image = torch.full((1, 3, size, size), 0.4)
    noise = 0.03 * torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    photo = image + noise
    photo[..., size // 2 :, size // 2 :] = 0.95
    return image, photo


class TestVisibility:
    def test_finds_the_occluder_and_the_scatter(self):
        image, photo = occluded()
        squared = (image - photo).square().sum(1)
        mask = torch.ones_like(squared)
        visible, variance = visibility(squared, mask, torch.ones(1, 1, 1))
        assert visible[0, :25, :].min() > 0.95 and visible[0, 35:, 35:].max() < 0.01
        assert variance.item() == pytest.approx(0.03**2, rel=0.15)  # measured 0.00092


class TestVisibleWeight:
    def test_without_a_photograph_or_a_face(self):
        """What is off the mask or no photograph moves nothing, and gradients do not pass."""
        image, photo = occluded()
        image.requires_grad_()
        photo[..., :10, :] = math.nan
        mask = torch.ones(1, 1, 60, 60)
        mask[..., :10] = 0
        weight = visible_weight(image, photo, mask)
        assert weight.shape == (1, 1, 60, 60) and not weight.requires_grad
        assert weight.isfinite().all() and ((weight >= 0) & (weight <= 1)).all()
        assert weight[0, 0, 15:25, 15:].min() > 0.95 and weight[0, 0, 35:, 35:].max() < 0.01
