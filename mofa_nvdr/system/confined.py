"""Readers that nobody can vouch for run in a process of their own, with limits on its memory and time.

C libraries that read old containers (MATLAB's, HDF5) allocate what a file asks for, and some files end them.
Here they end a child: `read_arrays` starts it, takes arrays off its pipe, and says in one line how it went.
`serve` is the child's side. The child has no shell, no network of ours, no files to write (where the system
can forbid it), and dies with its parent.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np

from mofa_nvdr.system.budget import (
    ALLOWANCE,
    MOST_BYTES,
    RATIO,
    Budget,
    TooMuch,
    printable,
    words_of,
)

_SECONDS = 10.0  # of processor time, and
_SECONDS_PER_MB = 0.1  # as much again for each megabyte of the file
_WAITING = 4.0  # times that by the clock, on a busy machine or a slow disk
_MOST_HEADER = 16 * 2**20  # bytes
_MOST_NAMES = 4096

# The parent's sys.path and not this folder, in which a file called numpy.py may lie.
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); import importlib; "
    "importlib.import_module(sys.argv[2]).main()"
)


class ReaderError(ValueError):
    """The child could not read the file, or ended; one line without the file's name."""


def read_arrays(
    module: str,
    path: str | Path,
    request: dict[str, Any],
    error: type[ValueError] = TooMuch,
) -> dict[str, np.ndarray]:
    """What `module.main`, run in a limited child, hands over of a file.

    Args:
        module: dotted name; its main calls `serve`.
        path: the file.
        request: JSON for the reader.
        error: the kind of error where the file asks for too much.

    Returns:
        arrays by name, in memory of this process; texts as arrays of bytes (uint8).

    Raises:
        ReaderError: the reader refused the file, ended, or took too long.
        ValueError: (or the chosen kind) arrays beyond the file's budget (system.budget).
        OSError: no such file.
    """
    path = Path(path)
    size = path.stat().st_size
    budget = Budget(path, size, error)
    seconds = _SECONDS + _SECONDS_PER_MB * size / 1e6
    order = {
        "path": os.path.abspath(path),
        "request": request,
        "memory": min(2 * ALLOWANCE + RATIO * size, MOST_BYTES),
        "seconds": int(seconds),
        "parent": os.getpid(),
    }
    command = [sys.executable, "-I", "-c", _PROGRAM, json.dumps(sys.path), module]
    single = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, **single},
    ) as child:  # fmt: skip
        late = threading.Event()

        def stop() -> None:
            late.set()
            child.kill()

        timer = threading.Timer(_WAITING * seconds, stop)
        timer.daemon = True
        timer.start()
        assert child.stdin is not None and child.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(json.dumps(order).encode() + b"\n")
                child.stdin.flush()
            return _receive(child.stdout, budget)
        except ReaderError as refusal:
            too_much = str(refusal).partition(f"{order['path']}: ")
            if too_much[1] and not too_much[0]:  # its own Budget said so
                raise error(f"{path}: {too_much[2]}") from None
            raise
        except EOFError:
            child.wait()
            raise ReaderError(_ending(child.returncode, late.is_set())) from None
        finally:
            timer.cancel()
            child.kill()


def _receive(pipe: IO[bytes], budget: Budget) -> dict[str, np.ndarray]:
    (length,) = struct.unpack("<Q", _exactly(pipe, 8))
    if length > _MOST_HEADER:
        raise ReaderError("more names in it than any face model has")
    header = json.loads(_exactly(pipe, length))
    if "refused" in header:
        raise ReaderError(header["refused"])
    result = {}
    for name, kind, shape in header["arrays"]:
        budget.take_array(printable(name, 80), tuple(shape), np.dtype(kind).itemsize)
    for name, kind, shape in header["arrays"]:
        array: np.ndarray = np.empty(shape, np.dtype(kind))
        view = array.reshape(-1).view(np.uint8).data
        done = 0
        while done < len(view):
            count = pipe.readinto(view[done:])  # type: ignore[attr-defined]
            if not count:
                raise EOFError
            done += count
        result[name] = array
    return result


def _exactly(pipe: IO[bytes], count: int) -> bytes:
    data = pipe.read(count)
    if len(data) < count:
        raise EOFError
    return data


def _ending(status: int, late: bool) -> str:
    """Why a child ended before it had answered."""
    if late or (hasattr(signal, "SIGXCPU") and status == -signal.SIGXCPU):
        return "reading it takes longer than any face model would"
    if status < 0:
        with contextlib.suppress(ValueError):
            return (
                f"its reader was ended by {signal.Signals(-status).name}: damaged, or made to do so"
            )
    return f"its reader ended with status {status}: damaged, or it asks for too much memory"


def serve(
    prepare: Callable[[dict[str, Any]], None],
    read: Callable[[str, dict[str, Any]], Iterable[tuple[str, np.ndarray]]],
) -> None:
    """The child's side: take the order off stdin, read within the limits, write the arrays to stdout.

    Args:
        prepare: import what the request needs, before the limits begin to count.
        read: path and request -> names and arrays of numbers. Errors of any kind refuse the file.
    """
    order = json.loads(sys.stdin.buffer.readline())
    _die_with(order["parent"])
    prepare(order["request"])
    _limit(order["memory"], order["seconds"])
    out = sys.stdout.buffer
    arrays: list[tuple[str, np.ndarray]] = []
    try:
        for name, value in read(order["path"], order["request"]):
            arrays.append((name, np.ascontiguousarray(value)))
            if len(arrays) > _MOST_NAMES:
                raise ValueError("more names in it than any face model has")
        header = json.dumps({"arrays": [[n, v.dtype.str, v.shape] for n, v in arrays]}).encode()
    except MemoryError:
        header, arrays = _refusal("it asks for more memory than a file of its size may take"), []
    except BaseException as error:  # libraries raise kinds of their own on damaged files
        header, arrays = _refusal(words_of(error)), []
    out.write(struct.pack("<Q", len(header)) + header)
    for _, value in arrays:
        out.write(value.reshape(-1).view(np.uint8).data)
    out.flush()
    os._exit(0)  # what a damaged file has done to the library need not be taken apart


def _refusal(reason: str) -> bytes:
    return json.dumps({"refused": reason}).encode()


def _die_with(parent: int) -> None:
    """End when the parent ends (Linux); elsewhere the limit on time does it, and the broken pipe."""
    if sys.platform != "linux":
        return
    import ctypes

    set_death_signal = 1
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _limit(memory: int, seconds: int) -> None:
    """Bytes on top of what the libraries took, and seconds of processor time; no files, no core dump."""
    try:
        import resource
    except ImportError:  # Windows: the time limit of the parent remains
        return
    limits = {
        "RLIMIT_AS": _address_space() + memory,
        "RLIMIT_CPU": seconds,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_CORE": 0,
    }
    for name, value in limits.items():
        with contextlib.suppress(AttributeError, ValueError, OSError):  # macOS has no RLIMIT_AS
            number = getattr(resource, name)
            _, most = resource.getrlimit(number)
            value = value if most == resource.RLIM_INFINITY else min(value, most)
            # A second later, by which SIGXCPU has said why; at the same limit it is SIGKILL that comes.
            later = value + 1 if name == "RLIMIT_CPU" and value != most else value
            resource.setrlimit(number, (value, later))


def _address_space() -> int:
    """Bytes of this process's address space as it is."""
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return 2**30
