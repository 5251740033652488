"""Array files without surprises: sizes are looked at before anything is read, and nothing is executed."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from mofa_nvdr.importers.files.confined_readers import TEXT, WRONG
from mofa_nvdr.importers.foreign import ModelFileError
from mofa_nvdr.system import array_files
from mofa_nvdr.system.budget import words_of
from mofa_nvdr.system.confined import ReaderError, read_arrays

EXTRA = 'pip install "mofa-nvdr[import]"'
_READERS = "mofa_nvdr.importers.files.confined_readers"


def read_npz(
    path: Path, wanted: list[str], optional: tuple[str, ...] = ()
) -> dict[str, np.ndarray]:
    """Arrays of an .npz file; texts and numbers only, no pickled objects.

    Raises:
        ModelFileError: not an .npz, a missing, pickled or oversized array.
    """
    try:
        found = array_files.read_npz(path, [*wanted, *optional], ModelFileError)
    except (array_files.NotArrays, OSError) as error:
        raise ModelFileError(f"{path}: not a readable .npz file ({_words(error)})") from None
    missing = [name for name in wanted if name not in found]
    if missing:
        raise ModelFileError(f"{path}: missing {', '.join(missing)}")
    return found


def npz_names(path: Path) -> set[str]:
    """Names of the arrays in an .npz file; empty where it is none."""
    return set(array_files.npz_members(path))


def mat_names(path: Path) -> set[str]:
    """Names of the variables in a MATLAB file; empty where it is none.

    Raises:
        RuntimeError: scipy is not installed.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(128)
        state = path.stat()
    except OSError:
        return set()
    # Version 4 begins with a small number, the others with a text and a mark.
    if 0 not in start[:4] and start[126:128] not in (b"IM", b"MI"):
        return set()
    return set(_mat_names(path, state.st_size, state.st_mtime_ns))


@functools.lru_cache(maxsize=16)
def _mat_names(path: Path, size: int, modified: int) -> frozenset[str]:
    try:
        return frozenset(_confined(path, "scipy", {"kind": "mat", "names": []}))
    except (ReaderError, ModelFileError):
        return frozenset()


def read_mat(
    path: Path, wanted: list[str], optional: tuple[str, ...] = ()
) -> dict[str, np.ndarray]:
    """Variables of a MATLAB file (version 4 to 7.2): numbers, and fields of structures as NAME.FIELD.

    Raises:
        ModelFileError: not such a file, a missing or oversized variable, or one that holds no numbers.
        RuntimeError: scipy is not installed.
    """
    try:
        found = _confined(path, "scipy", {"kind": "mat", "names": [*wanted, *optional]})
    except ReaderError as error:
        raise ModelFileError(f"{path}: not a readable MATLAB file ({error})") from None
    result = _checked(path, found)
    missing = [name for name in wanted if name not in result]
    if missing:
        raise ModelFileError(f"{path}: missing {', '.join(missing)}")
    return result


class H5File:
    """What was read of an HDF5 file."""

    def __init__(self, path: Path, found: dict[str, np.ndarray]) -> None:
        self.path, self._found = path, found

    def has(self, name: str) -> bool:
        """Whether there is a data set of this name."""
        return name in self._found or WRONG + name in self._found

    def read(self, name: str) -> np.ndarray:
        """A data set of numbers.

        Raises:
            ModelFileError: missing, or no numbers.
        """
        if not self.has(name):
            raise ModelFileError(f"{self.path}: missing {name}")
        return _checked(self.path, {k: v for k, v in self._found.items() if k.endswith(name)})[name]

    def text(self, name: str) -> str:
        """A data set of one text; empty where it is missing."""
        value = self._found.get(TEXT + name)
        return "" if value is None else value.tobytes().decode("utf-8", "replace")


def read_h5(path: Path, names: dict[str, int | None], texts: tuple[str, ...] = ()) -> H5File:
    """Read an HDF5 file.

    Args:
        path: the file.
        names: data sets of numbers, as far as they are there -> how many columns of a matrix; None: all.
        texts: data sets of one text each.

    Raises:
        ModelFileError: not an HDF5 file, damaged, or an oversized data set.
        RuntimeError: h5py is not installed.
    """
    try:
        request = {"kind": "h5", "names": names, "texts": list(texts)}
        return H5File(path, _confined(path, "h5py", request))
    except ReaderError as error:
        raise ModelFileError(f"{path}: not a readable HDF5 file ({error})") from None


