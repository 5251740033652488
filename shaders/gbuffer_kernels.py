"""The CPU kernels of the G-buffer: interpolation and shading in one pass over blocks of pixels.

A block is a piece of a row of pixels. Its values are in the rows of a small table that stays in the first
cache: what touches the mesh goes pixel by pixel, the arithmetic of shading runs along the rows, where
the compiler uses vector instructions. Pixels without a triangle are computed as zeros.
"""

# mypy: disallow-untyped-defs=False, check-untyped-defs=False

import numpy as np

from mofa_nvdr.dr.cache import fetch_to_read, fetch_to_write
from mofa_nvdr.dr.interpolate_kernels import triangle_at
from mofa_nvdr.dr.parallel import jit
from mofa_nvdr.dr.rasterize_backward_kernels import GU, GV, NDC_X, NDC_Y, TABLE, add_pixels
from mofa_nvdr.dr.rasterize_kernels import PIXELS

BLOCK = 128
_ZERO, _ONE, _TWO = np.float32(0.0), np.float32(1.0), np.float32(2.0)
_NO_LENGTH = np.float32(1e-12)
# The rows of the table; three for each vector. Those that `gather_attributes` and `normalize` fill; a
# shader has more.
NORMAL, ALBEDO, MASK, INVERSE, GATHERED = 0, 3, 6, 7, 8
LIGHT, IMAGE = 8, 11
_PRODUCT, G_ALBEDO, _G_LIGHT, G_NORMAL, ROWS = 14, 19, 22, 23, 26


@jit
def camera_to_clip(points, matrix, pos):
    """Homogeneous positions of points [V, 3]: the matrix [4, 4] times (x, y, z, 1)."""
    if _is_centred_pinhole(matrix):
        sx, sy = np.float32(matrix[0, 0]), np.float32(matrix[1, 1])
        sz, tz = np.float32(matrix[2, 2]), np.float32(matrix[2, 3])
        for v in range(len(points)):
            x, y, z = points[v, 0], points[v, 1], points[v, 2]
            pos[v, 0], pos[v, 1], pos[v, 2], pos[v, 3] = sx * x, sy * y, sz * z + tz, -z
        return
    m = matrix.astype(np.float32)
    for v in range(len(points)):
        x, y, z = points[v, 0], points[v, 1], points[v, 2]
        for r in range(4):
            pos[v, r] = m[r, 0] * x + m[r, 1] * y + m[r, 2] * z + m[r, 3]


@jit
def clip_to_camera(sums, matrix):
    """Turn gradients of x, y and w, in columns 0, 1 and 3, into those of the points, in columns 0 to 2.

    That of z is zero: the rasterizer has none.
    """
    if _is_centred_pinhole(matrix):
        x_scale, y_scale = matrix[0, 0], matrix[1, 1]
        for v in range(len(sums)):
            sums[v, 0] *= x_scale
            sums[v, 1] *= y_scale
            sums[v, 2] = -sums[v, 3]
            sums[v, 3] = 0.0
        return
    for v in range(len(sums)):
        gx, gy, gw = sums[v, 0], sums[v, 1], sums[v, 3]
        for c in range(3):
            sums[v, c] = gx * matrix[0, c] + gy * matrix[1, c] + gw * matrix[3, c]
        sums[v, 3] = 0.0


@jit(inline=True)
def _is_centred_pinhole(matrix):
    """Whether all that the matrix does is (sx x, sy y, sz z + tz, -z): every training step's camera."""
    for r in range(4):
        for c in range(4):
            diagonal = r == c and r < 3
            if not diagonal and not (r == 2 and c == 3) and not (r == 3 and c == 2):
                if matrix[r, c] != 0.0:
                    return False
    return matrix[3, 2] == -1.0


