"""The CPU kernels of the shading: irradiance of normals, and the pass over a whole G-buffer.

Light comes as a quadric: nine rows of RGB for the monomials 1, x, y, z, xy, yz, z^2, xz, x^2 - y^2 of
the normal (`sh_lambert.quadric`).
"""

# mypy: disallow-untyped-defs=False, check-untyped-defs=False

import numpy as np

from mofa_nvdr.dr.parallel import jit

_NO_LENGTH = np.float32(1e-12)


@jit
def _evaluate(q, c, x, y, z):
    """Irradiance of channel c at the normal (x, y, z)."""
    return (
        q[0, c]
        + x * (q[1, c] + y * q[4, c] + z * q[7, c] + x * q[8, c])
        + y * (q[2, c] + z * q[5, c] - y * q[8, c])
        + z * (q[3, c] + z * q[6, c])
    )


@jit
def _add_quadric(sums, c, g, x, y, z):
    """sums[:, c] += g times the monomials."""
    sums[0, c] += g
    sums[1, c] += g * x
    sums[2, c] += g * y
    sums[3, c] += g * z
    sums[4, c] += g * x * y
    sums[5, c] += g * y * z
    sums[6, c] += g * z * z
    sums[7, c] += g * x * z
    sums[8, c] += g * (x * x - y * y)


@jit
def irradiance(normals, q, start, stop, out):
    """Irradiance [P, 3] of the normals [P, 3] from start to stop."""
    for p in range(start, stop):
        x, y, z = normals[p, 0], normals[p, 1], normals[p, 2]
        for c in range(3):
            out[p, c] = _evaluate(q, c, x, y, z)


@jit
def irradiance_backward(normals, q, grad, start, stop, grad_normals, grad_q):
    """Gradients of normals [P, 3] and, summed, of the quadric [9, 3] float64."""
    grad_q[:] = 0.0
    for p in range(start, stop):
        x, y, z = normals[p, 0], normals[p, 1], normals[p, 2]
        gx, gy, gz = np.float32(0.0), np.float32(0.0), np.float32(0.0)
        for c in range(3):
            g = grad[p, c]
            gx += g * (q[1, c] + y * q[4, c] + z * q[7, c] + np.float32(2.0) * x * q[8, c])
            gy += g * (q[2, c] + x * q[4, c] + z * q[5, c] - np.float32(2.0) * y * q[8, c])
            gz += g * (q[3, c] + y * q[5, c] + x * q[7, c] + np.float32(2.0) * z * q[6, c])
            _add_quadric(grad_q, c, g, x, y, z)
        grad_normals[p, 0], grad_normals[p, 1], grad_normals[p, 2] = gx, gy, gz


@jit
def shade_rows(buffer, rast, q, start, stop, image, albedo, normal, shading, rest, mask):
    """Shade rows of a G-buffer [H, W, C] into planes [., H, W] that are upside down to it."""
    height, width, channels = buffer.shape
    zero = np.float32(0.0)
    for j in range(start, stop):
        row = height - 1 - j
        for i in range(width):
            if not rast[j, i, 3] > zero:
                mask[0, row, i] = zero
                for c in range(3):
                    image[c, row, i] = zero
                    albedo[c, row, i] = zero
                    normal[c, row, i] = zero
                    shading[c, row, i] = zero
                for c in range(channels - 6):
                    rest[c, row, i] = zero
                continue
            mask[0, row, i] = np.float32(1.0)
            x, y, z = buffer[j, i, 0], buffer[j, i, 1], buffer[j, i, 2]
            inverse = np.float32(1.0) / max(np.sqrt(x * x + y * y + z * z), _NO_LENGTH)
            x, y, z = x * inverse, y * inverse, z * inverse
            normal[0, row, i], normal[1, row, i], normal[2, row, i] = x, y, z
            for c in range(3):
                light = _evaluate(q, c, x, y, z)
                shading[c, row, i] = light
                albedo[c, row, i] = buffer[j, i, 3 + c]
                image[c, row, i] = buffer[j, i, 3 + c] * light
            for c in range(channels - 6):
                rest[c, row, i] = buffer[j, i, 6 + c]


@jit
def shade_rows_backward(
    buffer,
    rast,
    q,
    g_image,
    g_albedo,
    g_normal,
    g_shading,
    g_rest,
    start,
    stop,
    grad_buffer,
    grad_q,
):
    """Gradients of the G-buffer and, summed, of the quadric; a gradient without planes is zero."""
    height, width, channels = buffer.shape
    zero, two = np.float32(0.0), np.float32(2.0)
    grad_q[:] = 0.0
    for j in range(start, stop):
        row = height - 1 - j
        for i in range(width):
            if not rast[j, i, 3] > zero:
                for c in range(channels):
                    grad_buffer[j, i, c] = zero
                continue
            x, y, z = buffer[j, i, 0], buffer[j, i, 1], buffer[j, i, 2]
            inverse = np.float32(1.0) / max(np.sqrt(x * x + y * y + z * z), _NO_LENGTH)
            x, y, z = x * inverse, y * inverse, z * inverse
            gx, gy, gz = zero, zero, zero
            if len(g_normal):
                gx, gy, gz = g_normal[0, row, i], g_normal[1, row, i], g_normal[2, row, i]
            for c in range(3):
                g = g_shading[c, row, i] if len(g_shading) else zero
                g_color = g_albedo[c, row, i] if len(g_albedo) else zero
                if len(g_image):
                    g += g_image[c, row, i] * buffer[j, i, 3 + c]
                    g_color += g_image[c, row, i] * _evaluate(q, c, x, y, z)
                grad_buffer[j, i, 3 + c] = g_color
                gx += g * (q[1, c] + y * q[4, c] + z * q[7, c] + two * x * q[8, c])
                gy += g * (q[2, c] + x * q[4, c] + z * q[5, c] - two * y * q[8, c])
                gz += g * (q[3, c] + y * q[5, c] + x * q[7, c] + two * z * q[6, c])
                _add_quadric(grad_q, c, g, x, y, z)
            along = gx * x + gy * y + gz * z  # the length has no part in the result
            grad_buffer[j, i, 0] = (gx - along * x) * inverse
            grad_buffer[j, i, 1] = (gy - along * y) * inverse
            grad_buffer[j, i, 2] = (gz - along * z) * inverse
            for c in range(channels - 6):
                grad_buffer[j, i, 6 + c] = g_rest[c, row, i] if len(g_rest) else zero
