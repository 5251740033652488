"""texture: sample images at interpolated coordinates, with mipmaps and cube maps.

Conventions are nvdiffrast's: texel (row j, column i) has its centre at ((i + 1/2)/W, (j + 1/2)/H),
so that (0, 0) is the outer corner of the first texel of row 0, the bottom row. Faces of a cube map
are +x, -x, +y, -y, +z, -z, laid out as OpenGL's.

On the CPU float32 goes through compiled kernels (`texture_compiled`); float64 is taken too, in plain torch.
The same bits every time and for any number of threads.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mofa_nvdr.dr.context import check_tensor, common_device, load_nvdiffrast
from mofa_nvdr.dr.parallel import compiles
from mofa_nvdr.dr.texture_compiled import BOUNDARIES, FILTERS, build_levels, texture_compiled
from mofa_nvdr.dr.texture_sampling import (
    TextureMip,
    build_levels_ref,
    level_sizes,
    texture_ref,
    tie,
)

DTYPES = (torch.float32, torch.float64)


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
    """Sample a texture at every pixel.

    Args:
        tex: [B, Ht, Wt, C], B = 1 (shared) or N; a cube map is [B, 6, S, S, C].
        uv: texture coordinates [N, H, W, 2], 1 across the texture; for cube maps directions
            [N, H, W, 3] of any length. Where they are not finite, or a direction is zero, the result
            is zero.
        uv_da: their derivatives by the pixel's X and Y, [N, H, W, 4] (ds/dX, ds/dY, dt/dX, dt/dY) or
            [N, H, W, 6] for cube maps, as `interpolate` gives them; they choose the mip level.
        mip_level_bias: [N, H, W], added to the level, or the level itself without `uv_da`.
        mip: levels 1 and up as a list of tensors with their own gradients, each half the size of the
            one before; or what `texture_construct_mip` made of `tex`; None: made here.
        filter_mode: "nearest", "linear", "linear-mipmap-nearest", "linear-mipmap-linear", or "auto":
            the last with `uv_da` or `mip_level_bias`, else "linear".
        boundary_mode: beyond the edge the texture repeats ("wrap"), its edge goes on ("clamp") or
            there is nothing ("zero"); "cube" for cube maps, seamless.
        max_mip_level: number of levels above the texture to make and to use; 0 switches them off.

    Returns:
        [N, H, W, C]. Differentiable once in `tex` and the levels; but for "nearest" in `uv`; for
        "linear-mipmap-linear" in `uv_da` and `mip_level_bias`.

    Raises:
        ValueError: an unknown mode, or modes that don't go together.
        RuntimeError: a shape, dtype, device or layout is not as above, or CUDA without nvdiffrast.
        TypeError: an argument is of the wrong Python type.
    """
    device = devices_of("texture", tex, uv, uv_da, mip_level_bias, mip)
    filter_mode = check_modes(filter_mode, boundary_mode, uv_da, mip_level_bias, max_mip_level)
    if device.type == "cuda":
        return load_nvdiffrast("texture").texture(
            tex, uv, uv_da, mip_level_bias, mip, filter_mode, boundary_mode, max_mip_level
        )
    check_shapes(tex, uv, uv_da, mip_level_bias, boundary_mode == "cube")
    given = levels_given(tex, mip, max_mip_level, filter_mode)
    rest = (uv, uv_da, mip_level_bias)
    if not compiles(tex):
        levels = levels_ref(tex, mip, given, max_mip_level)
        return texture_ref([tex, *levels], *rest, filter_mode, boundary_mode)
    tied = not isinstance(mip, (list, tuple))
    if given is None:
        given = build_levels(tex, level_sizes(tex.shape, max_mip_level))
    return texture_compiled(tex, *rest, given, tied, filter_mode, boundary_mode)


def texture_construct_mip(
    tex: Tensor, max_mip_level: int | None = None, cube_mode: bool = False
) -> Any:
    """Make the mip levels of a texture once, for many calls of `texture` with the same texture.

    Args:
        tex: [B, Ht, Wt, C], or [B, 6, S, S, C] with cube_mode.
        max_mip_level: number of levels; None: down to 1 x 1.
        cube_mode: whether it is a cube map.

    Returns:
        What `texture` takes as `mip`. Gradients that reach the levels go on to the texture that is
        passed along with them.

    Raises:
        RuntimeError: a shape, dtype or layout is not as above; a side that is odd and not 1 above the
            last level.
        ValueError: max_mip_level is negative.
    """
    device = common_device("texture_construct_mip", tex=tex)
    check_levels("texture_construct_mip", max_mip_level)
    if device.type == "cuda":
        return load_nvdiffrast("texture_construct_mip").texture_construct_mip(
            tex, max_mip_level=max_mip_level, cube_mode=cube_mode
        )
    check_texture("texture_construct_mip", tex, cube_mode)
    sizes = level_sizes(tex.shape, max_mip_level, "texture_construct_mip")
    build = build_levels if compiles(tex) else build_levels_ref
    return TextureMip(tex, build(tex.detach(), sizes))


def check_levels(verb: str, max_mip_level: int | None) -> None:
    """Refuse a negative number of levels."""
    if max_mip_level is not None and max_mip_level < 0:
        raise ValueError(f"{verb}: max_mip_level is {max_mip_level}, expected 0 or more, or None")


def check_modes(
    filter_mode: str,
    boundary_mode: str,
    uv_da: Tensor | None,
    mip_level_bias: Tensor | None,
    max_mip_level: int | None,
) -> str:
    """The filter that "auto" stands for; refuses unknown modes."""
    if boundary_mode not in BOUNDARIES:
        raise ValueError(
            f"texture: boundary_mode is {boundary_mode!r}, expected one of {', '.join(BOUNDARIES)}"
        )
    if max_mip_level is not None and (not isinstance(max_mip_level, int) or max_mip_level < 0):
        raise ValueError(
            f"texture: max_mip_level is {max_mip_level!r}, expected 0 or more, or None"
        )
    has_level = uv_da is not None or mip_level_bias is not None
    if filter_mode == "auto":
        filter_mode = "linear-mipmap-linear" if has_level else "linear"
    if filter_mode not in FILTERS:
        raise ValueError(
            f"texture: filter_mode is {filter_mode!r}, expected auto or one of {', '.join(FILTERS)}"
        )
    if "mipmap" in filter_mode and not has_level:
        raise ValueError(
            f"texture: filter_mode {filter_mode!r} needs uv_da or mip_level_bias to choose the level"
        )
    if "mipmap" in filter_mode and max_mip_level == 0:
        filter_mode = "linear"
    return filter_mode


def check_texture(verb: str, tex: Tensor, cube: bool) -> None:
    """Refuse a texture of another shape or dtype."""
    shape = ("B", 6, "S", "S", "C") if cube else ("B", "Ht", "Wt", "C")
    check_tensor(verb, "tex", tex, shape, DTYPES)
    if cube and tex.shape[2] != tex.shape[3]:
        raise RuntimeError(f"{verb}: tex is {list(tex.shape)}, expected square faces of a cube map")


def check_shapes(
    tex: Tensor, uv: Tensor, uv_da: Tensor | None, mip_level_bias: Tensor | None, cube: bool
) -> None:
    """Refuse tensors that do not go together."""
    check_texture("texture", tex, cube)
    axes = 3 if cube else 2
    check_tensor("texture", "uv", uv, ("N", "H", "W", axes), (tex.dtype,))
    num_images, height, width, _ = uv.shape
    if tex.shape[0] not in (1, num_images):
        raise RuntimeError(
            f"texture: tex has {tex.shape[0]} images, expected 1 or {num_images} (from uv)"
        )
    if uv_da is not None:
        with_derivatives = (num_images, height, width, 2 * axes)
        check_tensor("texture", "uv_da", uv_da, with_derivatives, (tex.dtype,))
    if mip_level_bias is not None:
        size = (num_images, height, width)
        check_tensor("texture", "mip_level_bias", mip_level_bias, size, (tex.dtype,))


def devices_of(
    verb: str, tex: Tensor, uv: Tensor, uv_da: Tensor | None, bias: Tensor | None, mip: Any
) -> torch.device:
    """The one device of all tensors."""
    levels = list(mip) if isinstance(mip, (list, tuple)) else []
    named = {f"mip[{k}]": level for k, level in enumerate(levels)}
    return common_device(verb, tex=tex, uv=uv, uv_da=uv_da, mip_level_bias=bias, **named)


def levels_given(
    tex: Tensor, mip: Any, max_mip_level: int | None, filter_mode: str
) -> list[Tensor] | None:
    """Levels 1 and up, kept from an earlier call or the caller's own; None: they are to be made."""
    if "mipmap" not in filter_mode:
        return []
    if mip is None:
        return None
    if isinstance(mip, TextureMip):
        levels = mip.levels_of(tex)
        return levels if max_mip_level is None else levels[:max_mip_level]
    if not isinstance(mip, (list, tuple)):
        raise TypeError(
            f"texture: mip is a {type(mip).__name__}, expected a list of tensors, the result of "
            "texture_construct_mip, or None"
        )
    for k, level in enumerate(mip):
        height, width = (max(side >> (k + 1), 1) for side in tex.shape[-3:-1])
        shape = (*tex.shape[:-3], height, width, tex.shape[-1])
        check_tensor("texture", f"mip[{k}]", level, shape, (tex.dtype,))
    return list(mip)[:max_mip_level]


def levels_ref(
    tex: Tensor, mip: Any, given: list[Tensor] | None, max_mip_level: int | None
) -> list[Tensor]:
    """The levels as functions of the texture, in plain torch."""
    if given is None:
        return build_levels_ref(tex, level_sizes(tex.shape, max_mip_level))
    return tie(tex, given) if isinstance(mip, TextureMip) else given
