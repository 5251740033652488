"""Gradients through moving outlines: an image-space edge-gradient estimator for meshes of any density.

A rasterized picture jumps at every outline, and no gradient of its pixels knows that the outline
moves. `find_outline` finds where outlines pass between neighbouring pixels, and `Outline.attach`
gives any picture the missing part of its gradient without changing a value.

For a picture that is A on the near and B on the far side of an outline moving with velocity v, a sum
over pixels changes by the line integral of (A - B) v . n. Rows cut out the part of v . n ds along x,
columns the part along y:

    dL = sum over pairs (near, far) of  1/2 (g_near + g_far) . (A - B)  *  d(place)

with g = dL/dpicture at both pixels and place the outline's position along the pair, in pixels.

After: Pidhorskyi et al. 2024, "Rasterized Edge Gradients: Handling Discontinuities Differentiably"
(the pairs); Laine et al. 2020, "Modular Primitives for High-Performance Differentiable Rendering".
Here the moving point is the one where the surface ends or folds back, found by a walk over the mesh
from the near pixel's triangle, not the point under the near pixel's centre: on a rounded surface the
two differ much in depth, and so in their motion under rotation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mofa_nvdr.dr.bands import forward_bands
from mofa_nvdr.dr.parallel import run_on_threads
from mofa_nvdr.render.outline_kernels import find_band, project_vertices

_MAX_TABLES = 4
# Triangles seen at a flatter angle (cosine to the line of sight) give no gradient through their
# barycentrics: see Outline.grazing.
_GRAZING = 0.1


@dataclass(frozen=True, eq=False)
class Outline:
    """Where outlines pass between neighbouring pixels of a batch of pictures, and what moves them.

    Attributes:
        pos: clip-space vertices [B, V, 4], which receive the gradient.
        image: [K] int64, the picture of each record.
        near: [K, 2] int64 (row, column), the pixel that sees the nearer surface; row 0 at the top.
        far: [K, 2] int64, its neighbour. Where surfaces intersect, two records share a pair.
        reach: [K, 2] pixels from the near and the far centre to the outline, 0 where the picture is not
            extrapolated there.
        vertices: [K, 3] int64, the vertices that span the moving point.
        grazing: [B, H, W] bool, row 0 at the bottom as in rast: pixels whose triangle is nearly edge-on.
            Barycentrics there change so fast that a few pixels drown the gradient of a whole picture.
        motion: [K, 3, 4] derivative of the outline's place, in pixels from near to far, by x, y, z, w
            of the vertices.
    """

    pos: Tensor
    image: Tensor
    near: Tensor
    far: Tensor
    reach: Tensor
    vertices: Tensor
    motion: Tensor
    grazing: Tensor

    def attach(self, picture: Tensor) -> Tensor:
        """The same picture, whose gradient also reaches the vertices through the moving outline.

        Exact to first order in the pixel's size for losses that are quadratic in the picture; else
        the loss between the two colours is taken as half way between its slopes at both. A loss with
        a kink there (an absolute difference to a background that fits exactly) is better computed
        as a map first and attached then: its sum is linear in the map, and the formula holds.

        Args:
            picture: [B, C, H, W], row 0 at the top: whatever jumps at the outline: colours over a
                background, a mask, a loss per pixel.

        Returns:
            The values of `picture`. Differentiable once in picture (as it is) and in `pos`; the same
            bits for every thread count on the CPU.

        Raises:
            ValueError: the batch differs from that of `pos`.
        """
        if picture.ndim != 4 or picture.shape[0] != self.pos.shape[0]:
            raise ValueError(
                f"Outline.attach: picture is {list(picture.shape)}, expected [B, C, H, W] with "
                f"B = {self.pos.shape[0]} (from pos)"
            )
        attached: Tensor = _Attach.apply(picture, self.pos, self)
        return attached


def find_outline(pos: Tensor, triangles: Tensor, rast: Tensor, pixel_angle: float) -> Outline:
    """Find the pairs of neighbouring pixels that an outline separates.

    Outlines are the mesh's borders and folds against what lies behind, the background or the mesh
    itself, and curves where surfaces intersect. Where the picture's frame cuts the mesh there is none.
    A pixel whose triangle reaches behind the camera is left out. Outlines that are closer together than a
    pixel count as the nearest one. A jump in depth that fits the slopes of the two pixels' triangles is
    taken for one surface.

    Args:
        pos: clip-space vertices [B, V, 4] of a perspective camera (w is the depth).
        triangles: [T, 3] int32; the order of a triangle's vertices does not matter.
        rast: [B, H, W, 4] of `dr.rasterize` (row 0 at the bottom) for pos and triangles.
        pixel_angle: width of a pixel over its distance: 1 / focal length in pixels.

    Returns:
        The outlines; a discrete choice like rast itself, without a gradient of its own.

    Raises:
        ValueError: shapes disagree, a vertex index or a triangle id is out of range, or pixel_angle is not
            positive.
    """
    _check(pos, triangles, rast, pixel_angle)
    neighbors = triangle_neighbors(triangles)
    grazing, image, index, number = _find(
        pos.detach().cpu(),
        triangles.cpu().contiguous(),
        neighbors,
        rast.detach().cpu().contiguous(),
        pixel_angle,
    )
    device = pos.device
    return _outline(
        pos,
        torch.from_numpy(grazing).to(device),
        torch.from_numpy(image).to(device),
        torch.from_numpy(index).to(device),
        torch.from_numpy(number).to(device),
        (rast.shape[1], rast.shape[2]),
    )


def _find(
    pos: Tensor, triangles: Tensor, neighbors: np.ndarray, rast: Tensor, pixel_angle: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    # The kernel reads without bounds checks.
    if triangles.numel() and not 0 <= triangles.min() <= triangles.max() < pos.shape[1]:
        raise ValueError(
            f"find_outline: triangles holds indices {int(triangles.min())} to "
            f"{int(triangles.max())}, expected 0 to {pos.shape[1] - 1} (from pos)"
        )
    ids = rast[..., 3]
    if ids.numel() and not 0 <= ids.min() <= ids.max() <= triangles.shape[0]:
        raise ValueError(
            f"find_outline: rast holds triangle ids {ids.min().item():g} to {ids.max().item():g}, "
            f"expected 0 to {triangles.shape[0]} (from triangles); rasterize these triangles"
        )
    num_images, height, width, _ = rast.shape
    steepest = (1 - _GRAZING**2) ** 0.5 / _GRAZING
    grazing = np.zeros((num_images, height, width), np.bool_)
    items, images = [], []
    points = [project_vertices(vertices, height, width) for vertices in pos.numpy()]
    for image, start, stop in forward_bands(num_images, height):
        capacity = 4 * (stop - start) * width  # at most two records for each of two pairs
        index, number = np.empty((capacity, 5), np.int64), np.empty((capacity, 7))
        images.append(image)
        items.append(
            (points[image], triangles.numpy(), neighbors, rast[image].numpy(), float(pixel_angle),
             steepest, start, stop, grazing[image], index, number)
        )  # fmt: skip
    counts = [0] * len(items)

    def work(place: int, *arguments: Any) -> None:
        counts[place] = find_band(*arguments)

    run_on_threads(work, [(place, *item) for place, item in enumerate(items)])
    images_of_records = np.repeat(images, counts)
    index = np.concatenate([item[-2][:count] for item, count in zip(items, counts)])
    number = np.concatenate([item[-1][:count] for item, count in zip(items, counts)])
    return grazing, images_of_records, index, number


def _outline(
    pos: Tensor,
    grazing: Tensor,
    image: Tensor,
    index: Tensor,
    number: Tensor,
    size: tuple[int, int],
) -> Outline:
    """Turn the records of the search into pixels and derivatives."""
    height, width = size
    pixels = index[:, :2]
    rows, columns = height - 1 - pixels // width, pixels % width  # row 0 at the top from here on
    vertices, weights = index[:, 2:], number[:, :3]
    corners = pos.detach()[image[:, None], vertices].double()  # [K, 3, 4]
    x, y, _, w = (corners * weights[..., None]).sum(1).unbind(-1)
    by_x, by_y, by_q = number[:, 3:6].unbind(-1)
    by_x, by_y = by_x * (0.5 * width), by_y * (0.5 * height)
    # d(x / w), d(y / w), d(1 / w)
    by_w = -(by_x * x + by_y * y + by_q) / (w * w)
    by_point = torch.stack([by_x / w, by_y / w, torch.zeros_like(w), by_w], dim=1)
    motion = (weights[..., None] * by_point[:, None]).to(pos.dtype)
    near, far = (torch.stack([rows[:, k], columns[:, k]], dim=1) for k in range(2))
    reach = _reach(grazing.shape, image, near, far, number[:, 6]).to(pos.dtype)
    return Outline(pos, image, near, far, reach, vertices, motion, grazing)


def _reach(size: torch.Size, image: Tensor, near: Tensor, far: Tensor, place: Tensor) -> Tensor:
    """How far to extrapolate from the near and the far pixel to the outline, [K, 2] pixels.

    Along the line through both, from the pixel behind each; not where that one is outside the frame or
    parted from it by another outline.
    """
    parted = torch.zeros(*size, 2, dtype=torch.bool, device=image.device)
    first, step = torch.minimum(near, far), far - near
    parted[image, first[:, 0], first[:, 1], step[:, 1].abs()] = True
    reach = []
    for pixel, behind, distance in ((near, near - step, place), (far, far + step, 1 - place)):
        row, column = torch.minimum(pixel, behind).clamp(min=0).unbind(1)
        inside = (behind >= 0).all(1) & (behind[:, 0] < size[1]) & (behind[:, 1] < size[2])
        reach.append(distance * (inside & ~parted[image, row, column, step[:, 1].abs()]))
    return torch.stack(reach, dim=1)


class _Attach(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, picture: Tensor, pos: Tensor, outline: Outline) -> Tensor:
        near, far = _at_outline(picture, outline)
        ctx.save_for_backward(near - far)
        ctx.outline = outline
        ctx.pos_shape = pos.shape
        return picture.view_as(picture)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        if not ctx.needs_input_grad[1]:
            return grad, None, None
        (jump,) = ctx.saved_tensors
        outline = ctx.outline
        pull = 0.5 * sum(_at_outline(grad, outline))  # [K, C]
        by_place = (pull * jump).sum(1).to(outline.motion.dtype)
        by_vertex = outline.motion * by_place[:, None, None]  # [K, 3, 4]
        num_images, num_vertices, _ = ctx.pos_shape
        rows = (outline.image[:, None] * num_vertices + outline.vertices).reshape(-1)
        grad_pos = by_vertex.new_zeros(num_images * num_vertices, 4)
        if grad.device.type == "cpu":  # index_add is serial here, index_put is not
            grad_pos.index_add_(0, rows, by_vertex.reshape(-1, 4))
        else:  # sorted, so without atomics
            grad_pos.index_put_((rows,), by_vertex.reshape(-1, 4), accumulate=True)
        return grad, grad_pos.view(ctx.pos_shape), None


def _at_outline(picture: Tensor, outline: Outline) -> tuple[Tensor, Tensor]:
    """The picture's values [K, C] at the outline's near and far side, extrapolated from two pixels."""
    step = outline.far - outline.near
    height, width = picture.shape[2:]
    sides = []
    for side, (pixel, behind) in enumerate(
        ((outline.near, outline.near - step), (outline.far, outline.far + step))
    ):
        value = picture[outline.image, :, pixel[:, 0], pixel[:, 1]]
        row, column = behind[:, 0].clamp(0, height - 1), behind[:, 1].clamp(0, width - 1)
        slope = value - picture[outline.image, :, row, column]
        sides.append(value + outline.reach[:, side, None].to(value.dtype) * slope)
    return sides[0], sides[1]


_tables: tuple[tuple[np.ndarray, np.ndarray], ...] = ()


def triangle_neighbors(triangles: Tensor) -> np.ndarray:
    """Which triangle lies across each edge, [T, 3] int32; edge k faces vertex k, -1 at a border.

    Where more than two triangles share an edge, each has the next one as its neighbour, in turn.
    Kept for the last four topologies.
    """
    global _tables
    wanted = triangles.detach().cpu().numpy()
    for known, neighbors in _tables:
        if np.array_equal(known, wanted):
            return neighbors
    start = wanted[:, [1, 2, 0]].reshape(-1).astype(np.int64)
    end = wanted[:, [2, 0, 1]].reshape(-1).astype(np.int64)
    edge = (np.minimum(start, end) << 32) | np.maximum(start, end)
    order = np.argsort(edge, kind="stable")
    edge = edge[order]
    is_first = np.concatenate([[True], edge[1:] != edge[:-1]])[: len(edge)]
    firsts = np.flatnonzero(is_first)
    sizes = np.diff(np.append(firsts, len(edge)))
    group = np.cumsum(is_first) - 1
    place = np.arange(len(edge)) - firsts[group]
    following = firsts[group] + (place + 1) % sizes[group]
    neighbors = np.empty(len(edge), np.int32)
    neighbors[order] = np.where(sizes[group] > 1, order[following] // 3, -1)
    neighbors = neighbors.reshape(-1, 3)
    _tables = ((wanted.copy(), neighbors), *_tables[: _MAX_TABLES - 1])
    return neighbors


def _check(pos: Tensor, triangles: Tensor, rast: Tensor, pixel_angle: float) -> None:
    if pos.ndim != 3 or pos.shape[2] != 4:
        raise ValueError(f"find_outline: pos is {list(pos.shape)}, expected [B, V, 4]")
    if triangles.ndim != 2 or triangles.shape[1] != 3 or triangles.dtype != torch.int32:
        raise ValueError(
            f"find_outline: triangles is {list(triangles.shape)} {triangles.dtype}, expected "
            "[T, 3] torch.int32"
        )
    if rast.ndim != 4 or rast.shape[0] != pos.shape[0] or rast.shape[3] != 4:
        raise ValueError(
            f"find_outline: rast is {list(rast.shape)}, expected [B, H, W, 4] with "
            f"B = {pos.shape[0]} (from pos)"
        )
    if not 0 < pixel_angle < float("inf"):
        raise ValueError(f"find_outline: pixel_angle is {pixel_angle}, expected more than 0")
