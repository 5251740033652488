"""The CPU kernels of `interpolate`, each for a band of rows of one image."""

# mypy: disallow-untyped-defs=False

import numpy as np

from mofa_nvdr.dr.parallel import jit
from mofa_nvdr.dr.rasterize_kernels import decode_id


@jit
def triangle_at(rast, tri, j, i, num_vertices):
    """The triangle that a pixel sees, -1 for none or if an index lies outside the attributes."""
    t = decode_id(rast[j, i, 3]) - 1
    if t < 0 or t >= tri.shape[0]:
        return np.int64(-1)
    a, b, c = tri[t, 0], tri[t, 1], tri[t, 2]
    if min(a, b, c) < 0 or max(a, b, c) >= num_vertices:
        return np.int64(-1)
    return t


@jit
def interpolate_band(attr, rast, tri, row_start, row_stop, out):
    """Fill out with the attributes at each pixel's barycentrics."""
    num_attributes = out.shape[2]
    for j in range(row_start, row_stop):
        for i in range(rast.shape[1]):
            t = triangle_at(rast, tri, j, i, attr.shape[0])
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
def differentiate_band(attr, rast, rast_db, tri, indices, row_start, row_stop, out_da):
    """Fill out_da with (d/dX, d/dY) of the listed attributes."""
    for j in range(row_start, row_stop):
        for i in range(rast.shape[1]):
            t = triangle_at(rast, tri, j, i, attr.shape[0])
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
def interpolate_band_backward(attr, rast, tri, grad, row_start, row_stop, grad_rast, sums):
    """Fill grad_rast over a band; its share of the attributes' gradient is added to sums."""
    num_attributes = grad.shape[2]
    for j in range(row_start, row_stop):
        for i in range(rast.shape[1]):
            t = triangle_at(rast, tri, j, i, attr.shape[0])
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
def differentiate_band_backward(
    attr, rast, rast_db, tri, indices, grad_da, row_start, row_stop, grad_db, sums
):
    """Add to grad_db, which starts at zero, and to sums from `interpolate_band_backward`."""
    for j in range(row_start, row_stop):
        for i in range(rast.shape[1]):
            t = triangle_at(rast, tri, j, i, attr.shape[0])
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
