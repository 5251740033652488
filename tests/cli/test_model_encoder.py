"""mofa-nvdr model encoder: options into one call, and one line for a wrong one."""

from __future__ import annotations

import pytest

from mofa_nvdr.cli import main
from tests.helpers.commands import calls_of, error_line, help_words


@pytest.fixture
def calls(monkeypatch):
    return calls_of(monkeypatch, "mofa_nvdr.apply.translated_encoder.save_translated_encoder")


class TestOptions:
    def test_defaults(self, calls):
        assert main(["model", "encoder", "m.safetensors", "--out", "e.safetensors"]) == 0
        assert calls == [("m.safetensors", "e.safetensors", "", "", False)]

    def test_all(self, calls):
        words = ["--checkpoint", "runs/a", "--own-face-model", "f.safetensors", "--overwrite"]
        assert main(["model", "encoder", "m.safetensors", "--out", "e.safetensors", *words]) == 0
        assert calls == [("m.safetensors", "e.safetensors", "runs/a", "f.safetensors", True)]

    def test_wrong_ones(self, calls, capsys):
        assert "--out" in error_line(capsys, "model", "encoder", "m.safetensors")
        assert calls == []

    def test_help(self, capsys):
        assert "which the other commands take as --checkpoint" in help_words(
            capsys, "model", "encoder"
        )
