"""Checkpoints of a run: damaged ones give way, the best one stays, all states come back."""

from __future__ import annotations

import errno
import json
import shutil

import pytest
import torch

from mofa_nvdr.runs import checkpoint
from mofa_nvdr.runs.checkpoint import BEST, CheckpointError, list_checkpoints, read_checkpoint
from mofa_nvdr.runs.options import ConfigError, replace_options
from mofa_nvdr.training import loop as training
from mofa_nvdr.training.loop import train
from tests.helpers.small_encoder import small_encoder
from tests.helpers.training import curve, same_state, small_config


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
        checkpoint.keep_as(older, checkpoint.BEST)
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
        with pytest.raises(
            ConfigError, match="holds a run with another --encoder.network; give another"
        ):
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


@pytest.fixture(scope="module")
def trained(cap, tmp_path_factory):
    """A run of two steps of the small encoder."""
    before = training.make_encoder
    training.make_encoder = small_encoder
    changes = {"run.steps": 2, "report.val_images": 2, "schedule.warm_start_steps": 0}
    config = small_config(cap, tmp_path_factory.mktemp("edited") / "run", **changes)
    yield config, train(config)
    training.make_encoder = before


class TestEditedFacts:
    """A checkpoint whose JSON was edited, without a checksum: a line that names the file."""

    @pytest.mark.parametrize(
        ("edit", "message"),
        [
            ({"step": 2.5}, "its step is 2.5"),
            ({"step": -1}, "its step is -1"),
            ({"facts": []}, "its facts are no table"),
            ({"facts": {"seconds": "x"}}, "its fact seconds is x"),
            ({"facts": {"commands": [[0]]}}, "a command of it is"),
            ({"facts": {"commands": [["a", "b"]]}}, "its step is a"),
            ({"facts": {"best": {"step": 2}}}, "its best is"),
            ({"facts": {"best": 3}}, "its fact best is 3"),
            ({"sampler": 7}, "its place in the data is"),
        ],
    )
    def test_refused(self, trained, tmp_path, edit, message):
        config, run = trained
        copy = tmp_path / "run"
        shutil.copytree(run, copy)
        for path in copy.glob("*.safetensors"):
            tensors, metadata = read_checkpoint(path)
            header = {"format": checkpoint.FORMAT, "metadata": json.dumps({**metadata, **edit})}
            path.unlink()
            checkpoint.save_file(tensors, path, header)
        with pytest.raises(CheckpointError) as error:
            train(replace_options(config, {"run.out": str(copy)}))
        said = str(error.value)
        assert said.startswith(f"{copy}/checkpoint-") and message in said and "\n" not in said
