"""The CPU kernels of `rasterize`: coverage and depth in integers, values in float64.

A triangle is clipped to the view volume if it must be, its corners are snapped to sixteenths of a
pixel, and three integer edge functions say which centres it covers. A pixel keeps the smallest key:
depth in the upper bits, the complement of the triangle's index below, so that the later of two
equally deep triangles wins. Whatever the order of drawing, the result is the same. Gradients are in
rasterize_backward_kernels.py.
"""

# mypy: disallow-untyped-defs=False, check-untyped-defs=False

import numpy as np

from mofa_nvdr.dr.parallel import jit

_UNUSABLE = 64  # not finite, or exactly at the eye: a triangle with such a vertex is not drawn
_EMPTY = np.iinfo(np.int64).max
_INDEX_MASK = (1 << 31) - 1
# -1 and +1 in z/w on the 32-bit depth scale, as nvdiffrast places them.
_DEPTH_NEAR = 17600.0
_DEPTH_SPAN = 4294967296.0 - 2 * 17600.0
_MIN_W = np.float32(1.2e-38)  # the smallest w with a finite float32 reciprocal
# Triangles are looked at in chunks. Rows of a chunk's table: x and y of the three corners, then
_CHUNK, _LEFT, _LOW, _COVERED, _ROWS = 64, 6, 7, 8, 9
_LARGE = 16  # instead of the four bits of _COVERED
# Pixels are computed in blocks. Rows of the table of `_resolve`: x, y, w of three corners, their z, then
PIXELS = 64
_XA, _XB, _XC = 0, 3, 6
_ZA, _ZB, _ZC, _X, _U, _V, _DEPTH, _INVERSE, _RESOLVED = 9, 10, 11, 12, 13, 14, 15, 16, 17


@jit
def rasterize_band(pos, tri, first, end, height, width, row_start, row_stop, peeled, rast, rast_db):
    """Draw triangles first to end into the band's rows of rast, and of rast_db if it has channels.

    `peeled` [H, W] holds the largest key of the layer in front, at every pixel, and becomes this
    layer's; without peeling it is [0, 0].
    """
    num_vertices = pos.shape[0]
    points = np.empty((2, num_vertices), np.float32)  # whole numbers
    depths = np.empty(num_vertices, np.float32)
    codes = np.empty(num_vertices, np.uint8)
    for k in range(num_vertices):
        code = _clip_code(pos[k, 0], pos[k, 1], pos[k, 2], pos[k, 3])
        codes[k] = code
        if code == 0:
            x, y, z = _snap(pos[k, 0], pos[k, 1], pos[k, 2], pos[k, 3], height, width)
            points[0, k], points[1, k], depths[k] = x, y, z

    keys = np.full((row_stop - row_start, width), _EMPTY, np.int64)
    behind = peeled[row_start:row_stop]  # has no rows where nothing is peeled
    polygon = np.empty((2, 10, 4), np.float64)
    s = np.empty((_ROWS, _CHUNK), np.float32)
    hits = np.empty(4 * _CHUNK, np.int64)
    for start in range(first, end, _CHUNK):
        count = min(_CHUNK, end - start)
        for k in range(count):
            t = start + k
            a, b, c = tri[t, 0], tri[t, 1], tri[t, 2]
            for row in range(6):
                s[row, k] = np.float32(0.0)  # covers no pixel
            if min(a, b, c) < 0 or max(a, b, c) >= num_vertices:
                continue
            any_code = codes[a] | codes[b] | codes[c]
            if any_code == 0:
                s[0, k], s[1, k] = points[0, a], points[1, a]
                s[2, k], s[3, k] = points[0, b], points[1, b]
                s[4, k], s[5, k] = points[0, c], points[1, c]
            elif (codes[a] & codes[b] & codes[c]) == 0 and any_code < _UNUSABLE:
                for i in range(4):
                    polygon[0, 0, i] = pos[a, i]
                    polygon[0, 1, i] = pos[b, i]
                    polygon[0, 2, i] = pos[c, i]
                _draw_clipped(
                    polygon, any_code, t, height, width, row_start, row_stop, behind, keys
                )
        _cover(count, width, row_start, row_stop, s)
        # A list first, without a branch: which triangle covers which pixel can't be predicted.
        num_hits = 0
        for k in range(count):
            covered = np.int64(s[_COVERED, k])
            for pixel in range(4):
                hits[num_hits] = 4 * k + pixel
                num_hits += (covered >> pixel) & 1
            if covered == _LARGE:
                t = start + k
                x0, y0 = np.int64(s[0, k]), np.int64(s[1, k])
                x1, y1 = np.int64(s[2, k]), np.int64(s[3, k])
                x2, y2 = np.int64(s[4, k]), np.int64(s[5, k])
                z0, z1, z2 = depths[tri[t, 0]], depths[tri[t, 1]], depths[tri[t, 2]]
                _draw(
                    x0, y0, x1, y1, x2, y2, z0, z1, z2, t, row_start, row_stop, width, behind, keys
                )
        for n in range(num_hits):
            k, pixel = hits[n] >> 2, hits[n] & 3
            t = start + k
            x0, y0, x1, y1, x2, y2 = s[0, k], s[1, k], s[2, k], s[3, k], s[4, k], s[5, k]
            z0, z1, z2 = depths[tri[t, 0]], depths[tri[t, 1]], depths[tri[t, 2]]
            area, d0, d1, d2 = _depth_plane(x0, y0, x1, y1, x2, y2, z0, z1, z2)
            i, j = np.int64(s[_LEFT, k]) + (pixel & 1), np.int64(s[_LOW, k]) + (pixel >> 1)
            x, y = np.float32(16 * i), np.float32(16 * j)
            # The areas opposite to the second and the third vertex, positive inside.
            e1 = abs((x0 - x2) * (y - y2) - (y0 - y2) * (x - x2))
            e2 = abs((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0))
            depth = np.int64(d0 + d1 * np.float64(e1) + d2 * np.float64(e2))
            _keep_nearest(depth, t, j - row_start, i, behind, keys)
    if len(behind):
        for row in range(len(behind)):
            for i in range(width):
                behind[row, i] = keys[row, i] | _INDEX_MASK
    _resolve(pos, tri, keys, height, width, row_start, rast, rast_db)


