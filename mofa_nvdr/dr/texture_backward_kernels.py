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
    weights_of,
)

_ONE = np.float32(1.0)
_NOTHING = np.float32(0.0)


@jit(inline=True)
def gains(texels, first, a, b, c, d, grad, j, i, boundary):
    """What the loss gains from each texel's colour; of a texel that is none, as in `weights_of`."""
    p = q = r = s = 0.0
    for k in range(grad.shape[2]):
        g = np.float64(grad[j, i, k])
        p += g * texels[first + max(a, 0), k]
        q += g * texels[first + max(b, 0), k]
        r += g * texels[first + max(c, 0), k]
        s += g * texels[first + max(d, 0), k]
    if a >= 0 and b >= 0 and c >= 0 and d >= 0:
        return p, q, r, s
    p, q = (p if a >= 0 else 0.0), (q if b >= 0 else 0.0)
    r, s = (r if c >= 0 else 0.0), (s if d >= 0 else 0.0)
    if boundary == CUBE:
        mean = (p + q + r + s) / 3
        p, q = (p if a >= 0 else mean), (q if b >= 0 else mean)
        r, s = (r if c >= 0 else mean), (s if d >= 0 else mean)
    return p, q, r, s


@jit
def coordinate_rows_backward(
    base, more, shapes, uv, uv_da, bias, has_da, has_bias, filter_mode, boundary, grad, start, stop,
    grad_uv, grad_da, grad_bias,
):  # fmt: skip
    """Fill rows of the gradients of coordinates, their derivatives and the bias; LINEAR and above."""
    for j in range(start, stop):
        for i in range(grad.shape[1]):
            for k in range(grad_uv.shape[2]):
                grad_uv[j, i, k] = _NOTHING
            for k in range(grad_da.shape[2]):
                grad_da[j, i, k] = _NOTHING
            if has_bias:
                grad_bias[j, i] = _NOTHING
            face, u, v, u_x, u_y, v_x, v_y = locate(uv, uv_da, j, i, has_da, boundary)
            if face < 0:
                continue
            low, fraction, slides = levels_at(
                u_x, u_y, v_x, v_y, bias, j, i, has_da, has_bias, filter_mode, shapes
            )
            to_u = to_v = along_level = 0.0
            for n in range(low, low + (2 if slides or fraction > 0 else 1)):
                share = 1.0 - fraction if n == low else fraction
                height, width = shapes[n, 0], shapes[n, 1]
                a, b, c, d, fx, fy, moves_x, moves_y = bilinear(u, v, face, boundary, height, width)
                if n == 0:
                    p, q, r, s = gains(base, 0, a, b, c, d, grad, j, i, boundary)
                else:
                    p, q, r, s = gains(more, shapes[n, 2], a, b, c, d, grad, j, i, boundary)
                lower, upper = p + fx * (q - p), r + fx * (s - r)
                value = lower + fy * (upper - lower)
                along_level += -value if n == low else value
                if moves_x:
                    to_u += share * width * ((1 - fy) * (q - p) + fy * (s - r))
                if moves_y:
                    to_v += share * height * (upper - lower)
            by_u_x = by_u_y = by_v_x = by_v_y = 0.0
            if slides and has_bias:
                grad_bias[j, i] = along_level
            if slides and has_da:
                height, width = shapes[0, 0], shapes[0, 1]
                a2, b2, c2, root = footprint(u_x, u_y, v_x, v_y, height, width)
                by_major = along_level * 0.5 / (math.log(2.0) * (0.5 * (a2 + b2) + root))
                by_a = by_b = 0.5 * by_major
                by_c = 0.0
                if root > 0:  # footprints without a direction have no derivative along one
                    by_a += by_major * 0.25 * (a2 - b2) / root
                    by_b -= by_major * 0.25 * (a2 - b2) / root
                    by_c = by_major * c2 / root
                by_u_x = width * width * (2 * by_a * u_x + by_c * u_y)
                by_u_y = width * width * (2 * by_b * u_y + by_c * u_x)
                by_v_x = height * height * (2 * by_a * v_x + by_c * v_y)
                by_v_y = height * height * (2 * by_b * v_y + by_c * v_x)
            if boundary != CUBE:
                grad_uv[j, i, 0], grad_uv[j, i, 1] = to_u, to_v
                if has_da:
                    grad_da[j, i, 0], grad_da[j, i, 1] = by_u_x, by_u_y
                    grad_da[j, i, 2], grad_da[j, i, 3] = by_v_x, by_v_y
                continue
            axis, sign = AXES[0, face], np.float64(SIGNS[0, face])
            major = uv[j, i, axis] * sign
            by_axis = 0.0
            for k in range(2):
                other, turn = AXES[1 + k, face], np.float64(SIGNS[1 + k, face])
                share = uv[j, i, other] * turn / major
                by_share = 0.5 * (to_u if k == 0 else to_v)
                if has_da:
                    for n in range(2):
                        if k == 0:
                            g, along = (by_u_x, u_x) if n == 0 else (by_u_y, u_y)
                        else:
                            g, along = (by_v_x, v_x) if n == 0 else (by_v_y, v_y)
                        grad_da[j, i, 2 * other + n] += 0.5 / major * g * turn
                        grad_da[j, i, 2 * axis + n] -= 0.5 * share / major * g * sign
                        by_share -= 0.5 * uv_da[j, i, 2 * axis + n] * sign / major * g
                        by_axis -= along / major * g
                grad_uv[j, i, other] += by_share / major * turn
                by_axis -= share / major * by_share
            grad_uv[j, i, axis] += by_axis * sign


