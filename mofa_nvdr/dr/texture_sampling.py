"""What `texture` is made of: gathers, bilinear weights, mip levels, cube map coordinates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mofa_nvdr.dr.parallel import jit
from mofa_nvdr.dr.texture_kernels import MAJOR, S, T

_MAX_LEVELS = 16


@jit
def _add_rows(sums: np.ndarray, index: np.ndarray, rows: np.ndarray) -> None:
    """sums[index[k]] += rows[k], in the order of k; negative indices are left out."""
    for k in range(index.shape[0]):
        row = index[k]
        if row >= 0:
            for c in range(rows.shape[1]):
                sums[row, c] += rows[k, c]


class _Gather(torch.autograd.Function):
    """Rows of a table [R, C] at indices [P]; -1 gives zeros. Gradients are summed in a fixed order."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.num_rows = table.shape[0]
        rows = table[index.clamp(min=0)]
        rows[index < 0] = 0
        return rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        if grad.device.type != "cpu":
            total = grad.new_zeros(ctx.num_rows, grad.shape[1])
            return total.index_add(0, index.clamp(min=0), grad * (index >= 0)[:, None]), None
        sums = np.zeros((ctx.num_rows, grad.shape[1]), np.float64)
        _add_rows(sums, index.numpy(), grad.contiguous().numpy())
        return torch.from_numpy(sums).to(grad.dtype), None


class TextureMip:
    """The levels above a texture, kept; made by `texture_construct_mip`, opaque to callers."""

    def __init__(self, tex: Tensor, levels: list[Tensor]) -> None:
        self._shape = tex.shape
        self._levels = levels

    def levels_of(self, tex: Tensor, verb: str = "texture") -> list[Tensor]:
        """The levels, without a gradient; refuses another texture than that which they were made of."""
        if tex.shape != self._shape:
            raise RuntimeError(
                f"{verb}: mip was made for a texture {list(self._shape)}, but tex is "
                f"{list(tex.shape)}; call texture_construct_mip again"
            )
        if self._levels and tex.dtype != self._levels[0].dtype:
            raise RuntimeError(
                f"{verb}: mip was made for a texture of {self._levels[0].dtype}, but tex is {tex.dtype}; "
                "call texture_construct_mip again"
            )
        return self._levels


