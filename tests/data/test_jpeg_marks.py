"""JPEG's marks: those of a real file, fewer at a higher quality."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from mofa_nvdr.data.jpeg_marks import with_jpeg_marks


def picture(height: int, width: int) -> torch.Tensor:
    """Slopes, an edge and some noise: [3, H, W], whole bytes."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    noise = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))
    plain = torch.stack([0.2 + 0.6 * x, 0.3 + 0.4 * (x > y), 0.8 - 0.5 * y])
    return ((plain + 0.1 * (noise - 0.5)) * 255).round() / 255


def through_a_file(image: torch.Tensor, quality: int) -> torch.Tensor:
    pixels = (image * 255).byte().permute(1, 2, 0).numpy()
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality, subsampling=2)
    decoded = np.asarray(Image.open(io.BytesIO(stream.getvalue())))
    return torch.from_numpy(decoded.copy()).permute(2, 0, 1).float() / 255


class TestWithJpegMarks:
    @pytest.mark.parametrize("quality", [20, 50, 85])
    @pytest.mark.parametrize("size", [(64, 96), (53, 70)])
    def test_as_a_file(self, size, quality):
        image = picture(*size)
        out, real = with_jpeg_marks(image, quality), through_a_file(image, quality)
        assert out.shape == image.shape
        # measured: 0.6 to 1.4 grey levels apart, where the file is 6.7 to 8.7 from the picture
        apart, marks = (255 * (a - real).abs().mean() for a in (out, image))
        assert apart < 2 and apart < 0.4 * marks, (apart, marks)

    def test_a_higher_quality_keeps_more(self):
        image = picture(64, 64)
        errors = [(with_jpeg_marks(image, q) - image).abs().mean().item() for q in (10, 40, 70, 95)]
        assert errors == sorted(errors, reverse=True)

    def test_flat_pictures_stay(self):
        flat = torch.full((3, 32, 40), 128 / 255)
        torch.testing.assert_close(with_jpeg_marks(flat, 90), flat, atol=0.004, rtol=0)
