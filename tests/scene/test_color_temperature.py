"""The colours of light sources, against the standard illuminants."""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr.scene.color_temperature import black_body_color
from mofa_nvdr.scene.lighting import srgb_to_linear

# sRGB's linear primaries to XYZ, IEC 61966-2-1.
XYZ_OF_RGB = torch.tensor(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
)


class TestBlackBodyColor:
    @pytest.mark.parametrize(
        ("kelvin", "x", "y"),
        # CIE's illuminant A, and points of the locus (Wyszecki and Stiles, table 1(5.3.1)).
        [(2856.0, 0.4476, 0.4074), (2000.0, 0.5267, 0.4133), (5000.0, 0.3451, 0.3516),
         (10000.0, 0.2807, 0.2884)],
    )  # fmt: skip
    def test_chromaticity(self, kelvin, x, y):
        xyz = XYZ_OF_RGB @ srgb_to_linear(black_body_color(torch.tensor(kelvin)))
        found = (xyz / xyz.sum())[:2]
        # 2000 K lies outside of sRGB: its blue is cut off. Measured 4e-4 elsewhere.
        torch.testing.assert_close(
            found, torch.tensor([x, y]), atol=0.02 if kelvin == 2000 else 2e-3, rtol=0
        )

    def test_luminance_and_white(self):
        colors = srgb_to_linear(black_body_color(torch.tensor([2700.0, 4200.0, 6500.0])))
        torch.testing.assert_close(
            colors @ torch.tensor([0.2126, 0.7152, 0.0722]), torch.ones(3), atol=1e-3, rtol=0
        )
        assert (black_body_color(torch.tensor(6500.0)) - 1).abs().max() < 0.03

    @pytest.mark.parametrize("kelvin", [900.0, 30000.0, float("nan")])
    def test_beyond(self, kelvin):
        with pytest.raises(ValueError, match="black_body_color: .* K, expected 1667 to 25000"):
            black_body_color(torch.tensor([kelvin, 5000.0]))
