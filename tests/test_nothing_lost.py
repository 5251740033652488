"""Nothing is lost: kills at any moment, full disks, read-only folders, half-written checkpoints."""

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mofa_nvdr import cli
from mofa_nvdr.runs import checkpoint
from mofa_nvdr.runs import folder as run_folder
from mofa_nvdr.runs.checkpoint import BEST, CheckpointError, list_checkpoints, read_checkpoint
from mofa_nvdr.runs.config import ConfigError, load_config, replace_options
from mofa_nvdr.runs.folder import read_log
from mofa_nvdr.training import loop as training
from mofa_nvdr.training.loop import train
from tests.helpers.killed_runs import KINDS
from tests.helpers.small_encoder import small_encoder
from tests.helpers.small_face import small_face

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def cap(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("model") / "cap.safetensors"
    small_face(24).save(path)
    return str(path)


@pytest.fixture
def small(cap, tmp_path, monkeypatch):
    """A configuration of a second, for `train` in this process."""
    monkeypatch.setattr(training, "make_encoder", small_encoder)
    return replace_options(
        load_config("smoke"),
        {
            "run.face_model": cap,
            "run.out": str(tmp_path / "run"),
            "run.steps": 8,
            "report.val_images": 2,
        },
    )


def curve(run: Path) -> list[dict]:
    """The log without its times and its memory."""
    times = ("images_per_second", "seconds", "cpu_seconds", "ms", "peak_mb")
    lines = read_log(run / "log.jsonl")
    return [{k: v for k, v in line.items() if k not in times} for line in lines]


def same_state(a: Path, b: Path) -> bool:
    """Whether two checkpoints hold the same bits: weights, optimizer, random states."""
    (x, more_x), (y, more_y) = read_checkpoint(a), read_checkpoint(b)
    assert (
        more_x["sampler"] == more_y["sampler"]
        and more_x["facts"]["best"] == more_y["facts"]["best"]
    )
    return x.keys() == y.keys() and all(torch.equal(x[key], y[key]) for key in x)


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


class TestKills:
    def test_twenty_kills_at_random_change_no_bit(self, cap, tmp_path):
        """11 s of CPU time, imports included."""
        command = [sys.executable, "-m", "tests.helpers.killed_runs", cap, str(tmp_path), "20"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        report = json.loads((tmp_path / "kills.json").read_text())
        assert len(report["kills"]) == 20
        # By the clock, and at moments that would hurt: in a checkpoint, before a rename, in a log line.
        assert {"time", *KINDS} == set(report["kills"])
        whole = tmp_path / "whole"
        assert [line["step"] for line in curve(whole) if "loss" in line] == list(range(1, 13))
        for number in range(report["runs"]):
            run = tmp_path / f"run{number}"
            assert curve(run) == curve(whole)
            for name in ("checkpoint-00000010", "checkpoint-00000012", "best"):
                assert same_state(run / f"{name}.safetensors", whole / f"{name}.safetensors")
            assert not list(run.glob("*.tmp"))
            assert {p.name for p in run.glob("sheet-*")} == {p.name for p in whole.glob("sheet-*")}


class TestDamagedCheckpoints:
    @pytest.mark.parametrize("kept", [0, 5, 300, -20_000, -1])
    def test_half_written_gives_way_to_the_one_before(self, small, tmp_path, capsys, kept):
        """However much of it is there; negative: so many bytes are missing."""
        whole = train(replace_options(small, {"run.out": str(tmp_path / "whole")}))
        run = train(small)
        newest = list_checkpoints(run)[-1]
        newest.write_bytes(newest.read_bytes()[:kept])
        train(small)
        printed = capsys.readouterr()
        assert f"WARNING: {newest}: not a readable checkpoint" in printed.err
        assert (
            f"WARNING: taking {run / 'checkpoint-00000006.safetensors'}, of step 6" in printed.err
        )
        assert "resuming after step 6" in printed.out
        assert newest.with_name(newest.name + ".damaged").is_file()
        assert curve(run) == curve(whole)
        assert same_state(newest, whole / newest.name)

    def test_changed_bytes_give_way_to_the_one_before(self, small, capsys):
        """A file of the right form whose weights are not those that were saved."""
        run = train(small)
        newest = list_checkpoints(run)[-1]
        data = bytearray(newest.read_bytes())
        data[len(data) // 2] ^= 1
        newest.unlink()  # best.safetensors may be another name of it
        newest.write_bytes(data)
        train(small)
        printed = capsys.readouterr()
        assert f"{newest}: not a readable checkpoint (its checksum does not fit)" in printed.err
        assert "resuming after step 6" in printed.out

    def test_the_best_is_the_last_resort(self, small, tmp_path, capsys):
        whole = train(replace_options(small, {"run.out": str(tmp_path / "whole")}))
        run = train(small)
        older, newest = list_checkpoints(run)
        checkpoint.keep_best(older)
        for path in (older, newest):
            path.unlink()  # best.safetensors is another name of one of them
            path.write_bytes(b"")
        train(small)
        assert "resuming after step 6" in capsys.readouterr().out
        assert curve(run) == curve(whole)

    def test_options_of_a_run_without_config(self, small):
        """They are in its checkpoints, and a wrong command changes nothing in the folder."""
        run = train(small)
        text = (run / "config.yaml").read_text()
        (run / "config.yaml").unlink()
        before = sorted(run.iterdir())
        with pytest.raises(ConfigError, match="holds a run with another --encoder; give another"):
            train(replace_options(small, {"encoder.network": "compact"}))
        assert sorted(run.iterdir()) == before
        train(small)
        assert (run / "config.yaml").read_text() == text

    def test_none_is_readable(self, small, capsys):
        run = train(small)
        before = (run / "log.jsonl").read_bytes()
        for path in [*list_checkpoints(run), run / BEST]:
            path.write_bytes(b"{")
        with pytest.raises(CheckpointError, match="none of its 3 checkpoints can be read; give an"):
            train(small)
        assert (run / "log.jsonl").read_bytes() == before  # nothing of the run is touched

    def test_of_another_version(self, small):
        run = train(small)
        for path in [*list_checkpoints(run), run / BEST]:
            tensors, metadata = read_checkpoint(path)
            header = {"format": checkpoint.FORMAT, "metadata": json.dumps(metadata)}
            del tensors["random/torch"]
            checkpoint.save_file(tensors, path, header)
        with pytest.raises(CheckpointError, match="can resume .*random/torch"):
            train(small)

    def test_header_without_json(self, tmp_path):
        path = tmp_path / "a.safetensors"
        checkpoint.save_file({"x": torch.zeros(1)}, path, {"format": checkpoint.FORMAT})
        with pytest.raises(CheckpointError, match="not a readable checkpoint .'metadata'"):
            read_checkpoint(path)


class TestKept:
    def test_the_newest_and_the_best(self, small, monkeypatch):
        """The best is at step 2 by hand; it stays when its checkpoint goes."""
        errors = iter([0.5, 0.1, 0.3, 0.2, 0.4])
        monkeypatch.setattr(
            training, "validate",
            lambda *_: {"photometric": next(errors), "photometric_vertex": 0.0, "landmark_px": 9.0,
                        "mask_fraction": 0.5, "scale": 1.0},
        )  # fmt: skip
        run = train(
            replace_options(small, {"report.val_every": 2, "report.best_measure": "photometric"})
        )
        assert [path.name for path in list_checkpoints(run)] == [
            "checkpoint-00000006.safetensors", "checkpoint-00000008.safetensors",
        ]  # fmt: skip
        metadata = read_checkpoint(run / BEST)[1]
        assert metadata["step"] == 2
        assert metadata["facts"]["best"] == {"step": 2, "measure": "photometric", "value": 0.1}

    def test_a_vanishing_face_is_never_the_best(self, small, monkeypatch):
        lines = iter([(0.5, 0.5), (0.1, 0.2), (0.4, 0.5)])

        def collapse(*_):
            error, mask = next(lines)
            return {"photometric": error, "photometric_vertex": 0.0, "landmark_px": float("nan"),
                    "mask_fraction": mask, "scale": 1.0}  # fmt: skip

        monkeypatch.setattr(training, "validate", collapse)
        run = train(small)
        # Without landmarks "auto" means the photometric error.
        assert read_checkpoint(run / BEST)[1]["facts"]["best"] == {
            "step": 8, "measure": "photometric", "value": 0.4,
        }  # fmt: skip

    def test_without_hard_links(self, small, monkeypatch):
        def refuse(*_):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(checkpoint.os, "link", refuse)
        run = train(small)
        assert (run / BEST).stat().st_nlink == 1 and not list(run.glob("*.tmp"))
        metadata = read_checkpoint(run / BEST)[1]
        assert metadata["step"] == metadata["facts"]["best"]["step"]

    def test_every_random_state_comes_back(self, tmp_path):
        import random

        import numpy as np

        def draw():
            return (
                random.random(),
                random.gauss(0, 1),
                np.random.rand(),
                np.random.randn(),
                torch.rand(1),
            )

        network = torch.nn.Linear(1, 1)
        optimizer = torch.optim.Adam(network.parameters())
        random.gauss(0, 1), np.random.randn()  # each keeps the second number of a pair
        checkpoint.save_checkpoint(tmp_path / "c.safetensors", network, optimizer, {})
        expected = draw()
        draw()
        checkpoint.restore_training(optimizer, read_checkpoint(tmp_path / "c.safetensors")[0])
        assert draw() == expected


class TestDisk:
    def test_a_checkpoint_that_does_not_fit(self, small, tmp_path, monkeypatch, capfd):
        """A limit on the size of files stands in for a full disk: the write ends half way."""
        whole = train(replace_options(small, {"run.out": str(tmp_path / "whole")}))
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        step_of = training.train_step

        def fill_the_disk(config, encoder, decoder, optimizer, batch, step, *more):
            if step == 3:
                resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, limits[1]))
            return step_of(config, encoder, decoder, optimizer, batch, step, *more)

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
            f"mofa-nvdr: --out {small.out}: cannot write there (Read-only file system); "
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


class TestCorpus:
    def test_a_folder_that_changed_is_said(self, small, tmp_path, capsys):
        import imageio.v3 as iio
        import numpy as np

        folder = tmp_path / "photos"
        folder.mkdir()
        rng = np.random.default_rng(0)
        for k in range(8):
            iio.imwrite(folder / f"{k}.png", rng.integers(0, 255, (64, 64, 3)).astype(np.uint8))
        config = replace_options(small, {"data.path": str(folder), "run.steps": 4})
        run = train(config)
        state = read_checkpoint(list_checkpoints(run)[-1])[1]["sampler"]
        assert state == {"num_train": 7, "epoch": 1, "position": 1}  # after 4 steps of 2
        iio.imwrite(folder / "8.png", rng.integers(0, 255, (64, 64, 3)).astype(np.uint8))
        train(replace_options(config, {"run.steps": 6}))
        words = (
            "has 8 training photographs, it had 7 at the checkpoint: the run goes on, with another"
        )
        assert words in capsys.readouterr().err
