"""mofa-nvdr synthesize: options, and one line for every mistake."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import pytest

from mofa_nvdr.cli import main
from mofa_nvdr.data.synthetic.synthesis import SynthesisOptions
from tests.helpers.commands import calls_of, error_line, help_words
from tests.helpers.small_face import small_face


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("model") / "cap.safetensors"
    small_face(16).save(path)
    return str(path)


class TestCommand:
    def test_command(self, model: str, tmp_path: Path, capsys):
        args = ["synthesize", "--count", "3", "--size", "32", "--face-model", model]
        assert main([*args, "--out", str(tmp_path / "out"), "--plain"]) == 0
        assert f"3 faces: {tmp_path / 'out'}" in capsys.readouterr().out
        assert iio.imread(tmp_path / "out" / "images" / "0000002.jpg").shape == (32, 32, 3)


class TestMistakes:
    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (["--count", "0"], "synthesize: count is 0, expected at least 1"),
            (["--size", "8"], "synthesize: size is 8, expected at least 16"),
            (["--workers", "0"], "synthesize: workers is 0, expected at least 1"),
            (["--seed", "-1"], "synthesize: seed is -1, expected 0 or more"),
            (["--shards", "-2"], "synthesize: shards is -2, expected 0 or more"),
            (["--lights", "none"], "none: no such folder of .hdr light probes"),
            (["--backgrounds", "none"], "none: no such folder of photographs"),
            (["--face-model", "none.safetensors"], "none.safetensors"),
            (["--out", ""], "--out is empty, expected a folder"),
            (["--out", "file"], "--out file: cannot write there (Not a directory); give another"),
        ],
    )
    def test_one_line(self, tmp_path: Path, monkeypatch, capsys, more, message):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "file").touch()
        assert main(["synthesize", "--count", "2", "--out", "out", *more]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
        assert [path.name for path in tmp_path.iterdir()] == ["file"]


class TestOptions:
    def test_into_one_call(self, monkeypatch):
        calls = calls_of(monkeypatch, "mofa_nvdr.data.synthetic.synthesis.synthesize_files")
        assert main(["synthesize", "--count", "3", "--out", "o"]) == 0
        options = {"seed": 4, "size": 48, "face-model": "m.safetensors", "backgrounds": "b"}
        options |= {"lights": "l", "workers": 2, "shards": 1.5}
        words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        assert main(["synthesize", "--count", "3", "--out", "o", *words, "--plain"]) == 0
        assert calls == [
            (3, "o", SynthesisOptions(), 1, 0.0),
            (3, "o", SynthesisOptions(4, 48, "m.safetensors", "b", "l", True), 2, 1.5),
        ]

    def test_wrong_ones(self, capsys):
        assert "--count" in error_line(capsys, "synthesize", "--out", "o")
        assert "--size" in error_line(
            capsys, "synthesize", "--count", "1", "--out", "o", "--size", "x"
        )

    def test_help_has_units(self, capsys):
        words = help_words(capsys, "synthesize")
        assert "side of the images in pixels" in words and "shards of about this many MB" in words
