"""mofa-nvdr export-encoder: options into one call, and one line for a wrong one.

The command's work and its mistakes: tests/apply/test_onnx_export.py, where an encoder is exported.
"""

import pytest

from mofa_nvdr.cli import main
from tests.helpers.commands import calls_of, error_line, help_words


class TestOptions:
    @pytest.fixture
    def calls(self, monkeypatch):
        return calls_of(monkeypatch, "mofa_nvdr.apply.onnx_export.export_encoder")

    def test_defaults(self, calls):
        assert main(["export-encoder", "runs/a"]) == 0
        assert calls == [("runs/a", "", "", (), False)]

    def test_all(self, calls):
        options = [
            "--out",
            "e.onnx",
            "--face-model",
            "m.safetensors",
            "--photographs",
            "a",
            "b.png",
            "--overwrite",
        ]
        assert main(["export-encoder", "runs/a", *options]) == 0
        assert calls == [("runs/a", "e.onnx", "m.safetensors", ("a", "b.png"), True)]

    def test_wrong_ones(self, calls, capsys):
        assert "--photos" in error_line(capsys, "export-encoder", "runs/a", "--photos", "a")
        assert calls == []

    def test_help(self, capsys):
        words = help_words(capsys, "export-encoder")
        assert "empty: encoder.onnx next to the checkpoint" in words