@jit
def shade_rows(normals, albedo, q, rast, tri, start, stop, image, mask):
    """Shade rows of rast [H, W, 4] into planes [., H, W] that are upside down to it.

    Planes are cut into pieces first: an index of a sum might be negative, for which the compiler makes
    the pixels one by one.
    """
    height, width = rast.shape[0], rast.shape[1]
    s = np.empty((ROWS, BLOCK), np.float32)
    corners = np.empty((3, BLOCK), np.uint32)  # unsigned: no test for negative indices
    for j in range(start, stop):
        row = height - 1 - j
        for left in range(0, width, BLOCK):
            n = min(BLOCK, width - left)
            if not gather_attributes(normals, albedo, rast, tri, j, left, n, corners, s):
                mask[0, row, left : left + n] = _ZERO
                for c in range(3):
                    image[c, row, left : left + n] = _ZERO
                continue
            normalize(n, s)
            covered = mask[0, row, left : left + n]
            for k in range(n):
                covered[k] = s[MASK, k]
            for c in range(3):
                irradiance_of_block(q, c, n, s)
                shaded = image[c, row, left : left + n]
                for k in range(n):
                    shaded[k] = s[ALBEDO + c, k] * s[LIGHT + c, k]


@jit
def shade_rows_backward(
    pos, normals, albedo, q, rast, tri, g_image, g_rast, start, stop, with_rast, grad_rast,
    sums, pos_sums, grad_q,
):  # fmt: skip
    """Gradients of u and v over some rows; the gradients of vertices and quadric are added up.

    `sums` [V, 8] takes three numbers for the normal and three for the albedo; eight fill a cache line.
    With pos [V, 4] the gradient goes on to the vertices' places, `pos_sums` [V, 4], together with g_rast
    [H, W, 4] from elsewhere; [0, 0] and [0, 0, 0] stand for none.
    """
    height, width = rast.shape[0], rast.shape[1]
    s = np.empty((ROWS, BLOCK), np.float32)
    corners = np.empty((3, BLOCK), np.uint32)  # unsigned: no test for negative indices
    with_pos = len(pos) > 0
    pixels, pixel_corners, m = np.zeros((TABLE, PIXELS)), np.empty((3, PIXELS), np.uint32), 0
    for j in range(start, stop):
        row = height - 1 - j
        ndc_y = (2 * j + 1) / height - 1.0
        for left in range(0, width, BLOCK):
            n = min(BLOCK, width - left)
            if not gather_attributes(
                normals, albedo, rast, tri, j, left, n, corners, s, pos, sums, pos_sums
            ):
                if with_rast:
                    grad_rast[j, left : left + n] = _ZERO
                continue
            for c in range(3):
                given = g_image[c, row, left : left + n]
                for k in range(n):
                    s[IMAGE + c, k] = given[k]
            normalize(n, s)
            shade_block_backward(q, n, s, grad_q)
            normalize_backward(G_NORMAL, n, s)
            for k in range(n):
                if s[MASK, k] == _ZERO:
                    if with_rast:
                        grad_rast[j, left + k] = _ZERO
                    continue
                i = left + k
                a, b, c = corners[0, k], corners[1, k], corners[2, k]
                u, v = np.float64(rast[j, i, 0]), np.float64(rast[j, i, 1])
                w = 1.0 - u - v
                # Six names rather than a loop: the compiler then adds them as one vector.
                g0, g1 = np.float64(s[G_NORMAL, k]), np.float64(s[G_NORMAL + 1, k])
                g2, g3 = np.float64(s[G_NORMAL + 2, k]), np.float64(s[G_ALBEDO, k])
                g4, g5 = np.float64(s[G_ALBEDO + 1, k]), np.float64(s[G_ALBEDO + 2, k])
                add_six(sums, a, u, g0, g1, g2, g3, g4, g5)
                add_six(sums, b, v, g0, g1, g2, g3, g4, g5)
                add_six(sums, c, w, g0, g1, g2, g3, g4, g5)
                if not (with_rast or with_pos):
                    continue
                grad_u = np.float64(along_six(normals, albedo, a, c, k, G_NORMAL, G_ALBEDO, s))
                grad_v = np.float64(along_six(normals, albedo, b, c, k, G_NORMAL, G_ALBEDO, s))
                if with_rast:
                    grad_rast[j, i, 0], grad_rast[j, i, 1] = grad_u, grad_v
                    grad_rast[j, i, 2], grad_rast[j, i, 3] = _ZERO, _ZERO
                    continue
                if len(g_rast):
                    grad_u += g_rast[j, i, 0]
                    grad_v += g_rast[j, i, 1]
                ndc_x = (2 * i + 1) / width - 1.0
                put_pixel(a, b, c, grad_u, grad_v, ndc_x, ndc_y, m, pixel_corners, pixels)
                m += 1
                if m == PIXELS:
                    add_pixels(pos, pixel_corners, m, False, pixels, pos_sums)
                    m = 0
    if m:
        add_pixels(pos, pixel_corners, m, False, pixels, pos_sums)


