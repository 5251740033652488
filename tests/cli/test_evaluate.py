"""mofa-nvdr evaluate: what is printed and kept, and one line for every mistake."""

from __future__ import annotations

import json

import pytest

from mofa_nvdr.apply.learned_pictures import LearnedOptions
from mofa_nvdr.cli import main
from tests.helpers.commands import error_line, help_words
from tests.helpers.photos_to_reconstruct import write_photos


def test_synthetic(smoke_run, tmp_path, capsys):
    run, cap = smoke_run
    out = tmp_path / "table.json"
    args = ["evaluate", str(run), "--count", "3", "--face-model", cap, "--out", str(out)]
    assert main(args) == 0
    assert "| paper, AlexNet | 4.50 |" in capsys.readouterr().out
    kept = json.loads(out.read_text())
    assert kept["rows"]["this encoder"]["geometry"] > 0
    assert kept["encoders"]["this encoder"]["face_model"] == "cap"
    assert "3 people" in kept["protocol"][0]
    assert "is there already" in error_line(capsys, *args)


def test_two_runs_behind_boxes(smoke_run, monkeypatch, capsys):
    monkeypatch.setattr("mofa_nvdr.apply.occluded_error.SHARES", (0.0, 0.5))
    run, cap = smoke_run
    best = f"{run}/best.safetensors"
    args = ["evaluate", str(run), best, "--count", "1", "--face-model", cap, "--plain", "--covered"]
    assert main(args) == 0
    shown = capsys.readouterr().out
    for row in (f"| {run}, 0% |", f"| {best}, fit, occluders told, 50% |"):
        assert row in shown


def test_learned(tmp_path, capsys):
    folder = write_photos(tmp_path / "faces")
    (folder / "index.csv").write_text("file,split\na.png,train\nb.JPG,val\nmore/c.png,val\n")
    out, sheet = tmp_path / "tables.json", tmp_path / "sheet.png"
    few = ["--learned", "--learned-steps", "1", "--learned-size", "32", "--count", "2"]
    args = ["evaluate", *few, "--on", str(folder), "--device", "cpu"]
    assert main([*args, "--out", str(out), "--sheet", str(sheet)]) == 0
    shown = capsys.readouterr()
    assert "| convolutional autoencoder |" in shown.out and "| learned decoder |" in shown.out
    assert "note: learned decoder: 1 steps on 8 renders of portraits" in shown.err
    first, second = json.loads(out.read_text())["tables"]
    assert first["rows"]["convolutional autoencoder"]["sharpness"] > 0
    assert second["rows"]["analytic decoder"]["face"] is None and sheet.stat().st_size > 1000
    assert "is there already" in error_line(capsys, *args, "--sheet", str(sheet))


def test_help(capsys):
    words = help_words(capsys, "evaluate")
    assert "next to its numbers" in words
    options = LearnedOptions()
    for what in (f"of 8 pictures; not given: {options.steps}", f"512; not given: {options.size}"):
        assert what in words


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--count", "0"], "evaluate: --count is 0, expected at least 1"),
        (["--on", "none"], "none: no such folder of photographs"),
        (["none"], "mofa-nvdr: evaluate none: no such run folder or checkpoint file"),
        (["--on", "none", "--plain"], "evaluate: --plain is of rendered people, not of --on none"),
        (["none", "none"], "evaluate: none is given twice"),
        (["--on", "none", "--learned"], "none: no such folder of photographs"),
        (
            ["--learned", "--learned-size", "60"],
            "--learned-size is 60 px, expected a multiple of 16",
        ),
        (["--learned", "--learned-steps", "0"], "--learned-steps is 0, expected at least 1"),
        (["--learned", "--plain"], "--learned and --plain are two measurements; give one of them"),
        (["--learned", "--covered"], "--learned and --covered are two measurements"),
        (["--learned-seed", "1"], "evaluate: --learned-seed is of --learned; give that too"),
        (["--sheet", "sheet.png"], "evaluate: --sheet is of --learned; give that too"),
        (["--learned", "--sheet", "s.jpg"], "--sheet s.jpg: expected a name that ends in .png"),
        (["--out", "no/t.json"], "--out no/t.json: cannot write there (there is no folder no)"),
        (["--out", "table.txt"], "--out table.txt: expected a name that ends in .json"),
    ],
)
def test_mistakes(args, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert message in error_line(capsys, "evaluate", *args)
