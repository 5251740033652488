"""How images are cut for the threads."""

import pytest
import torch

from mofa_nvdr.dr.bands import bands_of_images, forward_bands, gradient_bands


class TestBands:
    @pytest.mark.parametrize("make", [forward_bands, gradient_bands])
    @pytest.mark.parametrize("num_images", [1, 2, 3, 4, 5, 8])
    @pytest.mark.parametrize("height", [1, 2, 7, 240])
    def test_every_row_once_and_in_order(self, num_threads, make, num_images, height):
        bands = make(num_images, height)
        rows = [(image, row) for image, start, stop in bands for row in range(start, stop)]
        assert rows == [(image, row) for image in range(num_images) for row in range(height)]
        for image, span in enumerate(bands_of_images(bands)):
            assert {band[0] for band in bands[span]} == {image}
        assert sum(len(bands[span]) for span in bands_of_images(bands)) == len(bands)

    def test_two_threads_share_the_fifth_image(self):
        before = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            assert forward_bands(5, 240)[4:] == [(4, 0, 120), (4, 120, 240)]
        finally:
            torch.set_num_threads(before)

    def test_sums_do_not_follow_the_threads(self, num_threads):
        assert gradient_bands(5, 240)[4:] == [(4, 0, 120), (4, 120, 240)]
        assert len(gradient_bands(4, 240)) == 4
        assert len(gradient_bands(2, 240)) == 4
