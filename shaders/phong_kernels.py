"""The CPU kernels of Phong's reflection model, for rows of a picture and for points.

As in `gbuffer_kernels` a block of pixels is in the rows of a small table, and the arithmetic runs along
the rows; only the power of the highlights goes pixel by pixel, and only where one can be seen.

`extra` holds what is interpolated in addition to normals and albedo: the position, then specular colour and
shininess if they differ from vertex to vertex. `lights` [L, 6] are places and colours. `constants` are the
ambient light and, with highlights, specular colour and shininess of the image; an eighth number, whatever it
is, says that the eye is infinitely far along +z.
"""

# mypy: disallow-untyped-defs=False, check-untyped-defs=False

import numpy as np

from mofa_nvdr.dr.parallel import jit
from mofa_nvdr.dr.rasterize_backward_kernels import TABLE, add_pixels
from mofa_nvdr.dr.rasterize_kernels import PIXELS
from mofa_nvdr.shaders.gbuffer_kernels import (
    ALBEDO,
    BLOCK,
    GATHERED,
    MASK,
    NORMAL,
    add_six,
    along_six,
    dot,
    gather_attributes,
    normalize,
    normalize_backward,
    put_pixel,
)

_ZERO, _ONE, _TWO = np.float32(0.0), np.float32(1.0), np.float32(2.0)
# Squared length (mm^2) up to which a vector has no direction; reflection . view up to which nothing
# shines.
NO_LENGTH, NO_SHINE = 1e-12, 1e-6
_NO_LENGTH, _NO_SHINE = np.float32(NO_LENGTH), np.float32(NO_SHINE)
_NOTHING = np.float32(-80.0)  # the logarithm of a power that no sum of colours sees
# The rows of the table, after those that are gathered. Position, specular colour, shininess are in a row.
_POSITION, _SPECULAR, _SHININESS = GATHERED, GATHERED + 3, GATHERED + 6
_LIGHT, _SHINE, _IMAGE, _VIEW, _VIEW_INVERSE, _FACING = 15, 18, 21, 24, 27, 28
_TO, _TO_INVERSE, _COSINE, _MIRROR, _LOG, _POWER = 29, 32, 33, 34, 35, 36
_G_NORMAL, _G_ALBEDO, _G_EXTRA, _G_VIEW, _G_TO = 37, 40, 43, 50, 53
_OF_ALBEDO, _OF_SPECULAR, _ROWS = 56, 59, 62


@jit
def phong_rows(normals, albedo, extra, lights, constants, rast, tri, start, stop, image, mask):
    """Shade rows of rast [H, W, 4] into planes [., H, W] that are upside down to it."""
    height, width = rast.shape[0], rast.shape[1]
    s = np.zeros((_ROWS, BLOCK), np.float32)
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
            _gather_extra(extra, rast, j, left, n, corners, s)
            normalize(n, s)
            _shade(lights, constants, extra.shape[1], n, s)
            covered = mask[0, row, left : left + n]
            for k in range(n):
                covered[k] = s[MASK, k]
            for c in range(3):
                shaded = image[c, row, left : left + n]
                for k in range(n):
                    shaded[k] = s[_IMAGE + c, k]