@jit(inline=True)
def _cover(count, width, row_start, row_stop, s):
    """Which pixels the triangles of a chunk cover, many triangles at once.

    Triangles of a dense mesh meet two by two pixels at most: their lower left one goes to rows _LEFT and
    _LOW, one bit for each of the four to _COVERED. Larger triangles get _LARGE there. In the small
    ones every number is whole and far below 2^24, so that float32 is exact.
    """
    zero, one = np.float32(0.0), np.float32(1.0)
    sixteenth, sixteen = np.float32(0.0625), np.float32(16.0)
    last_column = np.float32(width - 1)
    lowest, highest = np.float32(row_start), np.float32(row_stop - 1)
    for k in range(count):
        x0, y0, x1, y1, x2, y2 = s[0, k], s[1, k], s[2, k], s[3, k], s[4, k], s[5, k]
        left = np.ceil(min(min(x0, x1), x2) * sixteenth)
        low = np.ceil(min(min(y0, y1), y2) * sixteenth)
        columns = np.floor(max(max(x0, x1), x2) * sixteenth) - left
        rows = np.floor(max(max(y0, y1), y2) * sixteenth) - low
        s[_LEFT, k], s[_LOW, k] = left, low
        # The back is drawn too, in counter-clockwise order.
        back = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0) < zero
        xb, xc = (x2 if back else x1), (x1 if back else x2)
        yb, yc = (y2 if back else y1), (y1 if back else y2)
        x, y = sixteen * left, sixteen * low
        # Edge functions as in `_draw`, at the lower left pixel.
        dx0, dy0, dx1, dy1, dx2, dy2 = xc - xb, yc - yb, x0 - xc, y0 - yc, xb - x0, yb - y0
        e0 = dx0 * (y - yb) - dy0 * (x - xb) - _least(dx0, dy0)
        e1 = dx1 * (y - yc) - dy1 * (x - xc) - _least(dx1, dy1)
        e2 = dx2 * (y - y0) - dy2 * (x - x0) - _least(dx2, dy2)
        e3 = e0 - sixteen * dy0  # one pixel to the right
        e4 = e1 - sixteen * dy1
        e5 = e2 - sixteen * dy2
        u0, u1, u2 = sixteen * dx0, sixteen * dx1, sixteen * dx2  # one row up
        in_columns = left >= zero and left <= last_column
        in_right = columns >= one and left + one >= zero and left + one <= last_column
        in_rows = low >= lowest and low <= highest
        in_upper = rows >= one and low + one >= lowest and low + one <= highest
        covered = one if min(min(e0, e1), e2) >= zero and in_columns and in_rows else zero
        if min(min(e3, e4), e5) >= zero and in_right and in_rows:
            covered += np.float32(2.0)
        if min(min(e0 + u0, e1 + u1), e2 + u2) >= zero and in_columns and in_upper:
            covered += np.float32(4.0)
        if min(min(e3 + u0, e4 + u1), e5 + u2) >= zero and in_right and in_upper:
            covered += np.float32(8.0)
        if columns > one or rows > one:
            covered = np.float32(_LARGE)
        s[_COVERED, k] = covered if columns >= zero and rows >= zero else zero


