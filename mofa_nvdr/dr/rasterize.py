"""rasterize: clip-space triangles -> which triangle each pixel's centre sees, and where in it.

Conventions are nvdiffrast's: y is up, so row 0 is the bottom row; pixel (row j, column i) has its
centre at X = (2 i + 1)/W - 1, Y = (2 j + 1)/H - 1 in normalised device coordinates (NDC).

Coverage is decided in integers on a grid of 1/16 pixel, so shared edges are hit exactly once. What
a pixel sees is the minimum of one integer key (depth above, triangle index below): order and
threads don't matter. Barycentrics come from the unsnapped vertices. Arithmetic on pixels is
float64, rounded once at the end.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mofa_nvdr.dr.bands import forward_bands, gradient_bands
from mofa_nvdr.dr.buffers import unwritten
from mofa_nvdr.dr.context import (
    MAX_PLAIN_ID,
    RasterizeContext,
    check_tensor,
    check_triangles,
    common_device,
    load_nvdiffrast,
)
from mofa_nvdr.dr.parallel import run_on_threads
from mofa_nvdr.dr.rasterize_backward_kernels import rasterize_band_backward
from mofa_nvdr.dr.rasterize_kernels import rasterize_band
from mofa_nvdr.dr.vertex_sums import sum_by_vertex

# Sixteenths of a pixel across the longest side are whole numbers in float32.
_MAX_SIDE = 1 << 20


def rasterize(
    glctx: RasterizeContext,
    pos: Tensor,
    tri: Tensor,
    resolution: Any,
    ranges: Tensor | None = None,
    grad_db: bool = True,
) -> tuple[Tensor, Tensor]:
    """Find the nearest triangle at every pixel's centre, with perspective-correct barycentrics.

    Drawn is what lies in -w <= x, y, z <= w, both faces; smaller z/w is nearer, and of equal depths
    the later triangle wins. Triangles with a vertex index outside `pos` or a vertex that is not
    finite are skipped silently. No gradient passes through coverage: use `antialias` for that.

    Args:
        glctx: a `RasterizeContext`; nvdiffrast's own contexts are taken too when the tensors are on
            CUDA.
        pos: clip-space vertices (x, y, z, w), float32. [N, V, 4]: image n shows all triangles with
            vertices pos[n]. [V, 4]: range mode, image n shows the triangles of ranges[n].
        tri: vertex indices [T, 3], int32.
        resolution: (H, W), height first.
        ranges: (first triangle, count) per image [N, 2], int32, on the CPU; only in range mode.
        grad_db: whether the gradient of `rast_db` reaches `pos`.

    Returns:
        rast [N, H, W, 4]: (u, v, z/w, triangle index + 1); u, v weigh the first and the second
            vertex. Zero where nothing is drawn. In range mode the index counts in all of `tri`.
        rast_db [N, H, W, 4]: (du/dX, du/dY, dv/dX, dv/dY), X, Y in pixels.
        Both differentiable once, in x, y and w of `pos`; the z/w channel has no gradient. The same
        bits for every thread count.

    Raises:
        RuntimeError: a shape, dtype, device or memory layout is not as above, or CUDA without
            nvdiffrast.
        TypeError: an argument is of the wrong Python type.
    """
    call = check_call("rasterize", glctx, pos, tri, resolution, ranges, grad_db)
    if getattr(glctx, "active_depth_peeler", None) is not None:
        raise RuntimeError(
            "rasterize: a DepthPeeler is active on glctx; use its rasterize_next_layer(), or leave its "
            "with block first"
        )
    if call.device.type == "cuda":
        return load_nvdiffrast("rasterize").rasterize(
            call.cuda_context("rasterize", glctx),
            pos,
            tri,
            resolution=list(call.size),
            ranges=call.ranges,
            grad_db=grad_db,
        )
    return rasterize_layer(pos, tri, call.size, call.ranges, grad_db, None)


@dataclass(frozen=True)
class Call:
    """Checked arguments of `rasterize` and `DepthPeeler`: how many images, of which size, and where."""

    device: torch.device
    num_images: int
    size: tuple[int, int]
    ranges: Tensor | None

    def cuda_context(self, verb: str, glctx: Any) -> Any:
        """The nvdiffrast context for the call: the one of ours for its size, or nvdiffrast's own as it is."""
        load_nvdiffrast(verb)
        if isinstance(glctx, RasterizeContext):
            return glctx.cuda_context(self.device, (self.num_images, *self.size))
        return glctx


