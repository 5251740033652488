"""MATLAB and HDF5 files, read by scipy and h5py in a limited child (system.confined); its `main` runs there.

Only arrays of numbers and single texts come out of it. Links into other files, and data that is kept in other
files, are not followed.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from mofa_nvdr.system.budget import Budget, printable
from mofa_nvdr.system.confined import serve

# What begins the name of an array that is not the array itself.
TEXT, WRONG = "text:", "wrong:"


def main() -> None:
    """Answer one request: {"kind": "mat" or "h5", ...}; see the readers."""
    serve(_prepare, _read)


def _prepare(request: dict[str, Any]) -> None:
    importlib.import_module("scipy.io" if request["kind"] == "mat" else "h5py")


def _read(path: str, request: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    return (_mat if request["kind"] == "mat" else _h5)(path, request)


def as_text(value: str) -> np.ndarray:
    """A text as it goes through the pipe."""
    return np.frombuffer(value.encode("utf-8", "replace"), np.uint8)


def _mat(path: str, request: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """{"names": [...]}: these variables, numbers as they are and structures 1 x 1 as NAME.FIELD.

    None of the names: those of all variables, as empty arrays.
    """
    import scipy.io

    listed = scipy.io.whosmat(path)
    if not request["names"]:
        yield from ((name, np.empty(0)) for name, _, _ in listed)
        return
    budget = Budget(path)
    names = [name for name, _, _ in listed if name in request["names"]]
    for name, shape, _ in listed:
        if name in names:
            budget.take_array(name, shape, 1)
    found = scipy.io.loadmat(path, variable_names=names, struct_as_record=True)
    for name in names:
        value = found[name]
        if value.dtype.names is None:
            yield _number(name, value)
        elif value.size != 1:
            yield WRONG + name, as_text(f"structures {list(value.shape)}, expected one")
        else:
            yield name, np.empty(0)
            for field in value.dtype.names:
                yield _number(f"{name}.{field}", np.asarray(value.ravel()[0][field]))


def _h5(path: str, request: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """{"names": {name: columns or null}, "texts": [...]}: data sets, of a matrix its first columns."""
    import h5py

    budget = Budget(path)
    with h5py.File(path, "r") as file:
        for name, columns in request["names"].items():
            data = _find(file, name)
            if data is None:
                continue
            if data.dtype.kind not in "fiu":
                kind = printable(data.dtype, 60)
                yield WRONG + name, as_text(f"{kind}, expected numbers")
                continue
            shape = data.shape
            if columns is not None and len(shape) == 2:
                shape = (shape[0], min(columns, shape[1]))
            budget.take_array(name, shape, data.dtype.itemsize)
            if data.chunks:
                budget.take_array(f"a part of {name}", data.chunks, data.dtype.itemsize)
            yield name, data[:, : shape[1]] if len(shape) == 2 else data[()]
        for name in request["texts"]:
            data = _find(file, name)
            if data is not None and data.size == 1:
                budget.take(name, data.dtype.itemsize)
                value = np.asarray(data[()]).ravel()[0]
                text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
                yield TEXT + name, as_text(text)


def _find(file: Any, name: str) -> Any:
    """The data set of this name; None: there is none, or its numbers are in another file."""
    import h5py

    node = file
    for part in name.split("/"):
        if not isinstance(node, h5py.Group) or not isinstance(
            node.get(part, getlink=True), h5py.HardLink
        ):
            return None
        node = node[part]
    if not isinstance(node, h5py.Dataset) or node.external or node.is_virtual or node.shape is None:
        return None
    return node


def _number(name: str, value: np.ndarray) -> tuple[str, np.ndarray]:
    if value.dtype.kind not in "biuf":
        kind = "cells or structures" if value.dtype.hasobject else printable(value.dtype, 60)
        return WRONG + name, as_text(f"{kind} {list(value.shape)}, expected numbers")
    return name, value
