"""Read a TensorFlow Lite file (.tflite) of a convolutional network: its operations and weights, nothing else.

A .tflite file is a flatbuffer: tables whose fields are found by number through a table of offsets. Only what
float networks of a few kinds of operations need is read, by the schema of TensorFlow Lite (schema.fbs,
version 3); everything else is refused by name.

Source: FlatBuffers' internals (https://flatbuffers.dev/internals), and the numbers of operations, types and
fields of tensorflow/lite/schema/schema.fbs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.networks.graph import Graph, Operation

_MAGIC = b"TFL3"
_TYPES = {0: "<f4", 1: "<f2", 2: "<i4", 4: "<i8"}
_ADD, _CONCAT, _CONV, _DEPTHWISE, _DEQUANTIZE, _MAX_POOL = 0, 2, 3, 4, 6, 17
_RELU, _RESHAPE, _RESIZE, _PAD, _PRELU = 19, 22, 23, 34, 54
_SAME = 0


class _Table:
    """A flatbuffer table: fields by number."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._fields = at - self._unpack("<i", at)
        self._size = self._unpack("<H", self._fields)

    def number(self, field: int, kind: str = "<i", default: int = 0) -> int:
        at = self._place(field)
        return default if at is None else self._unpack(kind, at)

    def array(self, field: int, dtype: str) -> np.ndarray:
        at = self._place(field)
        if at is None:
            return np.zeros(0, dtype)
        at = self._follow(at)
        return np.frombuffer(self._data, dtype, self._unpack("<I", at), at + 4)

    def table(self, field: int) -> _Table | None:
        at = self._place(field)
        return None if at is None else _Table(self._data, self._follow(at))

    def tables(self, field: int) -> list[_Table]:
        at = self._place(field)
        if at is None:
            return []
        at = self._follow(at)
        places = range(at + 4, at + 4 + 4 * self._unpack("<I", at), 4)
        return [_Table(self._data, self._follow(place)) for place in places]

    def _unpack(self, kind: str, at: int) -> int:
        return int(struct.unpack_from(kind, self._data, at)[0])

    def _place(self, field: int) -> int | None:
        slot = 4 + 2 * field
        offset = self._unpack("<H", self._fields + slot) if slot < self._size else 0
        return self._at + offset if offset else None

    def _follow(self, at: int) -> int:
        return at + self._unpack("<I", at)


def read_tflite(data: bytes) -> tuple[Graph, dict[str, Tensor]]:
    """The graph of a .tflite file, and its weights as `graph.GraphNetwork` takes them, as precise as there.

    Images are [B, 3, H, W] here, and the margins of "same" convolutions are written out for the file's size
    of image. Outputs that are maps become rows [B, 1, N].

    Raises:
        ValueError: not a .tflite file, damaged, or with something that is not read here, which is named.
    """
    if data[4:8] != _MAGIC:
        raise ValueError("not a .tflite file")
    try:
        return _Reader(data).read()
    except _UnknownError as error:
        raise ValueError(f"a .tflite file with {error}, which is not read here") from None
    except (
        struct.error, ArithmeticError, IndexError, KeyError, TypeError, ValueError, RecursionError
    ) as error:  # fmt: skip
        raise ValueError(f"a damaged .tflite file ({error!r})") from None


