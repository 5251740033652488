"""The backward CPU kernels of `texture`: gradients of samples to those of coordinates, bias and texels.

The arrays are those of `texture_kernels`.
"""

# mypy: disallow-untyped-defs=False

import math

import numpy as np

from mofa_nvdr.dr.parallel import jit
from mofa_nvdr.dr.texture_kernels import (
    AXES,
    CUBE,
    NEAREST,
    SIGNS,
    bilinear,
    footprint,
    levels_at,
    locate,
    nearest_texel,
    row_of,
    weights_of,
)

_ONE = np.float32(1.0)
_NOTHING = np.float32(0.0)


@jit(inline=True)
def gains(texels, first, a, b, c, d, grad, j, i, boundary):
    """What the loss gains from each texel's colour; of a texel that is none, as in `weights_of`."""
    p = q = r = s = 0.0
    rows = row_of(first, a), row_of(first, b), row_of(first, c), row_of(first, d)
    for k in range(np.uint64(grad.shape[2])):
        g = np.float64(grad[j, i, k])
        p += g * texels[rows[0], k]
        q += g * texels[rows[1], k]
        r += g * texels[rows[2], k]
        s += g * texels[rows[3], k]
    if a >= 0 and b >= 0 and c >= 0 and d >= 0:
        return p, q, r, s
    p, q = (p if a >= 0 else 0.0), (q if b >= 0 else 0.0)
    r, s = (r if c >= 0 else 0.0), (s if d >= 0 else 0.0)
    if boundary == CUBE:
        mean = (p + q + r + s) / 3
        p, q = (p if a >= 0 else mean), (q if b >= 0 else mean)
        r, s = (r if c >= 0 else mean), (s if d >= 0 else mean)
    return p, q, r, s


@jit(inline=True)
def add_texel(sums, first, texel, weight, grad, j, i, start, stop):
    """Add a pixel's share to a texel, if the texel is among those from start to stop."""
    if start <= texel < stop:
        row = row_of(first, texel)
        for k in range(np.uint64(grad.shape[2])):
            sums[row, k] += weight * grad[j, i, k]


@jit(inline=True)
def add_texels(sums, first, a, b, c, d, p, q, r, s, grad, j, i, start, stop):
    """The same for the four texels around a place; those below 0 are none."""
    if start <= min(a, b, c, d) and max(a, b, c, d) < stop:
        a, b, c, d = row_of(first, a), row_of(first, b), row_of(first, c), row_of(first, d)
        for k in range(np.uint64(grad.shape[2])):
            g = grad[j, i, k]
            sums[a, k] += p * g
            sums[b, k] += q * g
            sums[c, k] += r * g
            sums[d, k] += s * g
        return
    add_texel(sums, first, a, p, grad, j, i, start, stop)
    add_texel(sums, first, b, q, grad, j, i, start, stop)
    add_texel(sums, first, c, r, grad, j, i, start, stop)
    add_texel(sums, first, d, s, grad, j, i, start, stop)


@jit(inline=True)
def by_footprint(along_level, u_x, u_y, v_x, v_y, height, width):
    """The gradients of a place's four derivatives from the gradient of its level."""
    a, b, c, root = footprint(u_x, u_y, v_x, v_y, height, width)
    # Of level = log2(major) / 2 with major = (a + b) / 2 + root, root = |((a - b) / 2, c)|.
    major = 0.5 * (a + b) + root
    half = 0.5 / math.log(2.0) * along_level / (major * (root if root > 0 else 1.0))
    by_a = by_b = 0.5 * half * (root if root > 0 else 1.0)
    by_c = 0.0
    if root > 0:  # footprints without a direction have no derivative along one
        by_a += 0.25 * half * (a - b)
        by_b -= 0.25 * half * (a - b)
        by_c = half * c
    return (
        width * width * (2 * by_a * u_x + by_c * u_y),
        width * width * (2 * by_b * u_y + by_c * u_x),
        height * height * (2 * by_a * v_x + by_c * v_y),
        height * height * (2 * by_b * v_y + by_c * v_x),
    )


@jit(inline=True)
def by_direction(uv, uv_da, has_da, face, j, i, to_u, to_v, place, of_place, grad_uv, grad_da):
    """Add to the gradients of a cube map's direction those of the place on its face.

    `place` has the derivatives of u and v by X and Y, `of_place` their gradients.
    """
    axis, sign = AXES[0, face], np.float64(SIGNS[0, face])
    major = uv[j, i, axis] * sign
    by_axis = 0.0
    for k in range(2):
        other, turn = AXES[1 + k, face], np.float64(SIGNS[1 + k, face])
        share = uv[j, i, other] * turn / major
        by_share = 0.5 * (to_u if k == 0 else to_v)
        if has_da:
            for n in range(2):
                g, along = of_place[2 * k + n], place[2 * k + n]
                grad_da[j, i, 2 * other + n] += 0.5 / major * g * turn
                grad_da[j, i, 2 * axis + n] -= 0.5 * share / major * g * sign
                by_share -= 0.5 * uv_da[j, i, 2 * axis + n] * sign / major * g
                by_axis -= along / major * g
        grad_uv[j, i, other] += by_share / major * turn
        by_axis -= share / major * by_share
    grad_uv[j, i, axis] += by_axis * sign


