"""The CPU kernel of `outline`: which pairs of neighbouring pixels an outline separates, and where.

From the pixel of the nearer surface a straight line runs to the neighbour's centre. It is followed
over the mesh, triangle by triangle, until the surface ends or folds back: there is the outline.
"""

# mypy: disallow-untyped-defs=False, check-untyped-defs=False

import numpy as np

from mofa_nvdr.dr.parallel import jit

# How far (px) behind an uncovered neighbour's centre the surface may still end: coverage is decided
# on a grid of 1/16 px, the walk uses exact positions.
MARGIN = 0.125
MAX_STEPS = 512
# Two covered neighbours are taken for one smooth surface, without a walk, if their triangles' slopes
# (depth over sideways) differ by less than BEND and their depths by what the slopes say, within
# SMOOTH pixel footprints.
SMOOTH = 0.25
BEND = 0.5
# Where two intersecting surfaces are more nearly parallel than this, the cut is left alone.
PARALLEL = 0.05

_LOST, _PASSED, _ENDED = 0, 1, 2


@jit
def project_vertices(pos, height, width):
    """[V, 3]: pixels right, pixels up from the bottom left corner, 1/w; NaN where w is not positive."""
    out = np.empty((pos.shape[0], 3), np.float64)
    for k in range(pos.shape[0]):
        w = np.float64(pos[k, 3])
        if w > 0.0 and np.isfinite(w):
            out[k, 0] = (pos[k, 0] / w + 1.0) * 0.5 * width
            out[k, 1] = (pos[k, 1] / w + 1.0) * 0.5 * height
            out[k, 2] = 1.0 / w
        else:
            out[k, 0] = out[k, 1] = out[k, 2] = np.nan
    return out


@jit
def _place(points, tri, t, u, v):
    """The surface point of a pixel (x, y, 1/w) and the slopes of 1/w; NaN slopes for no area."""
    a, b, c = tri[t, 0], tri[t, 1], tri[t, 2]
    qa, qb, qc = points[a, 2], points[b, 2], points[c, 2]
    # u, v are perspective-correct: they weigh homogeneous positions.
    wa, wb, wc = u / qa, v / qb, (1.0 - u - v) / qc
    q = 1.0 / (wa + wb + wc)
    x = (wa * points[a, 0] + wb * points[b, 0] + wc * points[c, 0]) * q
    y = (wa * points[a, 1] + wb * points[b, 1] + wc * points[c, 1]) * q
    x1, y1, q1 = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], qb - qa
    x2, y2, q2 = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], qc - qa
    area = x1 * y2 - x2 * y1
    if area == 0.0:
        return x, y, q, np.nan, np.nan
    return x, y, q, (q1 * y2 - q2 * y1) / area, (q2 * x1 - q1 * x2) / area


@jit
def _side(points, a, b, c):
    """Twice the signed area of a, b, c on the screen."""
    return (points[b, 0] - points[a, 0]) * (points[c, 1] - points[a, 1]) - (
        points[c, 0] - points[a, 0]
    ) * (points[b, 1] - points[a, 1])


@jit
def _walk(points, tri, neighbors, t, level, axis, sign, target):
    """Follow a pixel row (axis 0) or column from triangle t until `target` or the surface's end.

    Returns (how it ended, triangle, edge of it, where along the edge from its first vertex).
    """
    other = 1 - axis
    entry = -1
    for _ in range(MAX_STEPS):
        # A line through no vertex crosses two edges of a triangle or none: with a vertex belonging
        # to one side for both of its edges this holds for every line.
        best, where, share = -1, 0.0, 0.0
        for k in range(3):
            if k == entry:
                continue
            a, b = tri[t, (k + 1) % 3], tri[t, (k + 2) % 3]
            ma, mb = points[a, other], points[b, other]
            if (ma > level) != (mb > level):
                s = (level - ma) / (mb - ma)
                x = sign * (points[a, axis] + s * (points[b, axis] - points[a, axis]))
                if best < 0 or x > where:
                    best, where, share = k, x, s
        if best < 0:
            return _LOST, t, 0, 0.0
        if where > sign * target:
            return _PASSED, t, best, share
        following = neighbors[t, best]
        if following < 0:
            return _ENDED, t, best, share
        a, b = tri[t, (best + 1) % 3], tri[t, (best + 2) % 3]
        entry = -1
        for k in range(3):
            c, d = tri[following, (k + 1) % 3], tri[following, (k + 2) % 3]
            if (c == a and d == b) or (c == b and d == a):
                entry = k
                break
        if entry < 0:
            return _ENDED, t, best, share
        here = _side(points, a, b, tri[t, best])
        there = _side(points, a, b, tri[following, entry])
        if not here * there < 0.0:  # both on one side: the surface folds back (NaN ends it too)
            return _ENDED, t, best, share
        t = following
    return _LOST, t, 0, 0.0


