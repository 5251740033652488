"""The CPU kernels of `texture`: a pixel's place in the texture, its samples, and their gradients.

A pyramid is two arrays: level 0 as [images, texels x channels], and all further levels one after the other in
a second one. `shapes` has a row (height, width, offset in the second array) for each level; a cube map's
six faces are six squares one below the other, of which `height` is one.
"""

# mypy: disallow-untyped-defs=False

import math

import numpy as np

from mofa_nvdr.dr.parallel import jit

NEAREST, LINEAR, MIPMAP_NEAREST, MIPMAP_LINEAR = range(4)
WRAP, CLAMP, ZERO, CUBE = range(4)
_HALF = np.float32(0.5)
_ONE = np.float32(1.0)
_NOTHING = np.float32(0.0)

# Faces +x, -x, +y, -y, +z, -z in OpenGL's layout: which axis is the major one and its sign, then the axis and
# sign of the face's s and of its t.
MAJOR = ((0, 1), (0, -1), (1, 1), (1, -1), (2, 1), (2, -1))
S = ((2, -1), (2, 1), (0, 1), (0, 1), (0, 1), (0, -1))
T = ((1, -1), (1, -1), (2, 1), (2, -1), (1, -1), (1, -1))
_AXES = np.array([[row[0] for row in table] for table in (MAJOR, S, T)])  # [3, 6]
_SIGNS = np.array([[row[1] for row in table] for table in (MAJOR, S, T)], np.float32)


@jit(inline=True)
def face_of(x, y, z):
    """The face of the cube that a direction meets."""
    ax, ay, az = abs(x), abs(y), abs(z)
    if az > max(ax, ay):
        return 4 if z >= 0 else 5
    if ay > ax:
        return 2 if y >= 0 else 3
    return 0 if x >= 0 else 1


@jit(inline=True)
def locate(uv, uv_da, j, i, has_da, boundary):
    """A pixel's place in the texture.

    Returns:
        face of a cube map, 0 for others, -1 where there is nothing to sample; u, v; and their derivatives:
        u by X, u by Y, v by X, v by Y, zero if they are not given.
    """
    zero = _NOTHING
    if boundary != CUBE:
        u, v = uv[j, i, 0], uv[j, i, 1]
        face = 0 if math.isfinite(u) and math.isfinite(v) else -1
        if has_da:
            return face, u, v, uv_da[j, i, 0], uv_da[j, i, 1], uv_da[j, i, 2], uv_da[j, i, 3]
        return face, u, v, zero, zero, zero, zero
    x, y, z = uv[j, i, 0], uv[j, i, 1], uv[j, i, 2]
    if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(z)):
        return -1, zero, zero, zero, zero, zero, zero
    if x == 0 and y == 0 and z == 0:
        return -1, zero, zero, zero, zero, zero, zero
    face = face_of(x, y, z)
    m, s, t = _AXES[0, face], _AXES[1, face], _AXES[2, face]
    sign_m, sign_s, sign_t = _SIGNS[0, face], _SIGNS[1, face], _SIGNS[2, face]
    major = uv[j, i, m] * sign_m
    share_s, share_t = uv[j, i, s] * sign_s / major, uv[j, i, t] * sign_t / major
    u, v = share_s * _HALF + _HALF, share_t * _HALF + _HALF
    if not has_da:
        return face, u, v, zero, zero, zero, zero
    m_x, m_y = uv_da[j, i, 2 * m] * sign_m, uv_da[j, i, 2 * m + 1] * sign_m
    u_x = _HALF * (uv_da[j, i, 2 * s] * sign_s - share_s * m_x) / major
    u_y = _HALF * (uv_da[j, i, 2 * s + 1] * sign_s - share_s * m_y) / major
    v_x = _HALF * (uv_da[j, i, 2 * t] * sign_t - share_t * m_x) / major
    v_y = _HALF * (uv_da[j, i, 2 * t + 1] * sign_t - share_t * m_y) / major
    return face, u, v, u_x, u_y, v_x, v_y


@jit(inline=True)
def footprint(u_x, u_y, v_x, v_y, height, width):
    """Squared lengths of a pixel's axes in texels and their product, and the root of what they differ by."""
    sx, sy = np.float64(u_x) * width, np.float64(u_y) * width
    tx, ty = np.float64(v_x) * height, np.float64(v_y) * height
    a, b, c = sx * sx + tx * tx, sy * sy + ty * ty, sx * sy + tx * ty
    half = 0.25 * (a - b) * (a - b) + c * c
    return a, b, c, (math.sqrt(half) if half > 0 else 0.0)


