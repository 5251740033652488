"""A few hundred files that are damaged or made to harm: each is refused in one line, or read."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.__main__ import table
from tests.fuzz.kinds import Kind
from tests.fuzz.mutations import mutate
from tests.fuzz.pool import OUTCOMES, Case, Outcome, run_cases

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads /proc")
def test_no_file_ends_the_process_or_takes_the_machine(tmp_path):
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
        "MOFA_NVDR_TRACEBACK": "",
        # Without the landmark networks: an import that is accepted would measure with them for minutes.
        "MOFA_NVDR_CACHE": str(tmp_path),
    }
    command = [sys.executable, "-m", "tests.fuzz", "--cases", "230", "--seed", "7"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    last = next(line for line in done.stdout.splitlines() if line.startswith("all "))
    counts = dict(zip(("cases", *OUTCOMES), map(int, last.split()[1:])))
    assert counts["cases"] > 230 and counts["clean"] > 100 and counts["accepted"] > 20
    assert sum(counts[name] for name in OUTCOMES[2:]) == 0


class TestMutate:
    def test_the_same_for_the_same_seed(self):
        data = bytes(range(256)) * 8
        made = [mutate(data, "a.bin", random.Random(k)) for k in range(40)]
        assert made == [mutate(data, "a.bin", random.Random(k)) for k in range(40)]
        assert len({*made}) > 30 and data not in made[:3]

    def test_empty_files(self):
        for k in range(60):
            for name in ("a.bin", "a.txt", "a.npz"):
                mutate(b"", name, random.Random(k))


@pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads /proc")
class TestMemory:
    """What the process of the fuzzer holds is not the case's."""

    @pytest.mark.parametrize(("megabytes", "what"), [(1, "accepted"), (800, "over 1 GB")])
    def test_what_a_case_takes(self, tmp_path, megabytes, what):
        held = bytearray(b"x") * 300_000_000
        (tmp_path / "seeds").mkdir()
        kinds = {
            "some": Kind(("a",), lambda file, out: lambda: bytearray(b"x") * (megabytes * 10**6))
        }
        case = Case("some", "a", "one", b"")
        (outcome,) = run_cases([case], kinds, tmp_path, 1)
        assert outcome.what == what and len(held) == 300_000_000
        # Its own and the imports'; what of files it touches comes on top, 0.2 GB at most.
        # Pages that the kernel has not counted yet are missing: some MB.
        assert -2e7 <= outcome.memory - 3e8 - megabytes * 1e6 < 2e8


class TestTable:
    def test_counts(self):
        case = Case("weights", "w.pth", "x", b"")
        lines = table(
            [Outcome(case, "clean", "", 0, 0), Outcome(case, "hang", "", 0, 0)]
        ).splitlines()
        assert lines[0].split()[:3] == ["kind", "cases", "clean"]
        assert lines[1].split() == ["weights", "2", "1", "0", "0", "0", "0", "1", "0"]
        assert lines[2].split() == ["all", "2", "1", "0", "0", "0", "0", "1", "0"]
