"""`texture` and its mip levels through the kernels: float32 on the CPU.

Sums of gradients are float64, but for the texture itself where it has more than 2^20 numbers: there a texel
is seldom met by many pixels, and memory counts. Every texel's sum is one thread's, in the order of the
pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mofa_nvdr.dr.bands import forward_bands
from mofa_nvdr.dr.parallel import run_on_threads
from mofa_nvdr.dr.rasterize import as_array
from mofa_nvdr.dr.texture_backward_kernels import coordinate_rows_backward, double_rows, spread
from mofa_nvdr.dr.texture_kernels import NEAREST, halve_rows, sample_rows

FILTERS = ("nearest", "linear", "linear-mipmap-nearest", "linear-mipmap-linear")
BOUNDARIES = ("wrap", "clamp", "zero", "cube")
_FEW = 1 << 20


def texture_compiled(
    tex: Tensor,
    uv: Tensor,
    uv_da: Tensor | None,
    bias: Tensor | None,
    levels: list[Tensor],
    tied: bool,
    filter_mode: str,
    boundary_mode: str,
) -> Tensor:
    """What `texture` returns for float32 tensors on the CPU.

    Args:
        tex: as there, like the next three.
        uv: as there.
        uv_da: as there.
        bias: as there.
        levels: 1 and up; none without mipmaps.
        tied: whether the levels are means of `tex`, to which their gradients go; else they get them.
        filter_mode: one of FILTERS.
        boundary_mode: one of BOUNDARIES.

    Returns:
        [N, H, W, C].
    """
    modes = (FILTERS.index(filter_mode), BOUNDARIES.index(boundary_mode))
    result: Tensor = _Texture.apply(
        tex, uv, uv_da, bias, modes, tied, getattr(levels, "flat", None), *levels
    )
    return result


def build_levels(tex: Tensor, sizes: list[tuple[int, int]]) -> BuiltLevels:
    """Levels 1 and up of a texture [..., Ht, Wt, C] float32, without gradients.

    Args:
        tex: the texture, or cube map.
        sizes: (height, width) of each level.
    """
    channels, faces = tex.shape[-1], tex.shape[1] if tex.ndim == 5 else 1
    counts = [faces * height * width for height, width in sizes]
    # One buffer, so that the kernels can take all levels without a copy.
    flat = tex.new_empty(len(tex), sum(counts), channels)
    levels: list[Tensor] = []
    for part, (height, width) in zip(flat.split(counts, dim=1), sizes):
        fine, coarse = (
            levels[-1] if levels else tex.detach(),
            part.unflatten(1, (-1, height, width)),
        )
        steps = (fine.shape[-3] // height, fine.shape[-2] // width)
        bands = forward_bands(1, faces * height)
        for image in range(len(tex)):
            arrays = [t[image].numpy().reshape(-1, *t.shape[-2:]) for t in (fine, coarse)]
            items = [(*arrays, *steps, start, stop) for _, start, stop in bands]
            run_on_threads(halve_rows, items)
        levels.append(coarse if tex.ndim == 5 else coarse[:, 0])
    return BuiltLevels(levels, flat)


class BuiltLevels(list[Tensor]):
    """Levels with the buffer [B, texels, C] that holds them one after the other."""

    def __init__(self, levels: list[Tensor], flat: Tensor) -> None:
        super().__init__(levels)
        self.flat = flat


class _Texture(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        tex: Tensor,
        uv: Tensor,
        uv_da: Tensor | None,
        bias: Tensor | None,
        modes: tuple[int, int],
        tied: bool,
        flat: Tensor | None,
        *levels: Tensor,
    ) -> Tensor:
        out = tex.new_empty(*uv.shape[:3], tex.shape[-1])
        if flat is None and levels:
            flat = torch.cat([level.detach().flatten(1, -2) for level in levels], 1)
        ctx.save_for_backward(tex, uv, uv_da, bias, flat)
        ctx.modes, ctx.tied = modes, tied
        ctx.sizes = [tex.shape[-3:-1], *(level.shape[-3:-1] for level in levels)]
        arrays = _Arrays((tex, uv, uv_da, bias, flat), ctx)
        items = [
            (*arrays.of(image), *modes, start, stop, out.numpy()[image])
            for image, start, stop in forward_bands(*uv.shape[:2])
        ]
        run_on_threads(sample_rows, items)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        arrays, grads = _Arrays(ctx.saved_tensors, ctx), as_array(grad)
        to_texture, *to_place = ctx.needs_input_grad[:4]
        of_place: tuple[Tensor | None, ...] = (None, None, None)
        if any(to_place) and ctx.modes[0] != NEAREST:
            of_place = arrays.move(grads)
        of_tex, of_levels = None, [None] * (len(ctx.sizes) - 1)
        if to_texture or any(ctx.needs_input_grad[7:]):
            of_tex, of_levels = arrays.spread(grads)
        return of_tex, *of_place, None, None, None, *of_levels


class _Arrays:
    """What a call saved, as the kernels take it."""

    def __init__(self, tensors: tuple[Any, ...], ctx: Any) -> None:
        tex, uv, uv_da, bias, more = tensors
        self.tex, self.modes, self.tied, self.sizes = tex, ctx.modes, ctx.tied, ctx.sizes
        self.faces = 6 if tex.ndim == 5 else 1
        self.channels = tex.shape[-1]
        counts = [self.faces * h * w for h, w in self.sizes]
        self.offsets = [0, 0, *np.cumsum(counts[1:]).tolist()]
        rows = [(h, w, at) for (h, w), at in zip(self.sizes, self.offsets)]
        self.shapes = np.array(rows, np.int64)
        self.base = tex.detach().numpy().reshape(len(tex), -1, self.channels)
        # A dummy where there is none: kernels take arrays.
        none = np.zeros((len(tex), 1, self.channels), np.float32)
        self.more = none if more is None else more.numpy()
        self.uv, self.has_da, self.has_bias = (
            uv.detach().numpy(),
            uv_da is not None,
            bias is not None,
        )
        few = (*uv.shape[:3], 0)
        self.uv_da = np.zeros(few, np.float32) if uv_da is None else uv_da.detach().numpy()
        self.bias = np.zeros(few[:2] + (0,), np.float32) if bias is None else bias.detach().numpy()

    def of(self, image: int) -> tuple[Any, ...]:
        own = image if len(self.base) > 1 else 0
        return (self.base[own], self.more[own], *self.place(image))

    def place(self, image: int) -> tuple[Any, ...]:
        return (
            self.shapes, self.uv[image], self.uv_da[image], self.bias[image], self.has_da,
            self.has_bias,
        )  # fmt: skip

    def move(self, grads: np.ndarray) -> tuple[Tensor | None, ...]:
        """Gradients of uv, uv_da and bias."""
        found = [torch.empty(a.shape) for a in (self.uv, self.uv_da, self.bias)]
        outs = [t.numpy() for t in found]
        items = [
            (*self.of(image), *self.modes, grads[image], start, stop, *(o[image] for o in outs))
            for image, start, stop in forward_bands(*self.uv.shape[:2])
        ]
        run_on_threads(coordinate_rows_backward, items)
        given = (True, self.has_da, self.has_bias)
        return tuple(part if there else None for part, there in zip(found, given))

    def spread(self, grads: np.ndarray) -> tuple[Tensor, list[Any]]:
        """Gradients of the texture, and of levels that have their own."""
        dtype = np.float64 if self.tex.numel() <= _FEW else np.float32
        sums, more = np.zeros(self.base.shape, dtype), np.zeros(self.more.shape, dtype)
        shared = len(self.base) == 1
        parts = torch.get_num_threads()

        def add(own: int, images: list[int], part: int) -> None:
            for image in images:
                spread(
                    *self.place(image), *self.modes, grads[image], part, parts, sums[own], more[own]
                )

        images = list(range(len(self.uv)))
        groups = [(0, images)] if shared else [(image, [image]) for image in images]
        run_on_threads(add, [(*group, part) for group in groups for part in range(parts)])
        places = list(zip(self.offsets[1:], self.offsets[2:]))
        if self.tied:
            self._join(sums, more)
            of_levels: list[Any] = [None] * len(places)
        else:
            of_levels = [
                torch.from_numpy(more[:, a:b])
                .float()
                .view(*self.tex.shape[:-3], *size, self.channels)
                for (a, b), size in zip(places, self.sizes[1:])
            ]
        return torch.from_numpy(sums).float().view(self.tex.shape), of_levels

    def _join(self, sums: np.ndarray, more: np.ndarray) -> None:
        """Add the gradients of the levels to those of what they are means of, from the coarsest on."""
        for n in range(len(self.sizes) - 1, 0, -1):
            (height, width), (fine_height, fine_width) = self.sizes[n], self.sizes[n - 1]
            steps = (fine_height // height, fine_width // width)
            bands = forward_bands(1, self.faces * height)
            for image in range(len(sums)):
                coarse = more[image, self.offsets[n] : self.offsets[n + 1]]
                fine = sums[image] if n == 1 else more[image, self.offsets[n - 1] : self.offsets[n]]
                arrays = (
                    coarse.reshape(-1, width, self.channels),
                    fine.reshape(-1, fine_width, self.channels),
                )
                items = [(*arrays, *steps, start, stop) for _, start, stop in bands]
                run_on_threads(double_rows, items)
