"""Each case in a process of its own, forked from this one, with its time and memory watched."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mofa_nvdr.cli import MISTAKE, NOTHING_DONE, SOME_LEFT_OUT, main
from mofa_nvdr.system.notes import one_line, plain_warnings
from tests.fuzz.kinds import Action, Kind

MOST_SECONDS = 20.0  # of processor time, and
_WAITING = 8.0  # times that by the clock
MOST_BYTES = 10**9
_IMPORTS = (
    3 * 10**8
)  # bytes of them that a command takes before it reads anything (measured: 0.30 GB)
OUTCOMES = ("clean", "accepted", "unclear", "traceback", "crash", "hang", "over 1 GB")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Case:
    """One file to try.

    Attributes:
        kind: its kind's name. seed: the valid file that it replaces. label: how to make it again.
        data: its bytes.
    """

    kind: str
    seed: str
    label: str
    data: bytes


@dataclass(frozen=True)
class Outcome:
    """What became of a case: one of OUTCOMES; what it printed, the seconds, the largest memory in bytes.

    The memory is that of a command of its own: the case's, without what the process of the fuzzer holds, of
    which it is a fork, and with what imports take.
    """

    case: Case
    what: str
    said: str
    seconds: float
    memory: int


@dataclass
class _Running:
    case: Case
    folder: Path
    started: float
    inherited: int  # bytes of memory that it was forked with
    memory: int = 0
    killed: str = ""


def run_cases(
    cases: Iterable[Case], kinds: dict[str, Kind], folder: Path, workers: int
) -> Iterator[Outcome]:
    """Run them, `workers` at a time; `folder` holds "seeds"."""
    running: dict[int, _Running] = {}
    pending, number = iter(cases), 0
    while True:
        while len(running) < workers and (case := next(pending, None)) is not None:
            number += 1
            place = folder / "cases" / f"{number}"
            file = _lay_out(case, kinds[case.kind], folder, place)
            inherited = _resident(os.getpid(), of_files=False)  # a fork maps those of files anew
            child = _start(file, kinds[case.kind], place)
            running[child] = _Running(case, place, time.monotonic(), inherited)
        if not running:
            return
        for child in list(running):
            state = running[child]
            _watch(child, state)
            done, status, usage = os.wait4(child, os.WNOHANG)
            if done:
                del running[child]
                peak = max(usage.ru_maxrss * 1024, state.memory)
                yield _outcome(state, status, _own(state, peak))
                shutil.rmtree(state.folder, ignore_errors=True)
        time.sleep(0.005)


def _lay_out(case: Case, kind: Kind, folder: Path, place: Path) -> Path:
    place.mkdir(parents=True)
    if kind.around:
        shutil.copytree(folder / "seeds" / kind.around, place / kind.around)
    file = place / case.seed if kind.around else place / Path(case.seed).name
    file.write_bytes(case.data)
    return file


def _start(file: Path, kind: Kind, place: Path) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        os.setpgid(0, 0)
        os.chdir(place)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(place / name, os.O_CREAT | os.O_WRONLY, 0o600), number)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        status = _act(kind.act(file, place))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _act(what: list[str] | Action) -> int:
    if isinstance(what, list):
        return main(what)
    try:
        with plain_warnings():
            what()
    except (ValueError, OSError, RuntimeError) as error:  # as the command line does
        print(f"mofa-nvdr: {one_line(str(error))}", file=sys.stderr)
        return 2
    return 0


def _watch(child: int, state: _Running) -> None:
    """Kill a case that takes too long or too much."""
    try:
        times = Path(f"/proc/{child}/stat").read_text()
        state.memory = max(state.memory, _resident(child))
    except (OSError, IndexError):
        return
    # Own and children's time of the processor: on a busy machine the clock says little.
    used = sum(map(int, times.rpartition(")")[2].split()[11:15])) / os.sysconf("SC_CLK_TCK")
    if _own(state, state.memory) > 1.3 * MOST_BYTES:
        state.killed = "over 1 GB"
    elif used > MOST_SECONDS or time.monotonic() - state.started > _WAITING * MOST_SECONDS:
        state.killed = "hang"
    if state.killed:
        for stop in (os.killpg, os.kill):
            try:
                stop(child, signal.SIGKILL)
            except ProcessLookupError:
                pass


def _resident(process: int, of_files: bool = True) -> int:
    """Bytes of memory that a process holds; without `of_files` only those that are no copy of a file."""
    _, resident, shared, *_ = map(int, Path(f"/proc/{process}/statm").read_text().split())
    return (resident if of_files else resident - shared) * _PAGE


def _own(state: _Running, peak: int) -> int:
    return max(peak - state.inherited, 0) + _IMPORTS


def _outcome(state: _Running, status: int, memory: int) -> Outcome:
    seconds = time.monotonic() - state.started
    said, printed = (
        (state.folder / name).read_text(errors="replace") if (state.folder / name).is_file() else ""
        for name in ("stderr", "stdout")
    )
    code = os.waitstatus_to_exitcode(status)
    if state.killed:
        what = state.killed
    elif memory > MOST_BYTES:
        what = "over 1 GB"
    elif code < 0:
        what = "crash"
    elif code not in (0, MISTAKE, NOTHING_DONE, SOME_LEFT_OUT):
        what = "traceback"
    elif _CONTROL.search(said + printed):
        what = "unclear"
    elif code == 0:
        what = "accepted"
    else:
        what = "clean" if _is_clean(said, state.case) else "unclear"
    return Outcome(state.case, what, said or printed, seconds, memory)


def _is_clean(said: str, case: Case) -> bool:
    """One line that names the file or its folder; notes and warnings may come before it."""
    lines = said.strip().splitlines()
    errors = [line for line in lines if line.startswith("mofa-nvdr: ")]
    others = [
        line
        for line in lines
        if not line.startswith(
            ("mofa-nvdr: ", "warning: ", "note: ", "WARNING: ", "going on with ")
        )
    ]
    name = Path(case.seed).name
    names = [name, str(Path(case.seed).parent / "")] if "/" in case.seed else [name]
    return len(errors) == 1 and not others and any(n != "." and n in errors[0] for n in names)