@jit
def phong_rows_backward(
    pos, normals, albedo, extra, lights, constants, rast, tri, g_image, g_rast, start, stop,
    with_rast, grad_rast, sums, extra_sums, pos_sums, g_lights, g_constants,
):  # fmt: skip
    """As `gbuffer_kernels.shade_rows_backward`; the gradients of lights and constants are added up."""
    height, width = rast.shape[0], rast.shape[1]
    s = np.zeros((_ROWS, BLOCK), np.float32)
    corners = np.empty((3, BLOCK), np.uint32)
    with_pos = len(pos) > 0
    count = extra.shape[1]
    table, table_corners, m = np.zeros((TABLE, PIXELS)), np.empty((3, PIXELS), np.uint32), 0
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
            _gather_extra(extra, rast, j, left, n, corners, s)
            for c in range(3):
                given = g_image[c, row, left : left + n]
                for k in range(n):
                    s[_IMAGE + c, k] = given[k] if s[MASK, k] > _ZERO else _ZERO
            normalize(n, s)
            _shade_backward(lights, constants, count, n, s, g_lights, g_constants)
            normalize_backward(_G_NORMAL, n, s)
            for k in range(n):
                if s[MASK, k] == _ZERO:
                    if with_rast:
                        grad_rast[j, left + k] = _ZERO
                    continue
                i = left + k
                a, b, c = corners[0, k], corners[1, k], corners[2, k]
                u, v = np.float64(rast[j, i, 0]), np.float64(rast[j, i, 1])
                w = 1.0 - u - v
                g0, g1 = np.float64(s[_G_NORMAL, k]), np.float64(s[_G_NORMAL + 1, k])
                g2, g3 = np.float64(s[_G_NORMAL + 2, k]), np.float64(s[_G_ALBEDO, k])
                g4, g5 = np.float64(s[_G_ALBEDO + 1, k]), np.float64(s[_G_ALBEDO + 2, k])
                add_six(sums, a, u, g0, g1, g2, g3, g4, g5)
                add_six(sums, b, v, g0, g1, g2, g3, g4, g5)
                add_six(sums, c, w, g0, g1, g2, g3, g4, g5)
                grad_u = np.float64(along_six(normals, albedo, a, c, k, _G_NORMAL, _G_ALBEDO, s))
                grad_v = np.float64(along_six(normals, albedo, b, c, k, _G_NORMAL, _G_ALBEDO, s))
                for e in range(count):
                    g = np.float64(s[_G_EXTRA + _place(e, count), k])
                    extra_sums[a, e] += u * g
                    extra_sums[b, e] += v * g
                    extra_sums[c, e] += w * g
                    grad_u += g * (extra[a, e] - extra[c, e])
                    grad_v += g * (extra[b, e] - extra[c, e])
                if with_rast:
                    grad_rast[j, i, 0], grad_rast[j, i, 1] = grad_u, grad_v
                    grad_rast[j, i, 2], grad_rast[j, i, 3] = _ZERO, _ZERO
                if not with_pos:
                    continue
                if len(g_rast):
                    grad_u += g_rast[j, i, 0]
                    grad_v += g_rast[j, i, 1]
                ndc_x = (2 * i + 1) / width - 1.0
                put_pixel(a, b, c, grad_u, grad_v, ndc_x, ndc_y, m, table_corners, table)
                m += 1
                if m == PIXELS:
                    add_pixels(pos, table_corners, m, False, table, pos_sums)
                    m = 0
    if m:
        add_pixels(pos, table_corners, m, False, table, pos_sums)


@jit
def phong_points(normals, albedo, extra, lights, constants, start, stop, out):
    """The colours [P, 3] of points from start to stop."""
    s = np.zeros((_ROWS, BLOCK), np.float32)
    for first in range(start, stop, BLOCK):
        n = min(BLOCK, stop - first)
        _load(normals, albedo, extra, first, n, s)
        _shade(lights, constants, extra.shape[1], n, s)
        for k in range(n):
            for c in range(3):
                out[first + k, c] = s[_IMAGE + c, k]


@jit
def phong_points_backward(
    normals, albedo, extra, lights, constants, grad, start, stop, g_normals, g_albedo, g_extra,
    g_lights, g_constants,
):  # fmt: skip
    """Gradients of points from start to stop; those of lights and constants are added up."""
    s = np.zeros((_ROWS, BLOCK), np.float32)
    count = extra.shape[1]
    for first in range(start, stop, BLOCK):
        n = min(BLOCK, stop - first)
        _load(normals, albedo, extra, first, n, s)
        for k in range(n):
            for c in range(3):
                s[_IMAGE + c, k] = grad[first + k, c]
        _shade_backward(lights, constants, count, n, s, g_lights, g_constants)
        for k in range(n):
            for c in range(3):
                g_normals[first + k, c] = s[_G_NORMAL + c, k]
                g_albedo[first + k, c] = s[_G_ALBEDO + c, k]
            for e in range(count):
                g_extra[first + k, e] = s[_G_EXTRA + _place(e, count), k]


@jit(inline=True)
def _place(e, count):
    """Where column e of `extra` lies among position, specular colour and shininess."""
    return 6 if count == 4 and e == 3 else e


@jit(inline=True)
def _load(normals, albedo, extra, first, n, s):
    count = extra.shape[1]
    for k in range(n):
        s[MASK, k] = _ONE
        for c in range(3):
            s[NORMAL + c, k], s[ALBEDO + c, k] = normals[first + k, c], albedo[first + k, c]
        for e in range(count):
            s[_POSITION + _place(e, count), k] = extra[first + k, e]


@jit(inline=True)
def _gather_extra(extra, rast, j, left, n, corners, s):
    """Interpolate `extra` over n pixels; zeros where no triangle is."""
    count = extra.shape[1]
    for k in range(n):
        if s[MASK, k] == _ZERO:
            for e in range(count):
                s[_POSITION + _place(e, count), k] = _ZERO
            continue
        a, b, c = corners[0, k], corners[1, k], corners[2, k]
        u, v = rast[j, left + k, 0], rast[j, left + k, 1]
        w = _ONE - u - v
        for e in range(count):
            value = u * extra[a, e] + v * extra[b, e] + w * extra[c, e]
            s[_POSITION + _place(e, count), k] = value


