"""mofa-nvdr bench, and bench train: tables, and one line for every mistake."""

import json
from pathlib import Path

import pytest

from mofa_nvdr.cli import main
from mofa_nvdr.runs.config import load_config
from mofa_nvdr.runs.options import replace_options
from tests.helpers.commands import calls_of, error_line, help_words


class TestBench:
    def test_table_and_json(self, tmp_path, capsys):
        out = tmp_path / "bench.json"
        sizes = ["--batch", "1", "--vertices", "100", "--resolution", "32", "--repeats", "1"]
        assert main(["bench", "--device", "cpu", *sizes, "--threads", "1", "--out", str(out)]) == 0
        facts = json.loads(out.read_text())
        assert {"mofa-nvdr", "processor", "torch", "numba", "rows"} <= facts.keys()
        printed = capsys.readouterr().out
        for row in facts["rows"]:
            assert row["operator"] in printed
            assert row["forward_best"] > 0 and row["backward_best"] > 0 and row["ratio"] > 0
        assert len(facts["rows"]) == 10

    def test_wrong_size(self, capsys):
        assert main(["bench", "--repeats", "0"]) == 2
        assert "bench: repeats is (0,), expected numbers of at least 1" in capsys.readouterr().err

    def test_out_not_writable(self, capsys, tmp_path):
        assert main(["bench", "--out", str(tmp_path / "none" / "b.json")]) == 2
        assert "none" in capsys.readouterr().err


class TestBenchTrain:
    def test_table_and_json(self, tmp_path, capsys):
        out = tmp_path / "b.json"
        options = ["--config", "smoke", "--data", "", "--render-mode", "both", "--repeats", "2"]
        assert main(["bench", "train", *options, "--json", str(out)]) == 0
        result = json.loads(out.read_text())
        printed = capsys.readouterr().out
        assert "mobilenet_v3_large, both mode, batch 2, 64 px, adam" in printed
        for kind in ("wall_ms", "cpu_ms", "best_ms"):
            times = result[kind]
            assert list(times)[-2:] == ["step", "without_optimizer"]
            assert all(
                times[stage] > 0 for stage in ("encoder_forward", "decoder_backward", "step")
            )
        assert 0 < result["decoder_share"] < 1 and result["peak_mb"] > 100
        assert "decoder's share without the optimizer" in printed and "peak memory" in printed
        assert (
            "data" in printed and not Path(result["config"]["data"]["path"]).exists()
        )  # thrown away

    def test_mistakes(self, capsys, tmp_path):
        assert "--repeats is 0, expected at least 1" in error_line(
            capsys, "bench", "train", "--repeats", "0"
        )
        assert "--repets" in error_line(capsys, "bench", "train", "--repets", "1")
        assert "none" in error_line(
            capsys, "bench", "train", "--json", str(tmp_path / "none" / "b.json")
        )

    def test_help(self, capsys):
        with pytest.raises(SystemExit):
            main(["bench", "train", "--help"])
        words = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert "timed steps (default: 20)" in words and "(default: alexnet)" in words


class TestOptions:
    def test_operators(self, monkeypatch):
        calls = calls_of(monkeypatch, "mofa_nvdr.bench.operators.bench")
        assert main(["bench"]) == 0
        sizes = ["--batch", "1", "5", "--vertices", "100", "--resolution", "32", "64"]
        more = [
            "--device",
            "cpu",
            "--threads",
            "2",
            "--repeats",
            "3",
            "--out",
            "b.json",
            "--overwrite",
        ]
        assert main(["bench", *sizes, *more]) == 0
        assert calls == [
            ("auto", (5,), (24_025,), (240,), (1, 2), 20, "", False),
            ("cpu", (1, 5), (100,), (32, 64), (2,), 3, "b.json", True),
        ]

    def test_training_steps(self, monkeypatch):
        """Options of train go on top of the configuration's; mofa_alexnet on throw-away pictures alone."""
        calls = calls_of(monkeypatch, "mofa_nvdr.bench.training_step.bench_train")
        monkeypatch.setattr("mofa_nvdr.system.device.keep_freed_memory", lambda: True)
        assert main(["bench", "train"]) == 0
        words = [
            "--config",
            "smoke",
            "--data.batch-size",
            "3",
            "--repeats",
            "7",
            "--json",
            "b.json",
            "--overwrite",
        ]
        assert main(["bench", "train", *words]) == 0
        assert calls == [
            (replace_options(load_config("mofa_alexnet"), {"data.path": ""}), 20, "", False),
            (replace_options(load_config("smoke"), {"data.batch_size": 3}), 7, "b.json", True),
        ]

    def test_help_has_units(self, capsys):
        words = help_words(capsys, "bench")
        assert "side of the images in pixels" in words and "timed repetitions of each" in words