def check_call(
    verb: str,
    glctx: Any,
    pos: Tensor,
    tri: Tensor,
    resolution: Any,
    ranges: Tensor | None,
    grad_db: bool,
) -> Call:
    """Check the arguments that `rasterize` and `DepthPeeler` share; errors as in `rasterize`."""
    device = common_device(verb, pos=pos, tri=tri)
    size = check_resolution(resolution, verb)
    if not isinstance(grad_db, bool):
        raise TypeError(f"{verb}: grad_db is {grad_db!r}, expected True or False")
    ranges = check_inputs(verb, pos, tri, ranges)
    num_images = pos.shape[0] if ranges is None else ranges.shape[0]
    ours = isinstance(glctx, RasterizeContext)
    if ours and glctx.device is not None and not _same_device(glctx.device, device):
        raise RuntimeError(
            f"{verb}: pos is on {device}, but glctx was made for {glctx.device}; "
            "make the context with device=None or move the tensors"
        )
    if not ours and device.type != "cuda":
        raise TypeError(
            f"{verb}: glctx is a {type(glctx).__name__}, expected mofa_nvdr.dr.RasterizeContext"
        )
    return Call(device, num_images, size, ranges)


def check_resolution(resolution: Any, verb: str = "rasterize") -> tuple[int, int]:
    """(height, width) as integers from 1 to 2^20."""
    try:
        height, width = (operator.index(size) for size in tuple(resolution))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{verb}: resolution is {resolution!r}, expected two integers (height, width)"
        ) from error
    if height <= 0 or width <= 0:
        raise RuntimeError(f"{verb}: resolution is {(height, width)}, expected both above 0")
    if max(height, width) > _MAX_SIDE:
        raise RuntimeError(
            f"{verb}: resolution is {(height, width)}, expected both at most {_MAX_SIDE}; draw it in "
            "parts"
        )
    return height, width


def _same_device(wanted: torch.device, device: torch.device) -> bool:
    return wanted.type == device.type and wanted.index in (None, device.index)


def check_inputs(
    verb: str,
    pos: Tensor,
    tri: Tensor,
    ranges: Tensor | None,
    dtypes: tuple[torch.dtype, ...] = (torch.float32,),
) -> Tensor | None:
    """Check what `rasterize` takes; returns the ranges in range mode, None in instanced mode."""
    check_triangles(verb, tri)
    if pos.dim() != 2:
        check_tensor(verb, "pos", pos, ("N", "V", 4), dtypes)
        most, ranges = tri.shape[0], None  # nvdiffrast ignores them too
    else:
        check_tensor(verb, "pos", pos, ("V", 4), dtypes)
        if ranges is None:
            raise RuntimeError(
                f"{verb}: pos is {list(pos.shape)} and ranges is None; pass ranges [N, 2], "
                "or pos [N, V, 4] to draw all triangles in each image"
            )
        common_device(verb, ranges=ranges)
        if ranges.device.type != "cpu":
            raise RuntimeError(f"{verb}: ranges is on {ranges.device}, expected cpu; call .cpu()")
        check_tensor(verb, "ranges", ranges, ("N", 2), (torch.int32,))
        most = int(ranges[:, 1].max())
    if most > MAX_PLAIN_ID:
        raise RuntimeError(
            f"{verb}: {most} triangles in one image, expected at most {MAX_PLAIN_ID}; "
            "split the mesh into ranges"
        )
    return ranges


