"""Reading one picture from a file of any kind, and bringing it to a square."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image

from mofa_nvdr.data.decoding import MAX_MEGAPIXELS, MIN_SIDE, ImageError, Picture

__all__ = [
    "MIN_SIDE",
    "ImageError",
    "central_square",
    "coarsest",
    "decode_square",
    "read_image",
    "read_square",
    "resize_square",
]


def read_image(path: str | os.PathLike[str], max_megapixels: float = MAX_MEGAPIXELS) -> np.ndarray:
    """Read a picture as RGB bytes [H, W, 3], row 0 at the top, the way a viewer shows it.

    The EXIF orientation is applied. Grey, palette, CMYK and one-bit pictures become RGB; 16-bit
    ones keep their upper 8 bits; what is transparent is laid over mid-grey, which leaves neither a
    dark nor a bright rim around a cut-out face; of an animation the first frame is taken. Colour
    profiles are not applied: the numbers are taken as sRGB.

    Raises:
        ImageError: no such file, not a picture, of a format that `picture_formats` does not name, damaged or
            cut off, floating-point pixels, a side shorter than 16 px, or more pixels than `max_megapixels`.
    """
    with Picture(path, max_megapixels=max_megapixels) as picture:
        return picture.read().pixels


def read_square(
    path: str | os.PathLike[str], size: int, max_megapixels: float = MAX_MEGAPIXELS
) -> tuple[np.ndarray, tuple[int, int]]:
    """`resize_square` of a picture, decoded no larger than that takes.

    Returns:
        Bytes [size, size, 3], and the whole picture's height and width in px.

    Raises:
        ImageError: as `read_image`.
    """
    with Picture(path, max_megapixels=max_megapixels) as picture:
        return picture_square(picture, size), (picture.height, picture.width)


def decode_square(
    data: bytes, name: str, size: int, max_megapixels: float = MAX_MEGAPIXELS
) -> tuple[np.ndarray, tuple[int, int]]:
    """The same for a picture that is in memory.

    Args:
        data: the file's bytes.
        name: what messages call it.
        size: side of the result, px.
        max_megapixels: larger pictures are refused.

    Raises:
        ImageError: as `read_image`.
    """
    with Picture(data, name, max_megapixels) as picture:
        return picture_square(picture, size), (picture.height, picture.width)


def coarsest(side: float, size: int) -> int:
    """The factor by which a square of `side` px may be reduced before it is brought to `size` px.

    Twice the size is left for the antialiased rest of the way: the steps before then show nowhere.
    """
    return max(1, int(side / (2 * size)))


def picture_square(picture: Picture, size: int) -> np.ndarray:
    left, top, side = central_square(picture.height, picture.width)
    part = picture.read(coarsest(side, max(size, 1)), (left, top, left + side, top + side))
    if part.factor == 1:
        return resize_square(part.pixels, size)
    x, y, s = (left - part.left) / part.factor, (top - part.top) / part.factor, side / part.factor
    whole = Image.fromarray(part.pixels)
    return np.array(whole.resize((size, size), Image.Resampling.BICUBIC, (x, y, x + s, y + s)))


def central_square(height: int, width: int) -> tuple[int, int, int]:
    """The largest central square of a picture: its left and top edge and its side, in pixels."""
    side = min(height, width)
    return (width - side) // 2, (height - side) // 2, side


def resize_square(image: np.ndarray, size: int) -> np.ndarray:
    """Bring a picture to [size, size, 3] bytes; bicubic, antialiased when it shrinks.

    Training pictures are square crops of faces. Of any other the central square is taken, so
    nothing is stretched. A point (x, y) goes to ((x - left) * size / side, (y - top) * size /
    side), with left, top and side from `central_square`.

    Args:
        image: bytes [H, W, 3].
        size: side of the result, px.

    Raises:
        ValueError: not bytes [H, W, 3], or size below 1.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"resize_square: image is {list(image.shape)} {image.dtype}, expected [H, W, 3] uint8"
        )
    if size < 1:
        raise ValueError(f"resize_square: size is {size} px, expected at least 1")
    height, width = image.shape[:2]
    left, top, side = central_square(height, width)
    square = image[top : top + side, left : left + side].copy()
    if side == size:
        return square
    return np.array(Image.fromarray(square).resize((size, size), Image.Resampling.BICUBIC))
