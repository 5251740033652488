"""The training loop: run folders, logs, resuming, both render modes, and what is said of mistakes."""

import json
import math
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from mofa_nvdr.cli import main
from mofa_nvdr.data.synthetic.faces import SyntheticFaces
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.runs.build import make_encoder
from mofa_nvdr.runs.checkpoint import list_checkpoints, read_checkpoint
from mofa_nvdr.runs.config import load_config
from mofa_nvdr.runs.folder import read_log
from mofa_nvdr.runs.options import replace_options
from mofa_nvdr.system.locks import locked
from mofa_nvdr.system.marks import read_mark
from mofa_nvdr.training import loop as training
from mofa_nvdr.training.loop import train
from mofa_nvdr.training.signals import Stopped
from tests.helpers.objective import loss_terms, use_loss_terms
from tests.helpers.small_encoder import small_encoder
from tests.helpers.small_face import small_face
from tests.helpers.training import curve, small_config


class TestTrain:
    @pytest.mark.parametrize("mode", ["raster", "vertex"])
    @pytest.mark.parametrize("gradient", ["rendering", "surface"])
    def test_run_folder(self, cap, tmp_path, mode, gradient):
        run = train(
            small_config(
                cap, tmp_path / "run", **{"render.mode": mode, "render.gradient": gradient}
            )
        )
        lines = read_log(run / "log.jsonl")
        validations = [line for line in lines if line.get("split") == "val"]
        assert [line["step"] for line in validations] == [0, 4]
        assert set(validations[0]) == {
            "step", "split", "photometric", "photometric_vertex", "landmark_px", "mask_fraction",
            "scale", "yaw_mean_deg", "yaw_std_deg", "pitch_mean_deg", "pitch_std_deg", "seconds",
            "cpu_seconds", "peak_mb",
        }  # fmt: skip
        assert validations[0]["scale"] == pytest.approx(1) and validations[0]["yaw_std_deg"] == 0
        steps = [line for line in lines if "split" not in line]
        assert [line["step"] for line in steps] == [1, 2, 3, 4]
        used = [line["cpu_seconds"] for line in steps]
        assert 0 < used[0] and used == sorted(used)
        assert {"loss", "photometric", "landmark", "regularizer", "images_per_second"} <= set(
            steps[0]
        )
        assert load_config(str(run / "config.yaml")).render.mode == mode
        assert [p.name for p in list_checkpoints(run)] == [
            "checkpoint-00000002.safetensors", "checkpoint-00000004.safetensors",
        ]  # fmt: skip
        assert read_mark(run / "sheet-00000004.png") == "sheet"
        picture = iio.imread(run / "sheet-00000004.png")
        assert picture.shape == (6 * 64, 2 * 5 * 64, 3)

    def test_outline_gradient_changes_the_steps_not_the_loss(self, cap, tmp_path):
        plain, outline = (
            [
                line["loss"]
                for line in curve(
                    train(small_config(cap, tmp_path / str(on), **{"render.outline": on}))
                )
                if "loss" in line
            ]
            for on in (False, True)
        )
        assert outline[0] == pytest.approx(plain[0], rel=1e-5)
        assert outline[3] != plain[3]

    def test_same_command_gives_the_samecurve(self, cap, tmp_path):
        a = train(small_config(cap, tmp_path / "a"))
        b = train(small_config(cap, tmp_path / "b"))
        c = train(small_config(cap, tmp_path / "c", **{"run.seed": 1}))
        assert curve(a) == curve(b) != curve(c)

    def test_photographs_with_a_broken_one(self, cap, tmp_path, capsys, recwarn):
        folder = tmp_path / "photos"
        folder.mkdir()
        rng = np.random.default_rng(0)
        for k in range(12):
            iio.imwrite(folder / f"{k}.jpg", rng.integers(0, 255, (80, 80, 3)).astype(np.uint8))
        broken = (folder / "3.jpg").read_bytes()[:200]
        for k in range(6):
            (folder / f"broken{k}.jpg").write_bytes(broken)
        run = train(
            small_config(cap, tmp_path / "run", **{"data.path": str(folder), "run.steps": 6})
        )
        assert all(math.isfinite(line["photometric"]) for line in read_log(run / "log.jsonl"))
        out = capsys.readouterr().out
        assert "mask " in out and "landmarks" not in out  # there are none
        assert "unreadable images were skipped" in out and "broken" in out

    def test_unreadable_pictures_of_all_processes_count(self, monkeypatch):
        monkeypatch.setattr(training.distributed, "gather", lambda own: [own, ["b", "c"]])
        assert training._skipped(SimpleNamespace(skipped=["a", "b"])) == ["a", "b", "c"]

    def test_report(self, cap, tmp_path):
        run = train(small_config(cap, tmp_path / "run"))
        page = (run / "report.html").read_text()
        assert "finished at step 4 of 4" in page and page.count("data:image/jpeg") == 2

    def test_loss_that_stays_infinite_stops_the_run(self, cap, tmp_path, capsys):
        config = small_config(
            cap,
            tmp_path / "run",
            **{
                "optimizer.learning_rate": 1e30,
                "optimizer.name": "adam",
                "run.steps": 9,
                "run.stop_after_skips": 3,
            },
        )
        with pytest.raises(
            RuntimeError,
            match="step 4: the .* is (nan|inf), 3 steps in a row; a lower --optimizer.learn",
        ):
            train(config)
        skipped = [line for line in read_log(tmp_path / "run" / "log.jsonl") if "skipped" in line]
        assert [line["step"] for line in skipped] == [2, 3, 4]
        assert "WARNING: step 2: the" in capsys.readouterr().out
        batch = np.load(tmp_path / "run" / "skipped-00000002.npz")
        assert batch["images"].shape[1:] == (3, 64, 64)

    def test_way_out_of_losses_that_stay_infinite(self, cap, tmp_path, capsys):
        """No checkpoint is written among skipped steps; a lower rate goes on from before them."""
        config = small_config(
            cap,
            tmp_path / "run",
            **{
                "optimizer.learning_rate": 1e30,
                "optimizer.name": "adam",
                "run.steps": 12,
                "run.stop_after_skips": 5,
                "report.checkpoint_every": 2,
            },
        )
        for _ in range(2):  # the same command gets no further
            with pytest.raises(RuntimeError, match="goes on from checkpoint-00000000"):
                train(config)
        train(replace_options(config, {"optimizer.learning_rate": 1e-4}))
        printed = capsys.readouterr()
        assert (
            f"{config.run.out}: goes on with --optimizer.learning-rate 0.0001, it was 1e+30"
            in printed.err
        )
        assert "finished at step 12" in printed.out
        lines = read_log(tmp_path / "run" / "log.jsonl")
        assert not any("skipped" in line for line in lines)

    def test_last_step_skipped(self, cap, tmp_path):
        """Its checkpoint is written, and the ones from before the skips stay."""
        config = small_config(
            cap,
            tmp_path / "run",
            **{
                "optimizer.learning_rate": 1e30,
                "optimizer.name": "adam",
                "run.steps": 4,
                "run.stop_after_skips": 9,
                "report.checkpoint_every": 1,
                "report.keep_checkpoints": 1,
            },
        )
        names = [path.name for path in list_checkpoints(train(config))]
        assert names == ["checkpoint-00000001.safetensors", "checkpoint-00000004.safetensors"]

    @pytest.mark.parametrize(
        ("broken", "words"),
        [("photometric", "the photometric is nan"), ("gradient", "the gradient's norm is nan")],
    )
    def test_one_bad_batch_is_skipped_named_and_kept(
        self, cap, tmp_path, capsys, monkeypatch, broken, words
    ):
        """A photograph that breaks the loss of one step: the run goes on as if it had not been."""
        folder = tmp_path / "photos"
        folder.mkdir()
        rng = np.random.default_rng(0)
        for k in range(8):
            iio.imwrite(folder / f"{k}.png", rng.integers(0, 255, (64, 64, 3)).astype(np.uint8))
        seen: list[tuple[str, ...]] = []

        def break_step_2(config, encoder, decoder, batch, step, clock):
            terms = loss_terms(config, encoder, decoder, batch, step, clock)
            if step == 2:
                seen.append(tuple(path.name for path in batch.paths))
                if broken == "gradient":  # a finite loss whose derivative is not
                    zero = 0 * next(encoder.parameters()).sum()
                    terms["loss"] = terms["loss"] + (zero.square().sqrt() * 0)
                else:
                    terms["loss"] = terms["loss"] * torch.nan
                    terms["photometric"] = terms["photometric"] * torch.nan
            return terms

        use_loss_terms(monkeypatch.setattr, break_step_2)
        run = train(
            small_config(
                cap,
                tmp_path / "run",
                **{"data.path": str(folder), "run.steps": 4, "report.log_every": 1},
            )
        )
        lines = [line for line in read_log(run / "log.jsonl") if "split" not in line]
        assert [line["step"] for line in lines] == [1, 2, 3, 4]
        assert lines[1] == {"step": 2, "skipped": words}
        assert all(math.isfinite(line["loss"]) for line in lines if "loss" in line)
        out = capsys.readouterr().out
        assert f"WARNING: step 2: {words}; skipped, its batch is in" in out
        assert ", ".join(seen[0]) in out
        kept = np.load(run / "skipped-00000002.npz")
        assert [Path(path).name for path in kept["paths"]] == list(seen[0])


