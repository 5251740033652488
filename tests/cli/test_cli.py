"""The command line: help, and one line for every mistake."""

import io
import os
import sys
import time

import pytest

import mofa_nvdr
from mofa_nvdr.cli import COMMANDS, main
from tests.helpers.commands import error_line


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
    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (MemoryError, "need more memory than the machine has"),
            (RecursionError, "are nested too deeply to be read"),
        ],
    )
    def test_more_than_the_machine_has(self, capsys, monkeypatch, error, words):
        """What no budget of a reader foresaw ends in one line too."""

        def run(args):
            raise error

        monkeypatch.setattr("mofa_nvdr.cli.networks.run", run)
        assert main(["networks", "list"]) == 2
        assert capsys.readouterr().err == f"mofa-nvdr: networks: these files {words}\n"
        monkeypatch.setenv("MOFA_NVDR_TRACEBACK", "1")
        with pytest.raises(error):
            main(["networks", "list"])

    def test_unknown_command(self, capsys):
        assert (
            "unknown command 'trian', expected one of preprocess, synthesize, train"
            in error_line(capsys, "trian")
        )

    @pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
    def test_unknown_option(self, capsys, monkeypatch, encoding):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        text = error_line(capsys, "train", "--stepz", "3")
        assert text.startswith(
            "mofa-nvdr: Unrecognized options: --stepz, 3; Perhaps you meant: --steps INT "
        )
        assert text.endswith("; mofa-nvdr train --help lists the options")

    def test_unknown_render_mode(self, capsys):
        text = error_line(capsys, "train", "--render-mode", "voxels")
        assert text.startswith(
            "mofa-nvdr: invalid choice 'voxels' for argument '--render-mode'. "
            "Expected one of ('raster', 'vertex', 'both'); mofa-nvdr train --help"
        )

    def test_wrong_type(self, capsys):
        assert "--steps" in error_line(capsys, "train", "--steps", "many")

    def test_config_without_name(self, capsys):
        assert "--config: give a .yaml file or one of" in error_line(capsys, "train", "--config")

    def test_nothing_to_do(self, capsys):
        assert "quickstart for a first run" in error_line(capsys, "train")

    def test_misspelt_key(self, capsys, tmp_path):
        (tmp_path / "a.yaml").write_text("stepps: 3\n")
        text = error_line(capsys, "train", "--config", str(tmp_path / "a.yaml"))
        assert "a.yaml: unknown key 'stepps'; perhaps you meant 'run.steps'" in text

    def test_missing_options(self, capsys):
        text = error_line(capsys, "relight", "face.npz")
        assert "--light" in text and "--out" in text

    def test_missing_folder(self, capsys, tmp_path):
        text = error_line(
            capsys, "train", "--config", "smoke", "--data", str(tmp_path / "no"), "--out",
            str(tmp_path / "run"),
        )  # fmt: skip
        assert str(tmp_path / "no") in text

    def test_folder_without_images(self, capsys, tmp_path):
        text = error_line(
            capsys, "train", "--config", "smoke", "--data", str(tmp_path), "--out",
            str(tmp_path / "run"),
        )  # fmt: skip
        assert f"{tmp_path}: no pictures" in text

    def test_out_not_writable(self, capsys, tmp_path):
        (tmp_path / "file").write_text("")
        text = error_line(
            capsys, "train", "--config", "smoke", "--out", str(tmp_path / "file" / "run")
        )
        assert "--out" in text and "cannot write there" in text

    def test_cuda_where_there_is_none(self, capsys, tmp_path):
        import torch

        if torch.cuda.is_available():
            pytest.skip("this machine has a CUDA GPU")
        text = error_line(
            capsys, "train", "--config", "smoke", "--device", "cuda", "--out", str(tmp_path / "r")
        )
        assert "--device cuda: torch sees no CUDA GPU here; use --device auto or cpu" in text
