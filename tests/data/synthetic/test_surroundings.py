"""Backgrounds and what is before a face: placed as said, hidden as drawn."""

from __future__ import annotations

import numpy as np
import torch

from mofa_nvdr.data.synthetic.surroundings import (
    Layer,
    _beard,
    _glasses,
    _occluder,
    _soften_edges,
    photograph_background,
    plain_background,
)
from tests.helpers.random_draws import draws


class TestBackgrounds:
    def test_rooms_differ(self):
        pictures = plain_background((40, 50), draws(6))
        assert pictures.shape == (6, 3, 40, 50)
        assert pictures.min() >= 0 and pictures.max() <= 1
        assert (
            torch.cdist(pictures.flatten(1), pictures.flatten(1)).add(torch.eye(6) * 99).min() > 3
        )

    def test_photographs(self):
        """Every kind holds pixels of its own photograph alone; kept ones are left alone."""
        base = torch.arange(40).view(-1, 1, 1, 1) / 64
        photographs = (base + torch.rand(40, 3, 33, 33) * 0.01).clamp(0, 1)
        kept = torch.zeros(40)
        kept[:5] = 1
        result = photograph_background(photographs, kept, draws(40))
        low, high = photographs.amin((1, 2, 3)), photographs.amax((1, 2, 3))
        assert (result.amin((1, 2, 3)) >= low - 1e-6).all()
        assert (result.amax((1, 2, 3)) <= high + 1e-6).all()
        for k in range(5):
            assert result[k].equal(photographs[k]) or result[k].equal(photographs[k].flip(2))
        moved = [
            not (result[k].equal(photographs[k]) or result[k].equal(photographs[k].flip(2)))
            for k in range(5, 40)
        ]
        assert all(moved)

    def test_shuffled_patches_are_a_permutation(self):
        photographs = torch.rand(60, 1, 16, 16).expand(-1, 3, -1, -1)
        result = photograph_background(photographs, torch.zeros(60), draws(60))
        same = [
            torch.equal(a.flatten().sort().values, b.flatten().sort().values)
            for a, b in zip(photographs, result)
        ]
        assert 0.3 < np.mean(same) < 0.85  # rolled or shuffled; the others are enlarged


class TestBeforeTheFace:
    def layer(self, count: int) -> Layer:
        image = torch.full((count, 3, 64, 64), 0.6)
        mask = torch.zeros(count, 1, 64, 64)
        mask[:, :, 8:60, 12:52] = 1
        return Layer(image * mask, mask, mask, mask.long())

    def landmarks(self, count: int) -> torch.Tensor:
        points = torch.zeros(count, 68, 2)
        points[:, 17:27] = torch.tensor([32.0, 20])
        points[:, 8] = torch.tensor([32.0, 58])
        points[:, 36:42] = torch.tensor([24.0, 26])
        points[:, 42:48] = torch.tensor([40.0, 26])
        return points

    def test_beards_grow_low(self):
        skin = torch.full((100, 3, 64, 64), 0.6)
        out = _beard(skin, self.landmarks(100), torch.full((100, 3), 0.1), draws(100))
        changed = (out - skin).abs().amax(1) > 0.05  # [B, H, W]
        bearded = changed.flatten(1).any(1)
        assert 5 <= bearded.sum() <= 25  # 14 %
        assert (
            not changed[:, :26, 22:42].any()
            and changed[bearded][:, 50:58, 28:36].float().mean() > 0.5
        )

    def test_glasses_are_round_the_eyes(self):
        image, visible = torch.full((100, 3, 64, 64), 0.6), torch.ones(100, 1, 64, 64)
        out, seen = _glasses(image, visible, self.landmarks(100), draws(100))
        worn = (seen < 0.9).flatten(1).any(1)
        assert 7 <= worn.sum() <= 27  # 16 %
        hidden = 1 - seen[worn].mean(0)[0]
        assert hidden[18:34, 14:50].mean() > 0.1 and hidden[40:].max() < 0.01
        assert torch.equal(out[~worn], image[~worn])

    def test_occluders_hide_what_they_cover(self):
        image, visible = torch.rand(100, 3, 64, 64), torch.ones(100, 1, 64, 64)
        face = self.layer(100)
        out, seen = _occluder(image, visible, torch.rand(100, 3, 64, 64), face, draws(100))
        changed = (out - image).abs().amax(1, keepdim=True) > 1e-6
        assert torch.equal(changed & (seen == 1), torch.zeros_like(changed))
        covered = (seen == 0).flatten(1).any(1)
        assert 8 <= covered.sum() <= 35  # 22 %, some outside of the picture

    def test_edges_alone_are_softened(self):
        mask = torch.zeros(1, 1, 8, 8)
        mask[..., 4:] = 1
        image = (mask + torch.rand(1, 1, 8, 8) * 0.2).expand(-1, 3, -1, -1)
        out = _soften_edges(image, mask)
        assert torch.equal(out[..., :3], image[..., :3]) and torch.equal(
            out[..., 5:], image[..., 5:]
        )
        assert ((out - image)[..., 3:5].abs() > 0.1).float().mean() > 0.8