@jit(inline=True)
def _look(constants, count, n, s):
    """The direction to the eye, and what the highlights need of it; sums of light start with the ambient."""
    for c in range(3):
        for k in range(n):
            s[_LIGHT + c, k], s[_SHINE + c, k] = constants[c], _ZERO
    if len(constants) == 3:
        return
    if len(constants) > 7:
        # No inverse distance: the direction to the eye does not follow the position.
        for k in range(n):
            s[_VIEW, k], s[_VIEW + 1, k], s[_VIEW + 2, k] = _ZERO, _ZERO, _ONE
            s[_VIEW_INVERSE, k], s[_FACING, k] = _ZERO, s[NORMAL + 2, k]
    else:
        for k in range(n):
            x, y, z = s[_POSITION, k], s[_POSITION + 1, k], s[_POSITION + 2, k]
            squared = x * x + y * y + z * z
            inverse = _ONE / np.sqrt(squared) if squared > _NO_LENGTH else _ZERO
            x, y, z = -x * inverse, -y * inverse, -z * inverse
            s[_VIEW, k], s[_VIEW + 1, k], s[_VIEW + 2, k], s[_VIEW_INVERSE, k] = x, y, z, inverse
            s[_FACING, k] = s[NORMAL, k] * x + s[NORMAL + 1, k] * y + s[NORMAL + 2, k] * z
    if count < 6:
        for c in range(3):
            for k in range(n):
                s[_SPECULAR + c, k] = constants[3 + c]
    if count == 3 or count == 6:
        for k in range(n):
            s[_SHININESS, k] = constants[6]


@jit(inline=True)
def _light_up(lights, m, n, s):
    """Light m: its direction, its cosine and, for the highlights, reflection . view; 0 for what is behind."""
    lx, ly, lz = lights[m, 0], lights[m, 1], lights[m, 2]
    for k in range(n):
        x, y, z = lx - s[_POSITION, k], ly - s[_POSITION + 1, k], lz - s[_POSITION + 2, k]
        squared = x * x + y * y + z * z
        inverse = _ONE / np.sqrt(squared) if squared > _NO_LENGTH else _ZERO
        x, y, z = x * inverse, y * inverse, z * inverse
        s[_TO, k], s[_TO + 1, k], s[_TO + 2, k], s[_TO_INVERSE, k] = x, y, z, inverse
        cosine = x * s[NORMAL, k] + y * s[NORMAL + 1, k] + z * s[NORMAL + 2, k]
        along = x * s[_VIEW, k] + y * s[_VIEW + 1, k] + z * s[_VIEW + 2, k]
        s[_COSINE, k] = cosine if cosine > _ZERO else _ZERO
        s[_MIRROR, k] = _TWO * cosine * s[_FACING, k] - along if cosine > _ZERO else _ZERO


@jit(inline=True)
def _shine(n, s):
    """Take reflection . view to the power of the shininess, and its logarithm."""
    for k in range(n):
        s[_POWER, k], s[_LOG, k] = _ZERO, _ZERO
        if s[_MIRROR, k] > _NO_SHINE:
            log = np.log(s[_MIRROR, k])
            exponent = s[_SHININESS, k] * log
            if exponent > _NOTHING:
                s[_POWER, k], s[_LOG, k] = np.exp(exponent), log


@jit(inline=True)
def _shade(lights, constants, count, n, s):
    """The colours of n points."""
    _look(constants, count, n, s)
    shiny = len(constants) > 3
    for m in range(len(lights)):
        _light_up(lights, m, n, s)
        if shiny:
            _shine(n, s)
        for c in range(3):
            color = lights[m, 3 + c]
            for k in range(n):
                s[_LIGHT + c, k] += color * s[_COSINE, k]
            if shiny:
                for k in range(n):
                    s[_SHINE + c, k] += color * s[_POWER, k]
    for c in range(3):
        for k in range(n):
            s[_IMAGE + c, k] = s[ALBEDO + c, k] * s[_LIGHT + c, k]
        if shiny:
            for k in range(n):
                s[_IMAGE + c, k] += s[_SPECULAR + c, k] * s[_SHINE + c, k]


