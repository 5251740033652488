"""Pictures under a Gaussian: what is flat stays flat, a point becomes the Gaussian."""

from __future__ import annotations

import math

import pytest
import torch

from mofa_nvdr.render.blur import blur_matrix, blurred


class TestBlurred:
    def test_no_deviation(self):
        picture = torch.rand(1, 2, 4, 5, generator=torch.Generator().manual_seed(0))
        assert blurred(picture, 0) is picture

    @pytest.mark.parametrize("sigma", [0.4, 2.0, 9.0])
    def test_flat(self, sigma):
        """Also under a Gaussian that is wider than the picture."""
        flat = torch.full((2, 3, 7, 9), 0.3)
        torch.testing.assert_close(blurred(flat, sigma), flat)

    def test_a_point(self):
        """exp(-r^2 / (2 sigma^2)) about it, and as much in all."""
        picture = torch.zeros(1, 1, 31, 31)
        picture[..., 15, 15] = 1
        out = blurred(picture, 2.0)[0, 0]
        assert out.sum() == pytest.approx(1, abs=1e-5)
        assert out[15, 18] / out[15, 15] == pytest.approx(math.exp(-9 / 8), rel=1e-4)
        assert out[18, 18] / out[15, 15] == pytest.approx(math.exp(-18 / 8), rel=1e-4)

    def test_borders(self):
        """Next to a border of zeros half of a flat picture is left, of one that goes on all."""
        flat = torch.ones(1, 1, 40, 40)
        sides = blurred(flat, 2.0, "constant")[0, 0]
        assert 0.5 < sides[0, 20] < 0.61  # its own column counts as a whole one
        assert sides[20, 20] == pytest.approx(1, abs=1e-5)
        assert blurred(flat, 2.0, "replicate")[0, 0, 0, 20] == pytest.approx(1, abs=1e-5)

    @pytest.mark.parametrize("border", ["replicate", "constant"])
    def test_the_same_as_kornias(self, border):
        filters = pytest.importorskip("kornia.filters")
        picture = torch.rand(2, 3, 17, 23, generator=torch.Generator().manual_seed(2))
        theirs = filters.gaussian_blur2d(picture, 15, (2.4, 2.4), border_type=border)
        # measured 2e-7
        torch.testing.assert_close(blurred(picture, 2.4, border), theirs, atol=2e-6, rtol=0)

    def test_each_by_itself(self):
        picture = torch.rand(3, 2, 12, 12, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(blurred(picture, 1.5)[1:2], blurred(picture[1:2], 1.5))


class TestBlurMatrix:
    def test_the_same_as_with_zeros_beyond_the_edges(self):
        picture = torch.rand(1, 2, 20, 31, generator=torch.Generator().manual_seed(0))
        got = blur_matrix(20, 2.5) @ picture @ blur_matrix(31, 2.5).mT
        torch.testing.assert_close(got, blurred(picture, 2.5, "constant"), atol=1e-6, rtol=1e-5)