class TestLock:
    def test_second_training_on_a_folder(self, cap, tmp_path, monkeypatch, capsys):
        """It changes nothing."""
        monkeypatch.setattr(training, "make_encoder", small_encoder)
        run = tmp_path / "run"
        run.mkdir()
        with locked(run, "mofa-nvdr train"):
            before = sorted(path.name for path in run.iterdir())
            assert main(["train", "--config", "smoke", "--face-model", cap, "--out", str(run)]) == 2
            assert sorted(path.name for path in run.iterdir()) == before
        error = capsys.readouterr().err
        assert error.startswith(f"mofa-nvdr: {run}: process {os.getpid()} on ")
        assert "(mofa-nvdr train) is writing there since" in error and error.count("\n") == 1


class TestInit:
    """`--init RUN`: a run that begins with another one's encoder."""

    @pytest.fixture
    def first(self, cap, tmp_path, monkeypatch):
        monkeypatch.setattr(training, "make_encoder", small_encoder)
        changes = {"encoder.scale.shape": 0.2, "run.seed": 3}
        return train(small_config(cap, tmp_path / "first", **changes))

    def test_begins_where_the_other_ended(self, cap, first, tmp_path, capsys):
        capsys.readouterr()
        config = small_config(
            cap, tmp_path / "second", **{"encoder.init": str(first), "run.steps": 3}
        )
        second = train(config)
        newest = list_checkpoints(first)[-1]
        words = f"; begins with the encoder of {newest} (step 4), its output scales too"
        assert words in capsys.readouterr().out
        last = [line for line in curve(first) if line.get("split")][-1]
        begin = next(line for line in curve(second) if line.get("split"))
        assert begin["photometric"] == last["photometric"] and begin["step"] == 0
        _, metadata = read_checkpoint(list_checkpoints(second)[-1])
        assert metadata["facts"]["init"] == [str(newest), 4]
        # It resumes without the other run, to the same bits.
        newest.unlink()
        for path in list_checkpoints(first):
            path.unlink()
        train(replace_options(config, {"run.steps": 4}))
        assert "resuming after step 3" in capsys.readouterr().out

    def test_it_is_the_teacher_without_a_warm_start(self, cap, first, tmp_path):
        held = {"loss.anchor": 0.2, "schedule.freeze_norm": True, "encoder.init": str(first)}
        second = train(small_config(cap, tmp_path / "second", **held))
        tensors, _ = read_checkpoint(list_checkpoints(second)[-1])
        before, _ = read_checkpoint(list_checkpoints(first)[-1])
        teacher = {k: v for k, v in tensors.items() if k.startswith("teacher/encoder.")}
        assert teacher
        for name, value in teacher.items():
            assert torch.equal(value, before[f"encoder/{name.removeprefix('teacher/encoder.')}"])

    def test_mistakes_leave_no_folder(self, cap, first, tmp_path):
        for init, words in (("none", "no such run folder"), (str(first), "this run's compact at")):
            changes = {"encoder.init": init, "encoder.network": "compact"}
            with pytest.raises(ValueError, match=f"--init {init}: .*{words}"):
                train(small_config(cap, tmp_path / "second", **changes))
            assert not (tmp_path / "second").exists()