@jit
def backward_rows(
    base, more, shapes, uv, level, filter_mode, boundary, uv_da, has_da, has_bias, grad,
    start, stop, grad_uv, grad_da, grad_bias, shares, sums, more_sums, touched,
):  # fmt: skip
    """Gradients of one image: of its places in rows start to stop, and of a share of the texels.

    Each texel gets its sums from one thread, in the order of the pixels, for any number of threads. Row n of
    `shares` [levels, 2] has the first texel of level n to add to and the one after the last; without rows
    nothing is added. `sums` are those of the texels of `base`, `more_sums` of those of `more`; `touched` is
    set to 1 for each level that got some. No place moves under NEAREST: start = stop then.
    """
    adds, highest = shares.shape[0] > 0, shapes.shape[0] - 1
    rows = (0, grad.shape[0]) if adds else (start, stop)
    for j in range(rows[0], rows[1]):
        moves = start <= j < stop
        if moves:
            grad_uv[j] = _NOTHING
            grad_da[j] = _NOTHING
            if has_bias:
                grad_bias[j] = _NOTHING
        for i in range(grad.shape[1]):
            nothing = True
            for k in range(grad.shape[2]):
                nothing &= grad[j, i, k] == 0
            if nothing:
                continue
            face, u, v, u_x, u_y, v_x, v_y = locate(uv, uv_da, j, i, moves and has_da, boundary)
            if face < 0:
                continue
            if filter_mode == NEAREST:
                texel = nearest_texel(u, v, face, boundary, shapes[0, 0], shapes[0, 1])
                add_texel(sums, 0, texel, _ONE, grad, j, i, shares[0, 0], shares[0, 1])
                touched[0] = 1
                continue
            low, fraction, slides = levels_at(level, j, i, filter_mode, highest)
            slides &= moves
            to_u = to_v = along_level = 0.0
            for n in range(low, low + (2 if slides or fraction > 0 else 1)):
                share = _ONE - fraction if n == low else fraction
                height, width, at = shapes[n, 0], shapes[n, 1], shapes[n, 2]
                a, b, c, d, fx, fy, moves_x, moves_y = bilinear(u, v, face, boundary, height, width)
                if adds:
                    wa, wb, wc, wd = weights_of(fx, fy, share, a, b, c, d, boundary)
                    first, last = shares[n, 0], shares[n, 1]
                    if n == 0:
                        add_texels(sums, 0, a, b, c, d, wa, wb, wc, wd, grad, j, i, first, last)
                    else:
                        add_texels(
                            more_sums, at, a, b, c, d, wa, wb, wc, wd, grad, j, i, first, last
                        )
                    touched[n] = 1
                if not moves:
                    continue
                if n == 0:
                    p, q, r, s = gains(base, 0, a, b, c, d, grad, j, i, boundary)
                else:
                    p, q, r, s = gains(more, at, a, b, c, d, grad, j, i, boundary)
                lower, upper = p + fx * (q - p), r + fx * (s - r)
                value = lower + fy * (upper - lower)
                along_level += -value if n == low else value
                if moves_x:
                    to_u += share * width * ((1 - fy) * (q - p) + fy * (s - r))
                if moves_y:
                    to_v += share * height * (upper - lower)
            if not moves:
                continue
            of_place = (0.0, 0.0, 0.0, 0.0)
            if slides and has_bias:
                grad_bias[j, i] = along_level
            if slides and has_da:
                height, width = shapes[0, 0], shapes[0, 1]
                of_place = by_footprint(along_level, u_x, u_y, v_x, v_y, height, width)
            if boundary == CUBE:
                place = (u_x, u_y, v_x, v_y)
                by_direction(
                    uv, uv_da, has_da, face, j, i, to_u, to_v, place, of_place, grad_uv, grad_da
                )
                continue
            grad_uv[j, i, 0], grad_uv[j, i, 1] = to_u, to_v
            if has_da:
                for k in range(4):
                    grad_da[j, i, k] = of_place[k]


@jit
def double_rows(coarse, fine, channels, step_y, step_x, add, start, stop):
    """Pass rows of a level's gradient [rows, width x channels] on to a finer one: `halve_rows` transposed.

    Without `add` the finer one holds nothing yet, and is filled.
    """
    quarter = coarse.dtype.type(1.0 / (step_y * step_x))
    line = np.empty(fine.shape[1], fine.dtype)
    for j in range(start, stop):
        for k in range(channels):
            for x in range(step_x):
                for i in range(coarse.shape[1] // channels):
                    line[(i * step_x + x) * channels + k] = quarter * coarse[j, i * channels + k]
        for row in range(j * step_y, (j + 1) * step_y):
            if add:
                for n in range(line.shape[0]):
                    fine[row, n] += line[n]
            else:
                for n in range(line.shape[0]):
                    fine[row, n] = line[n]