@jit(inline=True)
def levels_at(u_x, u_y, v_x, v_y, bias, j, i, has_da, has_bias, filter_mode, shapes):
    """The mip levels of a pixel.

    Returns:
        the lower level; how much of the one above is in it; whether that part moves with the footprint.
    """
    if filter_mode < MIPMAP_NEAREST:
        return 0, 0.0, False
    highest = shapes.shape[0] - 1
    level = 0.0
    if has_da:
        a, b, _, root = footprint(u_x, u_y, v_x, v_y, shapes[0, 0], shapes[0, 1])
        major = 0.5 * (a + b) + root
        if major > 0 and math.isfinite(major):
            level = 0.5 * math.log2(major)
        elif major == math.inf:
            level = math.inf
        else:
            level = -math.inf
    if has_bias:
        level += bias[j, i]
    clamped = min(level, float(highest)) if level > 0 else 0.0
    low = int(clamped)
    if filter_mode == MIPMAP_LINEAR and low < highest:
        return low, clamped - low, 0 <= level <= highest
    return low, 0.0, False


@jit(inline=True)
def cell(coordinate, side):
    """floor, as an integer; within two sides of the texture, so that it can't overflow."""
    return int(min(max(np.floor(coordinate), -2.0 * side - 2), 2.0 * side + 2))


@jit(inline=True)
def beside(boundary, face, row, column, height, width):
    """The texel at a place that may lie outside, by the boundary's rule; -1: there is none."""
    if boundary == WRAP:
        if row < 0 or row >= height:
            row = row % height
        if column < 0 or column >= width:
            column = column % width
        return row * width + column
    inside = 0 <= row < height and 0 <= column < width
    if inside:
        return (face * height + row) * width + column
    if boundary == ZERO:
        return -1
    if boundary == CLAMP:
        return min(max(row, 0), height - 1) * width + min(max(column, 0), width - 1)
    return across_edge(face, row, column, width)


@jit
def across_edge(face, row, column, side):
    """The texel one step beyond a face's edge; -1 beyond a corner, where there is none.

    The centre of the texel that would be there, as a direction, points into the neighbour's outermost row,
    at the same place along the edge.
    """
    if (row < 0 or row >= side) and (column < 0 or column >= side):
        return -1
    direction = np.zeros(3)
    direction[_AXES[0, face]] = _SIGNS[0, face]
    direction[_AXES[1, face]] = _SIGNS[1, face] * ((2 * column + 1) / side - 1)
    direction[_AXES[2, face]] = _SIGNS[2, face] * ((2 * row + 1) / side - 1)
    other = face_of(direction[0], direction[1], direction[2])
    major = direction[_AXES[0, other]] * _SIGNS[0, other]
    s = direction[_AXES[1, other]] * _SIGNS[1, other] / major
    t = direction[_AXES[2, other]] * _SIGNS[2, other] / major
    i = min(max(int(math.floor((0.5 * s + 0.5) * side)), 0), side - 1)
    j = min(max(int(math.floor((0.5 * t + 0.5) * side)), 0), side - 1)
    return (other * side + j) * side + i


@jit(inline=True)
def bilinear(u, v, face, boundary, height, width):
    """The four texels around a place (-1: none) and the place between them.

    Returns:
        the texels: lower left, lower right, upper left, upper right; fx, fy; whether they move with u and v.
    """
    if boundary == WRAP:
        u -= np.floor(u)
        v -= np.floor(v)
    x, y = u * np.float32(width) - _HALF, v * np.float32(height) - _HALF
    moves_x = moves_y = True
    if boundary == CLAMP:
        moves_x, moves_y = 0 <= x <= width - 1, 0 <= y <= height - 1
        x = min(max(x, _NOTHING), np.float32(width - 1))
        y = min(max(y, _NOTHING), np.float32(height - 1))
    column, row = cell(x, width), cell(y, height)
    fx, fy = x - np.float32(column), y - np.float32(row)
    if boundary == ZERO:  # so far outside that indices were cut: no texel there anyway
        fx, fy = min(max(fx, _NOTHING), _ONE), min(max(fy, _NOTHING), _ONE)
    if 0 <= column < width - 1 and 0 <= row < height - 1:
        first = (face * height + row) * width + column
        return first, first + 1, first + width, first + width + 1, fx, fy, moves_x, moves_y
    return (
        beside(boundary, face, row, column, height, width),
        beside(boundary, face, row, column + 1, height, width),
        beside(boundary, face, row + 1, column, height, width),
        beside(boundary, face, row + 1, column + 1, height, width),
        fx, fy, moves_x, moves_y,
    )  # fmt: skip


