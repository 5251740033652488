"""Files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: Path, several: bool = False) -> Iterator[Path]:
    """A temporary name next to `path`, which is renamed to it when the block ends without an error.

    Args:
        path: the file; the folder must exist.
        several: several processes may write the same file at once: each has a temporary name of its own.

    Raises:
        OSError: the file can't be put in its place; the temporary one does not stay.
    """
    own = f".{os.getpid()}" if several else ""
    temporary = path.with_name(f"{path.name}{own}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):  # a disk that refuses this has already refused more
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def usual_mode(path: Path) -> Iterator[None]:
    """Anyone who may read other new files may read `path`, which a library writes for its owner alone."""
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    yield
    path.chmod(mode)


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
            stack.enter_context(replacing(path, several=True)).write_bytes(data)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file with one per line; a half-written line is left out, a missing file is empty."""
    lines = []
    if path.is_file():
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
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
            "space or mend the folder, then the same command resumes"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a small file so that it is either the old or the new one, never half of it."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """The same for bytes; nothing stays behind when the disk is full."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)
