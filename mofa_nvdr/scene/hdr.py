"""Radiance pictures (.hdr): the format in which light probes are exchanged."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from torch import Tensor

from mofa_nvdr.system.budget import Budget
from mofa_nvdr.system.files import replacing

_MAX_HDR_PIXELS = 16_384 * 8_192  # beyond it a header is damaged rather than a panorama large


def read_hdr(path: str | Path) -> np.ndarray:
    """Read a Radiance picture (.hdr, RGBE).

    Flat, old and new run-length encoded scanlines; EXPOSURE lines are divided out, so values are
    the original radiance.

    Args:
        path: the file.

    Returns:
        float32 [H, W, 3] linear RGB, row 0 at the top.

    Raises:
        ValueError: no such file, not a Radiance RGBE picture, XYZE colours, a flipped or turned
            resolution string, an absurd size, or a file that ends early.

    Source: the Radiance file formats (Ward 1991, "Real Pixels"; Radiance's filefmts), implemented from
    the description.
    """
    try:
        budget = Budget(path)
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot read ({error.strerror or error})") from None
    height, width, exposure, start = _hdr_header(path, data)
    budget.take_array("the picture", (height, width, 3), 4)
    image = np.empty((height, width, 3), np.float32)
    rgbe = np.empty((width, 4), np.uint8)
    for row in range(height):
        try:
            start = _hdr_scanline(data, start, rgbe)
        except IndexError:
            raise ValueError(
                f"{path}: ends after row {row} of {height}: the file is cut short; copy it again"
            ) from None
        except ValueError as error:
            raise ValueError(f"{path}: row {row + 1} of {height} is damaged ({error})") from None
        exponent = rgbe[:, 3:].astype(np.int32)
        scale = np.where(exponent > 0, np.ldexp(np.float32(1), exponent - (128 + 8)), np.float32(0))
        np.multiply(rgbe[:, :3], scale, out=image[row])
    with np.errstate(over="ignore"):  # an exposure close to zero: infinite light, which is refused
        image /= np.float32(exposure)
    return image


def _hdr_header(path: str | Path, data: bytes) -> tuple[int, int, float, int]:
    """Height, width, exposure, and where the pixels begin."""
    if not data.startswith(b"#?"):
        raise ValueError(f"{path}: not a Radiance .hdr picture (it does not begin with #?)")
    exposure, start, end = 1.0, 0, data.find(b"\n")
    while end >= 0 and data[start:end].strip():
        key, _, value = data[start:end].decode("latin-1").partition("=")
        value = value.strip()
        if key.strip() == "FORMAT" and value != "32-bit_rle_rgbe":
            raise ValueError(f"{path}: FORMAT is {value}, expected 32-bit_rle_rgbe")
        if key.strip() == "EXPOSURE":  # one line for every change: they multiply
            exposure *= _exposure(path, value)
        start, end = end + 1, data.find(b"\n", end + 1)
    resolution_end = data.find(b"\n", end + 1) if end >= 0 else -1
    if resolution_end < 0:
        raise ValueError(f"{path}: ends inside its header")
    line = data[end + 1 : resolution_end].decode("latin-1").strip()
    words = line.split()
    if len(words) != 4 or not all(w.isdecimal() and len(w) < 10 for w in words[1::2]):
        raise ValueError(f"{path}: resolution is {line[:40]!r}, expected '-Y height +X width'")
    if (words[0], words[2]) != ("-Y", "+X"):
        raise ValueError(
            f"{path}: resolution is {line[:40]!r}: a flipped or turned picture, expected "
            "'-Y height +X width'; save it again upright"
        )
    height, width = int(words[1]), int(words[3])
    if not 0 < height * width <= _MAX_HDR_PIXELS:
        raise ValueError(
            f"{path}: size is {width}x{height}, expected 1 to {_MAX_HDR_PIXELS} pixels; "
            "scale the panorama down"
        )
    return height, width, exposure, resolution_end + 1


def _exposure(path: str | Path, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ValueError(f"{path}: EXPOSURE is {value[:40]!r}, expected a positive number")
    return number


def _hdr_scanline(data: bytes, start: int, row: np.ndarray) -> int:
    """Decode one scanline into row [W, 4]; return where the next begins. IndexError: data ends."""
    width = len(row)
    encoded = data[start : start + 2] == b"\2\2" and 8 <= width < 32_768 and data[start + 2] < 128
    if not encoded:
        return _hdr_pixels(data, start, row)
    if (data[start + 2] << 8 | data[start + 3]) != width:
        raise ValueError("the scanline's own width differs from the picture's")
    start += 4
    for channel in range(4):
        column = 0
        while column < width:
            count = data[start]
            run = count > 128
            length = count - 128 if run else count
            if length == 0 or column + length > width:
                raise ValueError("a run leaves the scanline")
            stop = start + (2 if run else 1 + length)
            if stop > len(data):
                raise IndexError
            values = np.frombuffer(data, np.uint8, stop - start - 1, start + 1)
            row[column : column + length, channel] = values
            start, column = stop, column + length
    return start


def _hdr_pixels(data: bytes, start: int, row: np.ndarray) -> int:
    """A scanline of whole pixels; (1, 1, 1, n) repeats the pixel before it n times."""
    width = len(row)
    flat = np.frombuffer(data, np.uint8, min(4 * width, len(data) - start) // 4 * 4, start)
    flat = flat.reshape(-1, 4)
    if len(flat) == width and not (flat[:, :3] == 1).all(1).any():
        row[:] = flat
        return start + 4 * width
    column, shift = 0, 0
    while column < width:
        pixel = data[start : start + 4]
        if len(pixel) < 4:
            raise IndexError
        start += 4
        if pixel[:3] != b"\1\1\1":
            row[column] = list(pixel)
            column, shift = column + 1, 0
            continue
        length = pixel[3] << shift  # repeats in a row are digits of one count
        if column == 0 or column + length > width:
            raise ValueError("a run leaves the scanline")
        row[column : column + length] = row[column - 1]
        column, shift = column + length, shift + 8
        if shift > 16:
            raise ValueError("a run leaves the scanline")
    return start


def write_hdr(path: str | Path, image: Tensor | np.ndarray) -> None:
    """Write a Radiance picture, without run lengths.

    Args:
        path: the file.
        image: [H, W, 3] linear RGB, finite and not negative; kept to about 1/256 of the brightest
            channel.

    Raises:
        ValueError: not [H, W, 3], or values that the format cannot hold.
    """
    values = np.asarray(image, np.float64)
    if values.ndim != 3 or values.shape[2] != 3 or 0 in values.shape:
        raise ValueError(f"write_hdr: image is {list(values.shape)}, expected [H, W, 3]")
    if not np.isfinite(values).all() or values.min() < 0 or values.max() >= 2.0**127:
        raise ValueError(
            "write_hdr: image holds values that are negative, not finite, or 2^127 and above"
        )
    _, exponent = np.frexp(values.max(-1, keepdims=True))
    exponent = exponent.astype(np.int64)
    dark = (values.max(-1, keepdims=True) == 0) | (exponent < -127)
    mantissa = np.minimum(np.rint(np.ldexp(values, 8 - exponent)), 255)
    rgbe = np.where(dark, 0, np.concatenate([mantissa, exponent + 128], axis=-1))
    header = f"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y {values.shape[0]} +X {values.shape[1]}\n"
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(header.encode() + rgbe.astype(np.uint8).tobytes())
