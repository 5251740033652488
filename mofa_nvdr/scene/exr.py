"""OpenEXR pictures (.exr): the other format in which light probes are exchanged."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mofa_nvdr.system.budget import Budget, printable

_MAGIC = b"v/1\x01"
_TILED, _DEEP_OR_PARTS = 0x200, 0x1800  # of the version's flags
_COMPRESSIONS = (
    "none", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24", "B44", "B44A", "DWAA", "DWAB",
)  # fmt: skip
_ROWS = {"none": 1, "RLE": 1, "ZIPS": 1, "ZIP": 16}  # of a block
_TYPES = (np.dtype("<u4"), np.dtype("<f2"), np.dtype("<f4"))
_MOST_CHANNELS = 256
_SAVE = "save it with ZIP compression, or as Radiance .hdr"


@dataclass(frozen=True)
class _Header:
    """What is needed of a header.

    Attributes:
        channels: names and types, in the order of the samples.
        compression: one of `_ROWS`.
        height, width: px. top: the number of the first row.
        end: where the table of blocks begins.
    """

    channels: list[tuple[str, np.dtype]]
    compression: str
    height: int
    width: int
    top: int
    end: int


def read_exr(path: str | Path) -> np.ndarray:
    """Read an OpenEXR picture: one part of scanlines, uncompressed or by RLE, ZIPS or ZIP.

    Channels R, G, B, or Y alone, of half, float or uint; others, as A and Z, are left out. Chromaticities are
    not looked at. Negative values, colours that no screen has, count as 0.

    Args:
        path: the file.

    Returns:
        float32 [H, W, 3] linear RGB, row 0 at the top.

    Raises:
        ValueError: no such file, not OpenEXR, of a kind that is not read (tiles, several parts, deep samples,
            another compression, halved channels, a picture cut out of a larger one), or damaged.

    Source: the OpenEXR file layout (Academy Software Foundation), implemented from the description.
    """
    try:
        budget = Budget(path)
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot read ({error.strerror or error})") from None
    try:
        header = _header(path, data)
        wanted = _wanted(path, header)
        budget.take_array("the picture", (header.height, header.width, 3), 4)
        image = np.zeros((header.height, header.width, 3), np.float32)
        _read_blocks(path, data, header, wanted, image)
    except (struct.error, IndexError):
        raise ValueError(f"{path}: ends early: the file is cut short; copy it again") from None
    return np.maximum(image, 0, out=image)


def _header(path: str | Path, data: bytes) -> _Header:
    if not data.startswith(_MAGIC):
        raise ValueError(f"{path}: not an OpenEXR picture (it does not begin with v/1)")
    (flags,) = struct.unpack_from("<I", data, 4)
    if flags & (_TILED | _DEEP_OR_PARTS):
        kind = "in tiles" if flags & _TILED else "of several parts or deep samples"
        raise ValueError(f"{path}: OpenEXR {kind}, expected scanlines of one part; {_SAVE}")
    attributes, place = {}, 8
    while data[place]:
        name, place = _text(data, place)
        _, place = _text(data, place)
        (size,) = struct.unpack_from("<i", data, place)
        if size < 0 or place + 4 + size > len(data):
            raise IndexError
        attributes[name], place = data[place + 4 : place + 4 + size], place + 4 + size
    for name in ("channels", "compression", "dataWindow"):
        if name not in attributes:
            raise ValueError(f"{path}: no {name} in its header: the file is damaged")
    number = attributes["compression"][0]
    kind = _COMPRESSIONS[number] if number < len(_COMPRESSIONS) else str(number)
    if kind not in _ROWS:
        raise ValueError(f"{path}: compression {kind}, expected {', '.join(_ROWS)}; {_SAVE}")
    left, top, right, bottom = struct.unpack("<4i", attributes["dataWindow"])
    whole = attributes.get("displayWindow", attributes["dataWindow"])
    if whole != attributes["dataWindow"]:
        raise ValueError(f"{path}: its pixels do not fill the picture, expected a whole panorama")
    if right < left or bottom < top:
        raise ValueError(f"{path}: size is {right - left + 1}x{bottom - top + 1}, expected pixels")
    channels = _channels(path, attributes["channels"])
    return _Header(channels, kind, bottom - top + 1, right - left + 1, top, place + 1)


def _text(data: bytes, place: int) -> tuple[str, int]:
    """A text that ends with a zero, and what is behind it."""
    end = data.find(b"\0", place)
    if end < 0:
        raise IndexError
    return data[place:end].decode("latin-1"), end + 1


def _channels(path: str | Path, data: bytes) -> list[tuple[str, np.dtype]]:
    channels: list[tuple[str, np.dtype]] = []
    place = 0
    while data[place]:
        name, place = _text(data, place)
        kind, _, across, down = struct.unpack_from("<iB3x2i", data, place)
        place += 16
        if not 0 <= kind < len(_TYPES) or len(channels) == _MOST_CHANNELS:
            raise ValueError(f"{path}: channel {printable(name, 40)} is damaged")
        if (across, down) != (1, 1):
            raise ValueError(
                f"{path}: channel {printable(name, 40)} is smaller than the picture; {_SAVE}"
            )
        channels.append((name, _TYPES[kind]))
    return channels


def _wanted(path: str | Path, header: _Header) -> dict[str, list[int]]:
    """Which columns of the result each channel fills."""
    names = [name for name, _ in header.channels]
    if {"R", "G", "B"} <= set(names):
        return {"R": [0], "G": [1], "B": [2]}
    if "Y" in names and not {"RY", "BY"} & set(names):
        return {"Y": [0, 1, 2]}
    found = printable(", ".join(names), 80)
    raise ValueError(f"{path}: its channels are {found or 'none'}, expected R, G and B, or Y")


def _read_blocks(
    path: str | Path, data: bytes, h: _Header, wanted: dict[str, list[int]], image: np.ndarray
) -> None:
    """Decode all blocks of rows into image [H, W, 3]."""
    rows = _ROWS[h.compression]
    count = -(-h.height // rows)
    if h.end + 8 * count > len(data):
        raise IndexError
    row_bytes = h.width * sum(kind.itemsize for _, kind in h.channels)
    for start in np.frombuffer(data, "<u8", count, h.end).tolist():
        if start + 8 > len(data):
            raise IndexError
        number, size = struct.unpack_from("<2i", data, start)
        first = number - h.top
        if not 0 <= first < h.height or first % rows or size < 0:
            raise ValueError(f"{path}: a block of rows at byte {start} is damaged")
        if start + 8 + size > len(data):
            raise IndexError
        last = min(first + rows, h.height)
        length = (last - first) * row_bytes
        block = data[start + 8 : start + 8 + size]
        if size < length:  # what does not shrink is stored as it is
            try:
                block = _unpacked(block, length, h.compression)
            except (zlib.error, ValueError) as error:
                raise ValueError(f"{path}: row {first + 1} is damaged ({error})") from None
        place = 0
        with np.errstate(over="ignore", invalid="ignore"):  # bright uint as float; NaN as it is
            for row in range(first, last):
                for name, kind in h.channels:
                    values = np.frombuffer(block, kind, h.width, place)
                    place += values.nbytes
                    if name in wanted:
                        image[row, :, wanted[name]] = values


def _unpacked(block: bytes, length: int, compression: str) -> bytes:
    """A compressed block's bytes: unfolded, differences summed, halves interleaved."""
    raw = _run_lengths(block, length) if compression == "RLE" else b""
    if compression in ("ZIPS", "ZIP"):
        raw = zlib.decompressobj().decompress(block, length)
    if len(raw) != length:
        raise ValueError(f"{len(raw)} bytes, expected {length}")
    steps = np.frombuffer(raw, np.uint8).astype(np.int64)
    steps[1:] -= 128
    summed = (steps.cumsum() & 255).astype(np.uint8)
    out, half = np.empty(length, np.uint8), (length + 1) // 2
    out[0::2], out[1::2] = summed[:half], summed[half:]
    return out.tobytes()


def _run_lengths(block: bytes, length: int) -> bytes:
    out, place = bytearray(), 0
    while place < len(block) and len(out) <= length:
        count = block[place] - 256 if block[place] > 127 else block[place]
        if count < 0:
            out += block[place + 1 : place + 1 - count]
            place += 1 - count
        else:
            out += block[place + 1 : place + 2] * (count + 1)
            place += 2
    return bytes(out)
