"""Reading one picture from a file of any kind, and bringing it to a square."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

MIN_SIDE = 16  # px; below, a face is not even a few samples wide

_BACKGROUND = (128, 128, 128)


class ImageError(ValueError):
    """A picture that cannot be read or used; the message is one line that names the file."""


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a picture as RGB bytes [H, W, 3], row 0 at the top, the way a viewer shows it.

    The EXIF orientation is applied. Grey, palette, CMYK and one-bit pictures become RGB; 16-bit
    ones keep their upper 8 bits; what is transparent is laid over mid-grey, which leaves neither a
    dark nor a bright rim around a cut-out face; of an animation the first frame is taken. Colour
    profiles are not applied: the numbers are taken as sRGB.

    Raises:
        ImageError: no such file, not a picture, damaged or cut off, floating-point pixels, or a
            side shorter than 16 px.
    """
    path = Path(path)
    if not path.is_file():
        raise ImageError(f"{path}: no such file")
    return _read(path, str(path))


def decode_image(data: bytes, name: str) -> np.ndarray:
    """The same for a picture that is in memory.

    Args:
        data: the file's bytes.
        name: what messages call it.

    Raises:
        ImageError: as `read_image`.
    """
    return _read(io.BytesIO(data), name)


def _read(source: Path | io.BytesIO, name: str) -> np.ndarray:
    try:
        with Image.open(source) as image:
            width, height = image.size
            if min(width, height) >= MIN_SIDE:
                return np.array(_to_rgb(ImageOps.exif_transpose(image)))
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None
    except Exception as error:  # each of Pillow's readers raises kinds of its own on damaged files
        reason = (str(error).splitlines() or [""])[0].replace(repr(source), "it")
        reason = reason.replace(repr(name), "it").strip()
        raise ImageError(
            f"{name}: cannot read this picture: {reason or type(error).__name__}"
        ) from error
    raise ImageError(
        f"{name}: the picture is {width}x{height} px, too small to hold a face; "
        f"expected at least {MIN_SIDE} px a side"
    )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ImageError("floating-point pixels have no known white; save it as 8 or 16 bit")
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion clips at 255
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError("32-bit pixels have no known white; save it as 8 or 16 bit")
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, (*_BACKGROUND, 255))
        image = Image.alpha_composite(background, image)
    return image.convert("RGB")


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
