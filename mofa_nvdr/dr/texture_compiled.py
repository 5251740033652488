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
from mofa_nvdr.dr.texture_backward_kernels import backward_rows, double_rows
from mofa_nvdr.dr.texture_kernels import NEAREST, halve_rows, level_rows, sample_rows

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
    # One buffer, so that the kernels can take all levels without a copy. NumPy's: it asks for large memory
    # pages, without which the first write to 50 MB took 30 ms instead of 7.
    flat = torch.from_numpy(np.empty((len(tex), sum(counts), channels), np.float32))
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
        if flat is None and levels:
            flat = torch.cat([level.detach().flatten(1, -2) for level in levels], 1)
        ctx.modes, ctx.tied = modes, tied
        ctx.sizes = [tex.shape[-3:-1], *(level.shape[-3:-1] for level in levels)]
        level = tex.new_empty(*uv.shape[:3]) if levels else tex.new_empty(len(uv), 0, 0)
        ctx.save_for_backward(tex, uv, uv_da, bias, flat, level)
        return _Arrays((tex, uv, uv_da, bias, flat, level), ctx).sample()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        arrays = _Arrays(ctx.saved_tensors, ctx)
        places = any(ctx.needs_input_grad[1:4]) and ctx.modes[0] != NEAREST
        texels = ctx.needs_input_grad[0] or any(ctx.needs_input_grad[7:])
        of_places, of_tex, of_levels = arrays.backward(as_array(grad), places, texels)
        return of_tex, *of_places, None, None, None, *of_levels


class _Arrays:
    """What a call saved, as the kernels take it."""

    def __init__(self, tensors: tuple[Any, ...], ctx: Any) -> None:
        tex, uv, uv_da, bias, more, level = tensors
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
        self.uv, self.level = uv.detach().numpy(), level.numpy()
        self.has_da, self.has_bias = uv_da is not None, bias is not None
        few = (*uv.shape[:3], 0)
        self.uv_da = np.zeros(few, np.float32) if uv_da is None else uv_da.detach().numpy()
        self.bias = np.zeros(few[:2] + (0,), np.float32) if bias is None else bias.detach().numpy()

    def of(self, image: int) -> tuple[Any, ...]:
        own = image if len(self.base) > 1 else 0
        return (
            self.base[own], self.more[own], self.shapes, self.uv[image], self.level[image],
            *self.modes,
        )  # fmt: skip

    def sample(self) -> Tensor:
        """The samples [N, H, W, C]; fills `level` on the way."""
        out = self.tex.new_empty(*self.uv.shape[:3], self.channels)
        out_array = out.numpy()

        def draw(image: int, start: int, stop: int) -> None:
            if len(self.sizes) > 1:
                level_rows(
                    self.shapes, self.uv[image], self.uv_da[image], self.bias[image], self.has_da,
                    self.has_bias, self.modes[1], start, stop, self.level[image],
                )  # fmt: skip
            sample_rows(*self.of(image), start, stop, out_array[image])

        run_on_threads(draw, forward_bands(*self.uv.shape[:2]))
        return out

    def backward(
        self, grads: np.ndarray, places: bool, texels: bool
    ) -> tuple[list[Tensor | None], Tensor | None, list[Any]]:
        """Gradients of [uv, uv_da, bias], of the texture, and of levels that have their own.

        Args:
            grads: of the samples.
            places: whether the first are wanted.
            texels: whether the others are.
        """
        num_images, height = self.uv.shape[:2]
        shared, parts = len(self.base) == 1, torch.get_num_threads()
        if texels and not shared and num_images >= parts:
            parts = 1  # a texture of its own for every thread
        of_places = [
            self.tex.new_empty(a.shape if places else (num_images, *[0] * (a.ndim - 1)))
            for a in (self.uv, self.uv_da, self.bias)
        ]
        outs = [t.numpy() for t in of_places]
        dtype = np.float64 if self.tex.numel() <= _FEW else np.float32
        sums = np.zeros(self.base.shape if texels else (len(self.base), 1, 1), dtype)
        more = np.zeros(self.more.shape if texels else sums.shape, dtype)
        touched = np.zeros((len(sums), len(self.sizes)), np.bool_)
        counts = self.faces * self.shapes[:, 0] * self.shapes[:, 1]
        edges = np.array([counts * part // parts for part in range(parts + 1)])

        def add(own: int, images: list[int], part: int) -> None:
            shares = np.stack([edges[part], edges[part + 1]], 1)[: len(counts) if texels else 0]
            rows = [height * edge // parts if places else 0 for edge in (part, part + 1)]
            for image in images:
                backward_rows(
                    *self.of(image), self.uv_da[image], self.has_da, self.has_bias, grads[image],
                    *rows, *(o[image] for o in outs), shares, sums[own], more[own], touched[own],
                )  # fmt: skip

        images = list(range(num_images))
        groups = [(0, images)] if shared else [(image, [image]) for image in images]
        run_on_threads(add, [(*group, part) for group in groups for part in range(parts)])
        given = (places, places and self.has_da, places and self.has_bias)
        found = [part if there else None for part, there in zip(of_places, given)]
        of_levels: list[Any] = [None] * (len(self.sizes) - 1)
        if not texels:
            return found, None, of_levels
        if self.tied:
            self._join(sums, more, touched)
        else:
            of_levels = [
                torch.from_numpy(more[:, a:b])
                .float()
                .view(*self.tex.shape[:-3], *size, self.channels)
                for a, b, size in zip(self.offsets[1:], self.offsets[2:], self.sizes[1:])
            ]
        return found, torch.from_numpy(sums).float().view(self.tex.shape), of_levels

    def _join(self, sums: np.ndarray, more: np.ndarray, touched: np.ndarray) -> None:
        """Add the gradients of the levels to those of what they are means of, from the coarsest on."""
        for image, levels in enumerate(touched):
            held = [0, *(n for n in range(1, len(levels)) if levels[n])]
            for lower, upper in zip(held[-2::-1], held[:0:-1]):
                self._pass_on(upper, lower, sums[image], more[image], bool(levels[lower]))

    def _pass_on(
        self, upper: int, lower: int, sums: np.ndarray, more: np.ndarray, add: bool
    ) -> None:
        """Pass the gradient of one level on to a lower one, which holds something already if `add`."""
        (height, width), (fine_height, fine_width) = self.sizes[upper], self.sizes[lower]
        fine = more[self.offsets[lower] : self.offsets[lower + 1]] if lower else sums
        arrays = (
            more[self.offsets[upper] : self.offsets[upper + 1]].reshape(-1, width * self.channels),
            fine.reshape(-1, fine_width * self.channels),
        )
        steps = (fine_height // height, fine_width // width)
        bands = forward_bands(1, self.faces * height)
        items = [(*arrays, self.channels, *steps, add, *band[1:]) for band in bands]
        run_on_threads(double_rows, items)
