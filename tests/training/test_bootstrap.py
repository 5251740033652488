"""Cycles of bootstrapping: what they render, and that nothing is lost when they are killed."""

from __future__ import annotations

import math
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from mofa_nvdr.data.crop_tables import read_codes
from mofa_nvdr.data.photographs import Photographs
from mofa_nvdr.data.synthetic.synthesis import SynthesisOptions, synthesize_files
from mofa_nvdr.runs.checkpoint import list_checkpoints, read_checkpoint, restore_encoder
from mofa_nvdr.runs.config import check_config
from mofa_nvdr.runs.folder import read_log
from mofa_nvdr.runs.options import (
    ConfigError,
    TrainConfig,
    cycle_start,
    known_face_steps,
    replace_options,
)
from mofa_nvdr.training import bootstrap
from mofa_nvdr.training import loop as training
from mofa_nvdr.training.loop import train
from mofa_nvdr.training.signals import Stopped
from tests.helpers.small_encoder import small_encoder
from tests.helpers.training import curve, same_state, small_config

CYCLED = {
    "run.steps": 8, "schedule.warm_start_steps": 2, "bootstrap.cycles": 2, "bootstrap.steps": 2,
    "bootstrap.photographs": 5, "bootstrap.faces": 12, "synthetic.surroundings": False,
    "report.checkpoint_every": 3, "loss.model_space": 0.1, "report.sheet_every": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def photographs(cap, tmp_path_factory):
    """Crops of faces that are taken for photographs: nothing is known of them."""
    out = tmp_path_factory.mktemp("photographs") / "faces"
    synthesize_files(12, str(out), SynthesisOptions(size=64, face_model=cap, plain=True))
    for name in ("codes.npz", "landmarks68.npz"):
        (out / name).unlink()
    return out


@pytest.fixture
def config(small, photographs):
    return replace_options(small, {**CYCLED, "data.path": str(photographs)})


@pytest.fixture(scope="module")
def whole(cap, photographs, tmp_path_factory):
    """The run folder of a training that nothing disturbed; to be read only."""
    changes = {**CYCLED, "data.path": str(photographs), "report.val_images": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "make_encoder", small_encoder)
        return train(small_config(cap, tmp_path_factory.mktemp("whole") / "run", **changes))


def assert_same(run, whole) -> None:
    """Corpora byte for byte, curve and the state between cycles."""
    for cycle in (1, 2):
        a, b = (bootstrap.corpus_folder(folder, cycle) for folder in (run, whole))
        names = sorted(p.relative_to(a) for p in a.rglob("*") if p.is_file())
        assert names == sorted(p.relative_to(b) for p in b.rglob("*") if p.is_file())
        assert all((a / name).read_bytes() == (b / name).read_bytes() for name in names)
    assert curve(run) == curve(whole)
    for name in ("cycle-00", "cycle-01", "cycle-02"):
        assert same_state(run / f"{name}.safetensors", whole / f"{name}.safetensors")
    assert same_state(list_checkpoints(run)[-1], list_checkpoints(whole)[-1])


class TestCycles:
    def test_what_is_kept(self, whole, config, photographs):
        """Predictions of the photographs by the encoder of the cycle's start, and faces about them."""
        assert {"cycle-00.safetensors", "cycle-01.safetensors", "cycle-02.safetensors"} <= {
            path.name for path in whole.iterdir()
        }
        assert read_checkpoint(whole / "cycle-01.safetensors")[1]["step"] == 4
        faces = Photographs(photographs, "train", 64)
        for cycle in (1, 2):
            folder = bootstrap.corpus_folder(whole, cycle)
            predicted, of = read_codes(folder / bootstrap.DISTRIBUTION)
            assert len(predicted) == 5 and set(predicted) <= set(map(str, faces.files))
            tensors, _ = read_checkpoint(whole / f"cycle-{cycle - 1:02d}.safetensors")
            encoder = small_encoder(config, training.FaceModel.load(config.run.face_model).layout)
            restore_encoder(encoder.eval(), tensors)
            for k, path in enumerate(faces.files):
                if str(path) in predicted:
                    image = torch.from_numpy(faces[k].image).permute(2, 0, 1)[None] / 255
                    own = encoder(image)[0].detach().numpy()
                    np.testing.assert_allclose(predicted[str(path)], own, atol=1e-4)
            corpus = Photographs(folder, "train", 64)
            assert corpus.codes_of == of and len(list((folder / "images").iterdir())) == 12
        # Steps on rendered faces alone have no terms of photographs.
        lines = [line for line in read_log(whole / "log.jsonl") if "loss" in line]
        known = [line["photometric"] is None for line in lines]
        assert known == [True] * 6 + [False] * 2
        assert all(line["loss"] is not None for line in lines)

    def test_steps(self):
        config = replace_options(TrainConfig(), CYCLED)
        assert [cycle_start(config, k) for k in (1, 2, 3)] == [2, 4, 6]
        assert known_face_steps(config) == 6 and known_face_steps(TrainConfig()) == 0


class TestInterrupted:
    @pytest.mark.parametrize("where", ["before", "within", "after", "in the cycle"])
    def test_goes_on_as_if_nothing_had_happened(self, config, whole, monkeypatch, where):
        """Ended before the second cycle's predictions, between its faces, before its tables, after a step."""
        calls = {"_predict": 0, "write_chunk": 0, "write_tables": 0, "train_step": 0}

        class Killed(Exception):
            pass

        def dies(owner, name, count):
            function = getattr(owner, name)

            def dying(*args, **more):
                calls[name] += 1
                if calls[name] == count:
                    raise Killed
                return function(*args, **more)

            monkeypatch.setattr(owner, name, dying)

        if where == "before":
            dies(bootstrap.Bootstrap, "_predict", 2)
        elif where == "within":
            dies(bootstrap, "write_chunk", 4)
        elif where == "after":
            dies(bootstrap, "write_tables", 2)
        else:
            dies(training, "train_step", 6)
        with pytest.raises(Killed):
            train(config)
        assert_same(train(config), whole)

    def test_predictions_are_made_again_by_the_kept_encoder(
        self, config, whole, monkeypatch, capsys
    ):
        step_of = training.train_step
        monkeypatch.setattr(
            training, "train_step", lambda t, b, step, r=False: 1 / 0 if step == 4 else step_of(t, b, step, r)
        )  # fmt: skip
        with pytest.raises(ZeroDivisionError):
            train(config)
        monkeypatch.undo()
        monkeypatch.setattr(training, "make_encoder", small_encoder)
        shutil.rmtree(Path(config.run.out) / "corpus-01")
        assert_same(train(config), whole)
        said = capsys.readouterr().out
        assert "cycle 1: 12 faces around 5 predictions (shape 0." in said

    def test_neither_predictions_nor_their_encoder(self, config, monkeypatch):
        step_of = training.train_step
        monkeypatch.setattr(
            training, "train_step", lambda t, b, step, r=False: 1 / 0 if step == 4 else step_of(t, b, step, r)
        )  # fmt: skip
        with pytest.raises(ZeroDivisionError):
            train(config)
        run = Path(config.run.out)
        (run / "corpus-01" / "distribution.npz").unlink()
        (run / "cycle-00.safetensors").unlink()
        with pytest.raises(
            ValueError, match=r"distribution.npz: missing, and the encoder of step 2 that"
        ):
            train(config)

    def test_damaged_predictions(self, whole, tmp_path):
        path = tmp_path / "distribution.npz"
        with np.load(whole / "corpus-02" / "distribution.npz") as table:
            arrays = dict(table)
        arrays["codes"] = arrays["codes"][:, :5]
        np.savez(path, **arrays)
        with pytest.raises(
            ValueError, match=r"distribution.npz: codes are \[5, 5\], expected \[N, 46\]"
        ):
            bootstrap._read_distribution(path, 46)

    def test_a_signal_while_faces_are_rendered(self, config, whole, monkeypatch):
        write = bootstrap.write_chunk

        def told(*args):
            if args[3:4] == (0,) and args[5] == 1002:
                os.kill(os.getpid(), signal.SIGTERM)
            return write(*args)

        monkeypatch.setattr(bootstrap, "write_chunk", told)
        with pytest.raises(Stopped, match="stopped while faces of cycle 2 were rendered"):
            train(config)
        monkeypatch.setattr(bootstrap, "write_chunk", write)
        assert_same(train(config), whole)


class TestMistakes:
    def test_no_photographs(self, small):
        config = replace_options(small, CYCLED)
        with pytest.raises(
            ValueError, match="--bootstrap.cycles is 2, but --data is synthetic: ther"
        ):
            train(config)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"schedule.warm_start_steps": 0},
                "--bootstrap.cycles is 2, but --schedule.warm-start-steps is 0 and .* --init RUN",
            ),
            ({"bootstrap.steps": 0}, "--bootstrap.steps is 0, expected more than 0"),
            ({"bootstrap.faces": 0}, "--bootstrap.faces is 0, expected more than 0"),
            (
                {"loss.codes": 0.0, "loss.model_space": 0.0, "schedule.warm_start_steps": 0,
                 "encoder.init": "x"},
                "--bootstrap.cycles is 2, but --loss.codes is 0",
            ),
        ],
    )  # fmt: skip
    def test_impossible_values(self, change, message):
        with pytest.raises(ConfigError, match=message):
            check_config(replace_options(TrainConfig(), {**CYCLED, **change}))

    def test_no_prediction_is_finite(self, config, monkeypatch):
        monkeypatch.setattr(
            bootstrap.Bootstrap, "_encoder_of", lambda self, *_: _Broken(self.encoder.layout.size)
        )
        with pytest.raises(
            ValueError, match="none of the photographs that cycle 1 begins with can be"
        ):
            train(config)


class _Broken(torch.nn.Module):
    """Says nothing of anybody."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = torch.nn.Parameter(torch.full((size,), math.nan))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.size.expand(len(images), -1)
