"""A picture file as pixels: decoded when, where and as finely as they are needed."""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mofa_nvdr.data.picture_formats import HEAD, readable_formats, unidentified
from mofa_nvdr.system.memory import MemoryBudget

MIN_SIDE = 16  # px; below, a face is not even a few samples wide
MAX_MEGAPIXELS = 250.0
"""Pictures with more are refused: a file of a few kB can claim to hold any number of pixels."""

_BACKGROUND = (128, 128, 128)
_STRIP = 4e6  # pixels that are converted at once
_ORIENTATION = 0x0112  # EXIF
_CAMERA, _FOCAL_35MM = 0x8769, 0xA405
# Bytes a pixel that a reader of Pillow uses next to the pixels themselves.
_EXTRA = {"JPEG2000": 12, "AVIF": 4, "HEIF": 4, "WEBP": 4}


class ImageError(ValueError):
    """A picture that cannot be read or used; the message is one line that names the file."""


@dataclass(frozen=True)
class Excerpt:
    """A part of a picture, or all of it, in its own or coarser pixels.

    Attributes:
        pixels: bytes [h, w, 3].
        left, top: where its corner is, px of the whole picture; less than one of its pixels outside at most.
        factor: px of the whole picture that one of its pixels is wide.
    """

    pixels: np.ndarray
    left: float
    top: float
    factor: float

    def resized(self, longest: int) -> Excerpt:
        """The same with a longer side of at most `longest` px."""
        height, width = self.pixels.shape[:2]
        shrink = max(height, width) / longest
        if shrink <= 1:
            return self
        size = max(1, int(width / shrink)), max(1, int(height / shrink))
        box = (0.0, 0.0, size[0] * shrink, size[1] * shrink)
        picture = Image.fromarray(self.pixels).resize(size, Image.Resampling.BICUBIC, box)
        return Excerpt(np.array(picture), self.left, self.top, self.factor * shrink)


