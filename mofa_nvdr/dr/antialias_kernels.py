"""The CPU kernels of `antialias`: find the edge of each pixel pair, blend, and the two gradients.

A pair is pixel P with its right neighbour (0) or with the next row's (1), called Q. `edges` holds 0
for a pair without an edge, else 1 + k for edge k of P's triangle, or 4 + k for edge k of Q's.
`alpha` > 0 moves Q's colour into P, otherwise P's into Q. Blending gathers: a pixel adds up its own
four pairs.
"""

# mypy: disallow-untyped-defs=False

import numpy as np

from mofa_nvdr.dr.parallel import jit
from mofa_nvdr.dr.rasterize_kernels import decode_id

_UNKNOWN = 255
_FROM_Q = 4
# How far past a pixel's centre an edge may cross and still count, in pixels.
_REACH = 0.0625
# Added to an edge's extent across the pair where the backward pass divides by it, in pixels.
_EXTENT_EPSILON = 1e-3


@jit
def find_edges_band(rast, pos, tri, opposite, row_start, row_stop, alpha, edges):
    """Fill alpha and edges for a band of rows."""
    height, width = rast.shape[0], rast.shape[1]
    silhouettes = np.full(tri.shape[0], _UNKNOWN, np.uint8)
    # Every vertex once: on a dense mesh each is a corner of half a dozen triangles that are seen.
    points = np.empty((pos.shape[0], 2), np.float64)
    for v in range(pos.shape[0]):
        points[v, 0], points[v, 1] = _project(pos, v, height, width)
    for j in range(row_start, row_stop):
        for i in range(width):
            number = decode_id(rast[j, i, 3])
            for pair in range(2):
                alpha[j, i, pair] = 0.0
                edges[j, i, pair] = 0
                qi, qj = (i + 1, j) if pair == 0 else (i, j + 1)
                if qi >= width or qj >= height:
                    continue
                q_number = decode_id(rast[qj, qi, 3])
                if number == q_number:
                    continue
                # The nearer triangle supplies the edge; of equals, Q's.
                from_p = q_number == 0 or (number != 0 and rast[j, i, 2] < rast[qj, qi, 2])
                t = (number if from_p else q_number) - 1
                if t >= tri.shape[0]:
                    continue
                if silhouettes[t] == _UNKNOWN:
                    silhouettes[t] = _silhouette_edges(points, tri, opposite, t)
                if silhouettes[t] == 0:
                    continue
                fi, fj = (i, j) if from_p else (qi, qj)
                sign = 1.0 if from_p else -1.0
                k, distance = _crossing(pos, tri, t, fi, fj, pair, sign, height, width)
                if k < 0 or not (silhouettes[t] >> k) & 1:
                    continue
                if not -_REACH < distance < 1.0 + _REACH:
                    continue
                alpha[j, i, pair] = sign * (0.5 - min(max(distance, 0.0), 1.0))
                edges[j, i, pair] = 1 + k if from_p else _FROM_Q + k


@jit
def _project(pos, v, height, width):
    """A vertex in pixels from the image's centre."""
    inverse = 1.0 / np.float64(pos[v, 3])
    return pos[v, 0] * inverse * (0.5 * width), pos[v, 1] * inverse * (0.5 * height)


@jit
def _silhouette_edges(points, tri, opposite, t):
    """Bit k: edge k has no triangle on its other side, or one that folds back over this one."""
    num_vertices = points.shape[0]
    if min(tri[t, 0], tri[t, 1], tri[t, 2]) < 0 or (
        max(tri[t, 0], tri[t, 1], tri[t, 2]) >= num_vertices
    ):
        return 0
    x0, y0 = points[tri[t, 0], 0], points[tri[t, 0], 1]
    x1, y1 = points[tri[t, 1], 0], points[tri[t, 1], 1]
    x2, y2 = points[tri[t, 2], 0], points[tri[t, 2], 1]
    back = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0) < 0.0
    bits = 0
    for k in range(3):
        other = opposite[t, k]
        if other >= num_vertices:
            continue
        if other < 0:
            bits |= 1 << k
            continue
        x, y = points[other, 0], points[other, 1]
        if k == 0:
            area = (x1 - x) * (y2 - y) - (y1 - y) * (x2 - x)
        elif k == 1:
            area = (x2 - x) * (y0 - y) - (y2 - y) * (x0 - x)
        else:
            area = (x0 - x) * (y1 - y) - (y0 - y) * (x1 - x)
        if (area < 0.0) == back:
            bits |= 1 << k
    return bits


@jit
def _edge_ends(pos, tri, t, k, fi, fj, pair, height, width):
    """Ends of edge k from the centre of pixel F: twice (along the pair, across it)."""
    centre_x, centre_y = fi + 0.5 - 0.5 * width, fj + 0.5 - 0.5 * height
    ax, ay = _project(pos, tri[t, (k + 1) % 3], height, width)
    cx, cy = _project(pos, tri[t, (k + 2) % 3], height, width)
    if pair == 0:
        return ax - centre_x, ay - centre_y, cx - centre_x, cy - centre_y
    return ay - centre_y, ax - centre_x, cy - centre_y, cx - centre_x


