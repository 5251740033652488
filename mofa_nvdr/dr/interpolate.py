"""interpolate: vertex attributes -> their value at every pixel, by `rasterize`'s barycentrics."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mofa_nvdr.dr.bands import band_items, forward_bands, gradient_bands
from mofa_nvdr.dr.buffers import unwritten
from mofa_nvdr.dr.context import check_tensor, check_triangles, common_device, load_nvdiffrast
from mofa_nvdr.dr.interpolate_kernels import (
    differentiate_band,
    differentiate_band_backward,
    interpolate_band,
    interpolate_band_backward,
)
from mofa_nvdr.dr.parallel import run_on_threads
from mofa_nvdr.dr.rasterize import as_array
from mofa_nvdr.dr.vertex_sums import sum_by_vertex

_MAX_LISTED_ATTRIBUTES = 32  # nvdiffrast's limit


def interpolate(
    attr: Tensor,
    rast: Tensor,
    tri: Tensor,
    rast_db: Tensor | None = None,
    diff_attrs: str | Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Interpolate vertex attributes, and on demand their screen-space derivatives, over the pixels.

    Args:
        attr: [N, V, C]; [1, V, C] or [V, C] is shared by all images. float32.
        rast: [N, H, W, 4] from `rasterize`.
        tri: vertex indices [T, 3], int32; may index `attr` otherwise than the rasterized `tri`
            indexes `pos`, as long as the triangles correspond one to one.
        rast_db: [N, H, W, 4] from `rasterize`; needed with `diff_attrs` only.
        diff_attrs: "all", or up to 32 attribute indices (negative ones count from the end, indices
            outside give zeros), or None.

    Returns:
        out [N, H, W, C]: zero where no triangle is.
        out_da [N, H, W, 2 D]: pairs (d/dX, d/dY) per pixel of the D attributes asked for.
        Both differentiable once in attr, rast (u and v) and rast_db. The same bits for every thread
        count.

    Raises:
        RuntimeError: a shape, dtype, device or memory layout is not as above, or CUDA without
            nvdiffrast.
        TypeError: an argument is of the wrong Python type.
    """
    device = common_device("interpolate", attr=attr, rast=rast, tri=tri, rast_db=rast_db)
    listed = check_inputs("interpolate", attr, rast, tri, rast_db, diff_attrs)
    if device.type == "cuda":
        nvdiffrast = load_nvdiffrast("interpolate")
        # nvdiffrast calls the tensor shared if it is 2-D and asks for rast_db only with diff_attrs.
        return nvdiffrast.interpolate(attr, rast, tri, rast_db=rast_db, diff_attrs=diff_attrs)
    return _Interpolate.apply(attr, rast, tri, rast_db if listed else None, listed)


def check_inputs(
    verb: str,
    attr: Tensor,
    rast: Tensor,
    tri: Tensor,
    rast_db: Tensor | None,
    diff_attrs: str | Sequence[int] | None,
    dtypes: tuple[torch.dtype, ...] = (torch.float32,),
) -> tuple[int, ...]:
    """Check what `interpolate` takes; returns the attributes to differentiate, -1 if outside."""
    check_triangles(verb, tri)
    check_tensor(verb, "rast", rast, ("N", "H", "W", 4), dtypes)
    if attr.dim() == 2:
        check_tensor(verb, "attr", attr, ("V", "C"), dtypes)
    else:
        check_tensor(verb, "attr", attr, ("N", "V", "C"), dtypes)
        if attr.shape[0] not in (1, rast.shape[0]):
            raise RuntimeError(
                f"{verb}: attr is {list(attr.shape)}, expected [N, V, C] with N = 1 or "
                f"{rast.shape[0]} (from rast)"
            )
    listed = _list_attributes(verb, diff_attrs, attr.shape[-1])
    if listed:
        if rast_db is None:
            raise TypeError(
                f"{verb}: rast_db is None, expected the second output of rasterize, for diff_attrs"
            )
        check_tensor(verb, "rast_db", rast_db, tuple(rast.shape), dtypes)
    return listed


