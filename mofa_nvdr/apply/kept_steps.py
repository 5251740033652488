"""Steps of a long command, kept in a folder next to its result until that is written.

One process at a time works there. A step that was kept is known by a checksum of its arrays: what is damaged
or was changed is refused, and never taken for what was computed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from mofa_nvdr.data.crop_tables import npz_bytes
from mofa_nvdr.system.array_files import NotArrays, read_npz
from mofa_nvdr.system.budget import ALLOWANCE, RATIO
from mofa_nvdr.system.files import write_bytes, write_text
from mofa_nvdr.system.locks import locked
from mofa_nvdr.system.notes import say

_NOTE = "origin.txt"
_CHECKSUM = "checksum"


@contextlib.contextmanager
def kept_steps(out: Path, command: str) -> Iterator[KeptSteps]:
    """The folder OUT.learning, which this process alone has for as long as the block runs.

    Args:
        out: the result; its folder must exist.
        command: of this process, for messages.

    Raises:
        FolderInUse: another process has it.
        ValueError: it cannot be made.
    """
    folder = out.with_name(out.name + ".learning")
    try:
        folder.mkdir(exist_ok=True)
    except FileExistsError:
        raise ValueError(f"{folder}: a file, where the steps would be kept; move it away") from None
    except OSError as error:
        raise _unwritable(out, error) from None
    with locked(folder, command):
        steps = KeptSteps(out, folder)
        try:
            yield steps
        finally:
            if not steps.begun:  # a mistake, found before anything was kept
                with contextlib.suppress(OSError):
                    (folder / ".lock").unlink(missing_ok=True)
                    folder.rmdir()


class KeptSteps:
    """Of `kept_steps`.

    Args:
        out: the result.
        folder: where steps are kept.
    """

    def __init__(self, out: Path, folder: Path) -> None:
        self._out, self.folder = out, folder
        self.begun = self._note().exists() or any(folder.glob("*.npz"))

    def begin(self, made_from: str) -> None:
        """Go on with what is there, if it was made from the same; else begin.

        Raises:
            ValueError: it was begun with something else, or cannot be written.
        """
        try:
            if self.begun:
                if not self._is_from(made_from):
                    raise ValueError(
                        f"{self.folder}: begun with other photographs or options; remove it, or give another "
                        "--out"
                    )
                say(f"going on with {self.folder}", sys.stderr)
            else:  # new, or of a process that was killed before it had written anything
                write_text(self._note(), made_from + "\n")
                self.begun = True
        except OSError as error:
            raise _unwritable(self._out, error) from None

    def keep(
        self, name: str, make: Callable[[], Mapping[str, np.ndarray]]
    ) -> Mapping[str, np.ndarray]:
        """The arrays of a step: as they were kept, or made now.

        Raises:
            ValueError: they are damaged, or cannot be written.
        """
        path = self.folder / f"{name.replace(' ', '-')}.npz"
        if path.exists():
            return _read(path)
        arrays = dict(make())
        try:
            write_bytes(path, _bytes({**arrays, _CHECKSUM: np.array(_checksum(arrays))}))
        except OSError as error:
            raise ValueError(f"{path}: cannot write it ({error.strerror or error})") from None
        return arrays

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _note(self) -> Path:
        return self.folder / _NOTE

    def _is_from(self, made_from: str) -> bool:
        if not self._note().is_file():
            return False
        expected = made_from.encode()
        with open(self._note(), "rb") as file:
            return file.read(len(expected) + 8).strip() == expected


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        arrays = read_npz(path)
    except NotArrays as error:
        raise _damaged(path, str(error)) from None
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from None
    known = arrays.pop(_CHECKSUM, None)
    if known is None or known.dtype.kind != "U" or known.ndim or known != _checksum(arrays):
        raise _damaged(path, "its arrays are not those that were written")
    return arrays


def _damaged(path: Path, reason: str) -> ValueError:
    return ValueError(f"{path}: damaged ({reason}); remove it, and it is made again")


def _bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """An .npz that unfolds into no more than what is read of a file of its size (system/budget.py)."""
    data = npz_bytes(**arrays)
    if sum(array.nbytes for array in arrays.values()) <= ALLOWANCE + RATIO * len(data):
        return data
    stream = io.BytesIO()
    np.savez(stream, **dict(arrays))  # type: ignore[arg-type]
    return stream.getvalue()


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _unwritable(out: Path, error: OSError) -> ValueError:
    return ValueError(f"--out {out}: cannot write next to it ({error.strerror or error})")