@jit
def _crossing(pos, tri, t, fi, fj, pair, sign, height, width):
    """The edge of triangle t that the line from F to its neighbour leaves by, and how far away.

    The last crossed edge; -1 if none is crossed or it lies flatter than 45 degrees to the line.
    """
    best, farthest, steep = -1, -np.inf, False
    for k in range(3):
        a_par, a_perp, c_par, c_perp = _edge_ends(pos, tri, t, k, fi, fj, pair, height, width)
        if (a_perp < 0.0) == (c_perp < 0.0):
            continue
        d_par, d_perp = c_par - a_par, c_perp - a_perp
        distance = sign * (a_par * d_perp - a_perp * d_par) / d_perp
        if distance >= farthest:
            best, farthest, steep = k, distance, abs(d_perp) >= abs(d_par)
    if not steep:
        best = -1
    return best, farthest


@jit
def blend_band(color, alpha, edges, row_start, row_stop, out):
    """Out = color plus what each pixel receives from its four pairs, in a fixed order."""
    width, num_channels = color.shape[1], color.shape[2]
    for j in range(row_start, row_stop):
        for i in range(width):
            for channel in range(num_channels):
                out[j, i, channel] = color[j, i, channel]
            for n in range(4):
                # As P of its own two pairs, as Q of the left and the previous row's.
                pair, as_q = n % 2, n >= 2
                pi, pj = (i - 1 + pair, j - pair) if as_q else (i, j)
                if pi < 0 or pj < 0 or edges[pj, pi, pair] == 0:
                    continue
                weight = alpha[pj, pi, pair]
                if (weight > 0.0) == as_q:
                    continue
                qi, qj = (pi + 1, pj) if pair == 0 else (pi, pj + 1)
                for channel in range(num_channels):
                    difference = color[qj, qi, channel] - color[pj, pi, channel]
                    out[j, i, channel] += weight * difference


@jit
def blend_band_backward(grad, alpha, edges, row_start, row_stop, grad_color):
    """The transpose of `blend_band` in color."""
    width, num_channels = grad.shape[1], grad.shape[2]
    for j in range(row_start, row_stop):
        for i in range(width):
            for channel in range(num_channels):
                grad_color[j, i, channel] = grad[j, i, channel]
            for n in range(4):
                pair, as_q = n % 2, n >= 2
                pi, pj = (i - 1 + pair, j - pair) if as_q else (i, j)
                if pi < 0 or pj < 0 or edges[pj, pi, pair] == 0:
                    continue
                weight = alpha[pj, pi, pair]
                # The receiver's gradient: P's where weight > 0, else Q's.
                ri, rj = pi, pj
                if not weight > 0.0:
                    ri, rj = (pi + 1, pj) if pair == 0 else (pi, pj + 1)
                if not as_q:
                    weight = -weight
                for channel in range(num_channels):
                    grad_color[j, i, channel] += weight * grad[rj, ri, channel]


@jit
def move_edges_band(color, rast, pos, tri, alpha, edges, grad, boost, row_start, row_stop, sums):
    """Sum d loss/d (x, y, w) of the edges' vertices over the pairs of a band."""
    height, width, num_channels = color.shape
    for j in range(row_start, row_stop):
        for i in range(width):
            for pair in range(2):
                code = edges[j, i, pair]
                weight = alpha[j, i, pair]
                if code == 0 or abs(weight) >= 0.5:
                    continue
                if weight == 0.0 and code < _FROM_Q:
                    # nvdiffrast drops the pairs whose alpha is +0, and keeps those with -0.
                    continue
                qi, qj = (i + 1, j) if pair == 0 else (i, j + 1)
                ri, rj = (i, j) if weight > 0.0 else (qi, qj)
                gain = 0.0
                for channel in range(num_channels):
                    g = np.float64(grad[rj, ri, channel])
                    if g != 0.0:
                        gain += g * (color[qj, qi, channel] - color[j, i, channel])
                if gain == 0.0:
                    continue
                from_p = code < _FROM_Q
                k = code - 1 if from_p else code - _FROM_Q
                fi, fj = (i, j) if from_p else (qi, qj)
                t = decode_id(rast[fj, fi, 3]) - 1
                a_par, a_perp, c_par, c_perp = _edge_ends(
                    pos, tri, t, k, fi, fj, pair, height, width
                )
                d_par, d_perp = c_par - a_par, c_perp - a_perp
                extent = d_perp + (_EXTENT_EPSILON if d_perp >= 0.0 else -_EXTENT_EPSILON)
                # alpha = +-1/2 - crossing, so d loss/d crossing = -gain.
                crossing = (a_par * d_perp - a_perp * d_par) / extent
                scale = -gain * boost / extent
                _add_vertex(
                    pos, tri[t, (k + 1) % 3], scale * c_perp, scale * (crossing - c_par),
                    pair, height, width, sums,
                )  # fmt: skip
                _add_vertex(
                    pos, tri[t, (k + 2) % 3], -scale * a_perp, -scale * (crossing - a_par),
                    pair, height, width, sums,
                )  # fmt: skip


@jit
def _add_vertex(pos, v, g_par, g_perp, pair, height, width, sums):
    """From pixels to clip space."""
    inverse = 1.0 / np.float64(pos[v, 3])
    gx, gy = (g_par, g_perp) if pair == 0 else (g_perp, g_par)
    gx *= 0.5 * width * inverse
    gy *= 0.5 * height * inverse
    sums[v, 0] += gx
    sums[v, 1] += gy
    sums[v, 3] -= (pos[v, 0] * gx + pos[v, 1] * gy) * inverse
