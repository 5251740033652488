"""The training loop: run folders, logs, resuming, both render modes, and what is said of mistakes."""

import dataclasses
import json
import math
import os
import re
import signal
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from mofa_nvdr.cli import main
from mofa_nvdr.data import write_shards
from mofa_nvdr.data.synthetic.faces import BESIDE, SyntheticFaces
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.losses.consistency import Placement, mean_placement_anchor, placement_units
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.runs.build import make_decoder, make_encoder
from mofa_nvdr.runs.checkpoint import list_checkpoints, read_checkpoint
from mofa_nvdr.runs.config import load_config, replace_options
from mofa_nvdr.runs.folder import read_log
from mofa_nvdr.training import loop as training
from mofa_nvdr.training.batches import TrainingData
from mofa_nvdr.training.loop import train
from mofa_nvdr.training.objective import Objective, _encode_together
from mofa_nvdr.training.optimizer import make_optimizer, set_rates
from mofa_nvdr.training.stages import STAGES, StageClock
from mofa_nvdr.training.step import Trainer, train_step
from mofa_nvdr.training.teacher import Teacher, with_teacher
from tests.helpers.objective import loss_terms, use_loss_terms
from tests.helpers.small_encoder import small_encoder
from tests.helpers.small_face import small_face


@pytest.fixture(scope="module")
def cap(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("model") / "cap.safetensors"
    small_face(24).save(path)
    return str(path)


def _config(cap: str, out: Path, **changes):
    return replace_options(
        load_config("smoke"), {"run.face_model": cap, "run.out": str(out), **changes}
    )


def _curve(run: Path) -> list[dict]:
    """The log without its times and its memory."""
    times = ("images_per_second", "seconds", "cpu_seconds", "ms", "peak_mb")
    lines = read_log(run / "log.jsonl")
    return [{k: v for k, v in line.items() if k not in times} for line in lines]


class TestTrain:
    @pytest.mark.parametrize("mode", ["raster", "vertex"])
    @pytest.mark.parametrize("gradient", ["rendering", "surface"])
    def test_run_folder(self, cap, tmp_path, mode, gradient):
        run = train(
            _config(cap, tmp_path / "run", **{"render.mode": mode, "render.gradient": gradient})
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
        picture = iio.imread(run / "sheet-00000004.png")
        assert picture.shape == (6 * 64, 2 * 5 * 64, 3)

    def test_outline_gradient_changes_the_steps_not_the_loss(self, cap, tmp_path):
        plain, outline = (
            [
                line["loss"]
                for line in _curve(
                    train(_config(cap, tmp_path / str(on), **{"render.outline": on}))
                )
                if "loss" in line
            ]
            for on in (False, True)
        )
        assert outline[0] == pytest.approx(plain[0], rel=1e-5)
        assert outline[3] != plain[3]

    def test_same_command_gives_the_same_curve(self, cap, tmp_path):
        a = train(_config(cap, tmp_path / "a"))
        b = train(_config(cap, tmp_path / "b"))
        c = train(_config(cap, tmp_path / "c", **{"run.seed": 1}))
        assert _curve(a) == _curve(b) != _curve(c)

    def test_tensorboard(self, cap, tmp_path):
        event_accumulator = pytest.importorskip(
            "tensorboard.backend.event_processing.event_accumulator"
        )
        run = train(_config(cap, tmp_path / "run"))
        events = event_accumulator.EventAccumulator(str(run))
        events.Reload()
        assert [e.step for e in events.Scalars("val/photometric")] == [0, 4]
        assert len(events.Scalars("train/loss")) == 4
        assert {
            "train/photometric", "train/gradient_norm", "val/photometric_vertex", "val/landmark_px",
            "val/mask_fraction", "rate/trunk", "rate/translation_z", "gradient/trunk", "gradient/light",
            *(f"{group}/{part}" for group in ("code_norm", "code_sd")
              for part in ("shape", "expression", "albedo", "rotation", "translation", "light")),
            *(f"ms/{stage}" for stage in STAGES),
        } <= set(events.Tags()["scalars"])  # fmt: skip
        assert [image.step for image in events.Images("val/faces")] == [0, 4]
        assert events.Images("val/faces")[0].width == 5 * 64  # half the size of the sheet

    def test_without_tensorboard_it_is_said(self, cap, tmp_path, monkeypatch, caplog):
        caplog.set_level("INFO", "mofa_nvdr")
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
        run = train(_config(cap, tmp_path / "run", **{"run.steps": 1}))
        assert not list(run.glob("events.*"))
        assert "no TensorBoard scalars; pip install 'mofa-nvdr[train]'" in caplog.messages

    def test_photographs_with_a_broken_one(self, cap, tmp_path, capsys, recwarn):
        folder = tmp_path / "photos"
        folder.mkdir()
        rng = np.random.default_rng(0)
        for k in range(12):
            iio.imwrite(folder / f"{k}.jpg", rng.integers(0, 255, (80, 80, 3)).astype(np.uint8))
        broken = (folder / "3.jpg").read_bytes()[:200]
        for k in range(6):
            (folder / f"broken{k}.jpg").write_bytes(broken)
        run = train(_config(cap, tmp_path / "run", **{"data.path": str(folder), "run.steps": 6}))
        assert all(math.isfinite(line["photometric"]) for line in read_log(run / "log.jsonl"))
        out = capsys.readouterr().out
        assert "mask " in out and "landmarks" not in out  # there are none
        assert "unreadable images were skipped" in out and "broken" in out

    def test_unreadable_pictures_of_all_processes_count(self, monkeypatch):
        monkeypatch.setattr(training.distributed, "gather", lambda own: [own, ["b", "c"]])
        assert training._skipped(SimpleNamespace(skipped=["a", "b"])) == ["a", "b", "c"]

    def test_nothing_to_validate_on(self, cap, tmp_path):
        (tmp_path / "photos").mkdir()
        iio.imwrite(tmp_path / "photos" / "only.png", np.full((64, 64, 3), 90, np.uint8))
        with pytest.raises(
            ValueError, match="photos: no picture to validate on; bring at least two"
        ):
            train(_config(cap, tmp_path / "run", **{"data.path": str(tmp_path / "photos")}))

    def test_shards_without_any(self, cap, tmp_path):
        (tmp_path / "photos").mkdir()
        iio.imwrite(tmp_path / "photos" / "only.png", np.full((64, 64, 3), 90, np.uint8))
        write_shards(tmp_path / "photos", str(tmp_path / "shards"))
        with pytest.raises(
            ValueError, match=r"shards: no picture to validate on; shards called val-\*\.tar hold "
        ):
            train(_config(cap, tmp_path / "run", **{"data.path": str(tmp_path / "shards")}))

    @pytest.mark.parametrize("packed", [False, True])
    def test_none_to_validate_on_is_readable(self, cap, tmp_path, packed):
        """On several processes too: one whose share alone is unreadable goes on."""
        folder = tmp_path / "photos"
        folder.mkdir()
        for k in range(8):
            iio.imwrite(folder / f"{k}.png", np.full((64, 64, 3), 90, np.uint8))
        names = [f"{k}.png,{'val' if k % 2 else 'train'}" for k in range(8)]
        (folder / "index.csv").write_text("\n".join(["file,split", *names]) + "\n")

        def corpus() -> TrainingData:
            data = folder
            if packed:
                data = tmp_path / "shards"
                write_shards(folder, str(data))
            decoder = FaceDecoder(FaceModel.load(cap), image_size=64)
            return TrainingData(
                _config(cap, tmp_path / "run", **{"data.path": str(data), "report.val_images": 3}),
                decoder,
            )

        warnings.simplefilter("ignore")
        for k in (1, 3, 5):
            (folder / f"{k}.png").write_bytes(b"no picture")
        shares = [[len(b.images) for b in corpus().val(None, rank, 4)] for rank in range(4)]
        assert sum(map(len, shares)) <= 1 and [] in shares  # and nothing is raised
        (folder / "7.png").write_bytes(b"no picture")
        for world in (1, 2):
            with pytest.raises(
                ValueError,
                match=r"none of 3 pictures to validate on can be read, first \S+; replace them, or "
                + ("pack others that have the" if packed else "give others the")
                + " split 'val' in index.csv",
            ):
                list(corpus().val(None, 0, world))

    @pytest.mark.parametrize("given", [["--data", ""], ["--data="]])
    def test_empty_name(self, capsys, tmp_path, monkeypatch, given):
        """It would be the working directory."""
        monkeypatch.chdir(tmp_path)
        for k in range(8):
            iio.imwrite(f"{k}.png", np.full((64, 64, 3), 90, np.uint8))
        assert main(["train", "--config", "smoke", *given]) == 2
        said = capsys.readouterr().err
        assert said == ("mofa-nvdr: --data is empty; give a folder of face crops, or 'synthetic'\n")
        assert not Path("runs").exists()

    def test_landmarks_that_are_not_there(self, cap, tmp_path):
        (tmp_path / "photos").mkdir()
        for k in range(8):
            iio.imwrite(tmp_path / "photos" / f"{k}.png", np.full((64, 64, 3), 90, np.uint8))
        config = _config(
            cap, tmp_path / "run", **{"data.path": str(tmp_path / "photos"), "loss.landmark": 1.0}
        )
        with pytest.raises(
            ValueError, match="--weight-landmark is 1, but there is no landmarks68.npz; bring it"
        ):
            train(config)

    def test_report(self, cap, tmp_path):
        run = train(_config(cap, tmp_path / "run"))
        page = (run / "report.html").read_text()
        assert "finished at step 4 of 4" in page and page.count("data:image/jpeg") == 2

    @pytest.mark.parametrize("terminal", [True, False])
    def test_live_line(self, cap, tmp_path, monkeypatch, capsys, terminal):
        """A bar with rate, remaining time and losses where there is a terminal; else plain lines."""
        monkeypatch.setattr(training, "make_encoder", small_encoder)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
        train(_config(cap, tmp_path / "run", **{"run.steps": 10}))
        printed = capsys.readouterr()
        assert ("step 5/10: loss" in printed.out) != terminal
        bars = [part for part in printed.err.split("\r") if "10/10" in part]
        assert bool(bars) == terminal
        if terminal:
            assert re.search(
                r"10/10 \[.*<.*(step/s|s/step).*loss \d.*photometric.*images/s.*px\]", bars[-1]
            )
        assert "step 10: val photometric" in printed.out

    def test_vanishing_face_warns(self, cap, tmp_path, capsys):
        """Depth pulled away by hand: the scale of the depth output is made huge."""
        run = train(
            _config(
                cap,
                tmp_path / "run",
                **{
                    "encoder.scale.translation_z": 3e4,
                    "encoder.scale.rotation": 1e-6,
                    "report.val_every": 1,
                    "run.steps": 8,
                    "optimizer.learning_rate": 0.01,
                    "loss.photometric": 50.0,
                    "schedule.warmup_steps": 0,
                },
            )
        )
        lines = [line for line in read_log(run / "log.jsonl") if line.get("split") == "val"]
        fractions = [line["mask_fraction"] for line in lines]
        warned = ["warning" in line for line in lines]
        assert warned == [f < 0.6 * fractions[0] for f in fractions]
        assert any(warned), fractions
        assert "WARNING" in capsys.readouterr().out

    def test_loss_that_stays_infinite_stops_the_run(self, cap, tmp_path, capsys):
        config = _config(
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
            RuntimeError, match="step 4: the .* is (nan|inf), 3 steps in a row; a lower --learn"
        ):
            train(config)
        skipped = [line for line in read_log(tmp_path / "run" / "log.jsonl") if "skipped" in line]
        assert [line["step"] for line in skipped] == [2, 3, 4]
        assert "WARNING: step 2: the" in capsys.readouterr().out
        batch = np.load(tmp_path / "run" / "skipped-00000002.npz")
        assert batch["images"].shape[1:] == (3, 64, 64)

    def test_way_out_of_losses_that_stay_infinite(self, cap, tmp_path, capsys):
        """No checkpoint is written among skipped steps; a lower rate goes on from before them."""
        config = _config(
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
        config = _config(
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
            _config(
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


class TestSignals:
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
    def test_saves_first_and_resumes(self, cap, tmp_path, monkeypatch, capsys, number, code):
        """Through the command, with a signal in the middle of step 3."""
        monkeypatch.setattr(training, "make_encoder", small_encoder)
        whole = _curve(train(_config(cap, tmp_path / "whole")))

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
        assert _curve(run) == whole

    def test_a_second_one_does_not_wait(self, cap, tmp_path, monkeypatch):
        monkeypatch.setattr(training, "make_encoder", small_encoder)

        def twice(*_):
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

        use_loss_terms(monkeypatch.setattr, twice)
        with pytest.raises(KeyboardInterrupt) as stop:
            train(_config(cap, tmp_path / "run"))
        assert not isinstance(stop.value, training.Stopped)

    def test_in_a_thread_there_are_none(self, cap, tmp_path, monkeypatch):
        """Python lets only the main thread set handlers; a training elsewhere goes without."""
        monkeypatch.setattr(training, "make_encoder", small_encoder)
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(train, _config(cap, tmp_path / "run")).result()
        assert len(_curve(run)) == 6


class TestWarmStart:
    def test_then_the_photographs_and_resuming_in_the_middle(self, cap, tmp_path):
        folder = tmp_path / "photos"
        folder.mkdir()
        rng = np.random.default_rng(0)
        for k in range(8):
            iio.imwrite(folder / f"{k}.png", rng.integers(0, 255, (64, 64, 3)).astype(np.uint8))
        config = _config(
            cap,
            tmp_path / "a",
            **{"data.path": str(folder), "schedule.warm_start_steps": 3, "run.steps": 6},
        )
        whole = _curve(train(config))
        steps = [line for line in whole if "split" not in line]
        assert [line["photometric"] is None for line in steps] == [True] * 3 + [False] * 3
        # Without a terminal signal: the run as it is after a stop at step 2, and again at step 4.
        config = replace_options(config, {"run.out": str(tmp_path / "b")})
        for stop in (2, 4, 6):
            train(replace_options(config, {"run.steps": stop}))
        stopped = [line for line in _curve(tmp_path / "b") if "split" not in line]
        assert stopped == steps

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_learns_the_codes(self, precision):
        """One batch by heart: the distance to its codes falls."""
        config = replace_options(
            load_config("smoke"),
            {
                "schedule.warm_start_steps": 1,
                "encoder.scale.translation_xy": 1.0,
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


HELD = {
    "schedule.warm_start_steps": 2, "loss.anchor": 0.2, "loss.mirror": 0.3, "loss.decoded": 0.5,
    "loss.synthetic": 0.1,
}  # fmt: skip


class TestHeldInPlace:
    """The terms of consistency.py in a training."""

    def test_logged_and_resumed_to_the_same_bits(self, cap, tmp_path, monkeypatch):
        """Stopped before, at and after the end of the warm start, when the teacher is taken."""
        monkeypatch.setattr(training, "make_encoder", small_encoder)
        folder = tmp_path / "photos"
        folder.mkdir()
        rng = np.random.default_rng(0)
        for k in range(8):
            iio.imwrite(folder / f"{k}.png", rng.integers(0, 255, (64, 64, 3)).astype(np.uint8))
        config = _config(
            cap, tmp_path / "a", **HELD | {"run.steps": 5}, **{"data.path": str(folder)}
        )
        whole = [line for line in _curve(train(config)) if "split" not in line]
        for name in ("anchor", "mirror", "synthetic"):
            assert [line[name] is None for line in whole] == [True] * 2 + [False] * 3
            assert all(line[name] > 0 for line in whole[2:])
        for steps in (1, 2, 4, 5):
            run = train(
                replace_options(config, {"run.out": str(tmp_path / "b"), "run.steps": steps})
            )
        assert [line for line in _curve(run) if "split" not in line] == whole

        ends = [
            read_checkpoint(r / "checkpoint-00000005.safetensors")[0] for r in (tmp_path / "a", run)
        ]
        assert ends[0].keys() == ends[1].keys()
        assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())
        teacher = [key for key in ends[0] if key.startswith("teacher/encoder.")]
        assert len(teacher) == len([key for key in ends[0] if key.startswith("encoder/")])
        early = train(replace_options(config, {"run.out": str(tmp_path / "c"), "run.steps": 2}))
        warm = read_checkpoint(early / "checkpoint-00000002.safetensors")[0]
        for key in teacher:  # the encoder at the end of the warm start, not the one of now
            assert torch.equal(ends[0][key], warm[key.replace("teacher/encoder.", "encoder/")])
        assert any(
            not torch.equal(ends[0][key], ends[0][key.replace("teacher/encoder.", "encoder/")])
            for key in teacher
        )

    def test_checkpoint_without_its_teacher(self, cap, tmp_path, monkeypatch):
        monkeypatch.setattr(training, "make_encoder", small_encoder)
        config = _config(cap, tmp_path / "run", **{**HELD, "loss.anchor": 0.0}, **{"run.steps": 3})
        run = train(config)
        text = (run / "config.yaml").read_text()
        (run / "config.yaml").write_text(text.replace("anchor: 0.0", "anchor: 0.2"))
        with pytest.raises(ValueError, match="not a checkpoint that this version can resume"):
            train(replace_options(config, {"loss.anchor": 0.2, "run.steps": 4}))

    @pytest.mark.parametrize("name", ["anchor", "mirror", "synthetic"])
    def test_adds_its_weight_and_teaches_the_encoder(self, name):
        """The loss grows by weight x term; the gradient reaches the encoder and not the teacher."""
        weight = {
            **HELD,
            **dict.fromkeys(("loss.anchor", "loss.mirror", "loss.synthetic"), 0.0),
        }
        config = replace_options(
            load_config("smoke"),
            {**{**weight, f"loss.{name}": 0.7}, "loss.photometric": 0.0, "loss.regularizer": 0.0},
        )
        model = small_face(16)
        decoder = FaceDecoder(model, 64)
        torch.manual_seed(0)
        teacher = Teacher(small_encoder(config, model.layout))
        encoder = small_encoder(config, model.layout)
        rendered = next(SyntheticFaces(decoder).batches(1, seed=0, start_step=0, stream=BESIDE))
        batch = dataclasses.replace(with_teacher(_random_batch(), teacher), rendered=rendered)
        terms = loss_terms(config, encoder, decoder, batch, step=3)
        assert {"anchor", "mirror", "synthetic"} & terms.keys() == {name}
        assert terms["loss"].item() == pytest.approx(0.7 * terms[name].item(), rel=1e-6)
        terms["loss"].backward()
        assert encoder.head.parts["rotation"].weight.grad.abs().sum() > 0
        assert all(p.grad is None for p in teacher.parameters())

    def test_an_encoder_is_at_rest_with_itself_as_teacher(self):
        config = replace_options(
            load_config("smoke"), {"schedule.warm_start_steps": 2, "loss.anchor": 1.0}
        )
        model = small_face(16)
        torch.manual_seed(0)
        encoder = small_encoder(config, model.layout).eval()
        batch = with_teacher(_random_batch(), Teacher(encoder))
        terms = loss_terms(config, encoder, FaceDecoder(model, 64), batch, step=3)
        assert terms["anchor"].item() == pytest.approx(0, abs=1e-9)

    def test_frozen_norms_keep_the_warm_starts_averages(self, cap, tmp_path, monkeypatch):
        """A validation in between, which puts layers back into training, included."""
        monkeypatch.setattr(training, "make_encoder", small_encoder)
        more = {
            **HELD,
            "schedule.freeze_norm": True,
            "report.val_every": 1,
            "report.checkpoint_every": 1,
            "run.steps": 4,
        }
        run = train(_config(cap, tmp_path / "run", **more, **{"report.keep_checkpoints": 9}))
        at = [
            read_checkpoint(run / f"checkpoint-0000000{step}.safetensors")[0] for step in range(5)
        ]
        averages = [key for key in at[0] if key.startswith("encoder/") and "running" in key]
        assert len(averages) == 4
        for key in averages:
            assert not torch.equal(at[1][key], at[2][key])
            assert torch.equal(at[2][key], at[3][key]) and torch.equal(at[2][key], at[4][key])
        gain = "encoder/trunk.1.weight"
        assert not torch.equal(at[3][gain], at[4][gain])  # what is learned goes on being learned

    def test_teacher_is_centred_on_code_zero(self):
        """With the offset that it finds the mean of its own codes is off by place and size alone."""
        model = small_face(16)
        decoder = FaceDecoder(model, 64)
        torch.manual_seed(0)
        teacher = Teacher(small_encoder(load_config("smoke"), model.layout))
        batches = [
            _random_batch(),
            dataclasses.replace(_random_batch(), images=torch.rand(5, 3, 64, 64)),
        ]
        teacher.centre(decoder, batches)
        assert teacher.offset[:3].abs().max() > 1e-3 and teacher.offset[3:].abs().max() == 0
        images = torch.cat([batch.images for batch in batches])
        faces = Placement.of(decoder, model.layout.unpack(teacher(images)))
        zero = Placement.of(decoder, decoder.code_zero(len(images)))
        difference = (placement_units(zero, 64) - placement_units(faces, 64)).mean(0)
        torch.testing.assert_close(teacher.offset[:3], difference[:3], rtol=1e-4, atol=1e-4)
        anchor = mean_placement_anchor(zero, faces, 64, teacher.offset)
        assert anchor.item() == pytest.approx(difference[3:].square().sum().item(), rel=1e-3)
        encoder = small_encoder(load_config("smoke"), model.layout)
        teacher.follow(encoder)
        assert teacher.offset.abs().max() == 0
        assert torch.equal(teacher(images), encoder.eval()(images))

    def test_offset_is_kept_in_checkpoints(self, cap, tmp_path, monkeypatch):
        monkeypatch.setattr(training, "make_encoder", small_encoder)
        more = {**HELD, "loss.anchor_photographs": 6, "report.checkpoint_every": 1, "run.steps": 4}
        run = train(_config(cap, tmp_path / "run", **more, **{"report.keep_checkpoints": 9}))
        first, last = (
            read_checkpoint(run / f"checkpoint-0000000{step}.safetensors")[0]["teacher/offset"]
            for step in (2, 4)
        )
        assert first.abs().max() > 0 and torch.equal(first, last)

    def test_interleaved_pass_gives_each_group_its_own_codes(self):
        """Rendered faces may be of another size than photographs: all are as the trunk sees them."""
        encoder = small_encoder(load_config("smoke"), small_face(16).layout).eval()
        encoder.input_size = 64
        groups = {
            name: torch.rand(n, 3, size, size)
            for name, n, size in (("photo", 4, 80), ("mirror", 4, 80), ("rendered", 3, 64))
        }
        for name, codes in _encode_together(encoder, groups).items():
            torch.testing.assert_close(codes, encoder(groups[name]))

    def test_rendered_faces_are_other_ones_than_the_warm_starts(self):
        faces = SyntheticFaces(FaceDecoder(small_face(16), 64))
        warm, beside = (
            next(faces.batches(2, seed=0, start_step=0, **more))
            for more in ({}, {"stream": BESIDE})
        )
        assert not torch.equal(warm.codes, beside.codes)
        again = next(faces.batches(2, seed=0, start_step=0, rank=1, world_size=2, stream=BESIDE))
        assert torch.equal(again.codes, beside.codes[1:])


class TestResume:
    def test_other_face_model(self, cap, tmp_path):
        run = train(_config(cap, tmp_path / "run"))
        other = tmp_path / "other.safetensors"
        small_face(24, seed=5).save(other)
        (run / "config.yaml").write_text((run / "config.yaml").read_text().replace(cap, str(other)))
        with pytest.raises(ValueError, match="trained with face model cap .* not with cap"):
            train(_config(str(other), tmp_path / "run"))


class TestRates:
    def test_by_hand(self):
        """Warm-up and cosine to a tenth, once for the warm start and once for the rest; depth's own rate."""
        config = replace_options(
            load_config("smoke"),
            {
                "run.steps": 100,
                "optimizer.learning_rate": 0.1,
                "optimizer.translation_z_rate": 0.0005,
                "schedule.warmup_steps": 10,
                "schedule.warm_start_steps": 40,
                "schedule.rate_after_warm_start": 0.5,
                "schedule.decay": "cosine",
            },
        )
        optimizer = make_optimizer(config, make_encoder(config, small_face(8).layout))

        def cosine(share: float) -> float:
            return 0.1 + 0.45 * (1 + math.cos(math.pi * share))

        expected = {
            1: 0.1, 10: cosine(9 / 40), 21: cosine(0.5), 40: cosine(39 / 40),
            41: 0.5 * 0.1, 50: 0.5 * cosine(9 / 60), 71: 0.5 * cosine(0.5), 101: 0.5 * 0.1,
        }  # fmt: skip
        for step, factor in expected.items():
            set_rates(config, optimizer, step)
            rates = sorted({group["lr"] for group in optimizer.param_groups})
            assert rates == pytest.approx([0.0005 * factor, 0.1 * factor]), step

    def test_length_of_the_rest_does_not_change_the_warm_start(self):
        """So that one warm start serves several trainings."""
        config = replace_options(
            load_config("smoke"),
            {"run.steps": 100, "schedule.warm_start_steps": 40, "schedule.decay": "cosine"},
        )
        optimizer = make_optimizer(config, make_encoder(config, small_face(8).layout))
        rates = []
        for steps in (100, 300):
            set_rates(replace_options(config, {"run.steps": steps}), optimizer, 30)
            rates.append([group["lr"] for group in optimizer.param_groups])
        assert rates[0] == rates[1]

    def test_only_filters_decay(self):
        """AdamW: the trunk's matrices; no gain, no bias, nothing of the last layer. Every one once."""
        config = replace_options(
            load_config("smoke"),
            {
                "optimizer.name": "adamw",
                "optimizer.weight_decay": 0.3,
                "encoder.network": "compact",
            },
        )
        encoder = make_encoder(config, small_face(8).layout)
        optimizer = make_optimizer(config, encoder)
        decaying = [
            p for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]
        ]
        expected = [p for p in encoder.trunk.parameters() if p.ndim > 1]
        assert {id(p) for p in decaying} == {id(p) for p in expected} and len(expected) == 6
        every = [id(p) for group in optimizer.param_groups for p in group["params"]]
        assert sorted(every) == sorted(id(p) for p in encoder.parameters())


class TestPapersRecipe:
    def test_first_steps_keep_the_face(self):
        """AdaDelta's first steps are of one size whatever the gradient; the units must suit them."""
        config = replace_options(
            load_config("mofa_alexnet_landmarks"), {"data.image_size": 80, "render.mode": "raster"}
        )
        model = small_face(24)
        decoder = make_decoder(config, model)
        torch.manual_seed(0)
        encoder = make_encoder(config, model.layout).train()
        optimizer = make_optimizer(config, encoder)
        batches = SyntheticFaces(decoder, plain=True).batches(5, seed=0, start_step=0)
        clock, landmark = StageClock(torch.device("cpu")), []
        trainer = Trainer(config, encoder, Objective(config, decoder), optimizer, clock)
        for step in range(1, 9):
            batch = next(batches)
            result = train_step(trainer, batch, step, reported=True)
            landmark.append(result.terms["landmark"])
        # measured 1.6; where a unit is a radian and a standard deviation, 170 at the third step
        assert max(landmark) < 5 * landmark[0]


class TestModes:
    def test_both_is_the_mean(self):
        """Of the terms of the two modes; the loss and its gradient too."""
        model = small_face(16)
        batch = _random_batch()
        results = {}
        for mode in ("raster", "vertex", "both"):
            config = replace_options(
                load_config("smoke"), {"render.mode": mode, "loss.regularizer": 0.0}
            )
            torch.manual_seed(0)
            encoder = small_encoder(config, model.layout).eval()
            terms = loss_terms(config, encoder, make_decoder(config, model), batch, 1)
            terms["loss"].backward()
            results[mode] = terms, encoder.head.parts["light"].weight.grad
        (raster, by_raster), (vertex, by_vertex), (both, by_both) = results.values()
        assert both["photometric_raster"].item() == raster["photometric"].item()
        assert both["photometric_vertex"].item() == vertex["photometric"].item()
        for key in ("photometric", "loss"):
            expected = 0.5 * raster[key] + 0.5 * vertex[key]
            assert both[key].item() == pytest.approx(expected.item(), rel=1e-6)
        torch.testing.assert_close(by_both, 0.5 * by_raster + 0.5 * by_vertex, rtol=1e-5, atol=1e-8)
        assert "photometric_raster" not in raster

    def test_gain_multiplies_what_sets_an_image_apart(self):
        """Of the gradients of shape and expression; no value, no mean and no other part changes."""
        model = small_face(16)
        decoder = make_decoder(load_config("smoke"), model)

        def gradients(shape: float, expression: float) -> tuple[float, dict[str, torch.Tensor]]:
            config = replace_options(
                load_config("smoke"), {"loss.gain_shape": shape, "loss.gain_expression": expression}
            )
            codes = torch.linspace(-0.2, 0.2, model.layout.size).repeat(2, 1).requires_grad_()
            terms = loss_terms(config, _GivenCodes(codes), decoder, _random_batch(), 1)
            terms["loss"].backward()
            assert codes.grad is not None
            return terms["loss"].item(), vars(model.layout.unpack(codes.grad))

        (plain, by_plain), (gained, by_gained) = gradients(1, 1), gradients(3, 6)
        assert gained == plain
        for part, factor in {"shape": 3, "expression": 6, "albedo": 1, "rotation": 1}.items():
            mean = by_plain[part].mean(0)
            apart = by_plain[part] - mean
            assert apart.abs().max() > 1e-6
            torch.testing.assert_close(by_gained[part], mean + factor * apart, rtol=1e-4, atol=1e-7)

    def test_terms_without_weight_are_in_the_log_alone(self):
        """The landmark term is measured where there are landmarks, whether it counts or not."""
        model = small_face(16)
        landmarks = FaceDecoder(model, 64)(model.layout.zeros()).landmarks.expand(2, -1, -1) + 3.0
        batch = dataclasses.replace(
            _random_batch(), landmarks=landmarks, confidence=torch.ones(2, 68)
        )
        for weight in (0.0, 1.0):
            config = replace_options(
                load_config("smoke"), {"loss.landmark": weight, "loss.regularizer": 0.0}
            )
            torch.manual_seed(0)
            encoder = small_encoder(config, model.layout).eval()
            terms = loss_terms(config, encoder, make_decoder(config, model), batch, 1)
            expected = 1.92 * terms["photometric"] + weight * terms["landmark"]
            assert terms["landmark"].item() > 0.1
            assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-6)

    def test_a_loss_without_weights_is_zero(self):
        config = replace_options(
            load_config("smoke"), {"loss.photometric": 0.0, "loss.regularizer": 0.0}
        )
        model = small_face(16)
        encoder = small_encoder(config, model.layout)
        terms = loss_terms(config, encoder, make_decoder(config, model), _random_batch(), 1)
        terms["loss"].backward()
        assert terms["loss"].item() == 0 and terms["photometric"].item() > 0

    def test_outlines_with_both(self, cap, tmp_path, monkeypatch):
        monkeypatch.setattr(training, "make_encoder", small_encoder)
        changes = {"render.mode": "both", "run.steps": 2}
        curves = [
            _curve(train(_config(cap, tmp_path / str(on), **changes, **{"render.outline": on})))
            for on in (False, True)
        ]
        plain, outline = ([line["gradient_norm"] for line in c if "loss" in line] for c in curves)
        assert plain[0] != outline[0]


class TestLossTerms:
    def test_landmark_term_counts_in_px_at_240(self):
        """The same error relative to the face gives the same term at every image size."""
        model = small_face(16)
        values = []
        for size in (64, 128):
            config = replace_options(
                load_config("smoke"), {"data.image_size": size, "loss.landmark": 1.0}
            )
            decoder = FaceDecoder(model, size)
            batch = _random_batch(size)
            landmarks = decoder(model.layout.zeros()).landmarks.expand(2, -1, -1) + size / 24
            batch = dataclasses.replace(batch, landmarks=landmarks, confidence=torch.ones(2, 68))
            terms = loss_terms(config, make_encoder(config, model.layout), decoder, batch, 1)
            values.append(terms["landmark"].item())
        # 46 points, each 10 px off in x and y at 240, in units of 60 px
        assert values == pytest.approx([46 * 200 / 3600] * 2, rel=1e-4)


class _GivenCodes(torch.nn.Module):
    """Predicts the codes that it was given."""

    def __init__(self, codes: torch.Tensor) -> None:
        super().__init__()
        self.device = torch.nn.Parameter(torch.zeros(1))  # the encoder's parameters say where it is
        self.codes = codes

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.codes


def _random_batch(size: int = 64):
    from mofa_nvdr.data.sampling import Batch

    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, size, size, generator=generator)
    return Batch(images, torch.full((2, 68, 2), math.nan), torch.zeros(2, 68), 0)


def test_log_lines_are_plain_json(cap, tmp_path):
    run = train(_config(cap, tmp_path / "run"))
    for text in (run / "log.jsonl").read_text().splitlines():
        assert isinstance(json.loads(text), dict)
