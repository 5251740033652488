"""mofa-nvdr evaluate: what is printed and kept, and one line for every mistake."""

from __future__ import annotations

import json

import pytest

from mofa_nvdr.cli import main
from tests.helpers.commands import error_line, help_words


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


def test_help(capsys):
    assert "next to its numbers" in help_words(capsys, "evaluate")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--count", "0"], "evaluate: --count is 0, expected at least 1"),
        (["--on", "none"], "none: no such folder of photographs"),
        (["none"], "mofa-nvdr: evaluate none: no such run folder or checkpoint file"),
        (["--on", "none", "--plain"], "evaluate: --plain is of rendered people, not of --on none"),
        (["none", "none"], "evaluate: none is given twice"),
        (["--out", "table.txt"], "--out table.txt: expected a name that ends in .json"),
    ],
)
def test_mistakes(args, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert message in error_line(capsys, "evaluate", *args)
