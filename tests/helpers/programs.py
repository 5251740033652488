"""Programs that run in a process of their own, with or without nvdiffrast."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# nvdiffrast may be installed where the tests run.
HIDE = "import sys; sys.modules['nvdiffrast'] = None\n"
_SECONDS = 120.0


def run_program(
    source: str, folder: Path | None = None, *path: Path
) -> subprocess.CompletedProcess:
    """Run a program as `python -c` does, in a process that has torch and Numba, and nothing of the package.

    It is forked from one that imported them, which takes most of the two to three seconds of a new process.
    What is about torch's import, or about the end of the interpreter, needs a new one.

    Args:
        source: the program.
        folder: the current one; None: this process's.
        path: what PYTHONPATH would name before the checkout.
    """
    forks = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if forks else "spawn")
    if forks:
        context.set_forkserver_preload(["torch", "numba"])
    with tempfile.TemporaryDirectory() as place:
        said = [os.path.join(place, name) for name in ("stdout", "stderr")]
        work = (source, str(folder or Path.cwd()), [str(entry) for entry in (*path, ROOT)], said)
        process = context.Process(target=_run, args=work)
        process.start()
        process.join(_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(source, _SECONDS)
        out, err = (Path(name).read_text() if os.path.exists(name) else "" for name in said)
    return subprocess.CompletedProcess(source, process.exitcode or 0, out, err)


def _run(source: str, folder: str, path: list[str], said: list[str]) -> None:
    """The other process's part; what it raises and how it exits is multiprocessing's business."""
    for number, name in enumerate(said, 1):
        os.dup2(os.open(name, os.O_CREAT | os.O_WRONLY, 0o600), number)
    os.chdir(folder)
    sys.path[:0] = ["", *path]
    exec(compile(source, "<program>", "exec"), {"__name__": "__main__"})
