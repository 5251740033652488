"""What `texture` is made of, piece by piece: gathers, mip levels, footprints, cube map coordinates."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from mofa_nvdr.dr.texture_sampling import (
    TextureMip,
    _Gather,
    build_levels_ref,
    cube_coordinates,
    level_of_detail,
    level_sizes,
    sample_linear,
    sample_nearest,
    tie,
)

# Row 0 is the bottom row: texel (column, row) holds 10 row + column.
RAMP = torch.tensor([[[[0.0], [1], [2], [3]], [[10], [11], [12], [13]]]])  # [1, 2, 4, 1]


class TestGather:
    def test_rows_and_their_gradient(self):
        """-1 gives zeros; a row that is taken twice gets both gradients."""
        table = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], requires_grad=True)
        rows = _Gather.apply(table, torch.tensor([2, -1, 0, 2]))
        assert rows.tolist() == [[5, 6], [0, 0], [1, 2], [5, 6]]
        rows.backward(torch.tensor([[1.0, 10.0], [7.0, 7.0], [2.0, 20.0], [4.0, 40.0]]))
        assert table.grad.tolist() == [[2, 20], [0, 0], [5, 50]]

    def test_sums_in_float64(self):
        """4096 times 2^-24 beside 1 would vanish in a float32 sum."""
        table = torch.zeros(1, 1, requires_grad=True)
        rows = _Gather.apply(table, torch.zeros(4097, dtype=torch.int64))
        rows.backward(torch.cat([torch.ones(1, 1), torch.full((4096, 1), 2.0**-24)]))
        assert table.grad.item() == 1 + 2.0**-12


class TestLevels:
    def test_box_averages_down_to_one_texel(self):
        levels = build_levels_ref(RAMP, level_sizes(RAMP.shape, None))
        assert [level.flatten().tolist() for level in levels] == [[5.5, 7.5], [6.5]]
        assert [list(level.shape) for level in levels] == [[1, 1, 2, 1], [1, 1, 1, 1]]

    def test_as_many_as_asked_for(self):
        assert level_sizes(RAMP.shape, 0) == [] and level_sizes(RAMP.shape, 1) == [(1, 2)]
        assert level_sizes(RAMP.shape, 9) == [(1, 2), (1, 1)]

    def test_odd_sides(self):
        with pytest.raises(
            RuntimeError, match="texture: level 1 is 1 x 3, and an odd side can't be"
        ):
            level_sizes(torch.Size([1, 2, 6, 1]), None)


def kept(tex=RAMP):
    return TextureMip(tex, build_levels_ref(tex, level_sizes(tex.shape, None)))


class TestTextureMip:
    @pytest.mark.parametrize(("level", "share"), [(0, 1 / 4), (1, 1 / 8)])
    def test_gradients_reach_the_texture(self, level, share):
        """A texel's share of a level that averages 2 x 2, 2 x 4 texels: a quarter, an eighth."""
        tex = RAMP.clone().requires_grad_()
        tie(tex, kept().levels_of(tex))[level].sum().backward()
        assert torch.equal(tex.grad, torch.full_like(RAMP, share))
        assert tie(tex, []) == []

    def test_gradients_of_two_levels(self):
        tex = RAMP.clone().requires_grad_()
        levels = tie(tex, kept().levels_of(tex))
        (levels[0].sum() + levels[1].sum()).backward()
        assert torch.equal(tex.grad, torch.full_like(RAMP, 3 / 8))

    def test_another_texture(self):
        with pytest.raises(
            RuntimeError, match=r"for a texture \[1, 2, 4, 1\], but tex is \[1, 4, 2"
        ):
            kept().levels_of(RAMP.reshape(1, 4, 2, 1))
        with pytest.raises(
            RuntimeError, match="texture of torch.float32, but tex is torch.float64"
        ):
            kept().levels_of(RAMP.double())


class TestLevelOfDetail:
    @pytest.mark.parametrize(
        ("footprint", "level"),
        [
            ((2, 0, 0, 2), 1),
            ((1, 0, 0, 8), 3),  # the longer axis
            ((0, 0.5, 0, 0), -1),
            ((3, 4, -4, 3), math.log2(5)),  # turned: both axes are 5 texels long
            ((0, 0, 0, 0), -math.inf),
            ((math.inf, 0, 0, 0), math.inf),
        ],
    )
    def test_by_hand(self, footprint, level):
        """(ds/dX, ds/dY, dt/dX, dt/dY) in texels of a texture 4 wide and 2 high."""
        uv_da = torch.tensor([[[footprint]]], dtype=torch.float64) / torch.tensor([4, 4, 2, 2])
        bias = torch.tensor([[[0.25]]])
        assert level_of_detail(RAMP, uv_da, None).item() == pytest.approx(level)
        assert level_of_detail(RAMP, uv_da, bias).item() == pytest.approx(level + 0.25)
        assert level_of_detail(RAMP, None, bias) is bias

    def test_no_gradient_of_what_has_no_size(self):
        uv_da = torch.zeros(1, 1, 1, 4, requires_grad=True)
        level_of_detail(RAMP, uv_da, None).sum().backward()
        assert (uv_da.grad == 0).all()


class TestSample:
    @pytest.mark.parametrize(
        ("boundary", "nearest", "linear"),
        [("wrap", 3, 4.75), ("clamp", 0, 2.5), ("zero", 0, 0.625)],
    )
    def test_beyond_the_left_edge(self, boundary, nearest, linear):
        """A quarter of a texel outside, a quarter of one above the lower row's centres.

        Linear: three quarters of the texel outside and one of the one inside, of both rows.
        """
        uv = torch.tensor([[[(-0.25 / 4, 0.75 / 2)]]])
        assert sample_nearest(RAMP, uv, boundary, None).item() == nearest
        assert sample_linear(RAMP, uv, boundary, None).item() == pytest.approx(linear)


class TestCubeCoordinates:
    def test_layout_is_opengls(self):
        """Towards +x, -z lies to the right and -y up; seen from inside, as in OpenGL's table."""
        uv, _, face, _ = cube_coordinates(torch.tensor([[[(1.0, -0.5, -0.2)]]]), None)
        assert face.item() == 0
        assert uv.flatten().tolist() == pytest.approx([0.6, 0.75])

    def test_footprint_is_the_derivative_of_the_coordinates(self):
        generator = torch.Generator().manual_seed(0)
        uv = F.normalize(torch.randn(1, 1, 20, 3, generator=generator), dim=-1).double()
        step = torch.randn(
            1, 1, 20, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
        )
        _, derivative, face, _ = cube_coordinates(uv, step.flatten(-2))
        h = 1e-6
        for axis in (0, 1):
            ends = [cube_coordinates(uv + k * h * step[..., axis], None) for k in (-1, 1)]
            stays = (ends[0][2] == face) & (ends[1][2] == face)
            numeric = (ends[1][0] - ends[0][0]) / (2 * h)
            torch.testing.assert_close(derivative[..., axis::2][stays], numeric[stays])
