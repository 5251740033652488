"""What of a folder is a photograph: not what the package wrote; all else is counted."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mofa_nvdr.data.listing import Inventory, is_parameter_file, not_a_photograph, result_kind
from mofa_nvdr.data.picture_formats import IMAGE_SUFFIXES, readable_formats
from mofa_nvdr.render.pictures import write_png
from tests.helpers.picture_folders import write_pictures

PIXELS = np.zeros((16, 80, 3), np.uint8)
KEYS = ("shape", "expression", "albedo", "rotation", "translation", "light", "source")


def parameters(path: Path) -> Path:
    np.savez(path, **{key: np.zeros(3) for key in KEYS})
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "in", 2)
    return tmp_path / "in"


class TestResultKind:
    @pytest.mark.parametrize("kind", ["panel", "sheet", "mask", "texture", "relit picture"])
    def test_marked_whatever_the_name(self, folder, kind):
        write_png(folder / "holiday.png", PIXELS, kind=kind)
        assert result_kind(folder / "holiday.png") == kind

    def test_by_the_name_alone_where_an_earlier_version_wrote_it(self, folder):
        """And only next to what it belongs to: a photograph may have any name."""
        names = ["a_panel.png", "a_texture.png", "sheet-00000100.png", "masks/0000000.png"]
        (folder / "masks").mkdir()
        for name in names:
            Image.new("RGB", (80, 16)).save(folder / name)
        assert [result_kind(folder / name) for name in names] == [""] * 4
        parameters(folder / "a.npz")
        for name in ("a.mtl", "log.jsonl", "codes.npz"):
            (folder / name).write_bytes(b"")
        assert [result_kind(folder / n) for n in names] == ["panel", "texture", "sheet", "mask"]

    def test_landmarks_of_that_name(self, folder):
        np.savez(folder / "a.npz", lm68=np.zeros((68, 2)))
        Image.new("RGB", (80, 16)).save(folder / "a_panel.png")
        assert result_kind(folder / "a_panel.png") == result_kind(folder / "a.npz") == ""

    def test_photographs_and_words(self, folder):
        assert not_a_photograph(folder / "face_000.png") == ""
        assert not_a_photograph(folder / "none.png") == ""
        path = parameters(folder / "b.npz")
        expected = f"{path}: a parameter file that mofa-nvdr wrote, not a photograph"
        assert not_a_photograph(path) == expected

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"words" * 100])
    def test_damaged(self, folder, content):
        (folder / "a.npz").write_bytes(content)
        assert not is_parameter_file(folder / "a.npz")


class TestInventory:
    def test_nothing_to_say(self, folder):
        """Hidden files, landmarks next to their pictures and the tables of a data set are no noise."""
        for name in ("face_000.pts", "face_001.csv", "landmarks68.npz", "index.csv", ".DS_Store"):
            (folder / name).write_bytes(b"")
        (folder / ".cache").mkdir()
        (folder / ".cache" / "x.png").write_bytes(b"")
        inventory = Inventory()
        assert [p.name for p in inventory.photographs(folder)] == ["face_000.png", "face_001.png"]
        assert str(inventory) == ""

    def test_every_ending_in_any_case(self, folder, monkeypatch):
        monkeypatch.setattr("mofa_nvdr.data.listing.why_unreadable", lambda path: None)
        for k, suffix in enumerate(IMAGE_SUFFIXES):
            (folder / f"{k}{suffix.upper() if k % 2 else suffix}").write_bytes(b"")
        inventory = Inventory()
        assert len(inventory.photographs(folder)) == 2 + len(IMAGE_SUFFIXES)
        assert str(inventory) == ""

    def test_counts(self, folder, monkeypatch):
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        readable_formats.cache_clear()
        head = bytes.fromhex("00000018667479706865696300000000")
        for name in ("1.heic", "2.HEIC", "3.heif", "a.txt", "face_000.txt", "c.mov", "LICENCE"):
            (folder / name).write_bytes(head)
        (folder / "below").mkdir()
        for name in ("a", "b"):
            parameters(folder / "below" / f"{name}.npz")
            write_png(folder / "below" / f"{name}_panel.png", PIXELS, kind="panel")
        write_png(folder / "relit.png", PIXELS, kind="relit picture")
        for k in range(2):
            write_png(folder / f"{k}.png", PIXELS, kind="occluders")
        inventory = Inventory()
        try:
            found = inventory.photographs(folder)
        finally:
            readable_formats.cache_clear()
        assert [path.name for path in found] == ["face_000.png", "face_001.png"]
        assert str(inventory) == (
            "13 files not read: 2 .heic, 1 .heif (pip install 'mofa-nvdr[heic]'), 1 .mov, 1 .txt, 1 other, "
            "what mofa-nvdr wrote: 2 occluders, 2 panels, 2 parameter files, 1 relit picture"
        )

    def test_landmarks_that_are_read_are_not_counted(self, folder):
        """Whatever the case of their names, and in the folders where landmarks may lie."""
        (folder / "Photo.png").write_bytes((folder / "face_000.png").read_bytes())
        (folder / "detections").mkdir()
        for name in ("face_000.txt", "pHOTO.csv", "detections/face_001.txt", "detections/old.txt"):
            (folder / name).write_text("1 2\n")
        inventory = Inventory()
        inventory.photographs(folder)
        assert str(inventory) == ""
        for name in ("of_none.txt", "detections/notes.docx"):
            (folder / name).write_bytes(b"")
        inventory.photographs(folder)
        assert str(inventory) == "2 files not read: 1 .docx, 1 .txt"

    def test_many_endings(self, folder):
        for k in range(9):
            (folder / f"x.a{k}").write_bytes(b"")
        inventory = Inventory()
        inventory.photographs(folder)
        words = "9 files not read: 1 .a0, 1 .a1, 1 .a2, 1 .a3, 1 .a4, 4 others"
        assert str(inventory) == words

    def test_names_of_any_characters(self, folder):
        """A line stays a line, and can be printed."""
        for name in ("a.\x1b[31m", "b.x\ny", "c.\u202etxt", "d.", "e.caf\udce9"):
            try:
                (folder / name).write_bytes(b"")
            except OSError:
                pytest.skip("file names are Unicode here")
        inventory = Inventory()
        inventory.photographs(folder)
        assert str(inventory) == "5 files not read: 5 others"

    def test_folders_that_are_left_out(self, folder):
        write_pictures(folder / "own", 3)
        found = Inventory().photographs(folder, lambda place: place == folder / "own")
        assert len(found) == 2

    def test_with_a_table_all_pictures_count(self, folder):
        write_png(folder / "marked.png", PIXELS)
        assert len(Inventory().photographs(folder, listed=True)) == 3
