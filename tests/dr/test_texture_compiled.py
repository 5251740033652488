"""The compiled texture against its twin in plain torch: every filter and boundary, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from mofa_nvdr import dr
from mofa_nvdr.dr import reference
from mofa_nvdr.dr.texture_compiled import BOUNDARIES, FILTERS, build_levels
from mofa_nvdr.dr.texture_sampling import build_levels_ref, level_sizes


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def scene(boundary: str, batch: int = 2, shared: bool = False) -> list[torch.Tensor]:
    """tex, uv, uv_da, bias: places inside and outside, footprints from a texel to the whole texture."""
    images = 1 if shared else batch
    if boundary == "cube":
        tex = random(images, 6, 16, 16, 3)
        uv = normalize(random(batch, 20, 30, 3, seed=1) - 0.5, dim=-1) * 2
        uv_da = (random(batch, 20, 30, 6, seed=2) - 0.5) * 10 ** (2 * random(batch, 20, 30, 1) - 2)
    else:
        tex = random(images, 16, 32, 3)
        uv = 2 * random(batch, 20, 30, 2, seed=1) - 0.5
        uv_da = (random(batch, 20, 30, 4, seed=2) - 0.5) * 10 ** (2 * random(batch, 20, 30, 1) - 2)
    return [tex, uv, uv_da, random(batch, 20, 30, seed=3) - 0.5]


def both(leaves, **options):
    """Pictures and gradients of the kernels, and of the reference in float64."""
    results = []
    for module, dtype in ((dr, torch.float32), (reference, torch.float64)):
        given = [
            None if t is None else t.detach().clone().to(dtype).requires_grad_() for t in leaves
        ]
        out = module.texture(*given, **options)
        weight = random(*out.shape, seed=9).to(dtype)
        out.backward(weight)
        results.append((out, [None if t is None else t.grad for t in given]))
    return results


def check(found, wanted, limit=1e-4):
    (out, grads), (exact, exact_grads) = found, wanted
    assert (out - exact).abs().max() < limit
    for grad, other in zip(grads, exact_grads):
        if other is None or not other.any():
            assert grad is None or not grad.any()
            continue
        assert (grad - other).norm() < limit * other.norm()


class TestAgainstTheReference:
    @pytest.mark.parametrize("shared", [False, True])
    @pytest.mark.parametrize("filter_mode", FILTERS)
    @pytest.mark.parametrize("boundary", BOUNDARIES)
    def test_all_modes(self, boundary, filter_mode, shared):
        leaves = scene(boundary, shared=shared)
        if "mipmap" not in filter_mode:
            leaves[2:] = [None, None]
        found, wanted = both(leaves, filter_mode=filter_mode, boundary_mode=boundary)
        # float32 coordinates of a cube: 2e-5 of the gradients measured.
        check(found, wanted, 3e-4)

    @pytest.mark.parametrize("boundary", ["wrap", "cube"])
    @pytest.mark.parametrize(("has_da", "has_bias"), [(True, False), (False, True)])
    def test_level_by_footprint_or_bias_alone(self, boundary, has_da, has_bias):
        leaves = scene(boundary)
        if not has_da:
            leaves[2] = None
        leaves[3] = 3 * leaves[3] + 1 if has_bias else None
        check(*both(leaves, boundary_mode=boundary), 3e-4)

    def test_levels_of_the_callers_own(self):
        tex, uv, uv_da, _ = scene("wrap")
        results = []
        for module, dtype in ((dr, torch.float32), (reference, torch.float64)):
            leaf = tex.clone().to(dtype).requires_grad_()
            own = [random(2, 8, 16, 3, seed=4), random(2, 4, 8, 3, seed=5)]
            own = [level.to(dtype).requires_grad_() for level in own]
            out = module.texture(leaf, uv.to(dtype), uv_da.to(dtype), mip=own)
            out.square().sum().backward()
            results.append((out, [leaf.grad, *(level.grad for level in own)]))
        check(*results)

    @pytest.mark.parametrize("most", [None, 2])
    def test_levels_that_were_kept(self, most):
        tex, uv, uv_da, bias = scene("wrap")
        found, wanted = both([tex, uv, uv_da, bias], max_mip_level=most)
        leaf = tex.clone().requires_grad_()
        kept = dr.texture_construct_mip(leaf)
        out = dr.texture(leaf, uv, uv_da, bias, mip=kept, max_mip_level=most)
        out.backward(random(*out.shape, seed=9))
        assert torch.equal(out, found[0]) and torch.allclose(leaf.grad, found[1][0], atol=1e-6)

    @pytest.mark.parametrize("texels", [0.5, 4.0, 6.0, 11.0])
    @pytest.mark.parametrize("boundary", ["wrap", "cube"])
    def test_levels_that_no_pixel_meets_pass_gradients_on(self, boundary, texels):
        tex, uv, uv_da, _ = scene(boundary)
        side = uv_da.shape[-1] // 2
        uv_da = torch.eye(side, 2).flatten().expand(uv_da.shape) * texels / tex.shape[-2]
        if boundary == "cube":
            uv = torch.tensor([0.1, 0.2, 1.0]) + 0.3 * uv
        check(*both([tex, uv.contiguous(), uv_da.contiguous(), None], boundary_mode=boundary), 3e-4)

    @pytest.mark.parametrize("filter_mode", FILTERS)
    def test_gradients_of_places_or_of_texels_alone(self, filter_mode):
        grads = []
        for wanted in (slice(0, 1), slice(1, 4), slice(0, 4)):
            leaves = [t.clone() for t in scene("clamp")]
            for leaf in leaves[wanted]:
                leaf.requires_grad_()
            dr.texture(
                *leaves, filter_mode=filter_mode, boundary_mode="clamp"
            ).square().sum().backward()
            grads.append([leaf.grad for leaf in leaves])
        of_texels, of_places, of_both = grads
        assert of_texels[1:] == [None] * 3 and of_places[0] is None
        assert torch.equal(of_texels[0], of_both[0])
        for alone, other in zip(of_places[1:], of_both[1:]):
            assert torch.equal(alone, other) if other is not None else alone is None

    def test_large_textures_sum_in_float32(self):
        tex = random(1, 512, 1024, 3)  # more than 2^20 numbers
        uv, uv_da = random(1, 64, 64, 2, seed=1), (random(1, 64, 64, 4, seed=2) - 0.5) / 50
        check(*both([tex, uv, uv_da, None]))


class TestBits:
    @pytest.mark.parametrize("boundary", ["wrap", "cube"])
    @pytest.mark.parametrize("shared", [False, True])
    def test_the_same_for_any_number_of_threads(self, boundary, shared):
        results = []
        before = torch.get_num_threads()
        try:
            for num_threads in (1, 2, 3):
                torch.set_num_threads(num_threads)
                leaves = [t.clone().requires_grad_() for t in scene(boundary, 3, shared)]
                out = dr.texture(*leaves, boundary_mode=boundary)
                out.square().sum().backward()
                results.append([out.detach(), *(leaf.grad for leaf in leaves)])
        finally:
            torch.set_num_threads(before)
        for other in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(results[0], other))

    def test_threads_share_out_the_texels_of_a_large_texture(self):
        tex, uv = random(1, 512, 1024, 3), random(2, 64, 64, 2, seed=1)
        uv_da = (random(2, 64, 64, 4, seed=2) - 0.5) / 10
        grads, before = [], torch.get_num_threads()
        try:
            for num_threads in (1, 3):
                torch.set_num_threads(num_threads)
                leaf = tex.clone().requires_grad_()
                dr.texture(leaf, uv, uv_da).square().sum().backward()
                grads.append(leaf.grad)
        finally:
            torch.set_num_threads(before)
        assert torch.equal(*grads)


class TestBuildLevels:
    @pytest.mark.parametrize("shape", [(1, 8, 16, 3), (2, 4, 4, 2), (2, 6, 8, 8, 3), (1, 1, 8, 1)])
    def test_are_the_means(self, shape):
        tex = random(*shape)
        sizes = level_sizes(tex.shape, None)
        found, wanted = build_levels(tex, sizes), build_levels_ref(tex.double(), sizes)
        assert len(found) == len(wanted)
        for level, other in zip(found, wanted):
            assert level.shape == other.shape and (level - other).abs().max() < 1e-6
        assert found.flat.shape[1] == sum(level[0].numel() // shape[-1] for level in found)
