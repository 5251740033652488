"""mofa-nvdr model info: a table, JSON, and one line for a model that cannot be read."""

import json

import pytest

from mofa_nvdr.cli import main
from mofa_nvdr.face.info import describe
from mofa_nvdr.face.model import FaceModel
from tests.helpers.commands import error_line, help_words
from tests.helpers.small_face import textured_face


@pytest.fixture
def model_file(tmp_path):
    path = tmp_path / "cap.safetensors"
    textured_face().save(path)
    return path


class TestInfo:
    def test_table_fits_a_terminal(self, model_file, capsys):
        assert main(["model", "info", str(model_file)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 100
        assert any(line.startswith("licence") and "own work" in line for line in lines)
        assert any("144 vertices" in line and "242 triangles" in line for line in lines)

    def test_json(self, model_file, capsys):
        assert main(["model", "info", str(model_file), "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert facts == json.loads(json.dumps(describe(textured_face())))

    def test_mistakes(self, capsys, tmp_path):
        assert "'bfm': no such file" in error_line(capsys, "model", "info", "bfm")
        (tmp_path / "a.safetensors").write_text("no")
        assert "not a readable" in error_line(
            capsys, "model", "info", str(tmp_path / "a.safetensors")
        )


class TestOptions:
    def test_the_built_in_face_is_the_default(self, monkeypatch, capsys):
        monkeypatch.setattr(FaceModel, "load", lambda name: name)
        monkeypatch.setattr("mofa_nvdr.face.info.describe", lambda model: {"asked": model})
        for words in ([], ["m.safetensors"]):
            assert main(["model", "info", *words, "--json"]) == 0
        lines = capsys.readouterr().out
        assert lines.index('"default"') < lines.index('"m.safetensors"')

    def test_wrong_one(self, capsys):
        assert "--yaml" in error_line(capsys, "model", "info", "--yaml")

    def test_help(self, capsys):
        words = help_words(capsys, "model", "info")
        assert "'portraits', 'procedural' (which 'default' is too) or a .safetensors file" in words
