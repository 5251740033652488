"""The reference's texture takes what dr.texture takes, in float64 too; dr.texture itself is tested against
it."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from mofa_nvdr import dr
from mofa_nvdr.dr import reference


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def test_mipmaps_by_finite_differences():
    tex, uv = random(1, 4, 8, 2), random(1, 3, 4, 2, seed=1)
    uv_da, bias = (
        (0.2 * random(1, 3, 4, 4, seed=2)).detach().requires_grad_(),
        random(1, 3, 4, seed=3),
    )
    assert gradcheck(lambda *given: reference.texture(*given), (tex, uv, uv_da, bias))


def test_kept_levels():
    tex = random(1, 4, 8, 2)
    kept = reference.texture_construct_mip(tex)
    uv, bias = random(1, 2, 2, 2, seed=1), random(1, 2, 2, seed=2)
    found = reference.texture(tex, uv, mip_level_bias=bias, mip=kept)
    assert torch.equal(found, reference.texture(tex, uv, mip_level_bias=bias))
    (gradient,) = torch.autograd.grad(found.sum(), tex)
    wanted = torch.autograd.grad(reference.texture(tex, uv, mip_level_bias=bias).sum(), tex)[0]
    assert torch.allclose(gradient, wanted)


@pytest.mark.parametrize("module", [dr, reference])
def test_the_same_refusals(module):
    tex, uv = torch.zeros(1, 4, 4, 1), torch.zeros(1, 2, 2, 2)
    for options, error, message in (
        ({"filter_mode": "cubic"}, ValueError, "texture: filter_mode is 'cubic'"),
        ({"mip_level_bias": torch.zeros(1, 2, 3)}, RuntimeError, "texture: mip_level_bias is"),
        ({"mip_level_bias": torch.zeros(1, 2, 2), "mip": 3}, TypeError, "texture: mip is a int"),
    ):
        with pytest.raises(error, match=message):
            module.texture(tex, uv, **options)
    with pytest.raises(ValueError, match="texture_construct_mip: max_mip_level is -1"):
        module.texture_construct_mip(tex, -1)
    with pytest.raises(RuntimeError, match="texture_construct_mip: tex is"):
        module.texture_construct_mip(tex[0])
