"""A valid file made invalid: damaged bytes, and containers whose parts are exchanged."""

from __future__ import annotations

import io
import json
import random
import re
import struct
import zipfile

import numpy as np

NUMBERS = (b"nan", b"inf", b"-inf", b"-1", b"0", b"1e999", b"4611686018427387904", b"99999999999999999999",
           b"1e-400", b"true", b"null", b"2024-99-99", b"[]", b'"x"')  # fmt: skip
INTEGERS = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**40,
    2**62,
    2**63,
    2**64 - 1,
)
_NUMBER = re.compile(rb"-?\d+(\.\d+)?(e-?\d+)?")


def mutate(data: bytes, name: str, rng: random.Random) -> bytes:
    """The file's bytes with one to four faults."""
    structured = {
        ".npz": _archive, ".pth": _archive, ".whl": _archive, ".safetensors": _safetensors,
    }.get("." + name.rpartition(".")[2])  # fmt: skip
    if structured is not None and rng.random() < 0.6:
        try:
            return structured(data, rng)
        except (zipfile.BadZipFile, ValueError, struct.error):
            pass
    textual = name.endswith((".yaml", ".json", ".jsonl", ".txt", ".csv", ".pts", ".obj", ".index"))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice(_TEXT if textual else _BYTES)(data, rng)
    return data


def _flip(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 4, 40))):
        if out:
            # Half of them where headers are.
            at = rng.randrange(min(len(out), 256) if rng.random() < 0.5 else len(out))
            out[at] = rng.choice((rng.randrange(256), 0, 0xFF, out[at] ^ 1 << rng.randrange(8)))
    return bytes(out)


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _remove(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.choice((1, 2, 4, 8, 100)) :]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    at, length = rng.randrange(len(data) + 1), rng.choice((1, 8, 64, 512))
    return data[:at] + data[at : at + length] * rng.choice((2, 3, 100)) + data[at + length :]


def _integer(data: bytes, rng: random.Random) -> bytes:
    size = rng.choice((1, 2, 4, 8))
    value = rng.choice(INTEGERS) % 256**size
    order = rng.choice(("little", "big"))
    at = rng.randrange(min(len(data), 512) if rng.random() < 0.6 else len(data)) if data else 0
    return data[:at] + value.to_bytes(size, order) + data[at + size :]


def _digits(data: bytes, rng: random.Random) -> bytes:
    found = list(_NUMBER.finditer(data[:200_000]))
    if not found:
        return _flip(data, rng)
    place = rng.choice(found)
    return data[: place.start()] + rng.choice(NUMBERS) + data[place.end() :]


def _insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    what = (b"\n", b"\x00", b"\xff\xfe", b"\x1b[31m", b"[" * 5000, b"{", b"&a ", b"*a", b"- ", b": ",
            b"\xed\xa0\x80", b"!!python/object:os.system ", b"9" * 5000,
            b"\t", b'"', b"/", b" " * 10_000)  # fmt: skip
    return data[:at] + rng.choice(what) + data[at:]


def _line(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    kind, at = rng.randrange(4), rng.randrange(len(lines))
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(at, lines[rng.randrange(len(lines))])
    elif kind == 2:
        lines[at] = rng.choice(NUMBERS) + b" " + lines[at]
    else:
        rng.shuffle(lines)
    return b"\n".join(lines)


_BYTES = (_flip, _flip, _cut, _remove, _repeat, _integer, _integer, _insert)
_TEXT = (_flip, _cut, _remove, _digits, _digits, _insert, _insert, _line, _line)


def _archive(data: bytes, rng: random.Random) -> bytes:
    """One member exchanged: for damaged bytes, another array, or none at all."""
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        members = {name: old.read(name) for name in old.namelist()}
    name = rng.choice(list(members))
    choice = rng.randrange(6)
    if choice == 0:
        del members[name]
    elif choice == 1:
        members[name] = rng.choice((b"", b"text", b"\x93NUMPY\x01\x00"))
    elif choice == 2:
        members[name] = mutate(members[name], "x.bin", rng)
    elif choice == 3 and name.endswith(".npy"):
        members[name] = _header(rng)
    elif choice == 4:
        members[rng.choice(("readme.txt", "a\nb.npy", "\x1b[31m.npy", "../x.npy"))] = members[name]
    elif name.endswith(".npy"):
        stream = io.BytesIO()
        value = np.load(io.BytesIO(members[name]), allow_pickle=False)
        np.save(stream, _other(value, rng), allow_pickle=True)
        members[name] = stream.getvalue()
    out = io.BytesIO()
    packing = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(out, "w", packing) as new:
        for key, body in members.items():
            new.writestr(key, body)
    return out.getvalue()


def _header(rng: random.Random) -> bytes:
    """The header of an array that claims any size, with few bytes behind it."""
    shape = tuple(rng.choice((0, 1, 3, 68, 2**20, 2**31, 2**40)) for _ in range(rng.randrange(4)))
    kind = rng.choice(
        ("<f4", "<f8", "<i8", "|O", "<U9", "|b1", "<c16", "<U100000000", "|V8", "<M8[s]")
    )
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": kind, "fortran_order": rng.random() < 0.5, "shape": shape}
    )
    return stream.getvalue() + bytes(64)


