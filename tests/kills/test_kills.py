"""A handful of kills of each command; `python -m tests.kills` does 200, with the real network."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.kills.__main__ import FAULTS, Report, _compare, table

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux", reason="forks, and takes over the orphans of its children"
)
def test_kills_lose_nothing_leave_nothing_and_change_no_bit():
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.kills", "--small", "--kills", "18", "--seed", "3"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    last = next(line for line in done.stdout.splitlines() if line.startswith("all "))
    kills, by_clock, at_moments, outputs, *faults = map(int, last.split()[1:])
    assert kills == 18 == by_clock + at_moments and outputs >= 3 and not any(faults)
    assert by_clock >= 5 and at_moments >= 5


class TestReport:
    def test_what_differs_is_a_fault(self):
        report = Report()
        _compare({"a": 1, "b": 2, "x.tmp": 3}, {"a": 1, "b": 3, "c": 4}, Path("o"), report)
        assert report.faults == {
            "failed": [], "lost": ["o: no c"], "left": ["o: x.tmp is left"],
            "different": ["o: b differs"],
        }  # fmt: skip

    def test_table(self):
        report = Report(Counter({"time": 3, "step": 2}), 1)
        report.faults["left"].append("o: a worker")
        lines = table({"train": report}).splitlines()
        assert lines[0].split()[-4:] == list(FAULTS)
        assert lines[1].split() == ["train", "5", "3", "2", "1", "0", "0", "1", "0"]
        assert lines[2].split()[0] == "all" and lines[2].split()[1:] == lines[1].split()[1:]
