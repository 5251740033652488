"""Mean colour distance to a photograph: over the pixels of a rendering, and over projected vertices.

The inner part of the photometric term (Eq. 8), with its backward formulas. Each function is one compiled
pass on the CPU in float32; its twin `_ref` is the same in plain torch and says what is computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mofa_nvdr.dr.bands import band_items, bands_of_images, forward_bands, gradient_bands
from mofa_nvdr.dr.buffers import unwritten
from mofa_nvdr.dr.parallel import compiles, run_on_threads
from mofa_nvdr.dr.vertex_sums import sum_by_vertex
from mofa_nvdr.losses.color_distance_kernels import (
    pixel_distances,
    pixel_distances_backward,
    scale_rows,
    vertex_distances,
)
from mofa_nvdr.render.surface_motion import SurfaceMotion
from mofa_nvdr.shaders.gbuffer_kernels import camera_to_clip, clip_to_camera

# Inside the square root of the distance: keeps its gradient finite where the colours agree.
_EPS = 1e-8
_KNOWN = 0.999  # a sample counts where the photograph exists at all its pixels


def color_distance(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """Euclidean distance of RGB colours along `dim`: the l2,1 norm's inner part (Eq. 8)."""
    return ((a - b).square().sum(dim) + _EPS).sqrt()


