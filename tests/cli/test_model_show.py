"""mofa-nvdr model show: options into one call, and one line for a wrong one."""

import pytest

from mofa_nvdr.apply.model_sheets import SHEETS
from mofa_nvdr.cli import main
from tests.helpers.commands import calls_of, error_line, help_words


class TestOptions:
    @pytest.fixture
    def calls(self, monkeypatch):
        return calls_of(monkeypatch, "mofa_nvdr.apply.model_sheets.show_model")

    def test_defaults(self, calls):
        assert main(["model", "show", "--out", "o"]) == 0
        assert calls == [("default", "o", 160, 80, 1, SHEETS, False)]

    def test_all(self, calls):
        options = [
            "--size",
            "64",
            "--modes",
            "5",
            "--seed",
            "7",
            "--overwrite",
            "--sheets",
            "mean",
            "tones",
        ]
        assert main(["model", "show", "m.safetensors", "--out", "o", *options]) == 0
        assert calls == [("m.safetensors", "o", 64, 5, 7, ("mean", "tones"), True)]

    def test_wrong_ones(self, calls, capsys):
        assert "--size" in error_line(capsys, "model", "show", "--out", "o", "--size", "large")
        assert "--out" in error_line(capsys, "model", "show")
        assert calls == []

    def test_help(self, capsys):
        words = help_words(capsys, "model", "show")
        assert "height of a picture in pixels" in words
        assert all(name in words for name in SHEETS)
