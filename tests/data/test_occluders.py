"""Boxes before faces: exact shares, each a function of its seed and place."""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr.data.occluders import Occluders

SIZE = 60


def discs(count: int) -> torch.Tensor:
    """[B, 1, S, S] of round faces."""
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    return ((x - 30) ** 2 + (y - 28) ** 2 < 20**2).float().expand(count, 1, SIZE, SIZE)


def test_shares_are_exact():
    face = discs(6)
    occluders = Occluders(face, 0, range(6))
    area = face.flatten(1).sum(1)
    for share in (0.0, 0.07, 0.3, 0.5, 1.0):
        _, box = occluders.cover(torch.zeros(6, 3, SIZE, SIZE), share)
        assert ((box * face).flatten(1).sum(1) - share * area).abs().max() <= 1
    assert occluders.cover(torch.zeros(6, 3, SIZE, SIZE), 0.0)[1].sum() == 0


def test_a_box_grows_and_hides_what_is_behind_it():
    images = torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    occluders = Occluders(discs(4), 3, range(4))
    (small, one), (large, two) = (occluders.cover(images, share) for share in (0.2, 0.5))
    assert ((one <= two).all()) and two.sum() > 2 * one.sum()
    keep = two.expand_as(images) == 0
    assert large[keep].equal(images[keep]) and small[keep].equal(images[keep])
    inside = one.expand_as(images) == 1
    # A surface of its own, in place of the noise: the same in boxes of both sizes.
    assert small[inside].equal(large[inside])
    assert (large - images)[inside].abs().mean() > 0.1
    assert large.min() >= 0 and large.max() <= 1


def test_depends_on_seed_and_place_alone():
    images = torch.zeros(4, 3, SIZE, SIZE)
    whole = Occluders(discs(4), 5, range(4)).cover(images, 0.3)
    parts = [Occluders(discs(2), 5, places).cover(images[:2], 0.3) for places in ((0, 1), (2, 3))]
    for k in (0, 1):
        assert torch.cat([part[k] for part in parts]).equal(whole[k])
    assert not Occluders(discs(4), 6, range(4)).cover(images, 0.3)[1].equal(whole[1])
    assert not whole[1][0].equal(whole[1][1])


def test_mistakes():
    with pytest.raises(ValueError, match="expected \\[B, 1, H, W\\] of 3 places"):
        Occluders(discs(2), 0, range(3))
    with pytest.raises(ValueError, match="a picture without a face"):
        Occluders(torch.zeros(1, 1, 8, 8), 0, [0])
    with pytest.raises(ValueError, match="share is 1.2, expected 0 to 1"):
        Occluders(discs(1), 0, [0]).cover(torch.zeros(1, 3, SIZE, SIZE), 1.2)
