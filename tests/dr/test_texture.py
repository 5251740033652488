"""texture: values by hand, gradients by finite differences, seams of the cube, and every refusal."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from mofa_nvdr import dr

# Row 0 is the bottom row: texel (column, row) holds 10 row + column.
RAMP = torch.tensor([[[[0.0], [1], [2], [3]], [[10], [11], [12], [13]]]])  # [1, 2, 4, 1]


def at(*points: tuple[float, float], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """uv [1, 1, P, 2] from texel coordinates of RAMP: (1.5, 0.5) is the centre of column 1, row 0."""
    return torch.tensor([[[(x / 4, y / 2) for x, y in points]]], dtype=dtype)


def sample(points, **options) -> list[float]:
    return dr.texture(RAMP, at(*points), **options).flatten().tolist()


def pixels(*values: float) -> torch.Tensor:
    """[1, 1, P] of numbers."""
    return torch.tensor([[values]], dtype=torch.float32)


def random_tensor(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(
        *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).requires_grad_()


class TestNearest:
    def test_texels_by_hand(self):
        assert sample([(0.1, 0.1), (3.9, 0.9), (1.5, 1.5)], filter_mode="nearest") == [0, 3, 11]

    @pytest.mark.parametrize(
        ("boundary", "want"),
        [("wrap", [3, 1, 10, 10]), ("clamp", [0, 3, 10, 10]), ("zero", [0, 0, 0, 10])],
    )
    def test_boundaries(self, boundary, want):
        points = [(-0.5, 0.5), (5.5, 0.5), (0.5, 3.5), (0.5, 1.5)]
        assert sample(points, filter_mode="nearest", boundary_mode=boundary) == want

    def test_gradient_reaches_the_texture_alone(self):
        tex, uv = RAMP.clone().requires_grad_(), at((1.5, 0.5), (1.2, 0.2)).requires_grad_()
        dr.texture(tex, uv, filter_mode="nearest").sum().backward()
        want = torch.zeros_like(RAMP)
        want[0, 0, 1] = 2
        assert torch.equal(tex.grad, want)
        assert uv.grad is None or (uv.grad == 0).all()


class TestLinear:
    def test_centres_and_between(self):
        # At a texel's centre its value; half way to the right + 0.5, half way up + 5.
        assert sample([(0.5, 0.5), (1, 0.5), (1.5, 1), (2, 1)]) == [0, 0.5, 6, 6.5]

    @pytest.mark.parametrize(
        ("boundary", "want"),
        # Left of the first column: half of the last, the first goes on, half of nothing.
        [("wrap", [1.5, 3, 5]), ("clamp", [0, 0, 10]), ("zero", [0, 0, 5])],
    )
    def test_boundaries(self, boundary, want):
        assert sample([(0, 0.5), (-0.5, 0.5), (0.5, 2)], boundary_mode=boundary) == want

    def test_far_outside(self):
        tex = torch.ones(1, 4, 4, 1)
        far = torch.tensor([[[(1e9, 0.5), (-1e30, 0.5), (0.5, 3e38)]]])
        for boundary, want in (("zero", 0.0), ("clamp", 1.0), ("wrap", 1.0)):
            assert (dr.texture(tex, far, boundary_mode=boundary) == want).all()

    def test_not_finite_gives_zero_and_no_gradient(self):
        tex = torch.ones(1, 4, 4, 1).requires_grad_()
        uv = torch.tensor([[[(math.nan, 0.5), (0.5, math.inf), (0.5, 0.5)]]]).requires_grad_()
        out = dr.texture(tex, uv)
        assert out.flatten().tolist() == [0, 0, 1]
        out.sum().backward()
        assert tex.grad.sum() == 1
        assert torch.isfinite(uv.grad).all()

    @pytest.mark.parametrize("boundary", ["wrap", "clamp", "zero"])
    def test_gradcheck(self, boundary):
        tex = random_tensor(2, 4, 8, 2)
        uv = (random_tensor(2, 3, 5, 2, seed=1).detach() * 1.6 - 0.3).requires_grad_()
        assert gradcheck(lambda t, u: dr.texture(t, u, boundary_mode=boundary), (tex, uv))

    def test_clamped_coordinates_have_no_gradient(self):
        uv = at((-1, 1), (5, 1)).requires_grad_()
        dr.texture(RAMP, uv, boundary_mode="clamp").sum().backward()
        assert uv.grad[..., 0].tolist() == [[[0, 0]]]

    def test_shared_texture_sums_over_images(self):
        uv = at((1.5, 0.5)).expand(3, -1, -1, -1).contiguous()
        tex = RAMP.clone().requires_grad_()
        dr.texture(tex, uv).sum().backward()
        assert tex.grad[0, 0, 1].item() == 3

    def test_same_bits_each_time(self):
        generator = torch.Generator().manual_seed(0)
        tex = torch.rand(1, 8, 8, 3, generator=generator)
        uv = torch.rand(1, 200, 200, 2, generator=generator)
        grads = []
        before = torch.get_num_threads()
        try:
            for num_threads in (1, 2, 3):
                torch.set_num_threads(num_threads)
                leaf = tex.clone().requires_grad_()
                dr.texture(leaf, uv).square().sum().backward()
                grads.append(leaf.grad)
        finally:
            torch.set_num_threads(before)
        assert torch.equal(grads[0], grads[1]) and torch.equal(grads[0], grads[2])


class TestMipmaps:
    def test_levels_are_box_averages(self):
        tex = torch.arange(16.0).reshape(1, 4, 4, 1)
        uv = torch.tensor([[[(0.25, 0.25), (0.9, 0.9), (0.1, 0.9)]]])
        bias = pixels(1, 2, 5)
        out = dr.texture(tex, uv, mip_level_bias=bias, filter_mode="linear-mipmap-nearest")
        # Level 1's first texel: the mean of 0, 1, 4, 5; level 2 and up: the mean of all.
        assert out.flatten().tolist() == pytest.approx([2.5, 7.5, 7.5])

    def test_between_levels(self):
        tex = torch.arange(16.0).reshape(1, 4, 4, 1)
        uv = torch.tensor([[[(0.125, 0.125)]]])
        out = dr.texture(tex, uv, mip_level_bias=pixels(1.25))
        level_1 = _wrapped(torch.tensor([[2.5, 4.5], [10.5, 12.5]]), 0.125 * 2 - 0.5)
        assert out.item() == pytest.approx(0.75 * level_1 + 0.25 * 7.5, abs=1e-5)

    @pytest.mark.parametrize(
        ("derivatives", "level"),
        [
            ((1 / 8, 0, 0, 1 / 8), 0),  # one texel of 8 a pixel
            ((2 / 8, 0, 0, 1 / 8), 1),  # the longer axis counts
            ((0, 0, 0, 0), 0),
            ((0, 4 / 8, 0, 0), 2),
            ((1, 0, 0, 1), 3),
            ((9, 0, 0, 9), 3),  # beyond the last level
            ((math.inf, 0, 0, 0), 3),
            # At 45 degrees: both axes (1, 1) and (1, -1) texels are sqrt(2) long.
            ((1 / 8, 1 / 8, 1 / 8, -1 / 8), 0.5),
        ],
    )
    def test_level_from_the_footprint(self, derivatives, level):
        # Constant levels 0, 1, 2, 3 say which was used.
        levels = [torch.full((1, 8 >> k, 8 >> k, 1), float(k)) for k in range(4)]
        uv_da = torch.tensor([[[derivatives]]], dtype=torch.float32)
        out = dr.texture(levels[0], torch.full((1, 1, 1, 2), 0.4), uv_da, mip=levels[1:])
        assert out.item() == pytest.approx(level, abs=1e-5)

    def test_bias_adds_to_the_footprint(self):
        levels = [torch.full((1, 8 >> k, 8 >> k, 1), float(k)) for k in range(4)]
        uv_da = torch.tensor([[[(2 / 8, 0.0, 0.0, 0.0)]]])
        uv = torch.full((1, 1, 1, 2), 0.4)
        out = dr.texture(levels[0], uv, uv_da, pixels(0.5), mip=levels[1:])
        assert out.item() == pytest.approx(1.5)

    def test_max_mip_level(self):
        tex = torch.zeros(1, 6, 12, 1)  # 3 x 6 after one halving: no further
        tex[:, :, 6:] = 1
        uv, bias = torch.full((1, 1, 1, 2), 0.75), pixels(9)
        with pytest.raises(RuntimeError, match="level 1 is 3 x 6.*set max_mip_level=1"):
            dr.texture(tex, uv, mip_level_bias=bias)
        assert dr.texture(tex, uv, mip_level_bias=bias, max_mip_level=1).item() == 1
        assert dr.texture(tex, uv, mip_level_bias=bias, max_mip_level=0).item() == 1

    def test_gradcheck(self):
        tex = random_tensor(1, 4, 4, 2)
        uv, da = random_tensor(1, 2, 3, 2, seed=1), random_tensor(1, 2, 3, 4, seed=2)
        bias = (random_tensor(1, 2, 3, seed=3).detach() - 0.5).requires_grad_()
        assert gradcheck(lambda *args: dr.texture(*args, max_mip_level=2), (tex, uv, da, bias))

    def test_gradients_of_own_levels(self):
        tex, level = random_tensor(1, 4, 4, 1), random_tensor(1, 2, 2, 1, seed=1)
        uv = torch.full((1, 1, 1, 2), 0.4, dtype=torch.float64)
        bias = torch.full((1, 1, 1), 0.25, dtype=torch.float64)
        assert gradcheck(lambda t, m: dr.texture(t, uv, mip_level_bias=bias, mip=[m]), (tex, level))

    def test_constructed_levels_are_the_same(self):
        tex, uv = random_tensor(1, 4, 8, 2), random_tensor(1, 3, 3, 2, seed=1)
        da = random_tensor(1, 3, 3, 4, seed=2)
        weights = random_tensor(1, 3, 3, 2, seed=3).detach()
        mip = dr.texture_construct_mip(tex)
        results = []
        for _ in range(2):  # the same levels serve two backward passes
            for levels in (None, mip):
                tex.grad = uv.grad = da.grad = None
                out = dr.texture(tex, uv, da, mip=levels)
                (out * weights).sum().backward()
                results.append((out.detach(), tex.grad, uv.grad, da.grad))
        for other in results[1:]:
            for one, two in zip(results[0], other):
                torch.testing.assert_close(one, two)

    def test_mip_of_another_texture(self):
        mip = dr.texture_construct_mip(torch.rand(1, 8, 8, 1))
        with pytest.raises(RuntimeError, match=r"mip was made for a texture \[1, 8, 8, 1\]"):
            dr.texture(RAMP, at((1, 1)), mip_level_bias=pixels(0), mip=mip)


def _wrapped(level: torch.Tensor, x: float) -> float:
    """Bilinear value of a 2 x 2 level at texel coordinate (x, x) < 0, the far side wrapped around."""
    f = x + 1
    weights = torch.tensor([1 - f, f])  # texel -1 = texel 1, texel 0
    return float(weights @ level.flip(0, 1) @ weights)


class TestCube:
    def directions(self, count: int = 2000) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return F.normalize(torch.randn(1, 1, count, 3, generator=generator), dim=-1)

    def field(self, side: int) -> torch.Tensor:
        """A cube map [1, 6, S, S, 3] whose texels hold the direction of their own centre."""
        inside = (2 * torch.arange(side) + 1) / side - 1
        t, s = torch.meshgrid(inside, inside, indexing="ij")
        one = torch.ones_like(s)
        faces = [
            (one, -t, -s),
            (-one, -t, s),
            (s, one, t),
            (s, -one, -t),
            (s, -t, one),
            (-s, -t, -one),
        ]
        stacked = torch.stack([torch.stack(face, dim=-1) for face in faces])
        return F.normalize(stacked, dim=-1)[None].contiguous()

    @pytest.mark.parametrize(
        ("direction", "face"),
        [((2, 1, 0), 0), ((-2, 1, 0), 1), ((0, 3, 1), 2), ((1, -3, 1), 3), ((0, 1, 2), 4), ((1, 1, -2), 5)],
    )  # fmt: skip
    def test_faces(self, direction, face):
        tex = torch.arange(6.0).reshape(1, 6, 1, 1, 1)
        uv = torch.tensor([[[direction]]], dtype=torch.float32)
        assert dr.texture(tex, uv, boundary_mode="cube", filter_mode="nearest").item() == face

    def test_seamless(self):
        """A smooth field stays smooth over edges and corners: clamped faces would jump by a texel."""
        uv, side = self.directions(), 16
        out = dr.texture(self.field(side), uv, boundary_mode="cube")
        assert (out - uv).norm(dim=-1).max() < 0.02  # measured 0.014; clamped 0.1

    def test_length_of_the_direction_does_not_matter(self):
        uv = self.directions(50)
        tex = self.field(4)
        one, other = (dr.texture(tex, uv * k, boundary_mode="cube") for k in (1.0, 8.0))
        torch.testing.assert_close(one, other)

    def test_no_direction(self):
        uv = torch.tensor([[[(0.0, 0, 0), (math.nan, 1, 0), (0, 0, 1)]]])
        out = dr.texture(torch.ones(1, 6, 4, 4, 1), uv, boundary_mode="cube")
        assert out.flatten().tolist() == [0, 0, 1]

    def test_gradcheck(self):
        tex = random_tensor(1, 6, 4, 4, 1)
        uv = self.directions(12).double().requires_grad_()
        da = (0.3 * random_tensor(1, 1, 12, 6, seed=2).detach()).requires_grad_()
        assert gradcheck(
            lambda *args: dr.texture(*args, boundary_mode="cube", max_mip_level=1), (tex, uv, da)
        )

    def test_mipmapped(self):
        uv = self.directions(100)
        bias = torch.full((1, 1, 100), 1.5)
        tex = self.field(16)
        mip = dr.texture_construct_mip(tex, cube_mode=True)
        for levels in (None, mip):
            out = dr.texture(tex, uv, mip_level_bias=bias, mip=levels, boundary_mode="cube")
            assert (out - uv).norm(dim=-1).max() < 0.2


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            (
                {"filter_mode": "cubic"},
                ValueError,
                "filter_mode is 'cubic', expected auto or one of",
            ),
            ({"boundary_mode": "mirror"}, ValueError, "boundary_mode is 'mirror', expected one of"),
            ({"filter_mode": "linear-mipmap-linear"}, ValueError, "needs uv_da or mip_level_bias"),
            ({"max_mip_level": -1}, ValueError, "max_mip_level is -1, expected 0 or more"),
            (
                {"uv_da": torch.zeros(1, 1, 1, 2)},
                RuntimeError,
                r"uv_da is \[1, 1, 1, 2\], expected",
            ),
            ({"mip_level_bias": torch.zeros(1, 2, 1)}, RuntimeError, "mip_level_bias is"),
            ({"mip_level_bias": pixels(0), "mip": 3}, TypeError, "mip is a int, expected a list"),
            (
                {"mip_level_bias": pixels(0), "mip": [torch.zeros(1, 1, 1, 1)]},
                RuntimeError,
                r"mip\[0\] is \[1, 1, 1, 1\], expected \[1, 1, 2, 1\]",
            ),
            (
                {"boundary_mode": "cube"},
                RuntimeError,
                r"tex is \[1, 2, 4, 1\], expected \[B, 6, S, S",
            ),
        ],
    )
    def test_options(self, options, error, message):
        with pytest.raises(error, match=message):
            dr.texture(RAMP, at((1, 1)), **options)

    @pytest.mark.parametrize(
        ("tex", "uv", "message"),
        [
            (
                RAMP.expand(3, -1, -1, -1).contiguous(),
                at((1, 1)),
                "tex has 3 images, expected 1 or 1",
            ),
            (RAMP.half(), at((1, 1)), "tex is float16, expected float32 or float64"),
            (RAMP, at((1, 1)).double(), "uv is float64, expected float32"),
            (RAMP, torch.zeros(1, 1, 1, 3), r"uv is \[1, 1, 1, 3\], expected"),
            (RAMP.transpose(1, 2), at((1, 1)), "tex is not contiguous"),
            (RAMP, at((1, 1)).to("meta"), "uv is on meta, but tex is on cpu"),
        ],
    )
    def test_tensors(self, tex, uv, message):
        with pytest.raises(RuntimeError, match=message):
            dr.texture(tex, uv)

    def test_construct_mip(self):
        with pytest.raises(ValueError, match="max_mip_level is -2"):
            dr.texture_construct_mip(RAMP, max_mip_level=-2)
        with pytest.raises(RuntimeError, match="expected square faces"):
            dr.texture_construct_mip(torch.zeros(1, 6, 2, 4, 1), cube_mode=True)
        with pytest.raises(RuntimeError, match="texture_construct_mip: level 0 is 3 x 4"):
            dr.texture_construct_mip(torch.zeros(1, 3, 4, 1))
