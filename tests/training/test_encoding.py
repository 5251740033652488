"""Several groups of images in one pass of the encoder."""

from __future__ import annotations

import torch

from mofa_nvdr.runs.config import load_config
from mofa_nvdr.training.encoding import encode_together
from tests.helpers.small_encoder import small_encoder
from tests.helpers.small_face import small_face


class TestEncodeTogether:
    def test_each_group_gets_its_own_codes(self):
        """Rendered faces may be of another size than photographs: all are as the trunk sees them."""
        encoder = small_encoder(load_config("smoke"), small_face(16).layout).eval()
        encoder.input_size = 64
        groups = {
            name: torch.rand(n, 3, size, size)
            for name, n, size in (("photo", 4, 80), ("mirror", 4, 80), ("rendered", 3, 64))
        }
        for name, codes in encode_together(encoder, groups).items():
            torch.testing.assert_close(codes, encoder(groups[name]))