def _list_attributes(
    verb: str, diff_attrs: str | Sequence[int] | None, num_attributes: int
) -> tuple[int, ...]:
    if diff_attrs is None:
        return ()
    if isinstance(diff_attrs, str):
        if diff_attrs != "all":
            raise TypeError(
                f"{verb}: diff_attrs is {diff_attrs!r}, expected 'all', a list of integers or None"
            )
        return tuple(range(num_attributes))
    try:
        indices = [operator.index(index) for index in diff_attrs]
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{verb}: diff_attrs is {diff_attrs!r}, expected 'all', a list of integers or None"
        ) from error
    if len(indices) > _MAX_LISTED_ATTRIBUTES:
        raise RuntimeError(
            f"{verb}: diff_attrs lists {len(indices)} attributes, expected at most "
            f"{_MAX_LISTED_ATTRIBUTES}; 'all' has no limit"
        )
    wrapped = (index + num_attributes if index < 0 else index for index in indices)
    return tuple(index if 0 <= index < num_attributes else -1 for index in wrapped)


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        attr: Tensor,
        rast: Tensor,
        tri: Tensor,
        rast_db: Tensor | None,
        listed: tuple[int, ...],
    ) -> tuple[Tensor, Tensor]:
        num_images, height, width, _ = rast.shape
        out = unwritten(num_images, height, width, attr.shape[-1])
        out_da = unwritten(num_images, height, width, 2 * len(listed))
        attr_array, rast_array = _per_image(attr, num_images), rast.detach().numpy()
        out_array, out_da_array = out.numpy(), out_da.numpy()
        bands = forward_bands(num_images, height)
        arrays, tri_array = [attr_array, rast_array], tri.numpy()
        run_on_threads(interpolate_band, band_items(bands, arrays, [tri_array], [out_array]))
        if rast_db is not None:
            db_array, indices = rast_db.detach().numpy(), np.array(listed, dtype=np.int64)
            items = band_items(bands, [*arrays, db_array], [tri_array, indices], [out_da_array])
            run_on_threads(differentiate_band, items)
        ctx.save_for_backward(attr, rast, tri, rast_db)
        ctx.listed = listed
        ctx.set_materialize_grads(False)
        return out, out_da

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor | None, grad_da: Tensor | None) -> Any:
        attr, rast, tri, rast_db = ctx.saved_tensors
        if rast_db is None:
            grad_da = None
        if grad_out is None and grad_da is None:
            return None, None, None, None, None
        num_images, height, width, _ = rast.shape
        shape = (num_images, height, width, attr.shape[-1])
        grad_array = np.zeros(shape, np.float32) if grad_out is None else as_array(grad_out)
        bands = gradient_bands(num_images, height)
        grad_attr, grad_rast = torch.empty_like(attr), unwritten(*rast.shape)
        grad_db = None
        attr_array, rast_array = _per_image(attr, num_images), rast.detach().numpy()
        grad_rast_array, tri_array = grad_rast.numpy(), tri.numpy()
        if grad_da is not None:
            grad_db = torch.zeros_like(rast_db)
            db_array, grad_db_array = rast_db.detach().numpy(), grad_db.numpy()
            grad_da_array, indices = as_array(grad_da), np.array(ctx.listed, dtype=np.int64)

        def add(band: int, sums: np.ndarray) -> None:
            image, start, stop = bands[band]
            interpolate_band_backward(
                attr_array[image], rast_array[image], tri_array, grad_array[image], start, stop,
                grad_rast_array[image], sums,
            )  # fmt: skip
            if grad_da is not None:
                differentiate_band_backward(
                    attr_array[image], rast_array[image], db_array[image], tri_array, indices,
                    grad_da_array[image], start, stop, grad_db_array[image], sums,
                )  # fmt: skip

        shared = attr.dim() == 2 or attr.shape[0] != num_images
        outs = [grad_attr.numpy().reshape(1 if shared else num_images, *attr.shape[-2:])]
        sum_by_vertex(add, bands, (attr.shape[-1], outs))
        return grad_attr, grad_rast, None, grad_db, None


def _per_image(attr: Tensor, num_images: int) -> np.ndarray:
    """[N, V, C] whatever `attr` is; a view whose images are contiguous, as the kernels want."""
    return attr.detach().expand(num_images, *attr.shape[-2:]).numpy()
