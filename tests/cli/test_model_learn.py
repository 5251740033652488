"""mofa-nvdr model learn: options into one call, and one line for a wrong one."""

from __future__ import annotations

import pytest

from mofa_nvdr.apply.learn_files import LearnFileOptions
from mofa_nvdr.cli import main
from tests.helpers.commands import calls_of, error_line, help_words


@pytest.fixture
def calls(monkeypatch):
    return calls_of(monkeypatch, "mofa_nvdr.apply.learn_files.learn_model")


class TestOptions:
    def test_defaults(self, calls):
        """Those of LearnFileOptions: the command has none of its own."""
        assert main(["model", "learn", "a.jpg", "b", "--out", "o.safetensors"]) == 0
        assert calls == [(["a.jpg", "b"], "o.safetensors", LearnFileOptions())]

    def test_all(self, calls):
        words = ["--face-model", "m.safetensors", "--people", "p.csv", "--rounds", "3"]
        words += ["--albedo-modes", "40", "--licence", "CC0", "--name", "us", "--smallest", "90"]
        words += ["--max-megapixels", "9", "--overwrite"]
        assert main(["model", "learn", "a.jpg", "--out", "o.safetensors", *words]) == 0
        want = LearnFileOptions("m.safetensors", "p.csv", 3, 40, "CC0", "us", 90, 9.0, True)
        assert calls == [(["a.jpg"], "o.safetensors", want)]

    def test_wrong_ones(self, calls, capsys):
        assert "--out" in error_line(capsys, "model", "learn", "a.jpg")
        line = error_line(capsys, "model", "learn", "a.jpg", "--out", "o", "--rounds", "many")
        assert "--rounds" in line
        assert calls == []

    def test_help(self, capsys):
        words = help_words(capsys, "model", "learn")
        assert "keeps what is done in OUT.learning: stopped, the same command goes on" in words
        assert "mofa-nvdr networks get landmarks" in words

    def test_a_mistake_is_one_line(self, capsys, tmp_path):
        line = error_line(capsys, "model", "learn", "a.jpg", "--out", str(tmp_path / "m.npz"))
        assert f"--out {tmp_path / 'm.npz'}: expected a .safetensors file" in line