@jit
def _depth_at(points, tri, t, x, y):
    """1/w of the plane of triangle t at a point of the screen."""
    a, b, c = tri[t, 0], tri[t, 1], tri[t, 2]
    x1, y1 = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1]
    x2, y2 = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1]
    area = x1 * y2 - x2 * y1
    s = ((x - points[a, 0]) * y2 - (y - points[a, 1]) * x2) / area
    r = ((y - points[a, 1]) * x1 - (x - points[a, 0]) * y1) / area
    qa = points[a, 2]
    return qa + s * (points[b, 2] - qa) + r * (points[c, 2] - qa)


@jit
def _write_edge(points, tri, t, k, share, axis, sign, start, near, far, n, index, number):
    """Record a point of edge k of triangle t that moves along the axis; start: the near centre."""
    a, b = tri[t, (k + 1) % 3], tri[t, (k + 2) % 3]
    # From a share on the screen to one in space.
    wa, wb = (1.0 - share) * points[a, 2], share * points[b, 2]
    _write(a, b, tri[t, k], wa / (wa + wb), wb / (wa + wb), 0.0, near, far, n, index, number)
    number[n, 3] = sign if axis == 0 else 0.0
    number[n, 4] = sign if axis == 1 else 0.0
    number[n, 5] = 0.0
    edge = (1.0 - share) * points[a, axis] + share * points[b, axis]
    number[n, 6] = min(max(sign * (edge - start), 0.0), 1.0)


@jit
def _write(a, b, c, wa, wb, wc, near, far, n, index, number):
    index[n, 0], index[n, 1] = near, far
    index[n, 2], index[n, 3], index[n, 4] = a, b, c
    number[n, 0], number[n, 1], number[n, 2] = wa, wb, wc


@jit
def _write_pixel(rast, tri, j, i, axis, sign, near, far, n, index, number):
    """Record the surface point that the pixel's centre sees, moving along the axis."""
    t = np.int64(rast[j, i, 3]) - 1
    u, v = np.float64(rast[j, i, 0]), np.float64(rast[j, i, 1])
    _write(tri[t, 0], tri[t, 1], tri[t, 2], u, v, 1.0 - u - v, near, far, n, index, number)
    number[n, 3] = sign if axis == 0 else 0.0
    number[n, 4] = sign if axis == 1 else 0.0
    number[n, 5] = 0.0
    number[n, 6] = 0.5


