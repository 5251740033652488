"""The CPU kernels of `texture`: a pixel's place in the texture, and its samples.

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
AXES = np.array([[row[0] for row in table] for table in (MAJOR, S, T)])  # [3, 6]
SIGNS = np.array([[row[1] for row in table] for table in (MAJOR, S, T)], np.float32)


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
    m, s, t = AXES[0, face], AXES[1, face], AXES[2, face]
    sign_m, sign_s, sign_t = SIGNS[0, face], SIGNS[1, face], SIGNS[2, face]
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


@jit
def level_rows(shapes, uv, uv_da, bias, has_da, has_bias, boundary, start, stop, level):
    """Fill rows of level [H, W]: each pixel's mip level, of any size; -inf where a pixel covers nothing."""
    height, width = shapes[0, 0], shapes[0, 1]
    for j in range(start, stop):
        for i in range(uv.shape[1]):
            found = 0.0
            if has_da:
                _, _, _, u_x, u_y, v_x, v_y = locate(uv, uv_da, j, i, has_da, boundary)
                a, b, _, root = footprint(u_x, u_y, v_x, v_y, height, width)
                major = 0.5 * (a + b) + root
                found = 0.5 * math.log2(major) if major > 0 else -math.inf
            if has_bias:
                found += bias[j, i]
            level[j, i] = found


@jit(inline=True)
def levels_at(level, j, i, filter_mode, highest):
    """The mip levels of a pixel, of its level in [H, W], which is read for mipmaps only.

    Returns:
        the lower level; how much of the one above is in it; whether that part moves with the level.
    """
    if filter_mode < MIPMAP_NEAREST:
        return 0, _NOTHING, False
    wanted = level[j, i]
    clamped = min(wanted, np.float32(highest)) if wanted > 0 else _NOTHING
    low = int(clamped)
    if filter_mode == MIPMAP_LINEAR and low < highest:
        return low, clamped - np.float32(low), 0 <= wanted <= highest
    return low, _NOTHING, False


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
    direction[AXES[0, face]] = SIGNS[0, face]
    direction[AXES[1, face]] = SIGNS[1, face] * ((2 * column + 1) / side - 1)
    direction[AXES[2, face]] = SIGNS[2, face] * ((2 * row + 1) / side - 1)
    other = face_of(direction[0], direction[1], direction[2])
    major = direction[AXES[0, other]] * SIGNS[0, other]
    s = direction[AXES[1, other]] * SIGNS[1, other] / major
    t = direction[AXES[2, other]] * SIGNS[2, other] / major
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
def row_of(first, texel):
    """A texel's row in an array of texels; unsigned, for Numba to leave out the case of negative ones."""
    return np.uint64(first + max(texel, 0))


@jit(inline=True)
def blend(texels, first, a, b, c, d, p, q, r, s, out, j, i):
    """Add four weighted texels to a pixel; those below 0 have the weight 0."""
    a, b, c, d = row_of(first, a), row_of(first, b), row_of(first, c), row_of(first, d)
    for k in range(np.uint64(out.shape[2])):
        out[j, i, k] += p * texels[a, k] + q * texels[b, k] + r * texels[c, k] + s * texels[d, k]


@jit
def sample_rows(base, more, shapes, uv, level, filter_mode, boundary, start, stop, out):
    """Fill rows of out [H, W, C] of one image; base and more are [texels, C], level is of `level_rows`."""
    channels, highest = out.shape[2], shapes.shape[0] - 1
    for j in range(start, stop):
        for i in range(out.shape[1]):
            for k in range(channels):
                out[j, i, k] = _NOTHING
            face, u, v, _, _, _, _ = locate(uv, uv, j, i, False, boundary)
            if face < 0:
                continue
            if filter_mode == NEAREST:
                texel = nearest_texel(u, v, face, boundary, shapes[0, 0], shapes[0, 1])
                if texel >= 0:
                    for k in range(channels):
                        out[j, i, k] = base[texel, k]
                continue
            low, fraction, _ = levels_at(level, j, i, filter_mode, highest)
            for n in range(low, low + (2 if fraction > 0 else 1)):
                share = _ONE - fraction if n == low else fraction
                a, b, c, d, fx, fy, _, _ = bilinear(
                    u, v, face, boundary, shapes[n, 0], shapes[n, 1]
                )
                p, q, r, s = weights_of(fx, fy, share, a, b, c, d, boundary)
                if n == 0:
                    blend(base, 0, a, b, c, d, p, q, r, s, out, j, i)
                else:
                    blend(more, shapes[n, 2], a, b, c, d, p, q, r, s, out, j, i)


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
