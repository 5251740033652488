"""mofa-nvdr fit: options into one call, exit statuses, and one line for a wrong one."""

import pytest

from mofa_nvdr.apply import fit_files as module
from mofa_nvdr.apply.fit_files import FitFileOptions
from mofa_nvdr.apply.fitting import FitOptions, Stage
from mofa_nvdr.apply.result_files import Written
from mofa_nvdr.cli import NOTHING_DONE, SOME_LEFT_OUT, main
from mofa_nvdr.runs import shipped
from tests.helpers.commands import calls_of, error_line, help_words
from tests.helpers.fake_landmarks import (
    MISSING,
    face_and_wall,
    take_networks_away,
)
from tests.helpers.small_crops import use_small_crops


class TestOptions:
    @pytest.fixture
    def calls(self, monkeypatch):
        return calls_of(monkeypatch, "mofa_nvdr.apply.fit_files.fit_files", Written())

    def test_defaults(self, calls):
        """Those of FitFileOptions: the command has none of its own."""
        assert main(["fit", "a.jpg", "b", "--out", "o"]) == 0
        assert calls == [(["a.jpg", "b"], "o", FitFileOptions())]

    def test_all(self, calls):
        words = ["--checkpoint", "run", "--face-model", "m.safetensors", "--render-mode", "vertex"]
        words += ["--same-person", "--same-light", "--batch", "3", "--max-megapixels", "9"]
        assert main(["fit", "a.jpg", "--out", "o", *words, "--overwrite"]) == 0
        want = FitFileOptions("run", "m.safetensors", "vertex", True, True, 3, 9.0, True)
        assert calls == [(["a.jpg"], "o", want)]

    def test_wrong_ones(self, calls, capsys):
        assert "--out" in error_line(capsys, "fit", "a.jpg")
        assert "--batch" in error_line(capsys, "fit", "a.jpg", "--out", "o", "--batch", "many")
        assert calls == []

    def test_help(self, capsys):
        words = help_words(capsys, "fit")
        assert "NAME_occluders.png is white where something was taken to be in front" in words
        assert "Exit status: 0 all done, 2 a mistake, 3 nothing fitted, 4 some" in words


class TestExitStatus:
    @pytest.fixture
    def face(self, monkeypatch, tmp_path):
        """A photograph of a small face, its model, and a wall."""
        use_small_crops(monkeypatch, 64)
        stages = (Stage(("rotation", "translation"), 3, landmarks=0.5),)
        monkeypatch.setattr(
            module, "FitOptions", lambda render_mode: FitOptions(64, render_mode, 100, stages)
        )
        return face_and_wall(monkeypatch, tmp_path)

    def _run(self, folder, *names: str) -> int:
        inputs = [str(folder / name) for name in names]
        options = ["--out", str(folder / "out"), "--face-model", str(folder / "m.safetensors")]
        return main(["fit", *inputs, *options])

    def test_all_done(self, face, capsys):
        assert self._run(face, "face.png") == 0
        assert "1 fitted, 0 skipped" in capsys.readouterr().out

    def test_nothing_done(self, face, capsys):
        assert self._run(face, "wall.png") == NOTHING_DONE == 3
        assert capsys.readouterr().err.startswith("mofa-nvdr: fit: nothing fitted: ")

    def test_some_left_out(self, face, capsys):
        assert self._run(face, "face.png", "wall.png") == SOME_LEFT_OUT == 4
        assert f"skipped: {face / 'wall.png'}: no face found\n" in capsys.readouterr().err

    def test_results_can_be_used(self, face, capsys):
        """By relight and export, as those of reconstruct."""
        self._run(face, "face.png")
        result = str(face / "out" / "face.npz")
        assert main(["relight", result, "--light", "key_left", "--out", str(face / "lit.png")]) == 0
        words = ["--color", "vertex", "--out", str(face / "face.obj")]
        assert main(["export", result, *words]) == 0
        assert (face / "lit.png").is_file() and (face / "face.obj").is_file()

    def test_without_networks_and_checkpoint(self, face, monkeypatch, capsys):
        take_networks_away(monkeypatch)
        monkeypatch.setattr(shipped, "SHIPPED_FILE", "nothing.safetensors")
        line = error_line(capsys, "fit", str(face / "face.png"), "--out", str(face / "out"))
        assert MISSING in line and "or give --checkpoint RUN" in line
