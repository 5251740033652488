"""Nothing is lost: full disks, read-only folders, half-written checkpoints. Kills: tests/kills/."""

import errno
import resource

import pytest

from mofa_nvdr import cli
from mofa_nvdr.runs import folder as run_folder
from mofa_nvdr.runs.checkpoint import list_checkpoints
from mofa_nvdr.runs.options import ConfigError, replace_options
from mofa_nvdr.training import loop as training
from mofa_nvdr.training.loop import train
from tests.helpers.training import curve, same_state


def _arguments(config) -> list[str]:
    """A command like `small`."""
    return [
        "train",
        "--config",
        "smoke",
        "--face-model",
        config.run.face_model,
        "--out",
        config.run.out,
    ]


class TestDisk:
    def test_a_checkpoint_that_does_not_fit(self, small, tmp_path, monkeypatch, capfd):
        """A limit on the size of files stands in for a full disk: the write ends half way."""
        whole = train(replace_options(small, {"run.out": str(tmp_path / "whole")}))
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        step_of = training.train_step

        def fill_the_disk(trainer, batch, step, *more):
            if step == 3:
                resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, limits[1]))
            return step_of(trainer, batch, step, *more)

        monkeypatch.setattr(training, "train_step", fill_the_disk)
        try:
            with pytest.raises(
                OSError, match=r"cannot write there any more \(.*\); checkpoint-00000002"
            ):
                train(small)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        run = tmp_path / "run"
        assert list_checkpoints(run)[-1].name == "checkpoint-00000002.safetensors"
        assert not list(run.glob("*.tmp"))
        monkeypatch.setattr(training, "train_step", step_of)
        train(small)
        assert curve(run) == curve(whole)
        assert same_state(list_checkpoints(run)[-1], list_checkpoints(whole)[-1])

    def test_log_on_a_full_disk(self, small, tmp_path, monkeypatch):
        write = run_folder.JsonLog.write

        def full(log, line):
            if line["step"] == 5:
                log._file.write('{"step": 5, ')  # what still fitted
                log._file.flush()
                raise OSError(errno.ENOSPC, "No space left on device")
            write(log, line)

        monkeypatch.setattr(run_folder.JsonLog, "write", full)
        with pytest.raises(
            OSError,
            match=r"run: cannot write there any more \(No space left on device\); "
            "checkpoint-00000004.safetensors is whole; free some space",
        ):
            train(small)
        monkeypatch.setattr(run_folder.JsonLog, "write", write)
        train(small)
        whole = train(replace_options(small, {"run.out": str(tmp_path / "whole")}))
        assert curve(tmp_path / "run") == curve(whole)

    def test_read_only_folder(self, small, tmp_path, monkeypatch, capsys):
        def refuse(*_):
            raise OSError(errno.EROFS, "Read-only file system")

        monkeypatch.setattr(run_folder.os, "replace", refuse)
        with pytest.raises(ConfigError, match="--out .*run: cannot write there .Read-only file"):
            train(small)
        assert cli.main(_arguments(small)) == 2
        lines = capsys.readouterr().err.splitlines()
        assert lines == [
            f"mofa-nvdr: --out {small.run.out}: cannot write there (Read-only file system); "
            "give another folder"
        ]

    def test_tensorboard_on_a_full_disk(self, small, monkeypatch, capsys):
        """Its thread writes later, and fails alone; no traceback, and one line in the end."""
        writer = pytest.importorskip("tensorboard.summary.writer.record_writer").RecordWriter
        write, lines = writer.write, iter(range(9**9))

        def full(self, data):
            if next(lines) > 20:
                raise OSError(errno.ENOSPC, "No space left on device")
            write(self, data)

        monkeypatch.setattr(writer, "write", full)
        assert cli.main([*_arguments(small), "--steps", "8"]) == 2
        lines_of_errors = capsys.readouterr().err.splitlines()
        assert len(lines_of_errors) == 1
        assert (
            "cannot write there any more (No space left on device); checkpoint-"
            in lines_of_errors[0]
        )

    def test_others_may_read_a_checkpoint(self, small):
        run = train(small)
        modes = {path.name: path.stat().st_mode for path in run.iterdir()}
        assert modes["checkpoint-00000008.safetensors"] == modes["config.yaml"]

    def test_leftovers_of_a_killed_process_go(self, small, tmp_path):
        (tmp_path / "run").mkdir()
        for name in ("checkpoint-00000002.safetensors", "sheet-00000000.png", "report.html"):
            (tmp_path / "run" / f"{name}.tmp").write_bytes(b"half")
        run = train(small)
        assert not list(run.glob("*.tmp"))

    def test_a_checkpoint_that_a_killed_process_would_have_deleted_goes(self, small):
        """It was killed between the last checkpoint and the deletion of what that one made too old."""
        run = train(small)
        newest = list_checkpoints(run)
        (run / "checkpoint-00000004.safetensors").write_bytes(newest[0].read_bytes())
        train(small)
        assert list_checkpoints(run) == newest
        assert [path.name for path in newest] == [
            "checkpoint-00000006.safetensors", "checkpoint-00000008.safetensors",
        ]  # fmt: skip