@jit(inline=True)
def _least(dx, dy):
    """The least value inside: left and bottom edges own the samples on them, others need one unit."""
    return np.float32(0.0) if dy < 0 or (dy == 0 and dx > 0) else np.float32(1.0)


@jit
def _clip_code(x, y, z, w):
    """Bits for the planes -x, +x, -y, +y, -z, +z that a vertex lies outside of, strictly."""
    if not (np.isfinite(x) and np.isfinite(y) and np.isfinite(z) and np.isfinite(w)):
        return _UNUSABLE
    code = 0
    if x < -w:
        code |= 1
    if x > w:
        code |= 2
    if y < -w:
        code |= 4
    if y > w:
        code |= 8
    if z < -w:
        code |= 16
    if z > w:
        code |= 32
    if code == 0 and w < _MIN_W:
        return _UNUSABLE
    return code


@jit
def _snap(x, y, z, w, height, width):
    """Sixteenths of a pixel from the centre of pixel (0, 0), and z/w; in float32 as nvdiffrast."""
    reciprocal = np.float32(1.0) / w
    sx = np.rint((x * reciprocal) * np.float32(8 * width))
    sy = np.rint((y * reciprocal) * np.float32(8 * height))
    return np.int64(sx) + 8 * width - 8, np.int64(sy) + 8 * height - 8, z * reciprocal


@jit
def _draw_clipped(polygon, any_code, t, height, width, row_start, row_stop, behind, keys):
    """Clip polygon[0, :3] to the planes that a vertex violates, and draw it as a fan."""
    source, count = 0, 3
    for plane in range(6):
        axis = plane // 2
        if not any_code & (3 << (2 * axis)):
            continue
        sign = 1.0 if plane % 2 == 0 else -1.0
        kept = 0
        for k in range(count):
            p, q = polygon[source, k], polygon[source, (k + 1) % count]
            p_inside, q_inside = p[3] + sign * p[axis], q[3] + sign * q[axis]
            if p_inside >= 0.0:
                for i in range(4):
                    polygon[1 - source, kept, i] = p[i]
                kept += 1
            if (p_inside >= 0.0) != (q_inside >= 0.0):
                # From inside to outside whatever the direction: both triangles of an edge cut
                # alike.
                if p_inside < q_inside:
                    p, q, p_inside, q_inside = q, p, q_inside, p_inside
                fraction = p_inside / (p_inside - q_inside)
                for i in range(4):
                    polygon[1 - source, kept, i] = p[i] + fraction * (q[i] - p[i])
                polygon[1 - source, kept, axis] = -sign * polygon[1 - source, kept, 3]
                kept += 1
        source, count = 1 - source, kept
        if count < 3:
            return
    corners = polygon[source]
    for k in range(count):
        if not corners[k, 3] >= _MIN_W:
            return
    x0, y0, z0 = _snap_corner(corners[0], height, width)
    x1, y1, z1 = _snap_corner(corners[1], height, width)
    for k in range(2, count):
        x2, y2, z2 = _snap_corner(corners[k], height, width)
        _draw(x0, y0, x1, y1, x2, y2, z0, z1, z2, t, row_start, row_stop, width, behind, keys)
        x1, y1, z1 = x2, y2, z2


@jit
def _snap_corner(p, height, width):
    return _snap(
        np.float32(p[0]), np.float32(p[1]), np.float32(p[2]), np.float32(p[3]), height, width
    )