def level_sizes(
    shape: torch.Size, max_mip_level: int | None, verb: str = "texture"
) -> list[tuple[int, int]]:
    """(height, width) of levels 1 and up of a texture [..., Ht, Wt, C], down to 1 x 1.

    Raises:
        RuntimeError: a side is odd and not 1 where a further level is wanted.
    """
    most = _MAX_LEVELS if max_mip_level is None else min(max_mip_level, _MAX_LEVELS)
    height, width = shape[-3:-1]
    sizes: list[tuple[int, int]] = []
    while len(sizes) < most and max(height, width) > 1:
        for side in (height, width):
            if side > 1 and side % 2:
                raise RuntimeError(
                    f"{verb}: level {len(sizes)} is {height} x {width}, and an odd side can't be "
                    f"halved; pad the texture or set max_mip_level={len(sizes)}"
                )
        height, width = max(height // 2, 1), max(width // 2, 1)
        sizes.append((height, width))
    return sizes


def build_levels_ref(tex: Tensor, sizes: list[tuple[int, int]]) -> list[Tensor]:
    """Levels 1 and up: each texel the mean of those of the level below that it covers; differentiable."""
    levels = []
    for size in sizes:
        for axis, side in zip((-3, -2), size):
            if tex.shape[axis] != side:
                tex = tex.unflatten(axis, (side, 2)).mean(axis)
        levels.append(tex)
    return levels


class _Tied(torch.autograd.Function):
    """Levels that were made earlier, as functions of the texture that they were made of."""

    @staticmethod
    def forward(ctx: Any, tex: Tensor, *levels: Tensor) -> tuple[Tensor, ...]:
        ctx.shape = tex.shape
        return tuple(level.clone() for level in levels)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        total: Any = 0
        for grad, finer in zip(grads[::-1], [*(g.shape for g in grads[-2::-1]), ctx.shape]):
            total = grad + total
            for axis in (-3, -2):
                times = finer[axis] // total.shape[axis]
                total = total.repeat_interleave(times, axis) / times
        return total, *[None] * len(grads)


def tie(tex: Tensor, levels: list[Tensor]) -> list[Tensor]:
    """The levels, so that their gradients go on to the texture."""
    return list(_Tied.apply(tex, *levels)) if levels else []


def texture_ref(
    pyramid: list[Tensor],
    uv: Tensor,
    uv_da: Tensor | None,
    bias: Tensor | None,
    filter_mode: str,
    boundary_mode: str,
) -> Tensor:
    """`texture` in plain torch, any dtype and device: the twin of `texture_compiled`.

    Args:
        pyramid: the texture, and its levels if the filter has mipmaps.
        uv: as there, like the next two.
        uv_da: as there.
        bias: as there.
        filter_mode: what "auto" stands for.
        boundary_mode: as there.
    """
    tex = pyramid[0]
    if boundary_mode == "cube":
        uv, uv_da, face, usable = cube_coordinates(uv, uv_da)
    else:
        face, usable = None, uv.isfinite().all(-1)
    # Where coordinates are unusable the sampling sees zeros, and no gradient comes back.
    uv = torch.where(usable[..., None], uv, torch.zeros_like(uv))
    if "mipmap" not in filter_mode:
        sample = sample_nearest if filter_mode == "nearest" else sample_linear
        out = sample(tex, uv, boundary_mode, face)
    else:
        highest = len(pyramid) - 1
        level = level_of_detail(tex, uv_da, bias).nan_to_num(nan=0.0).clamp(0, highest)
        level = torch.where(usable, level, torch.zeros_like(level))
        below = level.detach().floor()
        fraction = None
        if filter_mode == "linear-mipmap-linear":
            above = torch.where(below < highest, level - below, torch.zeros_like(level))
            fraction = above[..., None]
        out = uv.new_zeros(*uv.shape[:3], tex.shape[-1])
        for number, image in enumerate(pyramid):
            share = (below == number).to(uv.dtype)[..., None]
            if fraction is not None:
                after = (below == number - 1).to(uv.dtype)[..., None]
                share = share * (1 - fraction) + after * fraction
            if bool((share != 0).any()) or share.requires_grad:
                out = out + share * sample_linear(image, uv, boundary_mode, face)
    return torch.where(usable[..., None], out, torch.zeros_like(out))


def level_of_detail(tex: Tensor, uv_da: Tensor | None, bias: Tensor | None) -> Tensor:
    """The mip level [N, H, W] whose texels are as large as the pixel's longer footprint axis."""
    if uv_da is None:
        assert bias is not None
        return bias
    width_height = uv_da.new_tensor([tex.shape[-2], tex.shape[-3]])
    footprint = uv_da.unflatten(-1, (2, 2)) * width_height[:, None]  # [..., (s, t), (X, Y)] texels
    by_x, by_y = footprint.unbind(-1)
    a, b, c = (by_x * by_x).sum(-1), (by_y * by_y).sum(-1), (by_x * by_y).sum(-1)
    half = 0.25 * (a - b).square() + c.square()
    # Isotropic footprints have no direction, and none at all no logarithm: constants there.
    root = torch.where(half > 0, half, torch.ones_like(half)).sqrt()
    major = 0.5 * (a + b) + torch.where(half > 0, root, torch.zeros_like(root))
    usable = (major > 0) & major.isfinite()
    level = 0.5 * torch.where(usable, major, torch.ones_like(major)).log2()
    beyond = torch.where(major == math.inf, math.inf, -math.inf).to(level)
    level = torch.where(usable, level, beyond)
    return level if bias is None else level + bias


def cube_coordinates(
    direction: Tensor, derivative: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """Directions [N, H, W, 3] to coordinates on a face of the cube.

    Args:
        direction: of any length.
        derivative: d(x, y, z)/d(X, Y) as [N, H, W, 6], or None.

    Returns:
        uv [N, H, W, 2] in [0, 1], its derivative [N, H, W, 4] or None, the face [N, H, W] int64, and
        where the direction is usable.
    """
    usable = direction.isfinite().all(-1) & (direction != 0).any(-1)
    safe = torch.where(usable[..., None], direction, torch.ones_like(direction))
    size = safe.detach().abs()
    axis = torch.where(
        size[..., 2] > torch.maximum(size[..., 0], size[..., 1]),
        2,
        (size[..., 1] > size[..., 0]).long(),
    )
    negative = safe.detach().gather(-1, axis[..., None])[..., 0] < 0
    face = 2 * axis + negative.long()

    def pick(values: Tensor, table: tuple[tuple[int, int], ...]) -> Tensor:
        """The signed component that `table` names for each pixel's face; values [N, H, W, 3, ...]."""
        axes = face.new_tensor([row[0] for row in table])[face]
        signs = values.new_tensor([row[1] for row in table])[face]
        extra = values.dim() - 4
        index = axes.reshape(*axes.shape, 1, *[1] * extra).expand(*axes.shape, 1, *values.shape[4:])
        return values.gather(3, index).squeeze(3) * signs.reshape(*signs.shape, *[1] * extra)

    major, s, t = (pick(safe, table) for table in (MAJOR, S, T))
    uv = torch.stack([s / major, t / major], dim=-1) * 0.5 + 0.5
    if derivative is None:
        return uv, None, face, usable
    by_pixel = derivative.unflatten(-1, (3, 2))  # [N, H, W, (x, y, z), (X, Y)]
    d_major, d_s, d_t = (pick(by_pixel, table) for table in (MAJOR, S, T))
    rows = [
        0.5 * (d - (value / major)[..., None] * d_major) / major[..., None]
        for d, value in ((d_s, s), (d_t, t))
    ]
    return uv, torch.cat(rows, dim=-1), face, usable


def sample_nearest(tex: Tensor, uv: Tensor, boundary: str, face: Tensor | None) -> Tensor:
    """The texel that each coordinate lies in; no gradient in uv."""
    height, width = tex.shape[-3:-1]
    uv = uv.detach()
    if boundary == "wrap":
        uv = uv - uv.floor()
    column = _to_index(uv[..., 0] * width, width)
    row = _to_index(uv[..., 1] * height, height)
    return _fetch(tex, column, row, boundary, face)


def sample_linear(tex: Tensor, uv: Tensor, boundary: str, face: Tensor | None) -> Tensor:
    """Bilinear interpolation between the four texels around each coordinate."""
    height, width = tex.shape[-3:-1]
    if boundary == "wrap":
        uv = uv - uv.detach().floor()
    x, y = uv[..., 0] * width - 0.5, uv[..., 1] * height - 0.5
    if boundary == "clamp":
        x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    column, row = _to_index(x.detach(), width), _to_index(y.detach(), height)
    fx, fy = (x - column.to(x.dtype))[..., None], (y - row.to(y.dtype))[..., None]
    if boundary == "zero":  # so far outside that indices were cut: no texel there anyway
        fx, fy = fx.clamp(0, 1), fy.clamp(0, 1)
    corners = [_fetch(tex, column + dx, row + dy, boundary, face) for dy in (0, 1) for dx in (0, 1)]
    if boundary == "cube":
        corners = _fill_cube_corners(corners, column, row, width)
    low = corners[0] + fx * (corners[1] - corners[0])
    high = corners[2] + fx * (corners[3] - corners[2])
    return low + fy * (high - low)


def _to_index(coordinate: Tensor, side: int) -> Tensor:
    """floor, as an integer; kept within two sides of the texture, so that it can't overflow."""
    return coordinate.floor().clamp(-2 * side - 2, 2 * side + 2).long()


def _fetch(tex: Tensor, column: Tensor, row: Tensor, boundary: str, face: Tensor | None) -> Tensor:
    """Texels [N, H, W, C] at integer positions, the boundary rule applied."""
    height, width = tex.shape[-3:-1]
    inside = torch.ones_like(column, dtype=torch.bool)
    if boundary == "wrap":
        column, row = column % width, row % height
    elif boundary == "clamp":
        column, row = column.clamp(0, width - 1), row.clamp(0, height - 1)
    elif boundary == "zero":
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    else:
        assert face is not None
        face, column, row = _across_cube_edges(face, column, row, width)
        row = face * height + row
    num_images = column.shape[0]
    per_image = tex[0].numel() // tex.shape[-1]
    index = row * width + column
    if tex.shape[0] > 1:
        offset = torch.arange(num_images, device=index.device) * per_image
        index = index + offset[:, None, None]
    index = torch.where(inside, index, -1)
    rows = _Gather.apply(tex.reshape(-1, tex.shape[-1]), index.reshape(-1))
    return rows.reshape(*column.shape, tex.shape[-1])


def _across_cube_edges(
    face: Tensor, column: Tensor, row: Tensor, side: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The texel that lies one step beyond a face's edge; corners, where there is none, are clamped.

    The centre of the texel that would be there, as a direction, points into the neighbour's outermost
    row, at the same place along the edge.
    """
    outside_x, outside_y = (column < 0) | (column >= side), (row < 0) | (row >= side)
    both = outside_x & outside_y
    column = torch.where(both, column.clamp(0, side - 1), column)
    row = torch.where(both, row.clamp(0, side - 1), row)
    s = (2 * column + 1).double() / side - 1
    t = (2 * row + 1).double() / side - 1
    one = torch.ones_like(s)
    direction = s.new_zeros(*face.shape, 3)
    for table, value in ((MAJOR, one), (S, s), (T, t)):
        axes = face.new_tensor([entry[0] for entry in table])[face]
        signs = face.new_tensor([entry[1] for entry in table])[face]
        direction.scatter_(-1, axes[..., None], (value * signs)[..., None])
    uv, _, neighbour, _ = cube_coordinates(direction, None)
    cell = (uv * side).floor().long().clamp(0, side - 1)
    crosses = outside_x ^ outside_y
    return (
        torch.where(crosses, neighbour, face),
        torch.where(crosses, cell[..., 0], column),
        torch.where(crosses, cell[..., 1], row),
    )


def _fill_cube_corners(
    corners: list[Tensor], column: Tensor, row: Tensor, side: int
) -> list[Tensor]:
    """Where three faces meet there is no fourth texel: the mean of the three takes its place."""
    missing = [
        (((column + dx < 0) | (column + dx >= side)) & ((row + dy < 0) | (row + dy >= side)))[
            ..., None
        ]
        for dy in (0, 1)
        for dx in (0, 1)
    ]
    total = sum(corners[1:], corners[0])
    return [torch.where(gap, (total - corner) / 3, corner) for gap, corner in zip(missing, corners)]
