"""Which picture files are opened, and what is said of those that are not."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from PIL import Image

from mofa_nvdr.data import picture_formats
from mofa_nvdr.data.picture_formats import (
    format_of,
    readable_formats,
    unidentified,
    why_unreadable,
)

ROOT = Path(__file__).resolve().parents[2]
HEIC = bytes.fromhex("00000018667479706865696300000000") + b"mif1heic"
AVIF = bytes.fromhex("00000018667479706d69663100000000") + b"mif1avif"


@pytest.fixture
def without_heif(monkeypatch):
    """As if pillow-heif were not installed."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    readable_formats.cache_clear()
    yield
    readable_formats.cache_clear()


@pytest.fixture
def with_heif(monkeypatch):
    """As if pillow-heif were installed: a reader of that name, which is never asked to read."""

    class Heif:
        @staticmethod
        def register_heif_opener() -> None:
            monkeypatch.setitem(Image.OPEN, "HEIF", (None, None))

    monkeypatch.setitem(sys.modules, "pillow_heif", Heif)
    readable_formats.cache_clear()
    yield
    readable_formats.cache_clear()


class TestReadableFormats:
    def test_none_that_starts_a_program(self):
        assert {"JPEG", "PNG", "BMP", "TIFF", "GIF"} <= set(readable_formats())
        assert not {"EPS", "WMF", "IPTC", "MSP", "FPX", "PSD"} & set(readable_formats())

    def test_each_is_known_to_pillow(self):
        Image.init()
        assert all(name in Image.OPEN for name in readable_formats())

    def test_heif_needs_its_package(self, without_heif):
        assert "HEIF" not in readable_formats()

    def test_heif_with_its_package(self, with_heif, tmp_path):
        assert "HEIF" in readable_formats()
        (tmp_path / "a.HEIC").write_bytes(HEIC)
        assert why_unreadable(tmp_path / "a.HEIC") is None

    def test_every_call_names_its_formats(self):
        """Image.open without formats= gives a file to any reader of Pillow."""
        calls, bare = 0, []
        for path in sorted((ROOT / "mofa_nvdr").rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            if "Image.open" not in text and "imread" not in text:
                continue
            for node in ast.walk(ast.parse(text)):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                    continue
                owner = node.func.value
                name = f"{owner.id}.{node.func.attr}" if isinstance(owner, ast.Name) else ""
                calls += name == "Image.open"
                if name == "Image.open" and "formats" not in {k.arg for k in node.keywords}:
                    bare.append(f"{path}:{node.lineno}")
                if name in ("iio.imread", "imageio.imread", "cv2.imread"):
                    bare.append(f"{path}:{node.lineno}")
        assert calls >= 2 and not bare


class TestWhyUnreadable:
    def test_what_is_inside_decides(self, tmp_path, without_heif):
        """Some telephones write AVIF under the ending .heic."""
        (tmp_path / "a.heic").write_bytes(HEIC)
        (tmp_path / "b.HEIC").write_bytes(AVIF)
        (tmp_path / "c.avif").write_bytes(HEIC)
        way = "pip install 'mofa-nvdr[heic]'"
        assert why_unreadable(tmp_path / "a.heic") == why_unreadable(tmp_path / "c.avif") == way
        expected = None if "AVIF" in readable_formats() else "needs Pillow 11.3 or newer"
        assert why_unreadable(tmp_path / "b.HEIC") == expected

    def test_usual_ones_are_not_looked_into(self):
        assert why_unreadable("nowhere/a.JPG") is None and why_unreadable("nowhere/b.jfif") is None

    def test_codec_that_pillow_lacks(self, monkeypatch):
        monkeypatch.setattr(picture_formats.features, "get_supported_codecs", lambda: [])
        monkeypatch.setattr(picture_formats.features, "get_supported_modules", lambda: [])
        readable_formats.cache_clear()
        try:
            assert why_unreadable("a.jp2") == "not in this build of Pillow"
            assert why_unreadable("a.avif") == "needs Pillow 11.3 or newer"
            assert why_unreadable("a.jpg") is None
        finally:
            readable_formats.cache_clear()


class TestUnidentified:
    def test_words(self, without_heif):
        assert unidentified(HEIC) == "HEIF (pip install 'mofa-nvdr[heic]')"
        assert unidentified(b"%!PS-Adobe-3.0 EPSF-3.0").startswith("EPS and PDF are not opened")
        assert unidentified(b"words").startswith("no picture, or damaged; read are JPEG, PNG, ")

    def test_brands(self):
        assert (format_of(HEIC), format_of(AVIF), format_of(b"ftyp")) == ("HEIF", "AVIF", "")
        assert format_of(bytes(4) + b"ftypisom" + bytes(20)) == ""
