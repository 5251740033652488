"""NumPy's files (.npy, .npz) without surprises: headers first, no pickles, sizes within the file's budget."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import numpy as np

from mofa_nvdr.system.budget import Budget, TooMuch, printable, words_of

_KINDS = "biufcSU"  # numbers and texts


class NotArrays(ValueError):
    """Not such a file, or damaged; the message does not name the file."""


def npz_members(path: str | Path) -> dict[str, str]:
    """Name of each array of an .npz -> its member; empty where the file is no archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _members(archive)
    except Exception:  # zipfile raises kinds of its own on damaged files
        return {}


def read_npz(
    path: str | Path,
    names: Collection[str] | None = None,
    error: type[ValueError] = TooMuch,
) -> dict[str, np.ndarray]:
    """Arrays of numbers and texts of an .npz file.

    Args:
        path: the file.
        names: read these alone, as far as they are there; None: all.
        error: the kind of error where the file asks for too much.

    Raises:
        NotArrays: not an .npz, damaged, a member that is no array, or pickled objects.
        ValueError: (or the chosen kind) an array beyond the file's budget (system.budget); names the file.
        OSError: the file cannot be read.
    """
    budget = Budget(path, error=error)
    with open(path, "rb") as file:
        if (start := file.read(6)) == b"\x93NUMPY":
            raise NotArrays("a single array")
        if start[:2] != b"PK":
            raise NotArrays("it is no archive of arrays")
        try:
            with zipfile.ZipFile(file) as archive:
                budget.members(len(archive.infolist()))
                members = _members(archive)
                wanted = members.keys() if names is None else [n for n in names if n in members]
                return {name: _of_member(archive, members[name], name, budget) for name in wanted}
        except (NotArrays, error):
            raise
        except Exception as wrong:  # zip, zlib and NumPy each raise kinds of their own
            raise NotArrays(words_of(wrong)) from None


def read_npy(
    source: str | Path | bytes,
    name: str | Path = "",
    error: type[ValueError] = TooMuch,
) -> np.ndarray:
    """The array of an .npy file, or of its bytes.

    Args:
        source: the file, or its bytes.
        name: what messages call the bytes.
        error: the kind of error where it asks for too much.

    Raises:
        NotArrays: not an .npy, damaged, or pickled objects.
        ValueError: (or the chosen kind) an array beyond the file's budget; names the file.
        OSError: the file cannot be read.
    """
    if isinstance(source, bytes):
        return _read(io.BytesIO(source), "the array", Budget(name, len(source), error))
    with open(source, "rb") as file:
        return _read(file, "the array", Budget(source, error=error))


def read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of the .npy that begins here; the stream is then at its data.

    Raises:
        NotArrays: none begins here.
    """
    try:
        version = np.lib.format.read_magic(stream)
        first = version == (1, 0)
        read: Any = np.lib.format.read_array_header_1_0
        shape, _, dtype = (read if first else np.lib.format.read_array_header_2_0)(stream)
        return shape, dtype
    except Exception as wrong:  # NumPy evaluates the header as a literal
        raise NotArrays(words_of(wrong)) from None


def _members(archive: zipfile.ZipFile) -> dict[str, str]:
    return {name.removesuffix(".npy"): name for name in archive.namelist()}


def _of_member(archive: zipfile.ZipFile, member: str, name: str, budget: Budget) -> np.ndarray:
    if archive.getinfo(member).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise NotArrays(f"{printable(member, 60)} is compressed in a way that NumPy does not write")
    with archive.open(member) as stream:
        _check(stream, printable(name, 60), budget)
    with archive.open(member) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _read(stream: IO[bytes], name: str, budget: Budget) -> np.ndarray:
    start = stream.tell()
    _check(stream, name, budget)
    stream.seek(start)
    try:
        return np.lib.format.read_array(stream, allow_pickle=False)
    except Exception as wrong:
        raise NotArrays(words_of(wrong)) from None


def _check(stream: IO[bytes], name: str, budget: Budget) -> None:
    try:
        shape, dtype = read_header(stream)
    except NotArrays as wrong:
        raise NotArrays(f"{name} is no array ({wrong})") from None
    if dtype.hasobject:
        raise NotArrays(f"{name} holds pickled objects; they are not read")
    if dtype.kind not in _KINDS:
        raise NotArrays(f"{name} holds {printable(dtype, 60)}, neither numbers nor texts")
    budget.take_array(name, shape, dtype.itemsize)
