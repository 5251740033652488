"""Read what FLAME's pickles hold (arrays, sparse matrices, chumpy objects) without running any of it.

A pickle is a program. Here every name in it is looked up in one short table: arrays are built by this
module from their bytes, sparse matrices and chumpy objects become empty shells that only keep their state.
Everything else is refused.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from mofa_nvdr.importers.foreign import MAX_NUMBERS, ModelFileError

_MOST_BYTES = 2_000_000_000


class Shell:
    """An object of a class that is not loaded; its state alone, as a dict."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) == 2:  # (dict, slots)
            state = state[0]
        self.state = state if isinstance(state, dict) else {}


class _Array:
    """An array under construction: numpy's state tuple gives shape, type and bytes."""

    value: Any = None

    def __setstate__(self, state: Any) -> None:
        try:
            _, shape, dtype, fortran, data = state
            raw = data.encode("latin1") if isinstance(data, str) else data
            kind = dtype.value
            if kind.hasobject:  # one object in an array without axes, as numpy.save writes a dict
                if shape != () or not isinstance(raw, list) or len(raw) != 1:
                    raise pickle.UnpicklingError("an array of objects")
                self.value = raw[0]
                return
            flat = np.frombuffer(raw, kind)
            self.value = flat.reshape(shape, order="F" if fortran else "C")
        except (TypeError, ValueError, AttributeError) as error:
            raise pickle.UnpicklingError(f"a damaged array ({error})") from None


class _Type:
    """A number type under construction; of its state only the byte order matters."""

    def __init__(self, name: Any, *_: Any) -> None:
        text = name.decode("latin1") if isinstance(name, bytes) else str(name)
        self.value = np.dtype(text)
        if self.value.kind not in "fiubO":
            raise pickle.UnpicklingError(f"an array of type {text}")

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in (">", "<"):
            self.value = self.value.newbyteorder(state[1])


def _new_array(*_: Any) -> _Array:
    return _Array()


def _new_scalar(kind: _Type, data: Any = b"") -> Any:
    raw = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(raw, kind.value)[0]


def _new_object(kind: Any, *_: Any) -> Any:
    if kind is not Shell:
        raise pickle.UnpicklingError("an object of a kind that is not read")
    return Shell()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes as {encoding}")
    return text.encode(encoding)


class _NoClass:
    """Stands for numpy.ndarray as a name; nothing can be made of it."""


_NAMES: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _NoClass,
    ("numpy", "dtype"): _Type,
    ("copy_reg", "_reconstructor"): _new_object,
    ("copyreg", "_reconstructor"): _new_object,
    ("__builtin__", "object"): _NoClass,
    ("builtins", "object"): _NoClass,
    ("_codecs", "encode"): _encode,
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _NAMES[_module, "_reconstruct"] = _new_array
    _NAMES[_module, "scalar"] = _new_scalar


class _Unpickler(pickle._Unpickler):
    """The Python implementation, whose lookups all go through find_class."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _NAMES:
            return _NAMES[module, name]
        if module.split(".")[0] == "chumpy" or (
            module.startswith("scipy.sparse") and name.endswith("_matrix")
        ):
            return Shell
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no face model needs")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to something outside")


def read_pickle(path: Path) -> dict[str, Any]:
    """A pickled dict of arrays, numbers and texts; sparse matrices come dense.

    Raises:
        ModelFileError: not a pickle, damaged, or it asks for anything but arrays.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise ModelFileError(
            f"{path}: {path.stat().st_size / 1e9:.1f} GB, more than a face model has"
        )
    try:
        with open(path, "rb") as file:
            value = _Unpickler(file, encoding="latin1").load()
        if not isinstance(value, dict):
            raise ModelFileError(
                f"{path}: the pickle holds a {type(value).__name__}, expected a dict"
            )
        return {str(key): plain(entry) for key, entry in value.items()}
    except ModelFileError:
        raise
    except pickle.UnpicklingError as error:
        raise ModelFileError(f"{path}: refused: {' '.join(str(error).split())[:200]}") from None
    except Exception as error:  # a damaged pickle may do anything that its opcodes can do wrong
        raise ModelFileError(
            f"{path}: not a readable pickle ({' '.join(str(error).split())[:200]})"
        ) from None


def read_object_npy(path: Path) -> Any:
    """The dict that numpy.save wrote into an .npy file; None where it holds plain numbers.

    Raises:
        ModelFileError: no .npy file, or it asks for anything but arrays.
    """
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0
            if version != (1, 0):
                read = np.lib.format.read_array_header_2_0
            if not read(file)[2].hasobject:
                return None
            return plain(_Unpickler(file, encoding="latin1").load())
    except pickle.UnpicklingError as error:
        raise ModelFileError(f"{path}: refused: {' '.join(str(error).split())[:200]}") from None
    except Exception as error:
        raise ModelFileError(
            f"{path}: not a readable .npy file ({' '.join(str(error).split())[:200]})"
        ) from None


def plain(value: Any) -> Any:
    """Arrays of what was under construction; other values as they are."""
    if isinstance(value, _Array):
        return plain(value.value)
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if not isinstance(value, Shell):
        return value
    state = {k: plain(v) for k, v in getattr(value, "state", {}).items()}
    if {"data", "indices", "indptr", "_shape"} <= state.keys():
        return _dense(state)
    # chumpy keeps its numbers in x; what was derived from others keeps them too.
    return next((state[k] for k in ("x", "_x", "a") if isinstance(state.get(k), np.ndarray)), None)


def _dense(state: dict[str, Any]) -> np.ndarray:
    """A matrix [rows, columns] from compressed columns (or rows, told by the length of indptr)."""
    shape = tuple(int(n) for n in state["_shape"])
    data, indices, indptr = (np.asarray(state[k]) for k in ("data", "indices", "indptr"))
    if len(shape) != 2 or min(shape) < 0 or shape[0] * shape[1] > MAX_NUMBERS // 10:
        raise pickle.UnpicklingError(f"a sparse matrix of {list(shape)}")
    by_column = len(indptr) == shape[1] + 1
    major = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    result = np.zeros(shape)
    rows, columns = (indices, major) if by_column else (major, indices)
    np.add.at(result, (rows, columns), data)
    return result