class _UnknownError(Exception):
    """What the file holds and this reader does not know."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        model = _Table(data, struct.unpack_from("<I", data, 0)[0])
        # The number of an operation is in a byte, or in a newer field of four where it is above 126.
        self._codes = [max(c.number(3), c.number(0, "<b")) for c in model.tables(1)]
        self._graph, *others = model.tables(2)
        if others:
            raise _UnknownError(f"{1 + len(others)} graphs")
        buffers = model.tables(4)
        self._shapes: list[list[int]] = []
        self._constants: dict[int, np.ndarray] = {}
        for number, tensor in enumerate(self._graph.tables(0)):
            self._shapes.append(tensor.array(0, "<i4").tolist())
            raw = buffers[tensor.number(2, "<I")].array(0, "u1")
            if raw.size:
                kind = tensor.number(1, "<b")
                if kind not in _TYPES:
                    raise _UnknownError(f"weights of type {kind}")
                array = np.frombuffer(raw.tobytes(), _TYPES[kind])
                self._constants[number] = array.reshape(self._shapes[-1])
        self._steps: list[Operation] = []
        self._tensors: dict[str, Tensor] = {}
        self._names: dict[int, str] = {}

    def read(self) -> tuple[Graph, dict[str, Tensor]]:
        (image,) = self._graph.array(1, "<i4").tolist()
        _, height, width, channels = self._shapes[image]
        if channels != 3:
            raise _UnknownError(f"an image of {channels} channels")
        self._names[image] = "image"
        makers: dict[int, Callable[..., None]] = {
            _CONV: self._conv, _DEPTHWISE: self._conv, _ADD: self._add, _CONCAT: self._concat,
            _MAX_POOL: self._max_pool, _RESHAPE: self._reshape, _RESIZE: self._resize,
            _PAD: self._pad, _PRELU: self._prelu, _RELU: self._relu,
        }  # fmt: skip
        for step in self._graph.tables(3):
            code = self._codes[step.number(0, "<I")]
            inputs, outputs = step.array(1, "<i4").tolist(), step.array(2, "<i4").tolist()
            if code == _DEQUANTIZE and inputs[0] in self._constants:
                self._constants[outputs[0]] = self._constants[inputs[0]]  # float16: as it is
                continue
            if code not in makers:
                raise _UnknownError(f"operation {code}")
            options = step.table(4) or _NoOptions()
            makers[code](inputs, outputs[0], options, code)
        names = []
        for output in self._graph.array(2, "<i4").tolist():
            if len(self._shapes[output]) == 4:
                name = f"rows{output}"
                self._append("rows", [output], name, columns=self._shapes[output][3])
                names.append(name)
            else:
                names.append(self._names[output])
        return Graph((height, width), tuple(self._steps), tuple(names)), self._tensors

    def _append(self, kind: str, inputs: list[int], output: int | str, **settings: Any) -> str:
        name = output if isinstance(output, str) else f"{kind}{output}"
        places = tuple(self._names[number] for number in inputs)
        self._steps.append(Operation(kind, places, name, settings))
        if isinstance(output, int):
            self._names[output] = name
        return name

    def _activate(self, kind: int, output: int) -> None:
        if kind == 1:
            self._append("relu", [output], output)
        elif kind:
            raise _UnknownError(f"activation {kind}")

    def _pads(
        self, source: int, kernel: list[int], stride: list[int], dilation: list[int]
    ) -> list[int]:
        """Margins (left, right, top, bottom) of "same": the larger half after, as TensorFlow has it."""
        pads = []
        for axis in (1, 0):
            size = self._shapes[source][1 + axis]
            reach = (kernel[axis] - 1) * dilation[axis] + 1
            total = max(0, (-(-size // stride[axis]) - 1) * stride[axis] + reach - size)
            pads += [total // 2, total - total // 2]
        return pads

    def _conv(self, inputs: list[int], output: int, options: _Table, code: int) -> None:
        depthwise = code == _DEPTHWISE
        weight = self._constants[inputs[1]].transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2))
        if depthwise and options.number(3) != 1:
            raise _UnknownError("several filters for each channel")
        first = 5 if depthwise else 4  # DepthwiseConv2DOptions has a depth multiplier before
        dilation = [options.number(first + 1, default=1), options.number(first, default=1)]
        stride = [options.number(2), options.number(1)]
        same = options.number(0, "<b") == _SAME
        pads = self._pads(inputs[0], list(weight.shape[2:]), stride, dilation)
        name = self._append(
            "conv",
            inputs[:1],
            output,
            stride=stride,
            pads=pads if same else [0, 0, 0, 0],
            groups=len(weight) if depthwise else 1,
            dilation=dilation,
        )
        given = len(inputs) > 2 and inputs[2] >= 0
        bias = self._constants[inputs[2]] if given else np.zeros(len(weight), np.float32)
        self._tensors[f"{name}.weight"] = torch.from_numpy(weight.copy())
        self._tensors[f"{name}.bias"] = torch.from_numpy(bias.copy())
        self._activate(options.number(first - 1, "<b"), output)

    def _add(self, inputs: list[int], output: int, options: _Table, code: int) -> None:
        self._append("add", inputs, output)
        self._activate(options.number(0, "<b"), output)

    def _concat(self, inputs: list[int], output: int, options: _Table, code: int) -> None:
        if options.number(0) != 1 or any(len(self._shapes[number]) != 3 for number in inputs):
            raise _UnknownError("a concatenation of other things than rows")
        self._append("concat", inputs, output)
        self._activate(options.number(1, "<b"), output)

    def _max_pool(self, inputs: list[int], output: int, options: _Table, code: int) -> None:
        kernel, stride = (
            [options.number(4), options.number(3)],
            [options.number(2), options.number(1)],
        )
        same = options.number(0, "<b") == _SAME
        pads = self._pads(inputs[0], kernel, stride, [1, 1]) if same else [0, 0, 0, 0]
        self._append("max_pool", inputs, output, kernel=kernel, stride=stride, pads=pads)
        self._activate(options.number(5, "<b"), output)

    def _reshape(self, inputs: list[int], output: int, options: _Table, code: int) -> None:
        before, after = self._shapes[inputs[0]], self._shapes[output]
        if len(before) != 4 or len(after) not in (2, 3):
            raise _UnknownError(f"a reshape of {before} to {after}")
        self._append("rows", inputs[:1], output, columns=after[2] if len(after) == 3 else 0)

    def _resize(self, inputs: list[int], output: int, options: _Table, code: int) -> None:
        (_, *before, _), after = self._shapes[inputs[0]], self._constants[inputs[1]].tolist()
        factor = after[0] // before[0]
        aligned, centred = options.number(2, "<b"), options.number(3, "<b")
        if aligned or not centred or after != [factor * side for side in before]:
            raise _UnknownError(
                f"a resize of {before} to {after}, aligned {aligned}, centred {centred}"
            )
        self._append("upsample", inputs[:1], output, factor=factor)

    def _pad(self, inputs: list[int], output: int, options: _Table, code: int) -> None:
        *others, (before, after) = self._constants[inputs[1]].tolist()
        if len(others) != 3 or any(map(any, others)):
            raise _UnknownError("margins of other things than channels")
        self._append("pad_channels", inputs[:1], output, before=before, after=after)

    def _prelu(self, inputs: list[int], output: int, options: _Table, code: int) -> None:
        slope = self._constants[inputs[1]]
        if slope.size != slope.shape[-1]:
            raise _UnknownError("a PReLU that differs from place to place")
        name = self._append("prelu", inputs[:1], output)
        self._tensors[f"{name}.weight"] = torch.from_numpy(slope.reshape(-1).copy())

    def _relu(self, inputs: list[int], output: int, options: _Table, code: int) -> None:
        self._append("relu", inputs, output)


class _NoOptions(_Table):
    """Of an operation that has none: every field has its default."""

    def __init__(self) -> None:
        self._size = 0
