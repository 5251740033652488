"""As much of an .onnx file's encoding (protocol buffers) as tells whether it names other files.

ONNX Runtime reads weights from whatever file a model names for them ("external data"). The exported encoders
have theirs within; a model that has not is refused before ONNX Runtime sees it.
"""

from __future__ import annotations

from collections.abc import Iterator

from mofa_nvdr.system.budget import MOST_DEPTH

# Message -> field number -> the message in it, as onnx.proto3 numbers them; what is not here is passed over.
_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL = (13, 14)  # of a tensor: where its data are, and that they are elsewhere


class NotOnnx(ValueError):
    """Not the encoding of a model."""


def names_other_files(data: bytes) -> bool:
    """Whether a tensor of the model is in another file.

    Args:
        data: the .onnx file.

    Raises:
        NotOnnx: it is none, or cut short.
    """
    open_ = [("model", 0, len(data), 0)]
    while open_:
        kind, start, end, depth = open_.pop()
        if depth > MOST_DEPTH:
            raise NotOnnx("graphs within graphs")
        for field, first, last in _fields(data, start, end):
            if kind == "tensor" and (
                field == _EXTERNAL[0] or (field == _EXTERNAL[1] and data[first:last] != b"\0")
            ):
                return True
            if field in _FIELDS[kind]:
                open_.append((_FIELDS[kind][field], first, last, depth + 1))
    return False


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Field number, and where its value begins and ends."""
    while at < end:
        key, at = _varint(data, at, end)
        kind = key & 7
        if kind == 0:
            _, last = _varint(data, at, end)
        elif kind == 2:
            length, at = _varint(data, at, end)
            last = at + length
        elif kind in (1, 5):
            last = at + (8 if kind == 1 else 4)
        else:
            raise NotOnnx(f"a field of kind {kind}")
        if last > end:
            raise NotOnnx("cut short")
        yield key >> 3, at, last
        at = last


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise NotOnnx("cut short")
