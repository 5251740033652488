"""The backward CPU kernels of `rasterize`: gradients of u, v and rast_db to those of vertices, in float64."""

# mypy: disallow-untyped-defs=False, check-untyped-defs=False

import numpy as np

from mofa_nvdr.dr.parallel import jit
from mofa_nvdr.dr.rasterize_kernels import PIXELS, decode_id, gather_corners

# nvdiffrast's guard where a triangle's area divides, in units of NDC^2 w^2.
AREA_EPSILON = 1e-6

# Pixels are computed in blocks. Rows of the table of `add_pixels`: x, y, w of three corners, then
_XA, _XB, _XC, GU, GV, NDC_X, NDC_Y = 0, 3, 6, 9, 10, 11, 12
_GUX, _GUY, _GVX, _GVY, _AREA_DB, _XA_DB, _XB_DB, _XC_DB = 13, 14, 15, 16, 17, 18, 21, 24
TABLE = 27


@jit
def rasterize_band_backward(pos, tri, rast, grad_rast, grad_db, with_db, row_start, row_stop, sums):
    """Add d loss/d (x, y, z, w) of the vertices over a band, from gradients of u, v and rast_db.

    The gradients' first row is row_start. Pixels are collected in a table, so that the arithmetic
    runs on many of them at once.
    """
    height, width = rast.shape[0], rast.shape[1]
    num_vertices, num_triangles = pos.shape[0], tri.shape[0]
    s = np.zeros((TABLE, PIXELS))
    corners = np.empty((3, PIXELS), np.uint32)
    ndc_x = np.empty(width)
    for i in range(width):
        ndc_x[i] = (2 * i + 1) / width - 1.0
    n = 0
    for j in range(row_start, row_stop):
        ndc_y = (2 * j + 1) / height - 1.0
        for i in range(width):
            t = decode_id(rast[j, i, 3]) - 1
            if t < 0 or t >= num_triangles:
                continue
            row = j - row_start
            gu, gv = grad_rast[row, i, 0], grad_rast[row, i, 1]
            if with_db:
                s[_GUX, n], s[_GUY, n] = (
                    2.0 / width * grad_db[row, i, 0],
                    2.0 / height * grad_db[row, i, 1],
                )
                s[_GVX, n], s[_GVY, n] = (
                    2.0 / width * grad_db[row, i, 2],
                    2.0 / height * grad_db[row, i, 3],
                )
            elif gu == 0.0 and gv == 0.0:
                continue
            a, b, c = tri[t, 0], tri[t, 1], tri[t, 2]
            if min(a, b, c) < 0 or max(a, b, c) >= num_vertices:
                continue
            corners[0, n], corners[1, n], corners[2, n] = a, b, c
            s[GU, n], s[GV, n], s[NDC_X, n], s[NDC_Y, n] = gu, gv, ndc_x[i], ndc_y
            n += 1
            if n == PIXELS:
                add_pixels(pos, corners, n, with_db, s, sums)
                n = 0
    add_pixels(pos, corners, n, with_db, s, sums)


@jit
def add_pixels(pos, corners, n, with_db, s, sums):
    """Add n pixels to the sums [V, 4] of their corners; the rows of s from GU on are given.

    Rows that are never written hold zeros.
    """
    gather_corners(pos, corners, n, s)
    if with_db:
        _through_db(n, s)
    for k in range(n):
        qax, qay, qbx, qby, qcx, qcy, inverse, u, v = _areas(k, s)
        gu, gv, ndc_x, ndc_y = s[GU, k], s[GV, k], s[NDC_X, k], s[NDC_Y, k]
        # Gradients of E_0, E_1, E_2, then of q_k.
        g2 = -inverse * (s[_AREA_DB, k] + gu * u + gv * v)
        g0, g1 = gu * inverse + g2, gv * inverse + g2
        ax, ay = g2 * qby - g1 * qcy, g1 * qcx - g2 * qbx
        bx, by = g0 * qcy - g2 * qay, g2 * qax - g0 * qcx
        cx, cy = g1 * qay - g0 * qby, g0 * qbx - g1 * qax
        s[_XA, k], s[_XA + 1, k], s[_XA + 2, k] = ax, ay, -ndc_x * ax - ndc_y * ay
        s[_XB, k], s[_XB + 1, k], s[_XB + 2, k] = bx, by, -ndc_x * bx - ndc_y * by
        s[_XC, k], s[_XC + 1, k], s[_XC + 2, k] = cx, cy, -ndc_x * cx - ndc_y * cy
    if with_db:
        for row in range(9):
            for k in range(n):
                s[row, k] += s[_XA_DB + row, k]
    add_corners(corners, n, s, sums)