class Picture:
    """A picture file whose head has been read; its pixels are decoded when and as finely as they are needed.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where that is enough, which takes a fraction of the time
    and the memory. Pictures of other formats are decoded whole, and brought to what is asked for in strips.

    Args:
        source: the file, or its bytes.
        name: what messages call it; empty: the file's name.
        max_megapixels: what has more is refused.
        budget: what decoded pixels are taken from; None: nothing is counted. A thread has one picture of a
            budget open at a time.

    Attributes:
        height, width: px, as a viewer shows it.
        orientation: how EXIF says to turn the stored pixels, 1 to 8; 1 where the reader turned them itself.
        focal_35mm: focal length in mm on 35 mm film, as EXIF has it; 0: unknown.

    Raises:
        ImageError: as `read_image`.
        ValueError: max_megapixels is not above 0.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes,
        name: str = "",
        max_megapixels: float = MAX_MEGAPIXELS,
        budget: MemoryBudget | None = None,
    ) -> None:
        if not max_megapixels > 0:
            raise ValueError(f"--max-megapixels is {max_megapixels}, expected more than 0")
        self._source = source if isinstance(source, bytes) else Path(source)
        self._name = name or str(source)
        self._max_megapixels = max_megapixels
        self._budget = budget
        self._decoded: Image.Image | None = None
        self._denominator = 0  # of the decoded pixels
        self._held = contextlib.ExitStack()
        if isinstance(self._source, Path) and not self._source.is_file():
            is_folder = self._source.is_dir()
            raise ImageError(
                f"{self._name}: {'a folder, expected a picture' if is_folder else 'no such file'}"
            )
        with self._named_errors(), self._opened() as image:
            self._coarse = image.format == "JPEG" or image.format == "MPO"
            self._size = image.size  # stored: width, height
            self.orientation = _orientation(image) if self._coarse else 1
            self.focal_35mm = _focal_35mm(image) if self._coarse else 0.0
        try:
            if (
                not self._coarse
            ):  # some tell their orientation, or apply it, only when they are decoded
                self._decode(1)
        except BaseException:
            self.close()
            raise
        self._turned = self.orientation in (5, 6, 7, 8)
        self.width, self.height = self._size[::-1] if self._turned else self._size

    def __enter__(self) -> Picture:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the decoded pixels go."""
        self._decoded = None
        self._held.close()

    def read(
        self, factor: int = 1, box: tuple[float, float, float, float] | None = None
    ) -> Excerpt:
        """The pixels in a box, RGB bytes, averaged over squares of `factor` px.

        Args:
            factor: 1 or more; of a JPEG the next smaller multiple of 2, 4 or 8 is taken.
            box: left, top, right, bottom, px of the whole picture; None: all of it. The excerpt is larger
                where its pixels reach beyond, and ends where the picture ends.

        Raises:
            ImageError: it cannot be decoded.
        """
        denominator = max(d for d in (1, 2, 4, 8) if d <= factor) if self._coarse else 1
        factor -= factor % denominator
        x0, y0, x1, y1 = box or (0, 0, self.width, self.height)
        # To the stored picture: a transposition first, then flips.
        (u0, u1), (v0, v1) = ((y0, y1), (x0, x1)) if self._turned else ((x0, x1), (y0, y1))
        flip_u, flip_v = self.orientation in (2, 3, 7, 8), self.orientation in (3, 4, 6, 7)
        width, height = self._size
        columns = (
            _span(width - u1, width - u0, width, factor) if flip_u else _span(u0, u1, width, factor)
        )
        rows = (
            _span(height - v1, height - v0, height, factor)
            if flip_v
            else _span(v0, v1, height, factor)
        )
        self._decode(denominator)
        with self._named_errors():
            pixels = self._reduced(columns, rows, factor)
        left: float = columns[0]
        top: float = rows[0]
        if flip_u:
            pixels, left = pixels[:, ::-1], width - columns[0] - factor * pixels.shape[1]
        if flip_v:
            pixels, top = pixels[::-1], height - rows[0] - factor * pixels.shape[0]
        if self._turned:
            pixels, left, top = pixels.transpose(1, 0, 2), top, left
        return Excerpt(np.ascontiguousarray(pixels), left, top, factor)

    def copy(self, longest: int) -> Excerpt:
        """The whole picture with a longer side of at most `longest` px."""
        return self.read(max(1, max(self.height, self.width) // longest)).resized(longest)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Image.Image]:
        source = io.BytesIO(self._source) if isinstance(self._source, bytes) else self._source
        with _no_limit_of_pillow():
            image = Image.open(source, formats=readable_formats())
        with image:
            width, height = image.size
            if min(width, height) < MIN_SIDE:
                raise ImageError(
                    f"the picture is {width}x{height} px, too small to hold a face; "
                    f"expected at least {MIN_SIDE} px a side"
                )
            if width * height > 1e6 * self._max_megapixels:
                raise ImageError(
                    f"the picture is {width}x{height} px, {width * height / 1e6:.0f} megapixels, more than "
                    f"--max-megapixels {self._max_megapixels:g}; give a larger one if it is to be read"
                )
            yield image

    def _decode(self, denominator: int) -> None:
        if self._decoded is not None and denominator % self._denominator == 0:
            return
        self.close()
        with self._named_errors(), self._opened() as image:
            if self._budget is not None:
                self._held.enter_context(self._budget.taken(_bytes_of(image, denominator)))
            if denominator > 1:
                width, height = image.size
                image.draft(None, (width // denominator, height // denominator))
                if image.size != (-(-width // denominator), -(-height // denominator)):
                    raise ImageError("its size cannot be halved while it is decoded")
            with _no_limit_of_pillow():
                image.load()
            if not self._coarse:
                self._size, self.orientation = image.size, _orientation(image)
                self.focal_35mm = _focal_35mm(image)
            self._decoded = image.copy() if image.format == "GIF" else image
            self._denominator = denominator

    def _reduced(self, columns: tuple[int, int], rows: tuple[int, int], factor: int) -> np.ndarray:
        """RGB bytes of a part of the stored picture, whose edges are multiples of `factor` or its ends."""
        image, d = self._decoded, self._denominator
        assert image is not None
        left, right = columns[0] // d, -(-columns[1] // d)
        top, bottom = rows[0] // d, -(-rows[1] // d)
        rest = factor // d
        pixels = np.empty((-(-(bottom - top) // rest), -(-(right - left) // rest), 3), np.uint8)
        step = rest * max(1, int(_STRIP / (rest * (right - left))))
        for start in range(top, bottom, step):
            strip = _to_rgb(image.crop((left, start, right, min(start + step, bottom))))
            strip = strip.reduce(rest) if rest > 1 else strip
            first = (start - top) // rest
            pixels[first : first + strip.height] = np.asarray(strip)
        return pixels

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Whatever happens while a picture is read is an ImageError of one line that names it."""
        try:
            yield
        except ImageError as error:
            raise ImageError(f"{self._name}: {error}") from None
        except Image.UnidentifiedImageError as error:
            reason = unidentified(self._head())
            raise ImageError(f"{self._name}: cannot read this picture: {reason}") from error
        except Exception as error:  # of Pillow's readers each has kinds of its own
            reason = (str(error).splitlines() or [""])[0]
            for words in (repr(self._source), repr(self._name)):
                reason = reason.replace(words, "it") if len(words) < 1000 else reason
            raise ImageError(
                f"{self._name}: cannot read this picture: {reason.strip() or type(error).__name__}"
            ) from error

    def _head(self) -> bytes:
        if isinstance(self._source, bytes):
            return self._source[:HEAD]
        try:
            with open(self._source, "rb") as file:
                return file.read(HEAD)
        except OSError:
            return b""


def _span(first: float, last: float, length: int, factor: int) -> tuple[int, int]:
    """Whole pixels of width `factor` that hold the places from first to last."""
    start = int(max(first, 0) // factor) * factor
    end = -int(-min(last, length) // factor) * factor
    return start, min(max(end, start + 1), length)


def _orientation(image: Image.Image) -> int:
    """How EXIF says to turn it, 1 to 8; 1 where its EXIF is damaged: the pixels are still good."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # each kind of damage raises its own
        return 1
    return value if value in range(1, 9) else 1


def _focal_35mm(image: Image.Image) -> float:
    """EXIF's focal length in mm on 35 mm film; 0 where there is none, or it is damaged."""
    try:
        value = float(image.getexif().get_ifd(_CAMERA).get(_FOCAL_35MM, 0))
    except Exception:  # as above
        return 0.0
    return value if 1 <= value <= 10_000 else 0.0


def _bytes_of(image: Image.Image, denominator: int) -> float:
    """About what decoding it takes at most."""
    pixels = image.width * image.height
    need = pixels / denominator**2 * (1 if image.mode in ("1", "L", "P") else 4)
    if image.info.get("progressive"):  # all coefficients, 16 bits each
        need += 2 * pixels * len(image.getbands())
    return need + _EXTRA.get(image.format or "", 0) * pixels + 12 * _STRIP


_limit_lock = threading.Lock()
_without_limit = 0
_limit: int | None = None


@contextlib.contextmanager
def _no_limit_of_pillow() -> Iterator[None]:
    """Pillow's own limit of pixels, of the whole process, is off while any thread is in such a block."""
    global _without_limit, _limit
    with _limit_lock:
        if not _without_limit:
            _limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _without_limit += 1
    try:
        yield
    finally:
        with _limit_lock:
            _without_limit -= 1
            if not _without_limit:
                Image.MAX_IMAGE_PIXELS = _limit


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