@jit(inline=True)
def weights_of(fx, fy, share, a, b, c, d, boundary):
    """The weights of the four texels; zero for one that is none.

    Where three faces of a cube meet there is no fourth texel: the mean of the three takes its place.
    """
    p, q = (_ONE - fx) * (_ONE - fy) * share, fx * (_ONE - fy) * share
    r, s = (_ONE - fx) * fy * share, fx * fy * share
    if a >= 0 and b >= 0 and c >= 0 and d >= 0:
        return p, q, r, s
    lost = _NOTHING
    if boundary == CUBE:
        missing = p if a < 0 else q if b < 0 else r if c < 0 else s
        lost = missing / np.float32(3.0)
    return (
        p + lost if a >= 0 else _NOTHING, q + lost if b >= 0 else _NOTHING,
        r + lost if c >= 0 else _NOTHING, s + lost if d >= 0 else _NOTHING,
    )  # fmt: skip


@jit(inline=True)
def nearest_texel(u, v, face, boundary, height, width):
    """The texel that a place lies in; -1: none."""
    if boundary == WRAP:
        u -= np.floor(u)
        v -= np.floor(v)
    column = cell(u * np.float32(width), width)
    row = cell(v * np.float32(height), height)
    if boundary == CUBE:
        column, row = min(max(column, 0), width - 1), min(max(row, 0), height - 1)
    return beside(boundary, face, row, column, height, width)


@jit(inline=True)
def blend(texels, first, a, b, c, d, p, q, r, s, out, j, i):
    """Add four weighted texels to a pixel; those below 0 have the weight 0."""
    a, b, c, d = first + max(a, 0), first + max(b, 0), first + max(c, 0), first + max(d, 0)
    for k in range(out.shape[2]):
        out[j, i, k] += p * texels[a, k] + q * texels[b, k] + r * texels[c, k] + s * texels[d, k]


@jit
def sample_rows(
    base, more, shapes, uv, uv_da, bias, has_da, has_bias, filter_mode, boundary, start, stop, out
):
    """Fill rows of out [H, W, C] of one image; base and more are [texels, C]."""
    channels = out.shape[2]
    for j in range(start, stop):
        for i in range(out.shape[1]):
            for k in range(channels):
                out[j, i, k] = _NOTHING
            face, u, v, u_x, u_y, v_x, v_y = locate(uv, uv_da, j, i, has_da, boundary)
            if face < 0:
                continue
            if filter_mode == NEAREST:
                texel = nearest_texel(u, v, face, boundary, shapes[0, 0], shapes[0, 1])
                if texel >= 0:
                    for k in range(channels):
                        out[j, i, k] = base[texel, k]
                continue
            low, fraction, _ = levels_at(
                u_x, u_y, v_x, v_y, bias, j, i, has_da, has_bias, filter_mode, shapes
            )
            for n in range(low, low + (2 if fraction > 0 else 1)):
                share = np.float32(1.0 - fraction if n == low else fraction)
                a, b, c, d, fx, fy, _, _ = bilinear(
                    u, v, face, boundary, shapes[n, 0], shapes[n, 1]
                )
                p, q, r, s = weights_of(fx, fy, share, a, b, c, d, boundary)
                if n == 0:
                    blend(base, 0, a, b, c, d, p, q, r, s, out, j, i)
                else:
                    blend(more, shapes[n, 2], a, b, c, d, p, q, r, s, out, j, i)


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
            axis, sign = _AXES[0, face], np.float64(_SIGNS[0, face])
            major = uv[j, i, axis] * sign
            by_axis = 0.0
            for k in range(2):
                other, turn = _AXES[1 + k, face], np.float64(_SIGNS[1 + k, face])
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
def halve_rows(fine, coarse, step_y, step_x, start, stop):
    """Fill rows of a coarser level [rows, width, C] with means of step_y x step_x texels."""
    quarter = np.float32(1.0 / (step_y * step_x))
    for j in range(start, stop):
        above, right = j * step_y + step_y - 1, step_x - 1
        for i in range(coarse.shape[1]):
            for k in range(coarse.shape[2]):
                total = fine[j * step_y, i * step_x, k]
                if right:
                    total += fine[j * step_y, i * step_x + right, k]
                if step_y == 2:
                    total += fine[above, i * step_x, k]
                    if right:
                        total += fine[above, i * step_x + right, k]
                coarse[j, i, k] = total * quarter


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
