"""Sharpness and edges: pictures whose gradients are known."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from mofa_nvdr.losses.sharpness import edge_agreement, gradient_sums, sharpness


def ramp(slope: float) -> torch.Tensor:
    """Brighter to the right by `slope` a pixel, [1, 3, 12, 12]."""
    return (slope * torch.arange(12.0)).expand(1, 3, 12, 12)


ALL = torch.ones(1, 1, 12, 12)


def test_known_gradients():
    """10 x 10 pixels have differences, of three channels."""
    sums = gradient_sums(ramp(0.02), ramp(0.04), ALL)
    torch.testing.assert_close(
        sums, 300 * torch.tensor([[0.02**2, 0.04**2, 0.02 * 0.04]]), atol=1e-5, rtol=1e-4
    )
    assert sharpness(sums) == pytest.approx(0.25, rel=1e-4)
    assert edge_agreement(sums) == pytest.approx(1, rel=1e-4)
    turned = gradient_sums(ramp(0.02).mT.contiguous(), ramp(0.02), ALL)
    assert sharpness(turned) == pytest.approx(1, rel=1e-4) and abs(edge_agreement(turned)) < 1e-4


def test_blur_and_noise():
    """Blur takes energy away and leaves the edges in place; edges elsewhere have energy and do not agree."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(4, 1, 32, 32)
    photo = F.interpolate(torch.rand(4, 3, 16, 16, generator=generator), scale_factor=2.0)
    blurred = F.avg_pool2d(photo, 3, stride=1, padding=1, count_include_pad=False)
    other = photo.roll(1, 0)
    soft, wrong = gradient_sums(blurred, photo, mask), gradient_sums(other, photo, mask)
    assert sharpness(soft) < 0.3 and edge_agreement(soft) > 0.7  # measured 0.19, 0.78
    assert sharpness(wrong) == pytest.approx(1, rel=1e-4) and abs(edge_agreement(wrong)) < 0.2


def test_the_outline_of_the_mask_does_not_count():
    """A square of 6 pixels has 4 x 4 inside it: what is beyond may be anything."""
    mask = F.pad(torch.ones(1, 1, 6, 6), (3, 3, 3, 3))
    wild = torch.where(mask > 0, ramp(0.02), torch.rand(1, 3, 12, 12))
    sums = gradient_sums(wild, ramp(0.02), mask)
    torch.testing.assert_close(sums, torch.full((1, 3), 48 * 0.02**2), atol=1e-6, rtol=1e-4)


def test_nothing_to_compare():
    sums = gradient_sums(ramp(0.02), ramp(0.0), ALL)
    assert math.isnan(sharpness(sums)) and math.isnan(edge_agreement(sums))
    assert not gradient_sums(ramp(0.02), ramp(0.02), 0 * ALL).any()


def test_shapes():
    with pytest.raises(
        ValueError, match=r"gradient_sums: picture is .*expected two pictures of one"
    ):
        gradient_sums(ramp(0.1), ramp(0.1), ALL[:, :, 1:])
