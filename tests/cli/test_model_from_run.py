"""mofa-nvdr model from-run: options into one call, and one line for a wrong one."""

from __future__ import annotations

import pytest

from mofa_nvdr.cli import main
from tests.helpers.commands import calls_of, error_line, help_words


@pytest.fixture
def calls(monkeypatch):
    return calls_of(monkeypatch, "mofa_nvdr.apply.learned_model.save_learned_model")


class TestOptions:
    def test_defaults(self, calls):
        assert main(["model", "from-run", "runs/a", "--out", "m.safetensors"]) == 0
        assert calls == [("runs/a", "m.safetensors", "", "", "", False)]

    def test_all(self, calls):
        words = ["--face-model", "f.safetensors", "--licence", "CC0", "--name", "us", "--overwrite"]
        assert main(["model", "from-run", "runs/a", "--out", "m.safetensors", *words]) == 0
        assert calls == [("runs/a", "m.safetensors", "f.safetensors", "CC0", "us", True)]

    def test_wrong_ones(self, calls, capsys, tmp_path):
        assert "--out" in error_line(capsys, "model", "from-run", "runs/a")
        assert calls == []

    def test_help(self, capsys):
        words = help_words(capsys, "model", "from-run")
        assert "MODEL_encoder.safetensors" in words and "--config multi_level" in words