@jit(inline=True)
def add_corners(corners, n, s, sums):
    """Add such rows to the sums [V, 4] of x, y, z, w."""
    for k in range(n):
        for corner in range(3):
            v = corners[corner, k]
            sums[v, 0] += s[3 * corner, k]
            sums[v, 1] += s[3 * corner + 1, k]
            sums[v, 3] += s[3 * corner + 2, k]


@jit(inline=True)
def _areas(k, s):
    """q_k as in `_resolve`, 1 / (E_0 + E_1 + E_2), kept finite, and u and v."""
    ndc_x, ndc_y = s[NDC_X, k], s[NDC_Y, k]
    wa, wb, wc = s[_XA + 2, k], s[_XB + 2, k], s[_XC + 2, k]
    qax, qay = s[_XA, k] - ndc_x * wa, s[_XA + 1, k] - ndc_y * wa
    qbx, qby = s[_XB, k] - ndc_x * wb, s[_XB + 1, k] - ndc_y * wb
    qcx, qcy = s[_XC, k] - ndc_x * wc, s[_XC + 1, k] - ndc_y * wc
    e0 = qbx * qcy - qby * qcx
    e1 = qcx * qay - qcy * qax
    area = e0 + e1 + (qax * qby - qay * qbx)
    inverse = 1.0 / (area + (AREA_EPSILON if area >= 0.0 else -AREA_EPSILON))
    return qax, qay, qbx, qby, qcx, qcy, inverse, e0 * inverse, e1 * inverse


@jit(inline=True)
def _through_db(n, s):
    """Reverse rast_db = (E_k,X - u A_X) / A and so on through each product: rows GU, GV and the db rows."""
    for k in range(n):
        _, _, _, _, _, _, inverse, u, v = _areas(k, s)
        xa, ya, wa = s[_XA, k], s[_XA + 1, k], s[_XA + 2, k]
        xb, yb, wb = s[_XB, k], s[_XB + 1, k], s[_XB + 2, k]
        xc, yc, wc = s[_XC, k], s[_XC + 1, k], s[_XC + 2, k]
        gux, guy, gvx, gvy = s[_GUX, k], s[_GUY, k], s[_GVX, k], s[_GVY, k]
        e0x, e1x = yb * wc - yc * wb, yc * wa - ya * wc
        e0y, e1y = xc * wb - xb * wc, xa * wc - xc * wa
        sum_x = e0x + e1x + (ya * wb - yb * wa)
        sum_y = e0y + e1y + (xb * wa - xa * wb)
        s[_AREA_DB, k] = inverse * (
            gux * (e0x - u * sum_x) + guy * (e0y - u * sum_y)
            + gvx * (e1x - v * sum_x) + gvy * (e1y - v * sum_y)
        )  # fmt: skip
        s[GU, k] -= (gux * sum_x + guy * sum_y) * inverse
        s[GV, k] -= (gvx * sum_x + gvy * sum_y) * inverse
        h2x, h2y = -(gux * u + gvx * v) * inverse, -(guy * u + gvy * v) * inverse
        h0x, h0y = gux * inverse + h2x, guy * inverse + h2y
        h1x, h1y = gvx * inverse + h2x, gvy * inverse + h2y
        s[_XA_DB, k], s[_XA_DB + 1, k] = h1y * wc - h2y * wb, h2x * wb - h1x * wc
        s[_XB_DB, k], s[_XB_DB + 1, k] = h2y * wa - h0y * wc, h0x * wc - h2x * wa
        s[_XC_DB, k], s[_XC_DB + 1, k] = h0y * wb - h1y * wa, h1x * wa - h0x * wb
        s[_XA_DB + 2, k] = h1x * yc - h2x * yb + h2y * xb - h1y * xc
        s[_XB_DB + 2, k] = h2x * ya - h0x * yc + h0y * xc - h2y * xa
        s[_XC_DB + 2, k] = h0x * yb - h1x * ya + h1y * xa - h0y * xb