def triangle_spans(tri: Tensor, ranges: Tensor | None, num_images: int) -> list[tuple[int, int]]:
    """The (first, end) triangles of each image, cut to the triangles there are."""
    num_triangles = tri.shape[0]
    if ranges is None:
        return [(0, num_triangles)] * num_images
    spans = []
    for first, count in ranges.tolist():
        end = min(first + count, num_triangles)
        spans.append((min(max(first, 0), num_triangles), max(end, 0)))
    return spans


def rasterize_layer(
    pos: Tensor,
    tri: Tensor,
    resolution: tuple[int, int],
    ranges: Tensor | None,
    grad_db: bool,
    peeled: np.ndarray | None,
) -> tuple[Tensor, Tensor]:
    """`rasterize` of checked CPU tensors: what is nearest behind `peeled`, or nearest of all (None).

    `peeled` is int64 [N, H, W], -1 before the first layer; each call moves it one layer on.
    """
    return _Rasterize.apply(pos, tri, resolution, ranges, grad_db, peeled)


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        pos: Tensor,
        tri: Tensor,
        resolution: tuple[int, int],
        ranges: Tensor | None,
        grad_db: bool,
        peeled: np.ndarray | None,
    ) -> tuple[Tensor, Tensor]:
        num_images = pos.shape[0] if ranges is None else ranges.shape[0]
        height, width = resolution
        rast = unwritten(num_images, height, width, 4)
        rast_db = unwritten(num_images, height, width, 4)
        pos_array, tri_array = pos.detach().numpy(), tri.numpy()
        rast_array, db_array = rast.numpy(), rast_db.numpy()
        if peeled is None:
            peeled = np.empty((num_images, 0, 0), np.int64)
        spans = triangle_spans(tri, ranges, num_images)
        items = [
            (pos_array if ranges is not None else pos_array[image], tri_array, *spans[image],
             height, width, start, stop, peeled[image], rast_array[image], db_array[image])
            for image, start, stop in forward_bands(num_images, height)
        ]  # fmt: skip
        run_on_threads(rasterize_band, items)
        ctx.save_for_backward(pos, tri, rast)
        ctx.grad_db = grad_db
        ctx.set_materialize_grads(False)
        return rast, rast_db

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_rast: Tensor | None, grad_rast_db: Tensor | None) -> Any:
        pos, tri, rast = ctx.saved_tensors
        if not ctx.grad_db:
            grad_rast_db = None
        if not ctx.needs_input_grad[0] or (grad_rast is None and grad_rast_db is None):
            return None, None, None, None, None, None
        num_images, height, _, _ = rast.shape
        rast_array = rast.numpy()
        grad_array = np.zeros_like(rast_array) if grad_rast is None else as_array(grad_rast)
        with_db = grad_rast_db is not None
        grad_db_array = rast_array if grad_rast_db is None else as_array(grad_rast_db)
        pos_array, tri_array = pos.detach().numpy(), tri.numpy()
        batched = pos.dim() == 3
        bands = gradient_bands(num_images, height)
        grad_pos = torch.empty_like(pos)

        def add(band: int, sums: np.ndarray) -> None:
            image, start, stop = bands[band]
            rasterize_band_backward(
                pos_array[image] if batched else pos_array, tri_array, rast_array[image],
                grad_array[image, start:stop], grad_db_array[image, start:stop], with_db, start, stop,
                sums,
            )  # fmt: skip

        out = grad_pos.numpy()
        sum_by_vertex(add, bands, (4, [out if batched else out[None]]))
        return grad_pos, None, None, None, None, None


def as_array(tensor: Tensor) -> Any:
    """A gradient as the kernels take it: contiguous numpy, sharing memory where it already is."""
    return tensor.detach().contiguous().numpy()