@jit(inline=True)
def put_pixel(a, b, c, grad_u, grad_v, ndc_x, ndc_y, m, corners, table):
    """Row m of the table of `add_pixels`: a pixel's corners, the gradient of its u and v, and its place."""
    corners[0, m], corners[1, m], corners[2, m] = a, b, c
    table[GU, m], table[GV, m] = grad_u, grad_v
    table[NDC_X, m], table[NDC_Y, m] = ndc_x, ndc_y


@jit(inline=True)
def gather_attributes(
    normals, albedo, rast, tri, j, left, n, corners, s, pos=None, sums=None, pos_sums=None
):
    """Interpolate normals and albedo over n pixels; whether any of them shows a triangle."""
    covered = False
    for k in range(n):
        t = triangle_at(rast, tri, j, left + k, len(normals))
        s[MASK, k] = _ONE if t >= 0 else _ZERO
        if t >= 0:
            covered = True
            a, b, c = tri[t, 0], tri[t, 1], tri[t, 2]
            corners[0, k], corners[1, k], corners[2, k] = a, b, c
            if sums is not None:
                for v in (a, b, c):
                    fetch_to_read(normals, v, 0)
                    fetch_to_read(albedo, v, 0)
                    fetch_to_read(pos, v, 0)
                    fetch_to_write(sums, v, 0)
                    fetch_to_write(pos_sums, v, 0)
    if not covered:
        return False
    for k in range(n):  # a loop of its own: the processor waits for many corners at once
        if s[MASK, k] == _ZERO:
            for i in range(3):
                s[NORMAL + i, k], s[ALBEDO + i, k] = _ZERO, _ZERO
            continue
        a, b, c = corners[0, k], corners[1, k], corners[2, k]
        u, v = rast[j, left + k, 0], rast[j, left + k, 1]
        w = _ONE - u - v
        for i in range(3):
            s[NORMAL + i, k] = u * normals[a, i] + v * normals[b, i] + w * normals[c, i]
            s[ALBEDO + i, k] = u * albedo[a, i] + v * albedo[b, i] + w * albedo[c, i]
    return True


@jit(inline=True)
def normalize(n, s):
    """Make the normals unit; keep the inverse of their lengths."""
    for k in range(n):
        x, y, z = s[NORMAL, k], s[NORMAL + 1, k], s[NORMAL + 2, k]
        inverse = _ONE / max(np.sqrt(x * x + y * y + z * z), _NO_LENGTH)
        s[NORMAL, k], s[NORMAL + 1, k], s[NORMAL + 2, k] = x * inverse, y * inverse, z * inverse
        s[INVERSE, k] = inverse


@jit(inline=True)
def normalize_backward(row, n, s):
    """Turn gradients of the normalised normal, in three rows of s, into those of the normal before."""
    for k in range(n):  # the length has no part in the result
        x, y, z = s[NORMAL, k], s[NORMAL + 1, k], s[NORMAL + 2, k]
        along = s[row, k] * x + s[row + 1, k] * y + s[row + 2, k] * z
        s[row, k] = (s[row, k] - along * x) * s[INVERSE, k]
        s[row + 1, k] = (s[row + 1, k] - along * y) * s[INVERSE, k]
        s[row + 2, k] = (s[row + 2, k] - along * z) * s[INVERSE, k]


