"""Read what FLAME's pickles hold (arrays, sparse matrices, chumpy objects) without running any of it.

A pickle is a program. Here every name in it is looked up in one short table: arrays are built by this
module from their bytes, sparse matrices and chumpy objects become empty shells that only keep their state.
Everything else is refused.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from mofa_nvdr.importers.foreign import ModelFileError
from mofa_nvdr.system.array_files import NotArrays, read_header
from mofa_nvdr.system.budget import MOST_STEPS, Budget, words_of


class Shell:
    """An object of a class that is not loaded; its state alone, as a dict."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) == 2:  # (dict, slots)
            state = state[0]
        self.state = state if isinstance(state, dict) else {}


class _Array:
    """An array under construction: numpy's state tuple gives shape, type and bytes."""

    value: Any = None

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def __setstate__(self, state: Any) -> None:
        try:
            _, shape, dtype, fortran, data = state
            raw = _raw(self._budget, data)
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


def _raw(budget: Budget, data: Any) -> Any:
    """Bytes of a text of Python 2. Each is a copy, and one text may be named many times."""
    if not isinstance(data, str):
        return data
    budget.take("its texts", len(data))
    return data.encode("latin1")


def _new_array(budget: Budget, *_: Any) -> _Array:
    return _Array(budget)


def _new_scalar(budget: Budget, kind: _Type, data: Any = b"") -> Any:
    return np.frombuffer(_raw(budget, data), kind.value)[0]


def _new_object(kind: Any, *_: Any) -> Any:
    if kind is not Shell:
        raise pickle.UnpicklingError("an object of a kind that is not read")
    return Shell()


def _encode(budget: Budget, text: str, encoding: str = "latin1") -> bytes:
    if encoding != "latin1" or not isinstance(text, str):
        raise pickle.UnpicklingError(f"bytes as {encoding}")
    return bytes(_raw(budget, text))


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


class _Stream:
    """A file that is never asked for more than it has left, so that nothing larger is allocated."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._size = file, size

    def read(self, count: int = -1) -> bytes:
        left = self._size - self._file.tell()
        if count > left:
            raise pickle.UnpicklingError(f"cut short: {count} bytes wanted, {left} left")
        return self._file.read(count)

    def readline(self) -> bytes:
        return self._file.readline()


def _counted(step: Callable[..., None]) -> Callable[..., None]:
    """The step of one opcode, which counts."""

    def counted(self: _Unpickler) -> None:
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise pickle.UnpicklingError(
                f"more than {MOST_STEPS} steps, and a face model has some hundred"
            )
        step(self)

    return counted


class _Unpickler(pickle._Unpickler):
    """The Python implementation, whose lookups all go through find_class, with its steps counted."""

    def __init__(self, file: IO[bytes], size: int, budget: Budget) -> None:
        self.steps, self._budget = 0, budget
        super().__init__(_Stream(file, size), encoding="latin1")

    dispatch = {  # noqa: RUF012
        code: _counted(step) for code, step in pickle._Unpickler.dispatch.items()
    }

    def load_bytearray8(self) -> None:
        """Not allocated before it is known to be there."""
        size = int.from_bytes(self.read(8), "little")  # type: ignore[attr-defined]
        self.append(bytearray(self.read(size)))  # type: ignore[attr-defined]

    dispatch[pickle.BYTEARRAY8[0]] = _counted(load_bytearray8)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _NAMES:
            found = _NAMES[module, name]
            takes = found in (_new_array, _new_scalar, _encode)
            return functools.partial(found, self._budget) if takes else found
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
    budget = Budget(path, error=ModelFileError)
    try:
        with open(path, "rb") as file:
            value = _Unpickler(file, path.stat().st_size, budget).load()
        if not isinstance(value, dict):
            raise ModelFileError(
                f"{path}: the pickle holds a {type(value).__name__}, expected a dict"
            )
        # What no face model has at its top is not looked into: tables within tables may share their parts.
        return {
            str(key): plain(entry, budget) for key, entry in value.items() if isinstance(key, str)
        }
    except ModelFileError:
        raise
    except pickle.UnpicklingError as error:
        raise ModelFileError(f"{path}: refused: {words_of(error)}") from None
    except Exception as error:  # a damaged pickle may do anything that its opcodes can do wrong
        raise ModelFileError(f"{path}: not a readable pickle ({words_of(error)})") from None


def read_object_npy(path: Path) -> Any:
    """The dict that numpy.save wrote into an .npy file; None where it holds plain numbers.

    Raises:
        ModelFileError: no .npy file, or it asks for anything but arrays.
    """
    budget = Budget(path, error=ModelFileError)
    try:
        with open(path, "rb") as file:
            if not read_header(file)[1].hasobject:
                return None
            return plain(_Unpickler(file, path.stat().st_size, budget).load(), budget)
    except ModelFileError:
        raise
    except pickle.UnpicklingError as error:
        raise ModelFileError(f"{path}: refused: {words_of(error)}") from None
    except NotArrays as error:
        raise ModelFileError(f"{path}: not a readable .npy file ({error})") from None
    except Exception as error:
        raise ModelFileError(f"{path}: not a readable .npy file ({words_of(error)})") from None


def plain(value: Any, budget: Budget, depth: int = 0) -> Any:
    """Arrays of what was under construction; other values as they are.

    Tables and objects are looked into once, at the places where face models have arrays: what is shared,
    or contains itself, costs no more than what is not.
    """
    if isinstance(value, _Array):
        return plain(value.value, budget, depth)
    if depth > _DEPTH:
        return None
    if isinstance(value, dict):
        budget.take("its tables", _ENTRY * len(value))
        return {key: plain(entry, budget, depth + 1) for key, entry in value.items()}
    if not isinstance(value, Shell):
        return value
    state = getattr(value, "state", {})
    if {"data", "indices", "indptr", "_shape"} <= state.keys():
        parts = {
            k: plain(state[k], budget, _DEPTH) for k in ("data", "indices", "indptr", "_shape")
        }
        return _dense(parts, budget)
    # chumpy keeps its numbers in x; what was derived from others keeps them too.
    kept = (plain(state.get(k), budget, depth + 1) for k in ("x", "_x", "a"))
    return next((v for v in kept if isinstance(v, np.ndarray)), None)


_DEPTH = 8  # of tables and chumpy objects within each other
_ENTRY = 100  # bytes of an entry of a table


def _dense(state: dict[str, Any], budget: Budget) -> np.ndarray:
    """A matrix [rows, columns] from compressed columns (or rows, told by the length of indptr)."""
    shape = tuple(int(n) for n in state["_shape"])
    data, indices, indptr = (np.asarray(state[k]) for k in ("data", "indices", "indptr"))
    if len(shape) != 2 or any(part.ndim != 1 for part in (data, indices, indptr)):
        raise pickle.UnpicklingError(f"a sparse matrix of {list(shape)[:4]}")
    budget.take_array("a sparse matrix", shape, 8)
    counts = np.diff(indptr)
    if counts.dtype.kind not in "iu" or (counts < 0).any() or counts.sum() != len(data):
        raise pickle.UnpicklingError("a sparse matrix whose columns do not add up")
    by_column = len(indptr) == shape[1] + 1
    major = np.repeat(np.arange(len(indptr) - 1), counts)
    result = np.zeros(shape)
    rows, columns = (indices, major) if by_column else (major, indices)
    np.add.at(result, (rows, columns), data)
    return result