@jit
def _draw(x0, y0, x1, y1, x2, y2, z0, z1, z2, t, row_start, row_stop, width, behind, keys):
    """Lower the key of every pixel whose centre lies in the snapped triangle, `behind` the last layer."""
    # Pixel i sits at 16 i.
    i_start = max((min(x0, x1, x2) + 15) >> 4, 0)
    i_stop = min(max(x0, x1, x2) >> 4, width - 1) + 1
    j_start = max((min(y0, y1, y2) + 15) >> 4, row_start)
    j_stop = min((max(y0, y1, y2) >> 4) + 1, row_stop)
    if i_start >= i_stop or j_start >= j_stop:
        return
    area, d0, d1, d2 = _depth_plane(x0, y0, x1, y1, x2, y2, z0, z1, z2)
    if area == 0:
        return
    if area < 0:  # the back: drawn too, in counter-clockwise order
        x1, y1, x2, y2, d1, d2 = x2, y2, x1, y1, d2, d1
    # Edge k faces vertex k; its function is the (doubled) area that a sample spans with it.
    dx0, dy0 = x2 - x1, y2 - y1
    dx1, dy1 = x0 - x2, y0 - y2
    dx2, dy2 = x1 - x0, y1 - y0
    least0, least1 = np.int64(_least(dx0, dy0)), np.int64(_least(dx1, dy1))
    least2 = np.int64(_least(dx2, dy2))
    for j in range(j_start, j_stop):
        e0 = dx0 * (16 * j - y1) - dy0 * (16 * i_start - x1) - least0
        e1 = dx1 * (16 * j - y2) - dy1 * (16 * i_start - x2) - least1
        e2 = dx2 * (16 * j - y0) - dy2 * (16 * i_start - x0) - least2
        for i in range(i_start, i_stop):
            if (e0 | e1 | e2) >= 0:
                depth = np.int64(d0 + d1 * (e1 + least1) + d2 * (e2 + least2))
                _keep_nearest(depth, t, j - row_start, i, behind, keys)
            e0 -= 16 * dy0
            e1 -= 16 * dy1
            e2 -= 16 * dy2


@jit(inline=True)
def _depth_plane(x0, y0, x1, y1, x2, y2, z0, z1, z2):
    """Twice the signed area, and d0, d1, d2: the depth is d0 + d1 e1 + d2 e2 on the 32-bit scale.

    e1 and e2 are the areas opposite to the second and the third vertex, counted as positive.
    """
    area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
    scale = 0.5 * _DEPTH_SPAN / abs(np.float64(area))
    d0 = _DEPTH_NEAR + 0.5 * _DEPTH_SPAN * (np.float64(z0) + 1.0)
    d1 = (np.float64(z1) - np.float64(z0)) * scale
    d2 = (np.float64(z2) - np.float64(z0)) * scale
    return area, d0, d1, d2


@jit(inline=True)
def _keep_nearest(depth, t, row, column, behind, keys):
    key = (min(max(depth, 0), 4294967295) << 31) | (_INDEX_MASK - t)
    if len(behind) == 0:
        keys[row, column] = min(keys[row, column], key)
    elif key > behind[row, column]:
        keys[row, column] = min(keys[row, column], key)


@jit
def _resolve(pos, tri, keys, height, width, row_start, rast, rast_db):
    """Barycentrics, depth, id and pixel derivatives of the triangle in each key."""
    s = np.empty((_RESOLVED, PIXELS))
    corners, columns = np.empty((3, PIXELS), np.uint32), np.empty(PIXELS, np.uint32)
    zero = np.float32(0.0)
    for row in range(keys.shape[0]):
        j = row + row_start
        ndc_y = (2 * j + 1) / height - 1.0
        n = 0
        for i in range(width):
            key = keys[row, i]
            if key == _EMPTY:
                for channel in range(4):
                    rast[j, i, channel] = zero
                for channel in range(rast_db.shape[2]):
                    rast_db[j, i, channel] = zero
            else:
                t = _INDEX_MASK - (key & _INDEX_MASK)
                corners[0, n], corners[1, n], corners[2, n] = tri[t, 0], tri[t, 1], tri[t, 2]
                columns[n] = i
                s[_X, n] = (2 * i + 1) / width - 1.0
                rast[j, i, 3] = _encode_id(t + 1)
                n += 1
            if n == PIXELS or (i == width - 1 and n):
                gather_corners(pos, corners, n, s)
                for corner in range(3):
                    for k in range(n):
                        s[_ZA + corner, k] = pos[corners[corner, k], 2]
                _resolve_pixels(n, ndc_y, s)
                for k in range(n):
                    rast[j, columns[k], 0] = s[_U, k]
                    rast[j, columns[k], 1] = s[_V, k]
                    rast[j, columns[k], 2] = s[_DEPTH, k]
                if rast_db.shape[2]:
                    _differentiate_pixels(n, j, height, width, columns, s, rast_db)
                n = 0


