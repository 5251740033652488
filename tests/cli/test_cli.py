"""The command line: help, and one line for every mistake."""

import io
import json
import os
import sys
import time
from pathlib import Path

import pytest

import mofa_nvdr
from mofa_nvdr.cli import COMMANDS, main


def _error(capsys, *args: str) -> str:
    """Run a command that must fail; its message on stderr, which must be one line."""
    assert main(list(args)) == 2
    text = capsys.readouterr().err.strip()
    assert text.startswith("mofa-nvdr: ")
    assert len(text.splitlines()) == 1, text
    return text


class TestHelp:
    def test_overview_lists_every_command(self, capsys):
        assert main([]) == 0
        assert main(["--help"]) == 0
        text = capsys.readouterr().out
        assert all(command in text for command in COMMANDS)

    def test_version(self, capsys):
        assert main(["--version"]) == 0
        assert mofa_nvdr.__version__ in capsys.readouterr().out

    @pytest.mark.parametrize("command", COMMANDS)
    def test_command_help(self, command, capsys):
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
        assert "usage: mofa-nvdr" in capsys.readouterr().out

    def test_train_help_has_units_and_the_files_values(self, capsys):
        with pytest.raises(SystemExit):
            main(["train", "--config", "smoke", "--help"])
        words = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert "side of the images in pixels (default: 64)" in words
        assert "quickstart" in words

    def test_help_is_quick(self):
        """0.2 s of processor time were measured; torch alone would take 1.5 s."""
        import subprocess
        import sys

        start = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "mofa_nvdr", "train", "--help"], check=True, capture_output=True
        )
        # A limit wide enough for a loaded machine: test_layers proves that torch stays out.
        assert time.monotonic() - start < 10

    @pytest.mark.parametrize(
        ("given", "want"),
        [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
    )
    def test_torchs_threads_do_not_spin_for_long(self, monkeypatch, given, want):
        """What the user sets stays."""
        for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
            monkeypatch.setenv(name, "")  # remembered, so that it is taken back
            monkeypatch.delenv(name)
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        assert main(["bench", "--batch", "0"]) == 2
        assert os.environ.get("GOMP_SPINCOUNT") == want


class TestMistakes:
    def test_unknown_command(self, capsys):
        assert "unknown command 'trian', expected one of preprocess, synthesize, train" in _error(
            capsys, "trian"
        )

    @pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
    def test_unknown_option(self, capsys, monkeypatch, encoding):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        text = _error(capsys, "train", "--stepz", "3")
        assert text.startswith(
            "mofa-nvdr: Unrecognized options: --stepz, 3; Perhaps you meant: --steps INT "
        )
        assert text.endswith("; mofa-nvdr train --help lists the options")

    def test_unknown_render_mode(self, capsys):
        text = _error(capsys, "train", "--render-mode", "voxels")
        assert text.startswith(
            "mofa-nvdr: invalid choice 'voxels' for argument '--render-mode'. "
            "Expected one of ('raster', 'vertex', 'both'); mofa-nvdr train --help"
        )

    def test_wrong_type(self, capsys):
        assert "--steps" in _error(capsys, "train", "--steps", "many")

    def test_config_without_name(self, capsys):
        assert "--config: give a .yaml file or one of" in _error(capsys, "train", "--config")

    def test_nothing_to_do(self, capsys):
        assert "quickstart for a first run" in _error(capsys, "train")

    def test_misspelt_key(self, capsys, tmp_path):
        (tmp_path / "a.yaml").write_text("stepps: 3\n")
        text = _error(capsys, "train", "--config", str(tmp_path / "a.yaml"))
        assert "a.yaml: unknown key 'stepps'; perhaps you meant 'steps'" in text

    def test_missing_options(self, capsys):
        text = _error(capsys, "relight", "face.npz")
        assert "--light" in text and "--out" in text

    def test_missing_folder(self, capsys, tmp_path):
        text = _error(
            capsys, "train", "--config", "smoke", "--data", str(tmp_path / "no"), "--out",
            str(tmp_path / "run"),
        )  # fmt: skip
        assert str(tmp_path / "no") in text

    def test_folder_without_images(self, capsys, tmp_path):
        text = _error(
            capsys, "train", "--config", "smoke", "--data", str(tmp_path), "--out",
            str(tmp_path / "run"),
        )  # fmt: skip
        assert f"{tmp_path}: no pictures" in text

    def test_out_not_writable(self, capsys, tmp_path):
        (tmp_path / "file").write_text("")
        text = _error(capsys, "train", "--config", "smoke", "--out", str(tmp_path / "file" / "run"))
        assert "--out" in text and "cannot write there" in text

    def test_cuda_where_there_is_none(self, capsys, tmp_path):
        import torch

        if torch.cuda.is_available():
            pytest.skip("this machine has a CUDA GPU")
        text = _error(
            capsys, "train", "--config", "smoke", "--device", "cuda", "--out", str(tmp_path / "r")
        )
        assert "--device cuda: torch sees no CUDA GPU here; use --device auto or cpu" in text


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
        assert "--repeats is 0, expected at least 1" in _error(
            capsys, "bench", "train", "--repeats", "0"
        )
        assert "--repets" in _error(capsys, "bench", "train", "--repets", "1")
        assert "none" in _error(
            capsys, "bench", "train", "--json", str(tmp_path / "none" / "b.json")
        )

    def test_help(self, capsys):
        with pytest.raises(SystemExit):
            main(["bench", "train", "--help"])
        words = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert "timed steps (default: 20)" in words and "(default: alexnet)" in words
