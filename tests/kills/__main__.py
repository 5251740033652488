"""python -m tests.kills --kills 200 --seed 0: train, preprocess and synthesize, killed and started again.

Half of the kills come by the clock, the others at counted moments (moments.py). What was done before a kill
must be there after it; no process and no temporary file may stay; in the end everything is as it is
without kills. Prints a table; status 1 where a number that must be zero is not.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import torch

from mofa_nvdr.cli import main as command_line
from tests.fuzz.seeds import import_everything, use_small_trunk
from tests.helpers.small_face import small_face
from tests.kills.commands import Command, commands, lay_out_photographs, render_faces
from tests.kills.moments import MOMENTS, Watch

_MOST_KILLS = 8  # of one output; then it may finish, and is compared
_GONE = 120.0  # s, in which the workers of a killed process must end: those that still import, too
FAULTS = ("failed", "lost", "left", "different")


@dataclass
class Report:
    """What became of one command.

    Attributes:
        kills: by moment, "time" for those by the clock.
        outputs: folders that were finished and compared.
        faults: one line for each, by kind (FAULTS).
        seconds: of one start without a kill.
    """

    kills: Counter[str] = field(default_factory=Counter)
    outputs: int = 0
    faults: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in FAULTS})
    seconds: float = 0.0


def kill_command(command: Command, folder: Path, place: Path, kills: int, seed: str) -> Report:
    """Kill a command `kills` times; `folder` holds its inputs, `place` takes its outputs."""
    rng, report = random.Random(seed), Report()
    place.mkdir()
    counts = _undisturbed(command, folder, place, report)
    expected = command.contents(place / "whole")
    moments = [name for name in MOMENTS if counts[name]]
    number = 0
    while report.kills.total() < kills:
        out = place / f"{report.outputs}"
        done = start = killed = 0
        while True:
            enough = killed >= _MOST_KILLS or report.kills.total() >= kills
            by_time = not enough and number % 2 == 0
            moment = "" if enough or by_time else moments[number // 2 % len(moments)]
            number += not enough
            watch = Watch(moment, rng.randint(1, max(1, counts[moment] // 3)) if moment else 0)
            child = _start(command.arguments(folder, out, start), watch, place)
            start += 1
            if by_time:
                time.sleep(report.seconds * rng.uniform(0.05, 1.0))
                os.kill(child, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if not _are_gone(child):
                report.faults["left"].append(f"{out}: workers live on after a kill ({moment})")
            if status != -signal.SIGKILL:
                break
            killed += 1
            report.kills[moment or "time"] += 1
            now = command.progress(out)
            if now < done:
                report.faults["lost"].append(f"{out}: {now} after a kill ({moment}), {done} before")
            done = max(now, done)
        report.outputs += 1
        if status:
            said = (place / "said").read_text()[-600:]
            report.faults["failed"].append(f"{out}: status {status}: {said}")
            continue
        _compare(command.contents(out), expected, out, report)
        shutil.rmtree(out)
    return report


def _undisturbed(command: Command, folder: Path, place: Path, report: Report) -> Counter[str]:
    """The output without kills; how often each moment comes.

    The first of two starts is in this process, which compiles and loads what all others then have.
    """
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        if command_line(command.arguments(folder, place / "first", 0)):
            raise SystemExit("without a kill it fails")
    began = time.monotonic()
    child = _start(command.arguments(folder, place / "whole", 0), Watch(), place, place / "counts")
    if os.waitpid(child, 0)[1]:
        raise SystemExit(f"without a kill: {(place / 'said').read_text()[-2000:]}")
    report.seconds = time.monotonic() - began
    _compare(command.contents(place / "first"), command.contents(place / "whole"), place, report)
    return Counter(json.loads((place / "counts").read_text()))


def _start(arguments: list[str], watch: Watch, place: Path, counts: Path | None = None) -> int:
    """Fork a process that runs the command line, and may die at a moment; its process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        os.setpgid(0, 0)
        said = os.open(place / "said", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        os.dup2(said, 1)
        os.dup2(said, 2)
        watch.install()
        status = command_line(arguments)
        if counts is not None:
            counts.write_text(json.dumps(watch.counts))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _are_gone(group: int) -> bool:
    """Wait for the processes of a group, whose leader has ended, to end; kill what does not."""
    end = time.monotonic() + _GONE
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < end:
            if os.waitpid(-group, os.WNOHANG)[0] == 0:
                time.sleep(0.02)
        os.killpg(group, signal.SIGKILL)
        return False
    return True


def _compare(
    found: dict[str, object], expected: dict[str, object], out: Path, report: Report
) -> None:
    report.faults["left"] += [f"{out}: {name} is left" for name in found if name not in expected]
    report.faults["lost"] += [f"{out}: no {name}" for name in expected if name not in found]
    report.faults["different"] += [
        f"{out}: {name} differs"
        for name in expected
        if name in found and found[name] != expected[name]
    ]


def table(reports: dict[str, Report]) -> str:
    """A line for each command: kills by the clock and at moments, outputs compared, faults by kind."""
    heads = ("kills", "by clock", "at moments", "outputs", *FAULTS)
    lines = [f"{'command':12}" + "".join(f"{name:>12}" for name in heads)]
    rows = []
    for report in reports.values():
        total, by_clock = report.kills.total(), report.kills["time"]
        faults = [len(report.faults[name]) for name in FAULTS]
        rows.append([total, by_clock, total - by_clock, report.outputs, *faults])
    for name, row in zip([*reports, "all"], [*rows, [sum(column) for column in zip(*rows)]]):
        lines.append(f"{name:12}" + "".join(f"{number:>12}" for number in row))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="of all commands together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", metavar="COMMAND")
    parser.add_argument("--small", action="store_true", help="a small network, face and corpus")
    args = parser.parse_args()
    # Workers of a killed process become this one's children, so that it sees them end.
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    import_everything()
    if args.small:
        use_small_trunk()
    torch.set_num_threads(1)  # what is forked must not need threads of this process
    cv2.setNumThreads(1)
    chosen = {k: v for k, v in commands(args.small).items() if args.only in k}
    reports: dict[str, Report] = {}
    with tempfile.TemporaryDirectory(prefix="mofa-nvdr-kills-") as name:
        folder = Path(name)
        small_face(24).save(folder / "cap.safetensors")
        if os.waitpid(_start(render_faces(folder, args.small), Watch(), folder), 0)[1]:
            raise SystemExit((folder / "said").read_text())
        lay_out_photographs(folder)
        for number, (name, command) in enumerate(chosen.items()):
            share = args.kills // len(chosen) + (number < args.kills % len(chosen))
            place = folder / name
            reports[name] = kill_command(command, folder, place, share, f"{args.seed}/{name}")
            shutil.rmtree(place)
            faults = [text for texts in reports[name].faults.values() for text in texts]
            moments = ", ".join(f"{n} {m}" for m, n in sorted(reports[name].kills.items()))
            print(f"{name}: {reports[name].seconds:.1f} s without a kill; kills: {moments}")
            print(*faults, sep="\n", end="\n" if faults else "", flush=True)
    print(table(reports))
    return any(report.faults[name] for report in reports.values() for name in FAULTS)


if __name__ == "__main__":
    sys.exit(main())
