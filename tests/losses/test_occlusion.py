"""What stands in front of a face: probabilities by hand, and a patch that is no skin."""

from __future__ import annotations

import math

import pytest
import torch

from mofa_nvdr.losses.occlusion import INLIERS, inlier_probability, visibility, visible_weight


class TestInlierProbability:
    @pytest.mark.parametrize("deviation", [0.03, 0.09, 0.5])
    @pytest.mark.parametrize("inliers", [0.5, 0.9])
    def test_at_no_distance(self, deviation, inliers):
        """a N / (a N + 1 - a), N = (2 pi s^2)^(-3/2) the density there and 1 any colour's."""
        density = (2 * math.pi * deviation**2) ** -1.5
        wanted = inliers * density / (inliers * density + 1 - inliers)
        got = inlier_probability(torch.zeros(2), deviation**2, inliers)
        assert got.tolist() == pytest.approx([wanted] * 2, rel=1e-5)

    def test_where_both_are_as_likely(self):
        """d^2 = 2 s^2 (log(a / (1 - a)) - 3/2 log(2 pi s^2))."""
        variance = 0.05**2
        odds = math.log(INLIERS / (1 - INLIERS))
        squared = 2 * variance * (odds - 1.5 * math.log(2 * math.pi * variance))
        assert inlier_probability(torch.tensor(squared), variance).item() == pytest.approx(
            0.5, abs=1e-5
        )

    def test_falls_with_the_distance(self):
        squared = torch.linspace(0, 3, 50)
        probability = inlier_probability(squared, 0.06**2)
        assert (probability.diff() <= 0).all() and probability[-1] < 1e-6

    def test_variances_are_broadcast(self):
        squared, variance = torch.full((2, 3, 3), 0.01), torch.tensor([0.03**2, 0.09**2])
        got = inlier_probability(squared, variance[:, None, None])
        assert got.shape == (2, 3, 3) and (got[1] > got[0]).all()

    @pytest.mark.parametrize("inliers", [0.0, 1.0, -1, math.nan])
    def test_no_share(self, inliers):
        with pytest.raises(ValueError, match="inliers is .*, expected between 0 and 1"):
            inlier_probability(torch.zeros(1), 0.01, inliers)


def _noisy(deviation: float, count: int = 2, size: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared distances of colours that scatter, and the mask of a disc."""
    generator = torch.Generator().manual_seed(5)
    squared = (deviation * torch.randn(count, 3, size, size, generator=generator)).square().sum(1)
    row, column = torch.meshgrid(*2 * [torch.linspace(-1, 1, size)], indexing="ij")
    disc = (row.square() + column.square() < 0.8).float().expand(count, -1, -1)
    return squared, disc


class TestVisibility:
    def test_a_patch_of_another_colour(self):
        """All of it is an occluder's, next to none of the rest; its own variance is found."""
        squared, mask = _noisy(0.05)
        squared[0, 20:32, 14:26] = 0.6**2  # grey cloth on skin
        visible, variance = visibility(squared, mask, torch.ones(1, 1, 1))
        assert visible[0, 22:30, 16:24].max() < 0.05
        away = mask[0].clone()
        away[16:36, 10:30] = 0
        assert visible[0][away > 0].min() > 0.9
        assert visible[1][mask[1] > 0].min() > 0.9
        # Measured 0.0515 and 0.0502; the first pays for the patch's blurred rim.
        assert variance.sqrt().tolist() == pytest.approx([0.05, 0.05], abs=0.004)

    @pytest.mark.parametrize(("deviation", "limit"), [(0.001, 0.03), (0.12, 0.09), (0.4, 0.09)])
    def test_variance_has_limits(self, deviation, limit):
        """Of the last nothing is taken for the face, which says nothing of how the face scatters."""
        squared, mask = _noisy(deviation)
        variance = visibility(squared, mask, torch.ones(1, 1, 1))[1]
        assert variance.sqrt().tolist() == pytest.approx([limit] * 2)

    def test_a_lone_pixel_is_noise(self):
        squared, mask = _noisy(0.05)
        squared[0, 24, 24] = 0.35**2
        assert visibility(squared, mask, torch.ones(1, 1, 1))[0][0, 24, 24] > 0.5

    def test_scatter(self):
        """Where colours scatter more, the same distance is no occluder's."""
        squared, mask = _noisy(0.05)
        squared[:, 20:32, 14:26] = 0.3**2
        scatter = torch.ones(2, 48, 48)
        scatter[1, 20:32, 14:26] = 9.0
        visible, _ = visibility(squared, mask, scatter)
        assert visible[0, 26, 20] < 0.1 and visible[1, 26, 20] > 0.8

    def test_no_face(self):
        """Nothing is known of a rendering beside the picture: the widest variance, nothing hidden."""
        squared, mask = _noisy(0.05)
        visible, variance = visibility(squared, mask * 0, torch.ones(1, 1, 1))
        assert visible.min() > 0.9 and visible.isfinite().all()
        assert variance.isfinite().all()


def occluded(size: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """A rendering, and a photograph of it with noise and a bright square in its lower right quarter."""
    image = torch.full((1, 3, size, size), 0.4)
    noise = 0.03 * torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    photo = image + noise
    photo[..., size // 2 :, size // 2 :] = 0.95
    return image, photo


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