def _other(value: np.ndarray, rng: random.Random) -> np.ndarray:
    """Another array in its place."""
    choice = rng.randrange(8)
    if choice == 0:
        return value[..., :-1] if value.ndim else np.zeros(3)
    if choice == 1:
        return value.astype(rng.choice(("U8", "c16", "f2", "O", "i1")))
    if choice == 2 and value.dtype.kind == "f":
        return np.full_like(value, rng.choice((np.nan, np.inf, 1e38, -1e30, 0)))
    if choice == 3:
        return np.zeros((0, *value.shape[1:]), value.dtype)
    if choice == 4:
        return np.zeros(
            rng.choice((10**5, 3 * 10**6)), value.dtype if value.dtype.kind != "U" else "f8"
        )
    if choice == 5 and value.dtype.kind in "iu":
        return np.full_like(value, rng.choice((0, 1, 2**7 - 1)))
    if choice == 6 and value.dtype.kind == "U":
        return np.array("\x1b[31m\n" * 3)
    return value.T


def _safetensors(data: bytes, rng: random.Random) -> bytes:
    """A header edited as JSON: types, shapes, offsets, metadata, within the right length."""
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    tensors = [name for name in header if name != "__metadata__"]
    name = rng.choice(tensors)
    choice = rng.randrange(8)
    if choice == 0:
        header[name]["dtype"] = rng.choice(
            ("BF16", "F16", "F8_E4M3", "I64", "BOOL", "F64", "U8", "C64", "x")
        )
    elif choice == 1:
        header[name]["shape"] = rng.choice(
            ([], [0], [2**40], [1, 2**62, 2], header[name]["shape"][::-1])
        )
    elif choice == 2:
        del header[name]
    elif choice == 3:
        header[rng.choice(("a\nb", "\x1b[31m", "x/y/z", name + "_"))] = header.pop(name)
    elif choice == 4 and "__metadata__" in header:
        key = rng.choice(list(header["__metadata__"]))
        text = header["__metadata__"][key]
        header["__metadata__"][key] = rng.choice(
            (
                "",
                "[" * 3000,
                "\n\x1b[31m",
                "\ud800",
                _digits(text.encode(), rng).decode("utf-8", "replace"),
            )
        )
    elif choice == 5 and "__metadata__" in header:
        text = header["__metadata__"].get("metadata")
        if text:  # a checkpoint's facts
            header["__metadata__"]["metadata"] = json.dumps(_edited(json.loads(text), rng))
            header["__metadata__"].pop("crc32", None)
    elif choice == 6:
        start, end = header[name]["data_offsets"]
        size = {"F32": 4, "I32": 4, "F64": 8, "I64": 8}.get(header[name]["dtype"], 1)
        value = rng.choice((b"\xff\xff\xff\x7f", b"\x00\x00\xc0\x7f", b"\xff" * 8, b"\x00" * 8))
        filled = (value * 4)[:size] * ((end - start) // size)
        body = body[:start] + filled + body[end:]
        header.get("__metadata__", {}).pop("crc32", None)
    else:
        header.pop("__metadata__", None)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def _edited(value: object, rng: random.Random) -> object:
    """JSON with one value exchanged, anywhere."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        return {**value, key: _edited(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return [*value[:at], _edited(value[at], rng), *value[at + 1 :]]
    return rng.choice(
        (
            None,
            -1,
            0,
            1e308,
            float("inf"),
            float("nan"),
            2**62,
            20_000,
            "x",
            "\x1b[31m\n",
            [],
            {},
            True,
        )
    )
