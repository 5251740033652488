"""From values at vertices to pictures in texture space, by hand."""

from __future__ import annotations

import torch

from mofa_nvdr.render.texture_baking import bake, pad


class TestBake:
    def test_linear_values_by_hand(self):
        """A square of two triangles with value (u, v): every texel holds its centre."""
        uv = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        tri = torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)
        texture, covered = bake(uv, tri, uv, tri, 8)
        centres = (torch.arange(8) + 0.5) / 8
        assert covered.all()
        torch.testing.assert_close(texture[..., 0], centres.expand(8, 8), atol=1e-6, rtol=0)
        torch.testing.assert_close(
            texture[..., 1], centres.flip(0)[:, None].expand(8, 8), atol=1e-6, rtol=0
        )

    def test_padding(self):
        """One white texel: its value goes on for three texels, the rest is the mean; it stays itself."""
        texture, covered = torch.zeros(11, 11, 1), torch.zeros(11, 11, dtype=torch.bool)
        texture[5, 5], covered[5, 5] = 0.75, True
        texture[0, 0] = 9  # not covered: must not leak
        padded = pad(texture, covered, 3)
        torch.testing.assert_close(padded, torch.full_like(padded, 0.75), atol=1e-6, rtol=0)

    def test_padding_takes_the_nearest(self):
        texture, covered = torch.zeros(1, 12, 1), torch.zeros(1, 12, dtype=torch.bool)
        texture[0, 0], texture[0, 11] = 0.2, 0.8
        covered[0, 0] = covered[0, 11] = True
        row = pad(texture, covered, 3)[0, :, 0]
        expected = torch.tensor([0.2] * 4 + [0.5] * 4 + [0.8] * 4)
        torch.testing.assert_close(row, expected, atol=1e-6, rtol=0)

    def test_nothing_covered(self):
        assert (pad(torch.ones(4, 4, 3), torch.zeros(4, 4, dtype=torch.bool), 2) == 0).all()
