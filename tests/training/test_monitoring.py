"""What a run says and writes while it goes."""

import re
import sys

import pytest

from mofa_nvdr.runs.folder import read_log
from mofa_nvdr.training import loop as training
from mofa_nvdr.training import monitoring
from mofa_nvdr.training.loop import train
from mofa_nvdr.training.monitoring import command_line
from mofa_nvdr.training.timing import STAGES
from tests.helpers.small_encoder import small_encoder
from tests.helpers.training import small_config


class TestCommandLine:
    def test_command_line(self, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["/usr/bin/mofa-nvdr", "train", "--data", "a b"])
        assert command_line() == "mofa-nvdr train --data 'a b'"
        monkeypatch.setattr(monitoring.distributed, "world_size", lambda: 4)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
        assert command_line() == "torchrun --nproc-per-node 2 -m mofa_nvdr train --data 'a b'"
        monkeypatch.setattr(sys, "argv", ["fit.py", "x"])
        assert command_line() == "python fit.py x"


class TestMonitor:
    def test_tensorboard(self, cap, tmp_path):
        event_accumulator = pytest.importorskip(
            "tensorboard.backend.event_processing.event_accumulator"
        )
        run = train(small_config(cap, tmp_path / "run"))
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
        run = train(small_config(cap, tmp_path / "run", **{"run.steps": 1}))
        assert not list(run.glob("events.*"))
        assert "no TensorBoard scalars; pip install 'mofa-nvdr[train]'" in caplog.messages

    @pytest.mark.parametrize("terminal", [True, False])
    def test_live_line(self, cap, tmp_path, monkeypatch, capsys, terminal):
        """A bar with rate, remaining time and losses where there is a terminal; else plain lines."""
        monkeypatch.setattr(training, "make_encoder", small_encoder)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
        train(small_config(cap, tmp_path / "run", **{"run.steps": 10}))
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
            small_config(
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
