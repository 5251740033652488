"""Workers do not outlive a parent that was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mofa_nvdr.system.workers import end_with_parent

# A pool like that of synthesize: two workers that have work for longer than anyone waits.
PROGRAM = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from mofa_nvdr.system.workers import end_with_parent

def work(name):
    Path(name).write_text(str(os.getpid()))
    time.sleep(600)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(2, context, end_with_parent)
    list(pool.map(work, sys.argv[1:]))
"""


def _alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_they_end_with_a_killed_parent(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    files = [tmp_path / "a", tmp_path / "b"]
    parent = subprocess.Popen([sys.executable, tmp_path / "program.py", *files])
    try:
        while not all(file.is_file() and file.read_text() for file in files):
            assert parent.poll() is None
            time.sleep(0.02)
        workers = [int(file.read_text()) for file in files]
        assert all(map(_alive, workers))
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    end = time.monotonic() + 20
    while any(map(_alive, workers)) and time.monotonic() < end:
        time.sleep(0.02)
    left = [worker for worker in workers if _alive(worker)]
    for worker in left:
        os.kill(worker, signal.SIGKILL)
    assert not left


def test_a_process_that_is_no_worker_goes_on():
    end_with_parent()
