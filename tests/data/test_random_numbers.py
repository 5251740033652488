"""Random numbers by key, and those of a batch: each sample's from its own generator."""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr.data.random_numbers import random_generator, random_words
from tests.helpers.random_draws import draws


class TestRandomWords:
    def test_the_stream_stays(self):
        """What NumPy gives for this key; another stream would change every corpus and every order."""
        assert random_words(3, 12345).tolist() == [
            0x3A32B18DB2FFC19D, 0x51171315C9E4C4DE, 0xCC2024823444EFD9,
        ]  # fmt: skip

    def test_the_key_alone_decides(self):
        assert (random_words(5, 1, 2) == random_words(9, 1, 2)[:5]).all()
        for key in ((2, 1), (1, 3), (0, 2), (1, 2, 1), (2**32 + 1, 2)):
            assert not (random_words(5, 1, 2) == random_words(5, *key)).any()


class TestRandomGenerator:
    def test_is_of_the_same_stream(self):
        words = random_generator(7, 3).bit_generator.random_raw(4)
        assert (words == random_words(4, 7, 3)).all()


class TestDraws:
    def test_each_sample_from_its_own_generator(self):
        whole, part = draws(5), draws(2, first=3)
        for name, args in (("uniform", (2, 3)), ("chance", (0.5,)), ("color", (0.1, 0.9, 0.3))):
            assert torch.equal(getattr(whole, name)(*args)[3:], getattr(part, name)(*args))
        assert torch.equal(whole.noise(2, 3)[3:], part.noise(2, 3))
        assert torch.equal(whole.random(4)[3:], part.random(4))

    def test_ranges(self):
        d = draws(2000)
        assert 2 <= (x := d.uniform(2, 3)).min() and x.max() < 3
        assert d.chance(0.25).mean().item() == pytest.approx(0.25, abs=0.04)
        color = d.color(0.5, 0.5, 0.2)
        assert color.min() >= 0.4 - 1e-6 and color.max() <= 0.6 + 1e-6

    def test_fields(self):
        d = draws(40)
        assert d.count == 40 and d.random(3, 2).shape == d.noise(3, 2).shape == (40, 3, 2)
        noise, field = d.noise(50, 50), d.random(50, 50)
        # 100,000 numbers: the standard error of a mean is 0.3 % and 0.1 %.
        assert noise.mean().item() == pytest.approx(0, abs=0.015)
        assert noise.std().item() == pytest.approx(1, abs=0.01)
        assert field.mean().item() == pytest.approx(0.5, abs=0.005) and 0 <= field.min()
        assert field.max() < 1

    def test_fields_do_not_shift_the_numbers(self):
        """The table of `uniform` is drawn at once: a field drawn in between changes nothing in it."""
        plain, other = draws(3), draws(3)
        other.noise(8, 8)
        assert torch.equal(plain.uniform(), other.uniform())
