"""The CPU kernels of the shading: irradiance of normals.

Light comes as a quadric: nine rows of RGB for the monomials 1, x, y, z, xy, yz, z^2, xz, x^2 - y^2 of
the normal (`sh_lambert.quadric`).
"""

# mypy: disallow-untyped-defs=False, check-untyped-defs=False

import numpy as np

from mofa_nvdr.dr.parallel import jit
from mofa_nvdr.shaders.gbuffer_kernels import (
    ALBEDO,
    BLOCK,
    G_ALBEDO,
    G_NORMAL,
    IMAGE,
    LIGHT,
    MASK,
    NORMAL,
    ROWS,
    irradiance_of_block,
    shade_block_backward,
)


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
def lambert(normals, albedo, q, start, stop, out):
    """Albedo times irradiance of points from start to stop, [P, 3] all."""
    s = np.empty((ROWS, BLOCK), np.float32)
    for first in range(start, stop, BLOCK):
        n = min(BLOCK, stop - first)
        _load(normals[first : first + n], albedo[first : first + n], n, s)
        shaded = out[first : first + n]
        for c in range(3):
            irradiance_of_block(q, c, n, s)
        for k in range(n):
            for c in range(3):
                shaded[k, c] = s[ALBEDO + c, k] * s[LIGHT + c, k]


@jit
def lambert_backward(normals, albedo, q, grad, start, stop, grad_normals, grad_albedo, grad_q):
    """Gradients of normals and albedo [P, 3] and, summed, of the quadric [9, 3] float64."""
    s = np.empty((ROWS, BLOCK), np.float32)
    grad_q[:] = 0.0
    for first in range(start, stop, BLOCK):
        n = min(BLOCK, stop - first)
        _load(normals[first : first + n], albedo[first : first + n], n, s)
        given = grad[first : first + n]
        for k in range(n):
            for c in range(3):
                s[IMAGE + c, k] = given[k, c]
        shade_block_backward(q, n, s, grad_q)
        of_normals, of_albedo = grad_normals[first : first + n], grad_albedo[first : first + n]
        for k in range(n):
            for c in range(3):
                of_normals[k, c] = s[G_NORMAL + c, k]
                of_albedo[k, c] = s[G_ALBEDO + c, k]


@jit(inline=True)
def _load(normals, albedo, n, s):
    """A block of points into the table of `gbuffer_kernels`; there is something at every place."""
    for k in range(n):
        for c in range(3):
            s[NORMAL + c, k], s[ALBEDO + c, k] = normals[k, c], albedo[k, c]
        s[MASK, k] = np.float32(1.0)
