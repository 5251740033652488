"""The reference's `texture`: plain torch around two gathers, on any device, float32 and float64.

Written to be read; `texture_sampling` has the parts.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mofa_nvdr.dr.context import common_device
from mofa_nvdr.dr.texture import (
    check_levels,
    check_modes,
    check_shapes,
    check_texture,
    devices_of,
    levels_given,
    levels_ref,
)
from mofa_nvdr.dr.texture_sampling import TextureMip, build_levels_ref, level_sizes, texture_ref


def texture(
    tex: Tensor,
    uv: Tensor,
    uv_da: Tensor | None = None,
    mip_level_bias: Tensor | None = None,
    mip: Any = None,
    filter_mode: str = "auto",
    boundary_mode: str = "wrap",
    max_mip_level: int | None = None,
) -> Tensor:
    """`mofa_nvdr.dr.texture` in plain torch.

    Raises:
        ValueError: as there.
        RuntimeError: as there, but for CUDA.
        TypeError: as there.
    """
    devices_of("texture", tex, uv, uv_da, mip_level_bias, mip)
    filter_mode = check_modes(filter_mode, boundary_mode, uv_da, mip_level_bias, max_mip_level)
    check_shapes(tex, uv, uv_da, mip_level_bias, boundary_mode == "cube")
    given = levels_given(tex, mip, max_mip_level, filter_mode)
    levels = levels_ref(tex, mip, given, max_mip_level)
    return texture_ref([tex, *levels], uv, uv_da, mip_level_bias, filter_mode, boundary_mode)


def texture_construct_mip(
    tex: Tensor, max_mip_level: int | None = None, cube_mode: bool = False
) -> TextureMip:
    """`mofa_nvdr.dr.texture_construct_mip` in plain torch.

    Raises:
        ValueError: as there.
        RuntimeError: as there, but for CUDA.
    """
    common_device("texture_construct_mip", tex=tex)
    check_levels("texture_construct_mip", max_mip_level)
    check_texture("texture_construct_mip", tex, cube_mode)
    sizes = level_sizes(tex.shape, max_mip_level, "texture_construct_mip")
    return TextureMip(tex, build_levels_ref(tex.detach(), sizes))