@jit(inline=True)
def irradiance_of_block(q, c, n, s):
    """Channel c of the irradiance, 0 where no triangle is. The quadric's order: sh_kernels."""
    q0, q1, q2, q3, q4 = q[0, c], q[1, c], q[2, c], q[3, c], q[4, c]
    q5, q6, q7, q8 = q[5, c], q[6, c], q[7, c], q[8, c]
    for k in range(n):
        x, y, z = s[NORMAL, k], s[NORMAL + 1, k], s[NORMAL + 2, k]
        light = (
            q0
            + x * (q1 + y * q4 + z * q7 + x * q8)
            + y * (q2 + z * q5 - y * q8)
            + z * (q3 + z * q6)
        )
        s[LIGHT + c, k] = light if s[MASK, k] > _ZERO else _ZERO


@jit(inline=True)
def shade_block_backward(q, n, s, grad_q):
    """From the gradient of the image to those of albedo, unit normal and quadric."""
    for k in range(n):
        x, y, z = s[NORMAL, k], s[NORMAL + 1, k], s[NORMAL + 2, k]
        s[_PRODUCT, k], s[_PRODUCT + 1, k], s[_PRODUCT + 2, k] = x * y, y * z, z * z
        s[_PRODUCT + 3, k], s[_PRODUCT + 4, k] = x * z, x * x - y * y
        s[G_NORMAL, k], s[G_NORMAL + 1, k], s[G_NORMAL + 2, k] = _ZERO, _ZERO, _ZERO
    for c in range(3):
        irradiance_of_block(q, c, n, s)
        q1, q2, q3, q4 = q[1, c], q[2, c], q[3, c], q[4, c]
        q5, q6, q7, q8 = q[5, c], q[6, c], q[7, c], q[8, c]
        for k in range(n):
            x, y, z = s[NORMAL, k], s[NORMAL + 1, k], s[NORMAL + 2, k]
            s[G_ALBEDO + c, k] = s[IMAGE + c, k] * s[LIGHT + c, k]
            g = s[IMAGE + c, k] * s[ALBEDO + c, k] if s[MASK, k] > _ZERO else _ZERO
            s[_G_LIGHT, k] = g
            s[G_NORMAL, k] += g * (q1 + y * q4 + z * q7 + _TWO * x * q8)
            s[G_NORMAL + 1, k] += g * (q2 + x * q4 + z * q5 - _TWO * y * q8)
            s[G_NORMAL + 2, k] += g * (q3 + y * q5 + x * q7 + _TWO * z * q6)
        grad_q[0, c] += dot(s, _G_LIGHT, MASK, n)
        for m in range(3):
            grad_q[1 + m, c] += dot(s, _G_LIGHT, NORMAL + m, n)
        for m in range(5):
            grad_q[4 + m, c] += dot(s, _G_LIGHT, _PRODUCT + m, n)


@jit(reassociate=True)
def dot(s, row, other, n):
    """The sum of the products of two rows."""
    total = _ZERO
    for k in range(n):
        total += s[row, k] * s[other, k]
    return total


@jit(inline=True)
def add_six(sums, vertex, weight, g0, g1, g2, g3, g4, g5):
    """Add weight times six numbers to a vertex's sums."""
    sums[vertex, 0] += weight * g0
    sums[vertex, 1] += weight * g1
    sums[vertex, 2] += weight * g2
    sums[vertex, 3] += weight * g3
    sums[vertex, 4] += weight * g4
    sums[vertex, 5] += weight * g5


@jit(inline=True)
def along_six(normals, albedo, a, c, k, g_normal, g_albedo, s):
    """How the attributes change from vertex c to vertex a, times their gradients in column k of s."""
    return (
        s[g_normal, k] * (normals[a, 0] - normals[c, 0])
        + s[g_normal + 1, k] * (normals[a, 1] - normals[c, 1])
        + s[g_normal + 2, k] * (normals[a, 2] - normals[c, 2])
        + s[g_albedo, k] * (albedo[a, 0] - albedo[c, 0])
        + s[g_albedo + 1, k] * (albedo[a, 1] - albedo[c, 1])
        + s[g_albedo + 2, k] * (albedo[a, 2] - albedo[c, 2])
    )
