"""mofa-nvdr transfer: options to one call, and one line for a mistake."""

from pathlib import Path

from mofa_nvdr.apply.transfer_files import TransferOptions
from mofa_nvdr.cli import main
from tests.helpers.commands import calls_of, error_line, help_words

TRANSFER = "mofa_nvdr.apply.transfer_files.transfer"


def test_options(monkeypatch):
    calls = calls_of(monkeypatch, TRANSFER)
    words = "--to b.npz --expression a.jpg --out x.gif --turntable --frames 12 --strength 0.5"
    more = "--photo b.jpg --image-size 64 --face-model m.safetensors --overwrite"
    assert main(["transfer", *words.split(), *more.split()]) == 0
    options = TransferOptions(
        False, 0.5, True, 12, "b.jpg", False, 64, "m.safetensors", overwrite=True
    )
    assert calls == [("a.jpg", "b.npz", "x.gif", options)]


def test_defaults(monkeypatch):
    calls = calls_of(monkeypatch, TRANSFER)
    words = ["transfer", "--neutral", "--to", "b.npz", "--out", "x.png", "--parameters-only"]
    assert main(words) == 0
    assert calls == [("", "b.npz", "x.png", TransferOptions(neutral=True, parameters_only=True))]


def test_help_has_units_and_defaults(capsys):
    words = help_words(capsys, "transfer")
    for text in ("0 to 1.5", "jawOpen=0.4", "CLIP.npz#120", "height in pixels", "(default: 60)"):
        assert text in words


def test_mistakes_are_one_line(capsys, tmp_path):
    out = str(tmp_path / "x.png")
    text = error_line(capsys, "transfer", "--to", "no.npz", "--neutral", "--out", out)
    assert "no.npz: no such file" in text
    text = error_line(capsys, "transfer", "--to", "no.jpg", "--out", out)
    assert "no expression; give --expression A" in text
    assert not Path(out).exists()
