"""The CPU kernels of `surface_motion`: pixels are collected in a table, and computed many at once."""

# mypy: disallow-untyped-defs=False, check-untyped-defs=False

import numpy as np

from mofa_nvdr.dr.interpolate_kernels import triangle_at
from mofa_nvdr.dr.parallel import jit
from mofa_nvdr.dr.rasterize_backward_kernels import add_corners
from mofa_nvdr.dr.rasterize_kernels import gather_corners

# Rows of the table: x, y, w of the three corners, then, for each pixel,
_A, _B, _C, _U, _V, _GX, _GY, _G_AREA, _TABLE = 0, 3, 6, 9, 10, 11, 12, 13, 14
_X, _Y, _AREA = 11, 12, 13  # the results, on the way forward
_PIXELS = 64


@jit
def move_rows(pos, rast, tri, near, area_floor, start, stop, position, log_area):
    """Fill position and log_area from rows start to stop of rast, upside down to it."""
    height, width = rast.shape[0], rast.shape[1]
    s = np.empty((_TABLE, _PIXELS))
    corners = np.empty((3, _PIXELS), np.uint32)
    columns = np.empty(_PIXELS, np.uint32)
    for j in range(start, stop):
        row = height - 1 - j
        for i in range(width):
            position[0, row, i], position[1, row, i], log_area[0, row, i] = 0.0, 0.0, 0.0
        n = 0
        for i in range(width):
            n = _collect(rast, tri, len(pos), j, i, n, corners, columns, s)
            if n == _PIXELS or (i == width - 1 and n):
                gather_corners(pos, corners, n, s)
                _move(n, near, width / 2, height / 2, s)
                for k in range(n):
                    position[0, row, columns[k]] = s[_X, k]
                    position[1, row, columns[k]] = s[_Y, k]
                    log_area[0, row, columns[k]] = np.log(s[_AREA, k] + area_floor)
                n = 0


@jit
def move_rows_backward(
    pos, rast, tri, near, area_floor, grad_position, grad_area, start, stop, sums
):
    """Add the gradients of x, y, w to sums [V, 4]."""
    height, width = rast.shape[0], rast.shape[1]
    s = np.empty((_TABLE, _PIXELS))
    corners = np.empty((3, _PIXELS), np.uint32)
    columns = np.empty(_PIXELS, np.uint32)
    for j in range(start, stop):
        row = height - 1 - j
        n = 0
        for i in range(width):
            n = _collect(rast, tri, len(pos), j, i, n, corners, columns, s)
            if n == _PIXELS or (i == width - 1 and n):
                for k in range(n):
                    s[_GX, k], s[_GY, k] = (
                        grad_position[0, row, columns[k]],
                        grad_position[1, row, columns[k]],
                    )
                    s[_G_AREA, k] = grad_area[0, row, columns[k]]
                gather_corners(pos, corners, n, s)
                _move_backward(n, near, area_floor, width / 2, height / 2, s)
                add_corners(corners, n, s, sums)
                n = 0


@jit(inline=True)
def _collect(rast, tri, num_vertices, j, i, n, corners, columns, s):
    """Put pixel (j, i) into place n if a triangle is there; how many there are then."""
    t = triangle_at(rast, tri, j, i, num_vertices)
    if t < 0:
        return n
    corners[0, n], corners[1, n], corners[2, n] = tri[t, 0], tri[t, 1], tri[t, 2]
    columns[n] = i
    s[_U, n], s[_V, n] = rast[j, i, 0], rast[j, i, 1]
    return n + 1


@jit(inline=True)
def _move(n, near, half_width, half_height, s):
    for k in range(n):
        u, v = s[_U, k], s[_V, k]
        rest = 1.0 - u - v
        x = u * s[_A, k] + v * s[_B, k] + rest * s[_C, k]
        y = u * s[_A + 1, k] + v * s[_B + 1, k] + rest * s[_C + 1, k]
        w = u * s[_A + 2, k] + v * s[_B + 2, k] + rest * s[_C + 2, k]
        s[_AREA, k] = half_width * half_height * abs(_area(near, k, s))
        s[_X, k], s[_Y, k] = half_width * (1.0 + x / w), half_height * (1.0 - y / w)


@jit(inline=True)
def _area(near, k, s):
    """Signed area of the triangle in normalised device coordinates."""
    a, b, c = max(s[_A + 2, k], near), max(s[_B + 2, k], near), max(s[_C + 2, k], near)
    xa, ya, xb, yb = s[_A, k] / a, s[_A + 1, k] / a, s[_B, k] / b, s[_B + 1, k] / b
    xc, yc = s[_C, k] / c, s[_C + 1, k] / c
    return 0.5 * ((xb - xa) * (yc - ya) - (yb - ya) * (xc - xa))


@jit(inline=True)
def _move_backward(n, near, area_floor, half_width, half_height, s):
    """From gradients of the position and the logarithm of the area to those of the corners."""
    for k in range(n):
        u, v = s[_U, k], s[_V, k]
        rest = 1.0 - u - v
        xa, ya, wa = s[_A, k], s[_A + 1, k], s[_A + 2, k]
        xb, yb, wb = s[_B, k], s[_B + 1, k], s[_B + 2, k]
        xc, yc, wc = s[_C, k], s[_C + 1, k], s[_C + 2, k]
        x, y = u * xa + v * xb + rest * xc, u * ya + v * yb + rest * yc
        inverse = 1.0 / (u * wa + v * wb + rest * wc)
        gx, gy = half_width * inverse * s[_GX, k], -half_height * inverse * s[_GY, k]
        gw = -inverse * (gx * x + gy * y)
        # The area's part: the derivative by a corner is half the opposite edge, turned.
        ia, ib, ic = 1.0 / max(wa, near), 1.0 / max(wb, near), 1.0 / max(wc, near)
        pa, qa, pb, qb, pc, qc = xa * ia, ya * ia, xb * ib, yb * ib, xc * ic, yc * ic
        area = 0.5 * ((pb - pa) * (qc - qa) - (qb - qa) * (pc - pa))
        scale = half_width * half_height
        sign = 1.0 if area > 0.0 else (-1.0 if area < 0.0 else 0.0)
        factor = 0.5 * sign * scale * s[_G_AREA, k] / (scale * abs(area) + area_floor)
        axa, aya = factor * (qb - qc) * ia, factor * (pc - pb) * ia
        axb, ayb = factor * (qc - qa) * ib, factor * (pa - pc) * ib
        axc, ayc = factor * (qa - qb) * ic, factor * (pb - pa) * ic
        s[_A, k], s[_A + 1, k] = u * gx + axa, u * gy + aya
        s[_B, k], s[_B + 1, k] = v * gx + axb, v * gy + ayb
        s[_C, k], s[_C + 1, k] = rest * gx + axc, rest * gy + ayc
        s[_A + 2, k] = u * gw - (axa * pa + aya * qa if wa > near else 0.0)
        s[_B + 2, k] = v * gw - (axb * pb + ayb * qb if wb > near else 0.0)
        s[_C + 2, k] = rest * gw - (axc * pc + ayc * qc if wc > near else 0.0)
