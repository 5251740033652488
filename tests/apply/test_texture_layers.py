"""Textures laid over each other: constants stay, borders meet, parts do not mix."""

import numpy as np
import pytest
import torch

from mofa_nvdr.apply.texture_layers import (
    Part,
    TextureLayer,
    check_size,
    continued,
    enlarged,
    feathered,
    laid_over,
    logarithm,
    lows,
    merged,
)

SIZE = 128


def _flat(*color: float) -> torch.Tensor:
    return torch.tensor(color).view(3, 1, 1).expand(3, SIZE, SIZE).clone()


def _left(columns: int) -> torch.Tensor:
    weight = torch.zeros(SIZE, SIZE)
    weight[:, :columns] = 1
    return weight


def _whole() -> Part:
    part = Part.of(torch.ones(SIZE, SIZE, dtype=torch.bool))
    assert part is not None
    return part


class TestCheckSize:
    def test_sizes(self):
        for size in (64, 100, 128, 1024):
            check_size(size)
        with pytest.raises(ValueError, match="has 1000 texels a side, expected a multiple of 128"):
            check_size(1000)


class TestPart:
    def test_box(self):
        mask = torch.zeros(256, 256, dtype=torch.bool)
        mask[11:20, 101] = True
        part = Part.of(mask)
        # Multiples of two texels, which are one of the coarse maps.
        assert part is not None and part.box == (slice(10, 20), slice(100, 102))

    def test_nowhere(self):
        assert Part.of(torch.zeros(SIZE, SIZE, dtype=torch.bool)) is None


class TestFeathered:
    def test_falls_inside_its_border_alone(self):
        soft = feathered(_left(64), 4.0, _whole())
        assert (soft[:, 64:] == 0).all() and (soft[:, :50] > 0.99).all()
        across = soft[64, 40:64]
        assert (across.diff() <= 1e-6).all() and float(across[-1]) < 0.1

    def test_the_parts_own_border_is_none(self):
        part = Part.of(_left(64) > 0)
        assert part is not None
        soft = feathered(torch.ones(SIZE, SIZE), 4.0, part)
        assert (soft[:, :64] > 0.99).all() and (soft[:, 64:] == 0).all()


class TestLows:
    def test_a_constant_goes_on(self):
        low = lows(_flat(1.0, 2, 3), _left(30), 2.0)
        assert low.shape == (3, 128, 128)
        np.testing.assert_allclose(low, _flat(1.0, 2, 3), atol=1e-4)

    def test_far_away_the_mean(self):
        """Values from 0 to 1 over the known columns: beyond, those of the border turn to the mean."""
        values = (torch.arange(SIZE) / 63.0).expand(1, SIZE, SIZE)
        low = lows(values, _left(64), 1.0, reach=8.0)
        assert float(low[0, 64, 62]) == pytest.approx(1, abs=0.05)
        assert float(low[0, 64, 66]) == pytest.approx(1, abs=0.1)
        assert float(low[0, 64, 120]) == pytest.approx(0.5, abs=0.02)

    def test_factor(self):
        low = lows(torch.ones(2, 64, 32), torch.ones(64, 32), 1.0, factor=4)
        assert low.shape == (2, 16, 8)
        assert enlarged(low, 64, 32).shape == (2, 64, 32)