@jit
def find_band(
    points, tri, neighbors, rast, angle, steepest, row_start, row_stop, grazing, index, number
):
    """Find the outline between pixels of the band and their neighbours right and above.

    Args:
        points: of project_vertices.
        tri: [T, 3].
        neighbors: [T, 3], across the edge that faces each vertex.
        rast: [H, W, 4] of one image, row 0 at the bottom, plain triangle ids.
        angle: size of a pixel over its distance: one pixel footprint is angle * w.
        steepest: a slope (depth over sideways) from which on a triangle counts as grazing.
        row_start: first row of the band.
        row_stop: first row after it.
        grazing: out [H, W], 1 where the pixel's triangle is nearly edge-on, else 0.
        index: out [N, 5]: near pixel, far pixel (row * W + column), three vertices.
        number: out [N, 7]: the vertices' weights; how the outline's place follows the point's
            x, y (px) and 1/w; its place between the centres, 0 near to 1 far.

    Returns:
        How many records were written.
    """
    height, width = rast.shape[0], rast.shape[1]
    rows = min(row_stop + 1, height) - row_start
    place = np.empty((rows, width, 5), np.float64)
    ids = np.empty((rows, width), np.int64)  # -1 empty, -2 not usable
    for j in range(rows):
        for i in range(width):
            t = np.int64(rast[row_start + j, i, 3]) - 1
            ids[j, i] = t
            if t < 0:
                continue
            x, y, q, gx, gy = _place(
                points, tri, t,
                np.float64(rast[row_start + j, i, 0]), np.float64(rast[row_start + j, i, 1]),
            )  # fmt: skip
            if not np.isfinite(x + y + q):
                ids[j, i] = -2
            place[j, i, 0], place[j, i, 1], place[j, i, 2] = x, y, q
            place[j, i, 3], place[j, i, 4] = gx, gy
            if j < row_stop - row_start:
                # Written so that NaN, a triangle without area, counts as grazing.
                steep = not np.sqrt(gx * gx + gy * gy) <= steepest * angle * q
                grazing[row_start + j, i] = steep
    n = 0
    for j in range(row_stop - row_start):
        for i in range(width):
            p = ids[j, i]
            for axis in range(2):
                jq, iq = (j, i + 1) if axis == 0 else (j + 1, i)
                if iq >= width or jq >= rows:
                    continue
                q = ids[jq, iq]
                if p == q or p == -2 or q == -2:
                    continue
                here = (row_start + j) * width + i
                there = (row_start + jq) * width + iq
                if p < 0 or q < 0:
                    # One is empty: the other one's surface ends in between.
                    sign = 1.0 if q < 0 else -1.0
                    t, jn, in_ = (p, j, i) if q < 0 else (q, jq, iq)
                    near, far = (here, there) if q < 0 else (there, here)
                    start = (in_ if axis == 0 else row_start + jn) + 0.5
                    target = start + sign * (1.0 + MARGIN)
                    end, t, k, share = _walk(
                        points, tri, neighbors, t, place[jn, in_, 1 - axis], axis, sign, target
                    )
                    if end == _ENDED:
                        _write_edge(
                            points, tri, t, k, share, axis, sign, start, near, far, n, index, number
                        )
                    else:
                        _write_pixel(
                            rast, tri, row_start + jn, in_, axis, sign, near, far, n, index, number
                        )
                    n += 1
                    continue
                qp, qq = place[j, i, 2], place[jq, iq, 2]
                gp, gq = place[j, i, 3 + axis], place[jq, iq, 3 + axis]
                floor = angle * max(qp, qq)
                bend, jump = abs(gq - gp), abs(qq - qp - 0.5 * (gp + gq))
                if bend <= BEND * floor and jump <= SMOOTH * floor:
                    continue
                low = (i if axis == 0 else row_start + j) + 0.5
                end_p, tp, kp, share_p = _walk(
                    points, tri, neighbors, p, place[j, i, 1 - axis], axis, 1.0, low + 1.0
                )
                end_q, tq, kq, share_q = _walk(
                    points, tri, neighbors, q, place[jq, iq, 1 - axis], axis, -1.0, low
                )
                if end_p == _ENDED and (end_q != _ENDED or qp >= qq):
                    if end_q == _PASSED and tq == p:
                        continue
                    _write_edge(
                        points, tri, tp, kp, share_p, axis, 1.0, low, here, there, n, index, number
                    )
                    n += 1
                elif end_q == _ENDED:
                    if end_p == _PASSED and tp == q:
                        continue
                    _write_edge(
                        points,
                        tri,
                        tq,
                        kq,
                        share_q,
                        axis,
                        -1.0,
                        low + 1.0,
                        there,
                        here,
                        n,
                        index,
                        number,
                    )
                    n += 1
                elif end_p == _PASSED and end_q == _PASSED and tp != q and tq != p:
                    # Both go on behind the other: they intersect, unless it is one surface.
                    behind_q = qq - _depth_at(points, tri, tp, place[jq, iq, 0], place[jq, iq, 1])
                    behind_p = qp - _depth_at(points, tri, tq, place[j, i, 0], place[j, i, 1])
                    slope = gp - gq
                    if behind_q > 0.0 and behind_p > 0.0 and slope < -PARALLEL * floor:
                        # Where 1/w of both planes is equal: d place = -(dq_p - dq_q) / slope, with
                        # dq at a fixed pixel = dq of the point - its motion along the slopes.
                        for side in range(2):
                            js, is_ = (j, i) if side == 0 else (jq, iq)
                            _write_pixel(
                                rast, tri, row_start + js, is_, axis, 1.0, here, there, n, index,
                                number,
                            )  # fmt: skip
                            factor = (-1.0 if side == 0 else 1.0) / slope
                            number[n, 3] = -factor * place[js, is_, 3]
                            number[n, 4] = -factor * place[js, is_, 4]
                            number[n, 5] = factor
                            n += 1
    return n