def known_photo(photo: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """The photograph [B, 3, H, W] with zeros for NaN, and where it exists [B, 1, H, W] bool."""
    known = photo.sum(1, keepdim=True).isfinite()  # a sum is cheaper than three tests per pixel
    if valid is not None:
        known = known & (valid > 0)
    return torch.where(known, photo, torch.zeros_like(photo)), known


def sum_pixels(picture: Tensor) -> Tensor:
    """Sum over the last two axes, row by row.

    One sum over a whole picture is split among the threads, and its bits follow their number.
    """
    return picture.sum(-1).sum(-1)


def mean_over_mask(
    image: Tensor,
    photo: Tensor,
    mask: Tensor,
    valid: Tensor | None = None,
    position: Tensor | None = None,
    log_area: Tensor | None = None,
) -> Tensor:
    """Mean distance of image and photograph over the pixels of the mask where a photograph is.

    With `position` and `log_area` the gradient is that of a mean over moving surface points: the
    photograph enters through I(p) + grad I(p) . (u - p) with central differences, and the change of
    projected area weighs f - mean f (Reynolds' transport theorem).

    Args:
        image: [B, 3, H, W].
        photo: [B, 3, H, W]; NaN where there is none.
        mask: [B, 1, H, W] in [0, 1], how much each pixel counts; no gradient.
        valid: [B, 1, H, W] bool, where the photograph exists; None: everywhere.
        position: [B, 2, H, W] px, where the surface point of each pixel projects; its value is not used.
        log_area: [B, 1, H, W], its value is not used.

    Returns:
        [B]; 0 where no pixel counts. Differentiable once in image, position and log_area.
    """
    if photo.requires_grad or not compiles(image, photo, mask):
        return mean_over_mask_ref(image, photo, mask, valid, position, log_area)
    return _MeanOverMask.apply(image, photo, mask, valid, position, log_area)


def mean_over_mask_ref(
    image: Tensor,
    photo: Tensor,
    mask: Tensor,
    valid: Tensor | None = None,
    position: Tensor | None = None,
    log_area: Tensor | None = None,
) -> Tensor:
    """The twin of `mean_over_mask` in plain torch."""
    photo, known = known_photo(photo, valid)
    weight = mask.detach()[:, 0] * known[:, 0]  # [B, H, W]
    count = sum_pixels(weight).clamp(min=1.0)
    if position is None or log_area is None:
        return sum_pixels(color_distance(image, photo, dim=1) * weight) / count
    moved = position - position.detach()  # value 0
    gradient_x, gradient_y = _central_differences(photo)
    followed = photo + gradient_x * moved[:, :1] + gradient_y * moved[:, 1:]
    distance = color_distance(image, followed, dim=1)
    mean = sum_pixels(distance * weight) / count
    with torch.no_grad():
        excess = (distance - mean[:, None, None]) * weight / count[:, None, None]
    area = sum_pixels(excess * log_area[:, 0])
    return mean + area - area.detach()


def mean_over_surface(
    image: Tensor, photo: Tensor, mask: Tensor, valid: Tensor | None, motion: SurfaceMotion
) -> Tensor:
    """`mean_over_mask` with the planes of `motion`, whose values it does not use and so does not compute.

    Args:
        image: as in `mean_over_mask`, and so are photo, mask and valid.
        photo: [B, 3, H, W].
        mask: [B, 1, H, W].
        valid: [B, 1, H, W] bool or None.
        motion: of the rendering.

    Returns:
        [B]; 0 where no pixel counts. Differentiable once in image and the vertices of `motion`.
    """
    if photo.requires_grad or not (compiles(image, photo, mask) and motion.compiles()):
        return mean_over_mask(image, photo, mask, valid, *motion.planes())
    return _MeanOverSurface.apply(image, photo, mask, valid, motion.vertices, motion)


def mean_over_vertices(
    positions: Tensor,
    colors: Tensor,
    counted: Tensor,
    photo: Tensor,
    valid: Tensor | None = None,
) -> Tensor:
    """Mean distance of vertex colours and the photograph sampled where the vertices project.

    Args:
        positions: [B, V, 2] px from the top left corner.
        colors: [B, V, 3].
        counted: [B, V] bool; of these, vertices outside the photograph do not count either.
        photo: [B, 3, H, W], sampled bilinearly; NaN where there is none.
        valid: [B, 1, H, W] bool or None.

    Returns:
        [B]; 0 where no vertex counts. Differentiable once in positions and colors.
    """
    if photo.requires_grad or not compiles(positions, colors, photo):
        return mean_over_vertices_ref(positions, colors, counted, photo, valid)
    return _MeanOverVertices.apply(positions, colors, counted, photo, valid)


def mean_over_vertices_ref(
    positions: Tensor,
    colors: Tensor,
    counted: Tensor,
    photo: Tensor,
    valid: Tensor | None = None,
) -> Tensor:
    """The twin of `mean_over_vertices` in plain torch."""
    photo, known = known_photo(photo, valid)
    height, width = photo.shape[2:]
    size = torch.tensor([width, height], dtype=positions.dtype, device=positions.device)
    finite = positions.isfinite().all(-1, keepdim=True)
    grid = torch.where(finite, positions / size * 2 - 1, torch.full_like(positions, 2.0))
    inside = (grid.detach().abs() <= 1).all(-1)
    pixels = torch.cat([photo, known.to(photo)], dim=1)
    samples = F.grid_sample(
        pixels, grid[:, None], mode="bilinear", padding_mode="border", align_corners=False
    )[:, :, 0].transpose(1, 2)  # [B, V, 4]; the I(u_i) of Eq. 8
    counts = counted & inside & (samples[..., 3].detach() > _KNOWN)
    distance = torch.where(
        counts, color_distance(samples[..., :3], colors, dim=-1), torch.zeros_like(grid[..., 0])
    )
    return distance.sum(1) / counts.sum(1).clamp(min=1)


def _central_differences(photo: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives per pixel to the right and downwards, [B, 3, H, W] each; halved at the border."""
    padded = F.pad(photo, (1, 1, 1, 1), mode="replicate")
    gradient_x = 0.5 * (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2])
    gradient_y = 0.5 * (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1])
    return gradient_x, gradient_y


def _measure_pixels(
    ctx: Any, image: Tensor, photo: Tensor, mask: Tensor, valid: Tensor | None
) -> Tensor:
    """The means [B]; what the backward passes need goes to `ctx`."""
    ctx.batch, _, ctx.height, ctx.width = image.shape
    ctx.inputs = [_array(t) for t in (image, photo, mask[:, 0])]
    ctx.inputs.append(_where(valid, ctx.batch))
    bands = gradient_bands(ctx.batch, ctx.height)
    sums = np.empty((len(bands), 2))
    run_on_threads(
        pixel_distances,
        [
            (*(a[b] for a in ctx.inputs), start, stop, sums[band])
            for band, (b, start, stop) in enumerate(bands)
        ],
    )
    ctx.means, ctx.counts = _means(sums, bands)
    return torch.from_numpy(ctx.means).float()


class _MeanOverMask(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        photo: Tensor,
        mask: Tensor,
        valid: Tensor | None,
        position: Tensor | None,
        log_area: Tensor | None,
    ) -> Tensor:
        means = _measure_pixels(ctx, image, photo, mask, valid)
        ctx.save_for_backward(image)  # for its version: a change in place is an error
        return means

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        _ = ctx.saved_tensors
        shape = (ctx.batch, 3, ctx.height, ctx.width)
        moving = ctx.needs_input_grad[4] or ctx.needs_input_grad[5]
        grad_image = unwritten(*shape)
        grad_position = unwritten(ctx.batch, 2, *shape[2:]) if moving else None
        grad_area = unwritten(ctx.batch, 1, *shape[2:]) if moving else None
        nothing = np.empty((ctx.batch, 0, 0, 0), np.float32)
        outs = [nothing if t is None else t.numpy() for t in (grad_image, grad_position, grad_area)]
        scales = grad.double().numpy() / ctx.counts
        bands = gradient_bands(ctx.batch, ctx.height)
        items = band_items(bands, [*ctx.inputs, ctx.means, scales], [], outs)
        run_on_threads(pixel_distances_backward, items)
        return grad_image, None, None, None, grad_position, grad_area


class _MeanOverSurface(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        photo: Tensor,
        mask: Tensor,
        valid: Tensor | None,
        vertices: Tensor,
        motion: SurfaceMotion,
    ) -> Tensor:
        means = _measure_pixels(ctx, image, photo, mask, valid)
        ctx.save_for_backward(image, vertices, motion.rast)  # for their versions
        ctx.motion = motion
        return means

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        _, vertices, _ = ctx.saved_tensors
        grad_image = unwritten(ctx.batch, 3, ctx.height, ctx.width)
        points = vertices.detach().contiguous().numpy()
        grad_vertices = vertices.new_empty(vertices.shape)
        matrix = np.array(ctx.motion.clip_matrix)
        of_image = grad_image.numpy()
        # A band's gradients go on to the vertices while they are in the cache.
        of_planes = np.empty((ctx.batch, 3, ctx.height, ctx.width), np.float32)
        scales = grad.double().numpy() / ctx.counts
        bands = gradient_bands(ctx.batch, ctx.height)

        def add(band: int, sums: np.ndarray) -> None:
            b, start, stop = bands[band]
            planes = of_planes[b, :2], of_planes[b, 2:]
            pixel_distances_backward(
                *(a[b] for a in ctx.inputs),
                ctx.means[b],
                scales[b],
                start,
                stop,
                of_image[b],
                *planes,
            )
            pos = np.empty((points.shape[1], 4), np.float32)
            camera_to_clip(points[b], matrix, pos)
            ctx.motion.add_band(pos, b, start, stop, planes, sums)
            clip_to_camera(sums, matrix)

        sum_by_vertex(add, bands, (4, [grad_vertices.numpy()]))
        return grad_image, None, None, None, grad_vertices, None


class _MeanOverVertices(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        positions: Tensor,
        colors: Tensor,
        counted: Tensor,
        photo: Tensor,
        valid: Tensor | None,
    ) -> Tensor:
        batch, vertices = colors.shape[:2]
        arrays = [_array(t) for t in (positions, colors, counted, photo)]
        arrays.append(_where(valid, batch))
        # Gradients of each distance are made with it: what is sampled for one is sampled for both.
        by_each = [
            torch.empty_like(t, memory_format=torch.contiguous_format) for t in (positions, colors)
        ]
        outs = [t.numpy() for t in by_each]
        bands = gradient_bands(batch, vertices)
        sums = np.empty((len(bands), 2))
        run_on_threads(
            vertex_distances,
            [
                (*(a[b] for a in arrays), start, stop, sums[band], *(a[b] for a in outs))
                for band, (b, start, stop) in enumerate(bands)
            ],
        )
        means, ctx.counts = _means(sums, bands)
        ctx.save_for_backward(*by_each)
        return torch.from_numpy(means).float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        scales = (grad.double().numpy() / ctx.counts).astype(np.float32)
        saved = ctx.saved_tensors
        grads = [torch.empty_like(t) for t in saved]
        arrays = [t.numpy() for t in (*saved, *grads)]
        run_on_threads(
            scale_rows,
            [
                (scales[b], *(a[b, start:stop] for a in arrays))
                for b, start, stop in forward_bands(*saved[0].shape[:2])
            ],
        )
        return *grads, None, None, None


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _where(valid: Tensor | None, batch: int) -> np.ndarray:
    """The mask [B, H, W] bool, or [B, 0, 0] for everywhere."""
    if valid is None:
        return np.empty((batch, 0, 0), np.bool_)
    return _array(valid[:, 0] > 0)


def _means(sums: np.ndarray, bands: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Means and counts (at least 1) of the images, from the bands' (total, count)."""
    totals = np.stack([sums[rows].sum(0) for rows in bands_of_images(bands)])
    counts = np.maximum(totals[:, 1], 1.0)
    return totals[:, 0] / counts, counts