@jit(inline=True)
def gather_corners(pos, corners, n, s):
    """Rows 0 to 8 of s: x, y, w of the first, the second and the third corner of n triangles."""
    for corner in range(3):
        for k in range(n):
            v = corners[corner, k]
            s[3 * corner, k], s[3 * corner + 1, k] = pos[v, 0], pos[v, 1]
            s[3 * corner + 2, k] = pos[v, 3]


@jit(inline=True)
def _resolve_pixels(n, ndc_y, s):
    for k in range(n):
        ndc_x = s[_X, k]
        wa, wb, wc = s[_XA + 2, k], s[_XB + 2, k], s[_XC + 2, k]
        # q_k = (x_k - X w_k, y_k - Y w_k); E_k = cross(q_k+1, q_k+2), also behind the eye.
        qax, qay = s[_XA, k] - ndc_x * wa, s[_XA + 1, k] - ndc_y * wa
        qbx, qby = s[_XB, k] - ndc_x * wb, s[_XB + 1, k] - ndc_y * wb
        qcx, qcy = s[_XC, k] - ndc_x * wc, s[_XC + 1, k] - ndc_y * wc
        e0 = qbx * qcy - qby * qcx
        e1 = qcx * qay - qcy * qax
        e2 = qax * qby - qay * qbx
        inverse = 1.0 / (e0 + e1 + e2)
        u = _clamp(e0 * inverse, 0.0, 1.0, 0.0)
        v = _clamp(e1 * inverse, 0.0, 1.0, 0.0)
        norm = max(u + v, 1.0)
        z = s[_ZA, k] * e0 + s[_ZB, k] * e1 + s[_ZC, k] * e2
        s[_U, k], s[_V, k], s[_INVERSE, k] = u / norm, v / norm, inverse
        s[_DEPTH, k] = _clamp(z / (wa * e0 + wb * e1 + wc * e2), -1.0, 1.0, 1.0)


@jit(inline=True)
def _differentiate_pixels(n, j, height, width, columns, s, rast_db):
    for k in range(n):
        xa, ya, wa = s[_XA, k], s[_XA + 1, k], s[_XA + 2, k]
        xb, yb, wb = s[_XB, k], s[_XB + 1, k], s[_XB + 2, k]
        xc, yc, wc = s[_XC, k], s[_XC + 1, k], s[_XC + 2, k]
        u, v, inverse = s[_U, k], s[_V, k], s[_INVERSE, k]
        e0x, e1x = yb * wc - yc * wb, yc * wa - ya * wc
        e0y, e1y = xc * wb - xb * wc, xa * wc - xc * wa
        sum_x = e0x + e1x + (ya * wb - yb * wa)
        sum_y = e0y + e1y + (xb * wa - xa * wb)
        step_x, step_y = 2.0 * inverse / width, 2.0 * inverse / height
        i = columns[k]
        rast_db[j, i, 0] = (e0x - u * sum_x) * step_x
        rast_db[j, i, 1] = (e0y - u * sum_y) * step_y
        rast_db[j, i, 2] = (e1x - v * sum_x) * step_x
        rast_db[j, i, 3] = (e1y - v * sum_y) * step_y


@jit(inline=True)
def _clamp(value, low, high, if_nan):
    inside = min(max(value, low), high)
    return inside if value == value else if_nan


@jit
def _encode_id(number):
    """A triangle number as float32: itself up to 2^24, then by counting on in the bit pattern."""
    if number <= 16777216:
        return np.float32(number)
    return np.int32(0x4B800000 + (number - 16777216)).view(np.float32)


@jit
def decode_id(value):
    """The triangle number in the fourth channel of `rast`; 0 where empty or not a number."""
    if not value > 0.0:
        return np.int64(0)
    if value <= 16777216.0:
        return np.int64(value)
    return np.int64(np.float32(value).view(np.int32)) - 0x4B800000 + 16777216