class TestThreads:
    def test_another_number_is_said(self, cap, tmp_path, monkeypatch, capsys):
        """The first line names it; so does a line when a run goes on with another one."""
        monkeypatch.setattr(training, "make_encoder", small_encoder)
        run = tmp_path / "run"
        train(small_config(cap, run, **{"run.threads": 1, "run.steps": 2}))
        printed = capsys.readouterr()
        assert "on cpu, threads: 1 (the same number gives the same bits)" in printed.out
        assert printed.err == ""
        train(small_config(cap, run, **{"run.threads": 1, "run.steps": 3}))
        assert capsys.readouterr().err == ""
        train(small_config(cap, run, **{"run.threads": 2, "run.steps": 4}))
        assert capsys.readouterr().err == (
            f"WARNING: {run}: goes on with --threads 2, it had 1: the sums of convolutions are rounded "
            "otherwise, so the curve is not the same bit for bit\n"
        )
        _, metadata = read_checkpoint(list_checkpoints(run)[-1])
        assert metadata["facts"]["threads"] == 2


class TestDevice:
    def test_one_gpu_for_several_processes(self, cap, tmp_path, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(
            ValueError, match="--device cuda:1: torchrun's processes each take a GPU"
        ):
            train(small_config(cap, tmp_path / "run", **{"run.device": "cuda:1"}))


class TestSignals:
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
    def test_saves_first_and_resumes(self, cap, tmp_path, monkeypatch, capsys, number, code):
        """Through the command, with a signal in the middle of step 3."""
        monkeypatch.setattr(training, "make_encoder", small_encoder)
        whole = curve(train(small_config(cap, tmp_path / "whole")))

        def signal_in_step_3(config, encoder, decoder, batch, step, clock):
            if step == 3:
                os.kill(os.getpid(), number)
            return loss_terms(config, encoder, decoder, batch, step, clock)

        use_loss_terms(monkeypatch.setattr, signal_in_step_3)
        run = tmp_path / "run"
        arguments = ["train", "--config", "smoke", "--face-model", cap, "--out", str(run)]
        before = signal.getsignal(number)
        assert main(arguments) == code
        assert signal.getsignal(number) == before
        words = f"{run}: stopped and saved after step 3; the same command again resumes\n"
        assert capsys.readouterr().err == words
        use_loss_terms(monkeypatch.setattr, loss_terms)
        assert list_checkpoints(run)[-1].name == "checkpoint-00000003.safetensors"
        assert main(arguments) == 0
        assert curve(run) == whole

    def test_a_second_one_does_not_wait(self, cap, tmp_path, monkeypatch):
        monkeypatch.setattr(training, "make_encoder", small_encoder)

        def twice(*_):
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

        use_loss_terms(monkeypatch.setattr, twice)
        with pytest.raises(KeyboardInterrupt) as stop:
            train(small_config(cap, tmp_path / "run"))
        assert not isinstance(stop.value, Stopped)

    def test_in_a_thread_there_are_none(self, cap, tmp_path, monkeypatch):
        """Python lets only the main thread set handlers; a training elsewhere goes without."""
        monkeypatch.setattr(training, "make_encoder", small_encoder)
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(train, small_config(cap, tmp_path / "run")).result()
        assert len(curve(run)) == 6


class TestWarmStart:
    def test_then_the_photographs_and_resuming_in_the_middle(self, cap, tmp_path):
        folder = tmp_path / "photos"
        folder.mkdir()
        rng = np.random.default_rng(0)
        for k in range(8):
            iio.imwrite(folder / f"{k}.png", rng.integers(0, 255, (64, 64, 3)).astype(np.uint8))
        config = small_config(
            cap,
            tmp_path / "a",
            **{"data.path": str(folder), "schedule.warm_start_steps": 3, "run.steps": 6},
        )
        whole = curve(train(config))
        steps = [line for line in whole if "split" not in line]
        assert [line["photometric"] is None for line in steps] == [True] * 3 + [False] * 3
        # Without a terminal signal: the run as it is after a stop at step 2, and again at step 4.
        config = replace_options(config, {"run.out": str(tmp_path / "b")})
        for stop in (2, 4, 6):
            train(replace_options(config, {"run.steps": stop}))
        stopped = [line for line in curve(tmp_path / "b") if "split" not in line]
        assert stopped == steps

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_learns_the_codes(self, precision):
        """One batch by heart: the distance to its codes falls."""
        config = replace_options(
            load_config("smoke"),
            {
                "schedule.warm_start_steps": 1,
                "encoder.scale.translation_xy": 1.0,
                "encoder.network": "compact",  # bfloat16 is slow where the processor lacks it
                "encoder.precision": precision,
            },
        )
        model = small_face(16)
        decoder = FaceDecoder(model, 64)
        torch.manual_seed(0)
        encoder = make_encoder(config, model.layout)
        batch = next(SyntheticFaces(decoder).batches(8, seed=0, start_step=0))
        optimizer = torch.optim.Adam(encoder.parameters(), 1e-3)
        losses = []
        for _ in range(40):
            loss = loss_terms(config, encoder, decoder, batch, step=1)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.5 * losses[0], losses


class TestResume:
    def test_other_face_model(self, cap, tmp_path):
        run = train(small_config(cap, tmp_path / "run"))
        other = tmp_path / "other.safetensors"
        small_face(24, seed=5).save(other)
        (run / "config.yaml").write_text((run / "config.yaml").read_text().replace(cap, str(other)))
        with pytest.raises(ValueError, match="trained with face model cap .* not with cap"):
            train(small_config(str(other), tmp_path / "run"))


def test_log_lines_are_plain_json(cap, tmp_path):
    run = train(small_config(cap, tmp_path / "run"))
    for text in (run / "log.jsonl").read_text().splitlines():
        assert isinstance(json.loads(text), dict)
