"""One process at a time writes a folder.

The lock is the operating system's, on a small hidden file in the folder: it ends with its process, however
that ends, and a file that was left behind locks nothing.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

LOCK_FILE = ".lock"
# What file systems without locks answer (some network and FUSE mounts).
_WITHOUT = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
_TAKEN = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}
_notes = logging.getLogger(__name__)
_held: set[int] = set()  # descriptors of this process's locks
_told: set[str] = set()


class FolderInUse(RuntimeError):
    """Another process writes the folder; the message is one line that says which, and the way out."""


@contextlib.contextmanager
def locked(folder: Path, command: str) -> Iterator[None]:
    """Hold the folder for as long as the block runs; where its file system has no locks, say so and go on.

    Workers that are forked in the block, or started by it, do not hold it: when this process is killed the
    folder is free, also while they live on. Threads of one process exclude each other too.

    Args:
        folder: it must exist.
        command: of this process, for the message to others.

    Raises:
        FolderInUse: another process, or another block of this one, holds it.
    """
    path = folder / LOCK_FILE
    descriptor = _take(path, folder)
    if descriptor is None:
        yield
        return
    _held.add(descriptor)
    owner = os.getpid()
    try:
        _write_holder(descriptor, command)
        yield
    finally:
        if os.getpid() == owner:  # a forked child that leaves the block ends nothing
            _held.discard(descriptor)
            if sys.platform != "win32":  # there an open file can't be removed
                with contextlib.suppress(OSError):
                    path.unlink()
            os.close(descriptor)  # which ends the lock
            if sys.platform == "win32":
                with contextlib.suppress(OSError):
                    path.unlink()


def _take(path: Path, folder: Path) -> int | None:
    """A descriptor that holds the lock; None: there are no locks here.

    Raises:
        FolderInUse: it is taken.
    """
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        except OSError as error:
            if sys.platform != "win32" or error.errno != errno.EACCES:
                return None  # whoever writes the folder next says what is wrong with it
            raise FolderInUse(_in_use(folder, path)) from None  # being removed by its holder
        try:
            _lock(descriptor)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _TAKEN:
                raise FolderInUse(_in_use(folder, path)) from None
            if error.errno not in _WITHOUT:
                raise
            if str(folder) not in _told:
                _told.add(str(folder))
                _notes.warning(
                    "%s: its file system has no locks (%s); let no other command write there meanwhile",
                    folder,
                    error.strerror,
                )
            return None
        if _is_same(descriptor, path):
            return descriptor
        os.close(descriptor)  # its holder removed it just before: the next one counts


def _is_same(descriptor: int, path: Path) -> bool:
    """Whether a file is still what the folder calls so."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        # Locked bytes cannot be read by others: one far behind what is written.
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _forget() -> None:
        """In a forked child: a lock lives as long as any copy of its descriptor."""
        for descriptor in _held:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        _held.clear()

    os.register_at_fork(after_in_child=_forget)


def _write_holder(descriptor: int, command: str) -> None:
    holder = {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": command,
    }
    with contextlib.suppress(OSError):  # a full disk; the lock holds without
        os.ftruncate(descriptor, 0)
        os.write(descriptor, (json.dumps(holder) + "\n").encode())


def _in_use(folder: Path, path: Path) -> str:
    """The message for the second process, from what the first one wrote."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        who = f"process {holder['process']} on {holder['host']} ({holder['command']})"
        since = f" since {holder['since']}"
    except (OSError, ValueError, LookupError, TypeError):  # not written yet
        who, since = "another process", ""
    return f"{folder}: {who} is writing there{since}; wait until it ends, stop it, or give another --out"