def _confined(path: Path, library: str, request: dict[str, Any]) -> dict[str, np.ndarray]:
    if importlib.util.find_spec(library) is None:
        raise RuntimeError(f"{path}: reading it needs {library}; {EXTRA}")
    try:
        return read_arrays(_READERS, path, request, ModelFileError)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot read it ({error.strerror or error})") from None


def _checked(path: Path, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays, if none is something else than numbers."""
    for name, value in found.items():
        if name.startswith(WRONG):
            words = value.tobytes().decode("utf-8", "replace")
            raise ModelFileError(f"{path}: {name[len(WRONG) :]} holds {words}")
    return found


def numbers(path: Path, name: str, value: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """The value as float32 of a shape, where None stands for any size.

    Raises:
        ModelFileError: another shape, or no numbers.
    """
    array = np.asarray(value)
    fits = array.ndim == len(shape) and all(w is None or w == n for w, n in zip(shape, array.shape))
    if not fits or array.dtype.kind not in "fiub":
        want = ", ".join("any" if size is None else str(size) for size in shape)
        raise ModelFileError(
            f"{path}: {name} is {array.dtype} {list(array.shape)}, expected numbers [{want}]"
        )
    result = array.astype(np.float32)
    if not np.isfinite(result).all():
        raise ModelFileError(f"{path}: {name} holds numbers that are not finite")
    return result


def whole(path: Path, name: str, value: Any) -> np.ndarray:
    """The value as int64.

    Raises:
        ModelFileError: not all numbers are whole ones.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise ModelFileError(f"{path}: {name} holds {array.dtype} values, expected vertex indices")
    if np.abs(array).max(initial=0) > 2**31 or not (array.astype(np.int64) == array).all():
        raise ModelFileError(f"{path}: {name} holds numbers that are no vertex indices")
    return array.astype(np.int64)


def interleaved(path: Path, name: str, value: np.ndarray, modes: bool) -> np.ndarray:
    """Columns [3 V, K] with x, y, z of a vertex after one another -> [K, V, 3]; without modes [V, 3].

    Raises:
        ModelFileError: the rows are no multiple of three.
    """
    columns = np.asarray(value) if modes else np.asarray(value).reshape(-1, 1)
    if len(columns) % 3 or len(columns) == 0:
        raise ModelFileError(
            f"{path}: {name} has {len(columns)} rows, expected three for each vertex"
        )
    result = numbers(path, name, columns, (None, None)).T.reshape(columns.shape[1], -1, 3)
    return result if modes else result[0]


def scaled_modes(
    path: Path, names: tuple[str, str], basis: np.ndarray, scale: np.ndarray, variances: bool
) -> np.ndarray:
    """Unit modes in interleaved columns [3 V, K] times their standard deviations -> [K, V, 3].

    Args:
        path: the file, for messages.
        names: of the basis and of the scale in the file.
        basis: as it was read, cut to the wanted number of columns.
        scale: one number for each column, or more.
        variances: the scale holds variances, not deviations.

    Raises:
        ModelFileError: a column without a number of at least 0, or rows that are no multiple of three.
    """
    scale = np.asarray(scale, np.float64).ravel()
    if basis.ndim != 2 or len(scale) < basis.shape[1] or not (scale >= 0).all():
        raise ModelFileError(
            f"{path}: {names[1]} does not hold a {'variance' if variances else 'deviation'} of 0 or more "
            f"for each of the {list(basis.shape)} entries of {names[0]}"
        )
    scale = scale[: basis.shape[1]]
    deviations = (np.sqrt(scale) if variances else scale).astype(np.float32)
    return interleaved(path, names[0], basis * deviations, modes=True)


def triangle_table(path: Path, name: str, value: Any) -> np.ndarray:
    """Triangles stored as [T, 3] or [3, T] -> int64 [T, 3].

    Raises:
        ModelFileError: another shape, or numbers that are no vertex indices.
    """
    table = whole(path, name, value)
    if table.ndim == 2 and table.shape[0] == 3 and table.shape[1] != 3:
        table = table.T
    if table.ndim != 2 or table.shape[1] != 3:
        raise ModelFileError(f"{path}: {name} is {list(table.shape)}, expected triangles [T, 3]")
    return table


def unit_colors(mean: np.ndarray, modes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Albedo and its modes in [0, 1], of files with 0 to 255 or with 0 to 1."""
    return (mean / 255, modes / 255) if mean.max() > 2 else (mean, modes)


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or words_of(error)
