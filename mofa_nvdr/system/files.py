"""Files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import platform
import re
import shutil
import stat
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name next to `path`, which is renamed to it when the block ends without an error.

    The name is this process's own, so that several may write the same file at once. What a killed process
    left in the folder is removed the first time that this one writes there.

    Args:
        path: the file; the folder must exist.

    Raises:
        OSError: the file can't be put in its place; the temporary one does not stay.
    """
    temporary = _temporary(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):  # a disk that refuses this has already refused more
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_by_library(path: Path) -> Iterator[Path]:
    """The same where a library writes the file, by way of temporary files of names of its own.

    They are in a folder of ours, which is recognised and removed with all that is in it. Anyone who may read
    other new files may read `path`, which some libraries write for its owner alone.

    Raises:
        OSError: as `replacing`.
    """
    with working_folder(path) as folder:
        temporary = folder / path.name
        temporary.touch()
        mode = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        temporary.chmod(mode)
        os.replace(temporary, path)


@contextlib.contextmanager
def working_folder(path: Path) -> Iterator[Path]:
    """A temporary folder next to `path`, on the same disk, which goes at the end of the block.

    Raises:
        OSError: it can't be made.
    """
    folder = _temporary(path)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_TEMPORARY = re.compile(r"\..*\.mofa-([0-9a-f]{4})-(\d+)-\d+\.tmp", re.DOTALL)
_LONGEST = 120  # bytes of the file's own name in a temporary one; file systems take 255 in all
_FOREIGN_AGE = 24 * 3600.0  # s, after which another machine's temporary file counts as abandoned
_BEGAN = time.time() - 1.0  # file systems have clocks of their own
_count = itertools.count()
_swept: set[tuple[int, str]] = set()


def _temporary(path: Path) -> Path:
    """A name that says which process of which machine writes it."""
    key = os.getpid(), os.path.abspath(path.parent)
    if key not in _swept:
        _swept.add(key)
        remove_abandoned(path.parent)
    name = os.fsdecode(os.fsencode(path.name)[:_LONGEST])
    return path.with_name(f".{name}.mofa-{_machine()}-{os.getpid()}-{next(_count)}.tmp")


def remove_abandoned(folder: Path) -> list[Path]:
    """Delete our temporary files whose process is gone; returns them.

    Of another machine, which may share the folder, only what has not changed for a day.
    """
    removed = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in list(entries):
            found = _TEMPORARY.fullmatch(entry.name)
            if not found or _owned(Path(entry.path), found[1], int(found[2])):
                continue
            with contextlib.suppress(OSError):  # another process removes it too, or may alone
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)
                removed.append(Path(entry.path))
    return removed


def _owned(path: Path, machine: str, process: int) -> bool:
    """Whether the process that writes a temporary file may still be there."""
    try:
        written = path.lstat().st_mtime
    except OSError:
        return True  # gone by now
    if machine != _machine() or os.name == "nt":  # where signal 0 is none
        return time.time() - written < _FOREIGN_AGE
    if process == os.getpid():  # a container gives its processes the same numbers every time
        return written > _BEGAN
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is another user's
        pass
    return True


def _machine() -> str:
    return f"{zlib.crc32(platform.node().encode('utf-8', 'replace')) & 0xFFFF:04x}"


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together: all under temporary names, then each in its place, in order.

    Args:
        contents: path -> bytes; the folders must exist. What names the others comes last.

    Raises:
        OSError: a file can't be written; then none of the temporary ones stays.
    """
    with contextlib.ExitStack() as stack:
        # Closed in the reverse order: the last file takes its place last.
        for path, data in reversed(list(contents.items())):
            stack.enter_context(replacing(path)).write_bytes(data)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file with one per line; a half-written line is left out, a missing file is empty."""
    lines = []
    if path.is_file():
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, RecursionError):
                lines.append(json.loads(text))
    return [line for line in lines if isinstance(line, dict)]


def make_folders(out: str, *names: str) -> Path:
    """Make the folder of `--out`, with these folders in it; returns it.

    Raises:
        ValueError: it cannot be made.
    """
    folder = Path(out)
    try:
        for name in names:
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(cannot_write(folder, error)) from None
    return folder


def cannot_write(folder: Path, error: OSError) -> str:
    """The words for an `--out` that cannot be used from the beginning."""
    return f"--out {folder}: cannot write there ({error.strerror or error}); give another folder"


def check_out(out: str) -> None:
    """Refuse an empty `--out`, which pathlib takes for the working directory."""
    if not out:
        raise ValueError("--out is empty, expected a folder")


def check_folder_of(out: Path, flag: str = "--out") -> None:
    """Refuse a file to be written into a folder that is not there, before the work and not after it.

    Args:
        out: the file.
        flag: the option that names it.

    Raises:
        ValueError: it is not.
    """
    if not out.parent.is_dir():
        raise ValueError(f"{flag} {out}: cannot write there (there is no folder {out.parent})")


def check_model_out(out: Path) -> None:
    """Refuse what cannot be the file of a face model, before the work.

    Raises:
        ValueError: it is no .safetensors file, or a folder, or in a folder that is not there.
    """
    if out.suffix.lower() != ".safetensors":
        raise ValueError(f"--out {out}: expected a .safetensors file")
    if not out.parent.is_dir():
        raise ValueError(f"--out {out}: no such folder {out.parent}")
    if out.is_dir():
        raise ValueError(f"--out {out}: a folder, expected a file")


@contextlib.contextmanager
def named_errors(folder: Path, safe: Callable[[], str]) -> Iterator[None]:
    """An OSError of the block says where it was writing, what is safe, and the way out.

    Args:
        folder: where the block writes.
        safe: what is safe, in words; asked for after the error.

    Raises:
        OSError: with these words.
    """
    try:
        yield
    except BrokenPipeError:  # the reader of what is printed is gone
        raise
    except OSError as error:
        raise OSError(
            f"{folder}: cannot write there any more ({error.strerror or error}); {safe()}; free some "
            "space or repair the folder, then the same command resumes"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a small file so that it is either the old or the new one, never half of it."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """The same for bytes; nothing stays behind when the disk is full."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)