@jit(inline=True)
def add_texel(sums, first, texel, weight, grad, j, i, width, part, parts):
    """Add a pixel's share to a texel, if its row is among those of this part."""
    if weight != 0 and (parts == 1 or (texel // width) % parts == part):
        for k in range(grad.shape[2]):
            sums[first + texel, k] += weight * grad[j, i, k]


@jit
def spread(
    shapes,
    uv,
    uv_da,
    bias,
    has_da,
    has_bias,
    filter_mode,
    boundary,
    grad,
    part,
    parts,
    sums,
    more_sums,
):
    """Add an image's gradient to its texels, those of every `parts`-th row of a level from `part` on.

    Each texel gets its sums from one thread, in the order of the pixels, for any number of threads.
    """
    for j in range(grad.shape[0]):
        for i in range(grad.shape[1]):
            nothing = True
            for k in range(grad.shape[2]):
                nothing &= grad[j, i, k] == 0
            if nothing:
                continue
            face, u, v, u_x, u_y, v_x, v_y = locate(uv, uv_da, j, i, has_da, boundary)
            if face < 0:
                continue
            if filter_mode == NEAREST:
                width = shapes[0, 1]
                texel = nearest_texel(u, v, face, boundary, shapes[0, 0], width)
                if texel >= 0:
                    add_texel(sums, 0, texel, _ONE, grad, j, i, width, part, parts)
                continue
            low, fraction, _ = levels_at(
                u_x, u_y, v_x, v_y, bias, j, i, has_da, has_bias, filter_mode, shapes
            )
            for n in range(low, low + (2 if fraction > 0 else 1)):
                share = np.float32(1.0 - fraction if n == low else fraction)
                width = shapes[n, 1]
                a, b, c, d, fx, fy, _, _ = bilinear(u, v, face, boundary, shapes[n, 0], width)
                p, q, r, s = weights_of(fx, fy, share, a, b, c, d, boundary)
                if n == 0:
                    add_texel(sums, 0, a, p, grad, j, i, width, part, parts)
                    add_texel(sums, 0, b, q, grad, j, i, width, part, parts)
                    add_texel(sums, 0, c, r, grad, j, i, width, part, parts)
                    add_texel(sums, 0, d, s, grad, j, i, width, part, parts)
                    continue
                first = shapes[n, 2]
                add_texel(more_sums, first, a, p, grad, j, i, width, part, parts)
                add_texel(more_sums, first, b, q, grad, j, i, width, part, parts)
                add_texel(more_sums, first, c, r, grad, j, i, width, part, parts)
                add_texel(more_sums, first, d, s, grad, j, i, width, part, parts)


@jit
def double_rows(coarse, fine, step_y, step_x, start, stop):
    """Add rows of a coarser level's gradient to the finer one: the transpose of `halve_rows`."""
    quarter = coarse.dtype.type(1.0 / (step_y * step_x))
    for j in range(start, stop):
        for row in range(j * step_y, (j + 1) * step_y):
            for i in range(coarse.shape[1]):
                for k in range(coarse.shape[2]):
                    share = quarter * coarse[j, i, k]
                    fine[row, i * step_x, k] += share
                    if step_x == 2:
                        fine[row, i * step_x + 1, k] += share
