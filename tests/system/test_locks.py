"""One process at a time writes a folder: real processes, and kills that clean nothing up."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mofa_nvdr.system import locks
from mofa_nvdr.system.locks import LOCK_FILE, FolderInUse, locked

# Holds the folder of its first argument, tells its own process and that of a forked worker, and waits.
_HOLDER = """
import multiprocessing, sys, time
from pathlib import Path
from mofa_nvdr.system.locks import locked
with locked(Path(sys.argv[1]), "mofa-nvdr train"):
    child = 0
    if sys.argv[2:]:
        worker = multiprocessing.get_context(sys.argv[2]).Process(target=time.sleep, args=(60,))
        worker.start()
        child = worker.pid
    print(child, flush=True)
    time.sleep(60)
"""


def holder(folder: Path, *start: str) -> tuple[subprocess.Popen[str], int]:
    """A process that holds the folder, and the number of its worker."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(folder), *start], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


class TestLocked:
    def test_second_process_is_told_which(self, tmp_path):
        process, _ = holder(tmp_path)
        try:
            expected = (
                rf"{re.escape(str(tmp_path))}: process {process.pid} on {re.escape(socket.gethostname())} "
                r"\(mofa-nvdr train\) is writing there since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d; wait "
                "until it ends, stop it, or give another --out"
            )
            with pytest.raises(FolderInUse, match=expected), locked(tmp_path, "mine"):
                raise AssertionError("both hold the folder")
        finally:
            kill(process)
        assert (tmp_path / LOCK_FILE).is_file()  # was left behind, and locks nothing
        with locked(tmp_path, "mine"):
            assert json.loads((tmp_path / LOCK_FILE).read_text())["process"] == os.getpid()
        assert not list(tmp_path.iterdir())

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_workers_do_not_hold_it(self, tmp_path):
        """kill -9 of the parent frees the folder while its forked worker lives on."""
        process, worker = holder(tmp_path, "fork")
        try:
            kill(process)
            os.kill(worker, 0)  # lives
            # A worker that has been forked lets go as soon as it runs, which a busy machine may put off.
            for left in reversed(range(100)):
                try:
                    with locked(tmp_path, "mine"):
                        break
                except FolderInUse:
                    if not left:
                        raise
                    time.sleep(0.1)
        finally:
            os.kill(worker, signal.SIGKILL)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_worker_that_ends_frees_nothing(self, tmp_path):
        with locked(tmp_path, "mine"):
            pid = os.fork()
            if not pid:
                os._exit(0)
            os.waitpid(pid, 0)
            with pytest.raises(FolderInUse), locked(tmp_path, "again"):
                pass

    def test_one_process_twice(self, tmp_path):
        with locked(tmp_path, "first"):
            with pytest.raises(FolderInUse, match=rf"process {os.getpid()} .*\(first\)"):
                with locked(tmp_path, "second"):
                    pass
            with pytest.raises(FolderInUse), locked(tmp_path, "third"):  # the refusal freed nothing
                pass
        with locked(tmp_path, "later"):
            pass

    def test_error_frees_it(self, tmp_path):
        with pytest.raises(KeyError), locked(tmp_path, "mine"):
            raise KeyError
        with locked(tmp_path, "mine"):
            pass

    @pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}"])
    def test_holder_that_has_not_written_yet(self, tmp_path, text):
        with locked(tmp_path, "mine"):
            (tmp_path / LOCK_FILE).write_text(text)
            with pytest.raises(FolderInUse, match="another process is writing there; wait"):
                with locked(tmp_path, "second"):
                    pass

    def test_file_system_without_locks(self, tmp_path, monkeypatch, caplog):
        def without(descriptor: int) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(locks, "_lock", without)
        with caplog.at_level(logging.WARNING, "mofa_nvdr"):
            for _ in range(2):
                with locked(tmp_path, "mine"):
                    pass
        (record,) = caplog.records  # once
        assert (
            "its file system has no locks (No locks available); let no other" in record.getMessage()
        )

    def test_other_errors_are_raised(self, tmp_path, monkeypatch):
        def broken(descriptor: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(locks, "_lock", broken)
        with pytest.raises(OSError, match="Input/output error"), locked(tmp_path, "mine"):
            pass

    def test_folder_that_cannot_be_written(self, tmp_path):
        """Whoever writes next says so better."""
        ran = False
        with locked(tmp_path / "missing", "mine"):
            ran = True
        assert ran

    def test_file_removed_by_its_holder_meanwhile(self, tmp_path, monkeypatch):
        """A lock on a file that is no longer in the folder is none."""
        take, seen = locks._lock, []

        def late(descriptor: int) -> None:
            if not seen:
                (tmp_path / LOCK_FILE).unlink()
            seen.append(descriptor)
            take(descriptor)

        monkeypatch.setattr(locks, "_lock", late)
        with locked(tmp_path, "mine"):
            assert len(seen) == 2
            monkeypatch.setattr(locks, "_lock", take)
            with pytest.raises(FolderInUse), locked(tmp_path, "second"):
                pass
