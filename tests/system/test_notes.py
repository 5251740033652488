"""What the package has to say, as lines on stderr."""

from __future__ import annotations

import logging
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from PIL import Image

from mofa_nvdr.data import Photographs, val_batches
from mofa_nvdr.system.notes import one_line, plain_warnings, say, show_notes


class TestPlainWarnings:
    @pytest.mark.parametrize(("rank", "process"), [("", ""), ("0", ""), ("2", "process 2: ")])
    def test_own_ones_are_a_line(
        self, tmp_path: Path, capsys, monkeypatch, rank: str, process: str
    ):
        if rank:
            monkeypatch.setenv("RANK", rank)
        (tmp_path / "a.jpg").write_bytes(b"no picture")
        with plain_warnings():
            warnings.simplefilter("default")  # in tests warnings are errors
            list(val_batches(Photographs(tmp_path), 1))
        said = (
            f"warning: {process}skipped picture 1: {tmp_path / 'a.jpg'}: cannot read this picture: "
        )
        printed = capsys.readouterr().err
        assert printed.startswith(said) and printed.count("\n") == 1

    def test_those_of_others_stay(self, capsys):
        with pytest.warns(UserWarning, match="of another"), plain_warnings():
            warnings.warn("of another", stacklevel=1)
        assert capsys.readouterr().err == ""

    def test_pillow_s_are_left_out(self, capsys, tmp_path):
        """Of a tag with more entries than it may have, in a picture that can be read all the same."""
        Image.new("RGB", (8, 8)).save(tmp_path / "a.tif")
        data = bytearray((tmp_path / "a.tif").read_bytes())
        at = data.find(struct.pack("<HH", 278, 4))  # rows per strip
        data[at + 4 : at + 8] = struct.pack("<I", 2)
        (tmp_path / "a.tif").write_bytes(data)
        with pytest.warns(UserWarning, match="Metadata Warning, tag 278 had too many entries"):
            Image.open(tmp_path / "a.tif").load()
        with plain_warnings():
            warnings.simplefilter("always")
            Image.open(tmp_path / "a.tif").load()
        assert capsys.readouterr().err == ""

    def test_put_back(self):
        before = warnings.showwarning
        with pytest.raises(ValueError), plain_warnings():
            assert warnings.showwarning is not before
            raise ValueError
        assert warnings.showwarning is before


class TestShowNotes:
    def test_once_each(self, capsys):
        show_notes()
        show_notes()
        logging.getLogger("mofa_nvdr.networks.encoder").info("left out %d", 3)
        logging.getLogger("mofa_nvdr.networks.encoder").warning("doubtful")
        assert capsys.readouterr().err == "note: left out 3\nwarning: doubtful\n"

    def test_pillow_says_nothing_of_its_own(self, tmp_path):
        """A TIFF of 2,048 samples a pixel, which Pillow logs before it refuses it; in a fresh process, in
        which nobody else has given logging a handler.
        """
        entry = struct.Struct("<HHII")
        tags = [(256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 2),
                (273, 4, 1, 8), (277, 3, 1, 2048), (279, 4, 1, 64)]  # fmt: skip
        table = struct.pack("<H", len(tags)) + b"".join(entry.pack(*tag) for tag in tags)
        path = tmp_path / "a.tif"
        path.write_bytes(b"II*\0" + struct.pack("<I", 8) + table + bytes(4 + 64))
        program = "import sys; from PIL import Image; from mofa_nvdr.system import notes; {}; "
        program += "Image.open(sys.argv[1])"
        for call, said in (("pass", True), ("notes.show_notes()", False)):
            command = [sys.executable, "-c", program.format(call), str(path)]
            done = subprocess.run(command, capture_output=True, text=True)
            assert "UnidentifiedImageError" in done.stderr
            assert ("More samples per pixel" in done.stderr) == said


class TestSay:
    def test_control_characters(self, capsys):
        say("  skipped: a\x1b[2J\nb.jpg")
        say("\x07", sys.stderr)
        said = capsys.readouterr()
        assert said.out == "  skipped: a\\x1b[2J\\nb.jpg\n" and said.err == "\\x07\n"

    def test_above_a_bar(self, capsys, monkeypatch):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
        say("a\x1bb")
        assert capsys.readouterr().out == "a\\x1bb\n"


class TestOneLine:
    def test_breaks_and_control_characters(self):
        assert one_line("a\n  b\tc\x1b[31m\ud800") == r"a b c\x1b[31m\ud800"
