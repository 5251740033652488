"""Array files without surprises: sizes are looked at before anything is read, and nothing is executed."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mofa_nvdr.importers.foreign import ModelFileError, check_size

EXTRA = 'pip install "mofa-nvdr[import]"'


def read_npz(
    path: Path, wanted: list[str], optional: tuple[str, ...] = ()
) -> dict[str, np.ndarray]:
    """Arrays of an .npz file; texts and numbers only, no pickled objects.

    Raises:
        ModelFileError: not an .npz, a missing, pickled or oversized array.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
            missing = [name for name in wanted if name not in members]
            if missing:
                raise ModelFileError(f"{path}: missing {', '.join(missing)}")
            result = {}
            for name in (*wanted, *(name for name in optional if name in members)):
                with archive.open(members[name]) as stream:
                    version = np.lib.format.read_magic(stream)
                    read = (
                        np.lib.format.read_array_header_1_0
                        if version == (1, 0)
                        else np.lib.format.read_array_header_2_0
                    )
                    shape, _, dtype = read(stream)
                check_size(path, name, shape)
                if dtype.hasobject:
                    raise ModelFileError(f"{path}: {name} holds pickled objects; they are not read")
                with archive.open(members[name]) as stream:
                    result[name] = np.lib.format.read_array(stream, allow_pickle=False)
            return result
    except ModelFileError:
        raise
    except Exception as error:  # zip, zlib and NumPy each raise kinds of their own on damaged files
        raise ModelFileError(f"{path}: not a readable .npz file ({_words(error)})") from None


def npz_names(path: Path) -> set[str]:
    """Names of the arrays in an .npz file; empty where it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError):
        return set()


def mat_names(path: Path) -> set[str]:
    """Names of the variables in a MATLAB file; empty where it is none."""
    try:
        return {name for name, _, _ in _scipy_io(path).whosmat(str(path))}
    except ModelFileError:
        raise
    except Exception:
        return set()


def read_mat(path: Path, wanted: list[str], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """Variables of a MATLAB file (version 4 to 7.2).

    Raises:
        ModelFileError: not such a file, a missing or oversized variable.
        RuntimeError: scipy is not installed.
    """
    io = _scipy_io(path)
    try:
        shapes = {name: shape for name, shape, _ in io.whosmat(str(path))}
        missing = [name for name in wanted if name not in shapes]
        if missing:
            raise ModelFileError(f"{path}: missing {', '.join(missing)}")
        names = [*wanted, *(name for name in optional if name in shapes)]
        for name in names:
            check_size(path, name, shapes[name])
        return {
            name: value
            for name, value in io.loadmat(
                str(path), variable_names=names, struct_as_record=False, squeeze_me=False
            ).items()
            if name in names
        }
    except ModelFileError:
        raise
    except Exception as error:  # scipy raises many kinds on damaged files
        raise ModelFileError(f"{path}: not a readable MATLAB file ({_words(error)})") from None


def _scipy_io(path: Path) -> Any:
    try:
        import scipy.io
    except ImportError:
        raise RuntimeError(f"{path}: reading it needs scipy; {EXTRA}") from None
    return scipy.io


class H5File:
    """An HDF5 file whose data sets are looked at before they are read."""

    def __init__(self, path: Path, file: Any) -> None:
        self.path, self._file = path, file

    def has(self, name: str) -> bool:
        """Whether there is a data set of this name."""
        return self._find(name) is not None

    def read(self, name: str, columns: int | None = None) -> np.ndarray:
        """A data set of numbers; of a matrix only the first `columns` columns.

        Raises:
            ModelFileError: missing, oversized, or no numbers.
        """
        data = self._find(name)
        if data is None:
            raise ModelFileError(f"{self.path}: missing {name}")
        shape = data.shape
        if columns is not None and len(shape) == 2:
            shape = (shape[0], min(columns, shape[1]))
        check_size(self.path, name, shape)
        if data.dtype.kind not in "fiu":
            raise ModelFileError(f"{self.path}: {name} holds {data.dtype}, expected numbers")
        value = data[:, : shape[1]] if columns is not None and len(shape) == 2 else data[()]
        return np.asarray(value)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a data set; () where it is missing."""
        data = self._find(name)
        return () if data is None else tuple(data.shape)

    def text(self, name: str) -> str:
        """A data set of one text; empty where it is missing."""
        data = self._find(name)
        if data is None or data.size != 1:
            return ""
        value = np.asarray(data[()]).ravel()[0]
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

    def _find(self, name: str) -> Any:
        import h5py

        node: Any = self._file
        for part in name.split("/"):
            # Links into other files, and data kept in other files, are not followed.
            if not isinstance(node, h5py.Group) or not isinstance(
                node.get(part, getlink=True), h5py.HardLink
            ):
                return None
            node = node[part]
        return node if isinstance(node, h5py.Dataset) and not node.external else None


@contextlib.contextmanager
def open_h5(path: Path) -> Iterator[H5File]:
    """Open an HDF5 file.

    Raises:
        ModelFileError: not an HDF5 file, or damaged.
        RuntimeError: h5py is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise RuntimeError(f"{path}: reading it needs h5py; {EXTRA}") from None
    try:
        with h5py.File(path, "r") as file:
            yield H5File(path, file)
    except ModelFileError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise ModelFileError(f"{path}: not a readable HDF5 file ({_words(error)})") from None


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


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
