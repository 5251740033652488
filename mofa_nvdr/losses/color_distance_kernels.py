"""The CPU kernels of the colour distances, for rows of one image or a share of its vertices."""

# mypy: disallow-untyped-defs=False, check-untyped-defs=False

import numpy as np

from mofa_nvdr.dr.parallel import jit

_EPS, _KNOWN = np.float32(1e-8), np.float32(0.999)  # as in color_distance
_ZERO, _HALF, _ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)


@jit(inline=True)
def _known(photo, valid, j, i):
    """Whether the photograph exists at a pixel."""
    total = photo[0, j, i] + photo[1, j, i] + photo[2, j, i]
    return (total - total == _ZERO) and (len(valid) == 0 or valid[j, i])


@jit
def pixel_distances(image, photo, mask, valid, start, stop, sums):
    """Sums (distance, count) over the pixels of some rows."""
    total, count = 0.0, 0.0
    distances, weights = np.empty(image.shape[2], np.float32), np.empty(image.shape[2], np.float32)
    for j in range(start, stop):
        for i in range(image.shape[2]):
            x = image[0, j, i] - photo[0, j, i]
            y = image[1, j, i] - photo[1, j, i]
            z = image[2, j, i] - photo[2, j, i]
            distances[i] = np.sqrt(x * x + y * y + z * z + _EPS) * mask[j, i]
            weights[i] = mask[j, i]
        for i in range(image.shape[2]):
            if weights[i] != _ZERO and _known(photo, valid, j, i):
                total += distances[i]
                count += weights[i]
    sums[0], sums[1] = total, count


@jit
def pixel_distances_backward(
    image, photo, mask, valid, mean, scale, start, stop, grad_image, grad_position, grad_area
):
    """Gradients of the mean, times scale * count; the moving ones where they have planes."""
    height, width = image.shape[1], image.shape[2]
    for j in range(start, stop):
        for i in range(width):
            if mask[j, i] == _ZERO or not _known(photo, valid, j, i):
                for c in range(3):
                    grad_image[c, j, i] = _ZERO
                if len(grad_position):
                    grad_position[0, j, i] = _ZERO
                    grad_position[1, j, i] = _ZERO
                    grad_area[0, j, i] = _ZERO
                continue
            x = image[0, j, i] - photo[0, j, i]
            y = image[1, j, i] - photo[1, j, i]
            z = image[2, j, i] - photo[2, j, i]
            distance = np.sqrt(x * x + y * y + z * z + _EPS)
            weight = np.float32(scale) * mask[j, i]
            factor = weight / distance
            grad_image[0, j, i] = x * factor
            grad_image[1, j, i] = y * factor
            grad_image[2, j, i] = z * factor
            if len(grad_position):
                left, right = max(i - 1, 0), min(i + 1, width - 1)
                above, below = max(j - 1, 0), min(j + 1, height - 1)
                known_left, known_right = (
                    _known(photo, valid, j, left),
                    _known(photo, valid, j, right),
                )
                known_above = _known(photo, valid, above, i)
                known_below = _known(photo, valid, below, i)
                gx, gy = _ZERO, _ZERO
                for c in range(3):
                    if known_right:
                        gx += grad_image[c, j, i] * photo[c, j, right]
                    if known_left:
                        gx -= grad_image[c, j, i] * photo[c, j, left]
                    if known_below:
                        gy += grad_image[c, j, i] * photo[c, below, i]
                    if known_above:
                        gy -= grad_image[c, j, i] * photo[c, above, i]
                grad_position[0, j, i] = -_HALF * gx
                grad_position[1, j, i] = -_HALF * gy
                grad_area[0, j, i] = (distance - np.float32(mean)) * weight


@jit
def vertex_distances(
    positions, colors, counted, photo, valid, start, stop, sums, by_position, by_color
):
    """Sums (distance, count) over vertices start to stop, and the gradients of each vertex's distance."""
    height, width = photo.shape[1], photo.shape[2]
    total, count = 0.0, 0.0
    values = np.empty(
        (4, 3), np.float32
    )  # of the upper left, upper right, lower left, lower right pixel
    for v in range(start, stop):
        x, y = positions[v, 0], positions[v, 1]
        counts = counted[v] and x >= _ZERO and x <= width and y >= _ZERO and y <= height
        if counts:
            right = min(max(x - _HALF, _ZERO), np.float32(width - 1))
            down = min(max(y - _HALF, _ZERO), np.float32(height - 1))
            i, j = np.int64(right), np.int64(down)
            fx, fy = right - np.float32(i), down - np.float32(j)
            share = _ZERO
            for n in range(4):
                column, row = min(i + (n & 1), width - 1), min(j + (n >> 1), height - 1)
                if _known(photo, valid, row, column):
                    share += (fx if n & 1 else _ONE - fx) * (fy if n >> 1 else _ONE - fy)
                    for c in range(3):
                        values[n, c] = photo[c, row, column]
                else:
                    for c in range(3):
                        values[n, c] = _ZERO
            counts = share > _KNOWN
        if not counts:
            by_position[v, 0], by_position[v, 1] = _ZERO, _ZERO
            by_color[v, 0], by_color[v, 1], by_color[v, 2] = _ZERO, _ZERO, _ZERO
            continue
        squared, gx, gy = _EPS, _ZERO, _ZERO
        for c in range(3):
            to_right = values[1, c] - values[0, c]
            above = values[0, c] + to_right * fx
            to_right_below = values[3, c] - values[2, c]
            downwards = values[2, c] + to_right_below * fx - above
            difference = above + downwards * fy - colors[v, c]
            squared += difference * difference
            by_color[v, c] = -difference
            gx += difference * (to_right + (to_right_below - to_right) * fy)
            gy += difference * downwards
        distance = np.sqrt(squared)
        total += distance
        count += 1.0
        inverse = _ONE / distance
        # Beyond the centres of the outer pixels the photograph is continued as a constant.
        x, y = x - _HALF, y - _HALF
        by_position[v, 0] = inverse * gx if x >= _ZERO and x <= width - 1 else _ZERO
        by_position[v, 1] = inverse * gy if y >= _ZERO and y <= height - 1 else _ZERO
        for c in range(3):
            by_color[v, c] *= inverse
    sums[0], sums[1] = total, count


@jit
def scale_rows(scale, by_position, by_color, grad_position, grad_color):
    """Gradients of the vertices of an image from those of each distance."""
    for v in range(len(by_position)):
        for c in range(2):
            grad_position[v, c] = scale * by_position[v, c]
        for c in range(3):
            grad_color[v, c] = scale * by_color[v, c]
