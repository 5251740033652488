"""The mark of the package's own pictures: read where it was written, and nowhere else."""

from __future__ import annotations

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mofa_nvdr.system.marks import KEY, mark, read_mark


def png(path, key: str, text: str):
    info = PngInfo()
    info.add_text(key, text)
    Image.new("RGB", (16, 16)).save(path, pnginfo=info)
    return path


class TestReadMark:
    def test_png(self, tmp_path):
        assert read_mark(png(tmp_path / "a.png", KEY, mark("relit picture"))) == "relit picture"

    def test_gif_behind_its_palette(self, tmp_path):
        frames = [Image.effect_noise((64, 64), 50).convert("P") for _ in range(2)]
        frames[0].save(
            tmp_path / "a.gif", save_all=True, append_images=frames[1:], comment=mark("turn")
        )
        assert read_mark(tmp_path / "a.gif") == "turn"

    def test_jpeg(self, tmp_path):
        """Behind the head of the file, whatever else a comment says."""
        for text, want in ((mark("overlay"), "overlay"), ("about mofa-nvdr (overlay)", "")):
            comment = f"{text} mofa-nvdr source 0123".encode()
            Image.new("RGB", (16, 16)).save(tmp_path / "a.jpg", comment=comment)
            assert read_mark(tmp_path / "a.jpg") == want

    def test_another_text_of_the_package(self, tmp_path):
        assert read_mark(png(tmp_path / "a.png", "Comment", "mofa-nvdr source 0123")) == "picture"

    @pytest.mark.parametrize(
        ("key", "text"),
        [("Software", "GIMP"), ("Comment", "about mofa-nvdr (panel)"), ("Title", "mofa-nvdrs (x)")],
    )
    def test_texts_of_others(self, tmp_path, key, text):
        assert read_mark(png(tmp_path / "a.png", key, text)) == ""

    def test_no_text_and_no_file(self, tmp_path):
        Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
        (tmp_path / "words.png").write_bytes(b"mofa-nvdr (panel)")
        assert read_mark(tmp_path / "a.png") == read_mark(tmp_path / "words.png") == ""
        assert read_mark(tmp_path / "none.png") == read_mark(tmp_path) == ""


class TestMark:
    @pytest.mark.parametrize("kind", ["", "Panel", "a)b", "x" * 41])
    def test_kinds_that_could_not_be_read_back(self, kind):
        with pytest.raises(ValueError, match="expected 1 to 40 small letters and spaces"):
            mark(kind)
