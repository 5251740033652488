"""interpolate: vertex attributes -> their value at every pixel, by the barycentrics of `rasterize`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from mofa_nvdr.dr.context import check_tensor, check_triangles, common_device, load_nvdiffrast
from mofa_nvdr.dr.parallel import jit, run
from mofa_nvdr.dr.rasterize import GRADIENT_BANDS, as_array, decode_id, row_bands

_MAX_LISTED_ATTRIBUTES = 32  # nvdiffrast's limit


def interpolate(
    attr: Tensor,
    rast: Tensor,
    tri: Tensor,
    rast_db: Tensor | None = None,
    diff_attrs: str | Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Interpolate vertex attributes over the pixels, and their screen-space derivatives where asked for.

    Args:
        attr: [N, V, C]; [1, V, C] or [V, C] is shared by all images. float32.
        rast: [N, H, W, 4] from `rasterize`.
        tri: vertex indices [T, 3], int32; may index `attr` otherwise than the rasterized `tri` indexes
            `pos`, as long as the triangles correspond one to one.
        rast_db: [N, H, W, 4] from `rasterize`; needed with `diff_attrs` only.
        diff_attrs: "all", or up to 32 attribute indices (negative ones count from the end, indices outside
            give zeros), or None.

    Returns:
        out [N, H, W, C]: zero where no triangle is.
        out_da [N, H, W, 2 D]: pairs (d/dX, d/dY) per pixel of the D attributes asked for.
        Both differentiable once in attr, rast (u and v) and rast_db. The same bits for every thread count.

    Raises:
        RuntimeError: a shape, dtype, device or memory layout is not as above, or CUDA without nvdiffrast.
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
    """Check what `interpolate` takes; returns the attributes to differentiate, -1 for one outside."""
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
            raise TypeError(f"{verb}: rast_db is None, expected rasterize's second output as diff_attrs is set")
        check_tensor(verb, "rast_db", rast_db, tuple(rast.shape), dtypes)
    return listed


def _list_attributes(
    verb: str, diff_attrs: str | Sequence[int] | None, num_attributes: int
) -> tuple[int, ...]:
    if diff_attrs is None:
        return ()
    if isinstance(diff_attrs, str):
        if diff_attrs != "all":
            raise TypeError(f"{verb}: diff_attrs is {diff_attrs!r}, expected 'all', integers or None")
        return tuple(range(num_attributes))
    try:
        indices = [int(index) for index in np.asarray(diff_attrs, dtype=np.int64).reshape(-1)]
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{verb}: diff_attrs is {diff_attrs!r}, expected 'all', integers or None"
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
        ctx: FunctionCtx,
        attr: Tensor,
        rast: Tensor,
        tri: Tensor,
        rast_db: Tensor | None,
        listed: tuple[int, ...],
    ) -> tuple[Tensor, Tensor]:
        num_images, height, width, _ = rast.shape
        out = torch.empty(num_images, height, width, attr.shape[-1])
        out_da = torch.empty(num_images, height, width, 2 * len(listed))
        attr_array, rast_array = _per_image(attr, num_images), rast.detach().numpy()
        out_array, out_da_array = out.numpy(), out_da.numpy()
        bands = row_bands(height, max(1, min(height, -(-2 * torch.get_num_threads() // num_images))))
        items: list[tuple[Any, ...]]
        items = [
            (attr_array[image], rast_array[image], tri.numpy(), start, stop, out_array[image])
            for image in range(num_images)
            for start, stop in bands
        ]
        run(_interpolate_band, items)
        if rast_db is not None:
            db_array, indices = rast_db.detach().numpy(), np.array(listed, dtype=np.int64)
            items = [
                (attr_array[image], rast_array[image], db_array[image], tri.numpy(), indices,
                 start, stop, out_da_array[image])
                for image in range(num_images)
                for start, stop in bands
            ]  # fmt: skip
            run(_differentiate_band, items)
        ctx.save_for_backward(attr, rast, tri, rast_db)
        ctx.listed = listed  # type: ignore[attr-defined]
        ctx.set_materialize_grads(False)
        return out, out_da

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor | None, grad_da: Tensor | None) -> Any:
        attr, rast, tri, rast_db = ctx.saved_tensors
        with_da = rast_db is not None and grad_da is not None
        if grad_out is None and not with_da:
            return None, None, None, None, None
        num_images, height, width, _ = rast.shape
        shape = (num_images, height, width, attr.shape[-1])
        grad_array = np.zeros(shape, np.float32) if grad_out is None else as_array(grad_out)
        # One buffer of sums for each band, also where the images share the attributes.
        sums = np.empty((num_images, GRADIENT_BANDS, *attr.shape[-2:]))
        grad_rast = torch.empty_like(rast)
        attr_array, rast_array = _per_image(attr, num_images), rast.detach().numpy()
        grad_rast_array, tri_array = grad_rast.numpy(), tri.numpy()
        bands = row_bands(height, GRADIENT_BANDS)
        items: list[tuple[Any, ...]]
        items = [
            (attr_array[image], rast_array[image], tri_array, grad_array[image], start, stop,
             grad_rast_array[image], sums[image, band])
            for image in range(num_images)
            for band, (start, stop) in enumerate(bands)
        ]  # fmt: skip
        run(_interpolate_band_backward, items)
        grad_db = None
        if with_da:
            grad_db = torch.zeros_like(rast_db)
            db_array, grad_db_array = rast_db.detach().numpy(), grad_db.numpy()
            grad_da_array, indices = as_array(grad_da), np.array(ctx.listed, dtype=np.int64)
            items = [
                (attr_array[image], rast_array[image], db_array[image], tri_array, indices,
                 grad_da_array[image], start, stop, grad_db_array[image], sums[image, band])
                for image in range(num_images)
                for band, (start, stop) in enumerate(bands)
            ]  # fmt: skip
            run(_differentiate_band_backward, items)
        grad_attr = torch.empty_like(attr)
        if attr.dim() == 3 and attr.shape[0] == num_images:
            out = grad_attr.numpy()
            run(_sum_bands, [(sums[image], out[image]) for image in range(num_images)])
        else:
            shared = grad_attr.numpy().reshape(attr.shape[-2:])
            _sum_bands(sums.reshape(-1, *attr.shape[-2:]), shared)
        return grad_attr, grad_rast, None, grad_db, None


def _per_image(attr: Tensor, num_images: int) -> np.ndarray:
    """[N, V, C] whatever `attr` is; a view. Its images are contiguous, which is what the kernels take."""
    return attr.detach().expand(num_images, *attr.shape[-2:]).numpy()


@jit
def _triangle_at(rast, tri, j, i, num_vertices):
    """The triangle that a pixel sees, -1 for none or for one with an index outside the attributes."""
    t = decode_id(rast[j, i, 3]) - 1
    if t < 0 or t >= tri.shape[0]:
        return np.int64(-1)
    a, b, c = tri[t, 0], tri[t, 1], tri[t, 2]
    if min(a, b, c) < 0 or max(a, b, c) >= num_vertices:
        return np.int64(-1)
    return t


@jit
def _interpolate_band(attr, rast, tri, row_start, row_stop, out):
    num_attributes = out.shape[2]
    for j in range(row_start, row_stop):
        for i in range(rast.shape[1]):
            t = _triangle_at(rast, tri, j, i, attr.shape[0])
            if t < 0:
                for k in range(num_attributes):
                    out[j, i, k] = 0.0
                continue
            a, b, c = tri[t, 0], tri[t, 1], tri[t, 2]
            u, v = rast[j, i, 0], rast[j, i, 1]
            w = np.float32(1.0) - u - v
            for k in range(num_attributes):
                out[j, i, k] = u * attr[a, k] + v * attr[b, k] + w * attr[c, k]


@jit
def _differentiate_band(attr, rast, rast_db, tri, indices, row_start, row_stop, out_da):
    for j in range(row_start, row_stop):
        for i in range(rast.shape[1]):
            t = _triangle_at(rast, tri, j, i, attr.shape[0])
            for n in range(indices.shape[0]):
                k = indices[n]
                if t < 0 or k < 0:
                    out_da[j, i, 2 * n] = 0.0
                    out_da[j, i, 2 * n + 1] = 0.0
                    continue
                along_u = attr[tri[t, 0], k] - attr[tri[t, 2], k]
                along_v = attr[tri[t, 1], k] - attr[tri[t, 2], k]
                out_da[j, i, 2 * n] = rast_db[j, i, 0] * along_u + rast_db[j, i, 2] * along_v
                out_da[j, i, 2 * n + 1] = rast_db[j, i, 1] * along_u + rast_db[j, i, 3] * along_v


@jit
def _interpolate_band_backward(attr, rast, tri, grad, row_start, row_stop, grad_rast, sums):
    """grad_rast over a band of pixels; the band's share of the attributes' gradient goes to sums."""
    sums[:] = 0.0
    num_attributes = grad.shape[2]
    for j in range(row_start, row_stop):
        for i in range(rast.shape[1]):
            t = _triangle_at(rast, tri, j, i, attr.shape[0])
            grad_u, grad_v = 0.0, 0.0
            if t >= 0:
                a, b, c = tri[t, 0], tri[t, 1], tri[t, 2]
                u, v = np.float64(rast[j, i, 0]), np.float64(rast[j, i, 1])
                w = 1.0 - u - v
                for k in range(num_attributes):
                    g = np.float64(grad[j, i, k])
                    grad_u += g * (attr[a, k] - attr[c, k])
                    grad_v += g * (attr[b, k] - attr[c, k])
                    sums[a, k] += u * g
                    sums[b, k] += v * g
                    sums[c, k] += w * g
            grad_rast[j, i, 0] = grad_u
            grad_rast[j, i, 1] = grad_v
            grad_rast[j, i, 2] = 0.0
            grad_rast[j, i, 3] = 0.0


@jit
def _differentiate_band_backward(
    attr, rast, rast_db, tri, indices, grad_da, row_start, row_stop, grad_db, sums
):
    for j in range(row_start, row_stop):
        for i in range(rast.shape[1]):
            t = _triangle_at(rast, tri, j, i, attr.shape[0])
            if t < 0:
                continue
            a, b, c = tri[t, 0], tri[t, 1], tri[t, 2]
            for n in range(indices.shape[0]):
                k = indices[n]
                if k < 0:
                    continue
                gx, gy = np.float64(grad_da[j, i, 2 * n]), np.float64(grad_da[j, i, 2 * n + 1])
                along_u, along_v = attr[a, k] - attr[c, k], attr[b, k] - attr[c, k]
                grad_db[j, i, 0] += along_u * gx
                grad_db[j, i, 1] += along_u * gy
                grad_db[j, i, 2] += along_v * gx
                grad_db[j, i, 3] += along_v * gy
                to_u = gx * rast_db[j, i, 0] + gy * rast_db[j, i, 1]
                to_v = gx * rast_db[j, i, 2] + gy * rast_db[j, i, 3]
                sums[a, k] += to_u
                sums[b, k] += to_v
                sums[c, k] -= to_u + to_v


@jit
def _sum_bands(sums, grad_attr):
    """grad_attr = the bands' sums, in order."""
    for k in range(grad_attr.shape[0]):
        for channel in range(grad_attr.shape[1]):
            total = 0.0
            for band in range(sums.shape[0]):
                total += sums[band, k, channel]
            grad_attr[k, channel] = total
