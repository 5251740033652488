"""OpenEXR pictures for tests: scanlines of float or half channels, uncompressed, by RLE, ZIPS or ZIP."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

_ROWS = {0: 1, 1: 1, 2: 1, 3: 16}
NONE, RLE, ZIPS, ZIP, PIZ = range(5)
_KINDS = {"u4": 0, "f2": 1, "f4": 2}


def write_exr(
    path: Path,
    channels: dict[str, np.ndarray],
    compression: int = ZIP,
    flags: int = 0,
    window: tuple[int, int, int, int] | None = None,
    whole: tuple[int, int, int, int] | None = None,
    sampling: int = 1,
    without: str = "",
) -> None:
    """Write channels [H, W] of one size, by name.

    Args:
        path: the file.
        channels: their values, uint32, float16 or float32.
        compression: 0 to 3 are written, others claimed.
        flags: more of the version's flags.
        window: left, top, right, bottom of the pixels; None: from 0.
        whole: the same of the picture; None: the window.
        sampling: claimed of each channel.
        without: an attribute to leave out.
    """
    names = sorted(channels)
    height, width = channels[names[0]].shape
    window = window or (0, 0, width - 1, height - 1)
    listed = b"".join(
        name.encode() + b"\0" + struct.pack("<iB3x2i", _KINDS[channels[name].dtype.str[1:]], 0,
                                            sampling, sampling)
        for name in names
    )  # fmt: skip
    attributes = (
        ("channels", "chlist", listed + b"\0"),
        ("compression", "compression", bytes([compression])),
        ("dataWindow", "box2i", struct.pack("<4i", *window)),
        ("displayWindow", "box2i", struct.pack("<4i", *(whole or window))),
        ("lineOrder", "lineOrder", b"\0"),
        ("pixelAspectRatio", "float", struct.pack("<f", 1)),
        ("screenWindowCenter", "v2f", struct.pack("<2f", 0, 0)),
        ("screenWindowWidth", "float", struct.pack("<f", 1)),
    )
    head = b"v/1\x01" + struct.pack("<I", 2 | flags)
    for name, kind, value in attributes:
        if name != without:
            head += f"{name}\0{kind}\0".encode() + struct.pack("<i", len(value)) + value
    head += b"\0"
    blocks, rows = [], _ROWS.get(compression, 32)
    for row in range(0, height, rows):
        lines = range(row, min(row + rows, height))
        raw = b"".join(channels[name][line].tobytes() for line in lines for name in names)
        packed = _packed(raw, compression)
        packed = packed if len(packed) < len(raw) else raw
        blocks.append(struct.pack("<2i", window[1] + row, len(packed)) + packed)
    starts = np.cumsum([len(head) + 8 * len(blocks), *(len(b) for b in blocks[:-1])])
    path.write_bytes(head + starts.astype("<u8").tobytes() + b"".join(blocks))


def _packed(raw: bytes, compression: int) -> bytes:
    if compression not in (RLE, ZIPS, ZIP):
        return raw
    steps = np.frombuffer(raw, np.uint8)
    steps = np.concatenate([steps[0::2], steps[1::2]]).astype(np.int64)
    steps[1:] = steps[1:] - steps[:-1] + 128
    data = (steps & 255).astype(np.uint8).tobytes()
    if compression != RLE:
        return zlib.compress(data)
    out, place, literal = bytearray(), 0, bytearray()

    def write_literal() -> None:
        out.extend(bytes([256 - len(literal)]) + literal if literal else b"")
        literal.clear()

    while place < len(data):
        run = 1
        while place + run < len(data) and run < 128 and data[place + run] == data[place]:
            run += 1
        if run > 2:
            write_literal()
            out += bytes([run - 1, data[place]])
        else:
            run = 1
            literal.append(data[place])
            if len(literal) == 127:
                write_literal()
        place += run
    write_literal()
    return bytes(out)
