"""mofa-nvdr model import: options into one call, and one line for a wrong one."""

from pathlib import Path

import pytest

from mofa_nvdr.cli import main
from mofa_nvdr.importers.foreign import ImportOptions
from mofa_nvdr.importers.formats import ALIASES, FORMATS
from tests.helpers.commands import calls_of, error_line, help_words


class TestOptions:
    @pytest.fixture
    def placed(self, monkeypatch):
        return calls_of(monkeypatch, "mofa_nvdr.apply.landmark_places.place_in_file")

    @pytest.fixture
    def calls(self, monkeypatch, placed):
        return calls_of(monkeypatch, "mofa_nvdr.importers.formats.import_file")

    def test_defaults(self, calls):
        """Those of ImportOptions: the command has none of its own."""
        assert main(["model", "import", "gnm", "head.npz", "--out", "m.safetensors"]) == 0
        assert calls == [("gnm", "head.npz", "m.safetensors", ImportOptions(), False)]

    def test_dense_landmarks_are_placed_afterwards(self, calls, placed):
        assert main(["model", "import", "gnm", "head.npz", "--out", "m.safetensors"]) == 0
        assert placed == [("m.safetensors",)]

    def test_all(self, calls):
        numbers = {"shape-modes": 3, "expression-modes": 4, "albedo-modes": 5, "vertices": 900}
        files = {"albedo": "a.h5", "expressions": "e.bin", "landmarks": "l.json"}
        options = {**numbers, **files, "name": "mine", "albedo-of": "portraits"}
        words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        assert (
            main(
                ["model", "import", "eos", "s.bin", "--out", "m.safetensors", "--overwrite", *words]
            )
            == 0
        )
        paths = Path("a.h5"), Path("e.bin"), Path("l.json")
        want = ImportOptions(3, 4, 5, 900, *paths, "mine", "portraits")
        assert calls == [("eos", "s.bin", "m.safetensors", want, True)]

    def test_wrong_ones(self, calls, capsys):
        line = error_line(capsys, "model", "import", "bmf", "a.mat", "--out", "m.safetensors")
        assert "'bmf'" in line and "bfm2009" in line
        assert "--out" in error_line(capsys, "model", "import", "gnm", "a.npz")
        assert calls == []

    def test_help_has_units(self, capsys):
        words = help_words(capsys, "model", "import")
        assert "in millimetres and our axes" in words and "vertices from 0" in words

    def test_help_names_every_format(self, capsys):
        with pytest.raises(SystemExit):
            main(["model", "import", "--help"])
        words = capsys.readouterr().out.replace("\n", "").replace("│", "").replace(" ", "")
        assert ",".join(("ict", "bfm2009")) in words
        assert all(name in words for name in (*FORMATS, *ALIASES))
