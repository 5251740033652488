"""Small .tflite files, written here byte by byte, for tests of what reads them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

ADD, CONCAT, CONV, DEPTHWISE, DEQUANTIZE, MAX_POOL = 0, 2, 3, 4, 6, 17
RELU, RESHAPE, RESIZE, PAD, PRELU, TANH = 19, 22, 23, 34, 54, 28
SAME, VALID = 0, 1
_TYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3}


class Number:
    """A scalar of a table: its struct format and value."""

    def __init__(self, kind: str, value: int) -> None:
        self.data = struct.pack(kind, value).ljust(4, b"\0")


def flatbuffer(root: dict[int, Any], magic: bytes = b"TFL3") -> bytes:
    """A table {field: Number, bytes, array, table or list of tables} as a flatbuffer."""
    out = bytearray(struct.pack("<I", 0) + magic)
    struct.pack_into("<I", out, 0, _table(out, root))
    return bytes(out)


def _table(out: bytearray, fields: dict[int, Any]) -> int:
    places = {number: 4 + 4 * k for k, number in enumerate(sorted(fields))}
    slots = [places.get(number, 0) for number in range(max(fields, default=-1) + 1)]
    vtable = len(out)
    out += struct.pack(f"<{2 + len(slots)}H", 4 + 2 * len(slots), 4 + 4 * len(places), *slots)
    at = len(out)
    out += struct.pack("<i", at - vtable) + bytes(4 * len(places))
    for number, value in fields.items():
        place = at + places[number]
        if isinstance(value, Number):
            out[place : place + 4] = value.data
        else:
            struct.pack_into("<I", out, place, _reference(out, value) - place)
    return at


def _reference(out: bytearray, value: Any) -> int:
    if isinstance(value, dict):
        return _table(out, value)
    at = len(out)
    if isinstance(value, list):
        out += struct.pack("<I", len(value)) + bytes(4 * len(value))
        for k, table in enumerate(value):
            place = at + 4 + 4 * k
            struct.pack_into("<I", out, place, _table(out, table) - place)
        return at
    count = len(value) if isinstance(value, bytes) else value.size
    out += struct.pack("<I", count) + (value if isinstance(value, bytes) else value.tobytes())
    return at


@dataclass
class SmallModel:
    """A .tflite file in the making: `image` is tensor 0; each step returns the number of its output."""

    size: int
    channels: int = 3
    _tensors: list[dict[int, Any]] = field(default_factory=list)
    _buffers: list[dict[int, Any]] = field(default_factory=lambda: [{}])
    _codes: list[int] = field(default_factory=list)
    _steps: list[dict[int, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.value([1, self.size, self.size, self.channels])

    def value(self, shape: list[int]) -> int:
        """A tensor that a step makes."""
        self._tensors.append({0: np.array(shape, "<i4"), 1: Number("<b", 0), 2: Number("<I", 0)})
        return len(self._tensors) - 1

    def constant(self, array: Any) -> int:
        """Weights."""
        array = np.asarray(array)
        self._buffers.append({0: array.tobytes()})
        shape, kind = np.array(array.shape, "<i4"), _TYPES[str(array.dtype)]
        self._tensors.append(
            {0: shape, 1: Number("<b", kind), 2: Number("<I", len(self._buffers) - 1)}
        )
        return len(self._tensors) - 1

    def step(
        self,
        code: int,
        inputs: list[int],
        shape: list[int],
        options: dict[int, Number] | None = None,
    ) -> int:
        """An operation."""
        output = self.value(shape)
        self._codes += [code] if code not in self._codes else []
        step = {
            0: Number("<I", self._codes.index(code)),
            1: np.array(inputs, "<i4"),
            2: np.array([output], "<i4"),
        }
        self._steps.append(step if options is None else {**step, 4: options})
        return output

    def data(self, outputs: list[int], graphs: int = 1) -> bytes:
        """The file."""
        graph = {
            0: self._tensors,
            1: np.array([0], "<i4"),
            2: np.array(outputs, "<i4"),
            3: self._steps,
        }
        codes = [{0: Number("<b", code), 3: Number("<i", code)} for code in self._codes]
        return flatbuffer({0: Number("<I", 3), 1: codes, 2: [graph] * graphs, 4: self._buffers})


def conv_options(stride: int, padding: int = SAME, activation: int = 0) -> dict[int, Number]:
    """Of CONV."""
    return {
        0: Number("<b", padding),
        1: Number("<i", stride),
        2: Number("<i", stride),
        3: Number("<b", activation),
    }


def depthwise_options(stride: int, padding: int = SAME, multiplier: int = 1) -> dict[int, Number]:
    """Of DEPTHWISE."""
    return {
        0: Number("<b", padding),
        1: Number("<i", stride),
        2: Number("<i", stride),
        3: Number("<i", multiplier),
    }


def pool_options(size: int, padding: int = SAME) -> dict[int, Number]:
    """Of MAX_POOL, strides as large as its windows."""
    numbers = [Number("<i", size)] * 4
    return {0: Number("<b", padding), **{1 + k: number for k, number in enumerate(numbers)}}


def small_model(seed: int = 0) -> bytes:
    """A network with every kind of operation: an image of 8 px to rows [B, 16, 3] and a map [B, 4, 4, 6]."""
    rng = np.random.default_rng(seed)
    weights = lambda *shape: rng.normal(size=shape).astype("<f4")  # noqa: E731
    m = SmallModel(8)
    half = m.constant(weights(4, 3, 3, 3).astype("<f2"))
    full = m.step(DEQUANTIZE, [half], [4, 3, 3, 3])
    x = m.step(CONV, [0, full, m.constant(weights(4))], [1, 4, 4, 4], conv_options(2))
    y = m.step(DEPTHWISE, [x, m.constant(weights(1, 3, 3, 4)), m.constant(weights(4))], [1, 4, 4, 4],
               depthwise_options(1))  # fmt: skip
    y = m.step(PRELU, [y, m.constant(weights(1, 1, 4))], [1, 4, 4, 4])
    x = m.step(ADD, [x, y], [1, 4, 4, 4])
    x = m.step(RELU, [x], [1, 4, 4, 4])
    small = m.step(MAX_POOL, [x], [1, 2, 2, 4], pool_options(2))
    up = m.step(RESIZE, [small, m.constant(np.array([4, 4], "<i4"))], [1, 4, 4, 4],
                {3: Number("<b", 1)})  # fmt: skip
    margins = np.array([[0, 0], [0, 0], [0, 0], [0, 2]], "<i4")
    wide = m.step(PAD, [up, m.constant(margins)], [1, 4, 4, 6])
    a = m.step(CONV, [wide, m.constant(weights(6, 1, 1, 6)), m.constant(weights(6))], [1, 4, 4, 6],
               conv_options(1, VALID))  # fmt: skip
    few = m.step(CONV, [small, m.constant(weights(6, 1, 1, 4))], [1, 2, 2, 6], conv_options(1))
    rows = [m.step(RESHAPE, [few], [1, 8, 3]), m.step(RESHAPE, [few], [1, 8, 3])]
    both = m.step(CONCAT, rows, [1, 16, 3], {0: Number("<i", 1)})
    return m.data([both, a])
