"""mofa-nvdr view: options to one call; what is said where viser is missing."""

import sys
import types

from mofa_nvdr.cli import main, view
from tests.helpers.commands import error_line, help_words


def test_without_viser(capsys, monkeypatch):
    monkeypatch.setattr(view, "find_spec", lambda name: None)
    text = error_line(capsys, "view", "face.npz")
    assert text == "mofa-nvdr: view needs viser: pip install 'mofa-nvdr[view]'"


def test_options(monkeypatch):
    calls = []
    module = types.ModuleType("mofa_nvdr.apply.view_server")
    module.serve = lambda *args: calls.append(args)
    monkeypatch.setitem(sys.modules, "mofa_nvdr.apply.view_server", module)
    monkeypatch.setattr(view, "find_spec", lambda name: True)
    words = "face.npz --photo a.jpg --port 9000 --host ::1 --size 320 --face-model m.safetensors"
    assert main(["view", *words.split()]) == 0
    assert calls == [("face.npz", "a.jpg", "::1", 9000, 320, "m.safetensors")]
    assert main(["view", "face.npz"]) == 0
    assert calls[1] == ("face.npz", "", "127.0.0.1", 0, 240, "")


def test_help(capsys):
    words = help_words(capsys, "view")
    for text in (
        "8080, or the next that is free",
        "in pixels",
        "this machine alone",
        "CLIP.npz#120",
    ):
        assert text in words
