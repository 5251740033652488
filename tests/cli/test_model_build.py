"""mofa-nvdr model build: one option into one call. Its work: face/rebuild.py."""

from mofa_nvdr.cli import main
from tests.helpers.commands import calls_of, error_line, help_words


class TestOptions:
    def test_out(self, monkeypatch, capsys):
        calls = calls_of(monkeypatch, "mofa_nvdr.face.rebuild.build_model")
        assert main(["model", "build", "--out", "face.npz"]) == 0
        assert calls == [("face.npz",)]
        assert "--out" in error_line(capsys, "model", "build")
        assert "--in" in error_line(capsys, "model", "build", "--out", "a.npz", "--in", "b")
        assert len(calls) == 1

    def test_help(self, capsys):
        words = help_words(capsys, "model", "build")
        assert "about half a minute and needs scipy" in words
        assert ".safetensors for --face-model, or .npz" in words