class TestLaidOver:
    def test_no_step_at_the_border(self):
        """The lower layer is darker and redder by a factor everywhere: it takes the upper one's colours."""
        over = TextureLayer(_flat(0.5, 0.4, 0.3), _left(64))
        out = laid_over(_flat(0.4, 0.25, 0.2), over, [_whole()], 1.5)
        np.testing.assert_allclose(out, _flat(0.5, 0.4, 0.3), rtol=0.06)
        assert float((out[..., 63] - out[..., 64]).abs().max()) < 0.02  # 0.15 before

    def test_detail_of_the_lower_layer_stays(self):
        under = _flat(0.4, 0.3, 0.2)
        under[:, :, 100] *= 0.5
        out = laid_over(under, TextureLayer(_flat(0.4, 0.3, 0.2), _left(64)), [_whole()], 1.5)
        np.testing.assert_allclose(out[..., 100] / out[..., 110], 0.5, atol=1e-3)

    def test_parts_do_not_mix(self):
        """Bright skin does not make teeth bright: nothing of the second part is known."""
        upper = torch.zeros(SIZE, SIZE, dtype=torch.bool)
        upper[:64] = True
        parts = [Part.of(upper), Part.of(~upper)]
        over = TextureLayer(_flat(0.6, 0.6, 0.6), _left(64) * upper)
        out = laid_over(_flat(0.3, 0.3, 0.3), over, parts, 1.5)
        assert (out[:, 64:] == 0.3).all()
        assert float(out[0, 10, 70]) > 0.5

    def test_a_shift_has_its_bound(self):
        out = laid_over(
            _flat(0.01, 0.01, 0.01), TextureLayer(_flat(1.0, 1, 1), _left(64)), [_whole()], 1.5
        )
        # tanh(log 100 / 0.9) * 0.9 = 0.9
        assert float(out[0, 64, 70]) == pytest.approx(0.01 * np.exp(0.9), rel=0.02)

    def test_nothing_known_changes_nothing(self):
        under = _flat(0.3, 0.2, 0.1)
        out = laid_over(
            under, TextureLayer(_flat(1.0, 1, 1), torch.zeros(SIZE, SIZE)), [_whole()], 1.5
        )
        assert torch.equal(out, under)


class TestContinued:
    def test_stripes_go_on_and_fade(self):
        color = _flat(0.4, 0.4, 0.4)
        color[:, :, 60] *= 0.9
        everywhere = torch.ones(SIZE, SIZE, dtype=torch.bool)
        factors = continued(TextureLayer(color, _left(64)), everywhere, 3.0, 30.0)
        assert (factors[..., :64] == 1).all()
        # The last known column is 63: the stripe's image is at 66.
        row = factors[0, 64]
        assert int(row.argmin()) == 66
        assert float(row[66]) == pytest.approx(0.9, abs=0.03)
        assert float(row[127]) == pytest.approx(1, abs=0.01)

    def test_nothing_known(self):
        layer = TextureLayer(_flat(0.4, 0.4, 0.4), torch.zeros(SIZE, SIZE))
        everywhere = torch.ones(SIZE, SIZE, dtype=torch.bool)
        assert (continued(layer, everywhere, 3.0, 30.0) == 1).all()


class TestMerged:
    def test_one_is_itself(self):
        layer = TextureLayer(_flat(0.4, 0.3, 0.2), _left(64))
        assert merged([layer], 4.0) is layer

    def test_colours_meet_and_each_shows_its_side(self):
        """One photograph shows the left three quarters, a darker one the right three quarters."""
        one = TextureLayer(_flat(0.5, 0.4, 0.3), _left(96))
        other = TextureLayer(_flat(0.4, 0.32, 0.24), _left(SIZE) - _left(32))
        both = merged([one, other], 4.0)
        assert (both.weight == 1).all()
        row = both.color[0, 64]
        assert float(row[0]) == pytest.approx(0.5, abs=0.01)
        assert float(row[-1]) == pytest.approx(0.4, abs=0.01)
        assert float(row.diff().abs().max()) < 0.02  # without a step of 0.1

    def test_detail_is_the_finer_ones(self):
        """A sharp and a blurred picture of a line: the quality decides, though both are seen fully."""
        sharp, soft = _flat(0.4, 0.4, 0.4), _flat(0.4, 0.4, 0.4)
        sharp[..., 64] *= 0.5
        fine, coarse = torch.full((SIZE, SIZE), 2.0), torch.ones(SIZE, SIZE)
        layers = [TextureLayer(soft, _left(SIZE), coarse), TextureLayer(sharp, _left(SIZE), fine)]
        row = merged(layers, 8.0).color[0, 64]
        assert float(row[64] / row[40]) == pytest.approx(0.5, abs=0.04)


def test_logarithm_of_black_is_finite():
    assert torch.isfinite(logarithm(torch.zeros(3))).all()