@jit(inline=True)
def _shade_backward(lights, constants, count, n, s, g_lights, g_constants):
    """From the gradient of the colours to those of normal, albedo, extra, lights and constants."""
    _look(constants, count, n, s)
    shiny = len(constants) > 3
    for row in range(_G_NORMAL, _G_TO):
        for k in range(n):
            s[row, k] = _ZERO
    for c in range(3):
        for k in range(n):
            s[_OF_ALBEDO + c, k] = s[_IMAGE + c, k] * s[ALBEDO + c, k]
        g_constants[c] += dot(s, _OF_ALBEDO + c, MASK, n)
        if shiny:
            for k in range(n):
                s[_OF_SPECULAR + c, k] = s[_IMAGE + c, k] * s[_SPECULAR + c, k]
    for m in range(len(lights)):
        _light_up(lights, m, n, s)
        if shiny:
            _shine(n, s)
        for c in range(3):
            color = lights[m, 3 + c]
            for k in range(n):
                s[_LIGHT + c, k] += color * s[_COSINE, k]
            total = dot(s, _OF_ALBEDO + c, _COSINE, n)
            if shiny:
                for k in range(n):
                    s[_SHINE + c, k] += color * s[_POWER, k]
                total += dot(s, _OF_SPECULAR + c, _POWER, n)
            g_lights[m, 3 + c] += total
        _light_up_backward(lights, m, shiny, n, s)
        for c in range(3):
            g_lights[m, c] += dot(s, _G_TO + c, MASK, n)
    for c in range(3):
        for k in range(n):
            s[_G_ALBEDO + c, k] = s[_IMAGE + c, k] * s[_LIGHT + c, k]
    if not shiny:
        return
    for c in range(3):
        for k in range(n):
            s[_G_EXTRA + 3 + c, k] = s[_IMAGE + c, k] * s[_SHINE + c, k]
        if count < 6:
            g_constants[3 + c] += dot(s, _G_EXTRA + 3 + c, MASK, n)
    if count == 3 or count == 6:
        g_constants[6] += dot(s, _G_EXTRA + 6, MASK, n)
    for k in range(n):
        x, y, z = s[_VIEW, k], s[_VIEW + 1, k], s[_VIEW + 2, k]
        gx, gy, gz = s[_G_VIEW, k], s[_G_VIEW + 1, k], s[_G_VIEW + 2, k]
        along, inverse = gx * x + gy * y + gz * z, s[_VIEW_INVERSE, k]
        s[_G_EXTRA, k] -= (gx - along * x) * inverse
        s[_G_EXTRA + 1, k] -= (gy - along * y) * inverse
        s[_G_EXTRA + 2, k] -= (gz - along * z) * inverse


@jit(inline=True)
def _light_up_backward(lights, m, shiny, n, s):
    """Add light m's share of the gradients of normal, view, position and shininess; rows _G_TO: its place."""
    red, green, blue = lights[m, 3], lights[m, 4], lights[m, 5]
    for k in range(n):
        x, y, z = s[_TO, k], s[_TO + 1, k], s[_TO + 2, k]
        g = red * s[_OF_ALBEDO, k] + green * s[_OF_ALBEDO + 1, k] + blue * s[_OF_ALBEDO + 2, k]
        g = g if s[_COSINE, k] > _ZERO else _ZERO
        tx, ty, tz = g * s[NORMAL, k], g * s[NORMAL + 1, k], g * s[NORMAL + 2, k]
        nx, ny, nz = g * x, g * y, g * z
        if shiny:
            h = red * s[_OF_SPECULAR, k] + green * s[_OF_SPECULAR + 1, k]
            h = (h + blue * s[_OF_SPECULAR + 2, k]) * s[_POWER, k]
            s[_G_EXTRA + 6, k] += h * s[_LOG, k]
            # Of reflection . view = 2 cosine facing - to . view; the power is 0 where the mirror is small.
            h = h * s[_SHININESS, k] / max(s[_MIRROR, k], _NO_SHINE)
            a, b = _TWO * h * s[_FACING, k], _TWO * h * s[_COSINE, k]
            vx, vy, vz = s[_VIEW, k], s[_VIEW + 1, k], s[_VIEW + 2, k]
            nx, ny, nz = nx + a * x + b * vx, ny + a * y + b * vy, nz + a * z + b * vz
            tx, ty, tz = (
                tx + a * s[NORMAL, k] - h * vx,
                ty + a * s[NORMAL + 1, k] - h * vy,
                tz + a * s[NORMAL + 2, k] - h * vz,
            )
            s[_G_VIEW, k] += b * s[NORMAL, k] - h * x
            s[_G_VIEW + 1, k] += b * s[NORMAL + 1, k] - h * y
            s[_G_VIEW + 2, k] += b * s[NORMAL + 2, k] - h * z
        s[_G_NORMAL, k] += nx
        s[_G_NORMAL + 1, k] += ny
        s[_G_NORMAL + 2, k] += nz
        along, inverse = tx * x + ty * y + tz * z, s[_TO_INVERSE, k]
        tx, ty, tz = (
            (tx - along * x) * inverse,
            (ty - along * y) * inverse,
            (tz - along * z) * inverse,
        )
        s[_G_TO, k], s[_G_TO + 1, k], s[_G_TO + 2, k] = tx, ty, tz
        s[_G_EXTRA, k] -= tx
        s[_G_EXTRA + 1, k] -= ty
        s[_G_EXTRA + 2, k] -= tz
