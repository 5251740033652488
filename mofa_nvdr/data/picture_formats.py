"""Which picture files are opened: one list of endings and of Pillow's readers for all commands.

Pillow has more readers, of which one starts another program (EPS) and others are hardly ever fuzzed: a file
goes to the named ones alone, whatever its ending says.
"""

from __future__ import annotations

import functools
import importlib
import os

from PIL import Image, features

# Ending -> Pillow's name of the format that is expected in it; what is inside decides.
_ENDINGS = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".mpo": "JPEG",
    ".png": "PNG", ".bmp": "BMP", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF", ".gif": "GIF",
    ".jp2": "JPEG2000", ".j2k": "JPEG2000", ".jpx": "JPEG2000", ".jpf": "JPEG2000",
    ".ppm": "PPM", ".pgm": "PPM",
    ".avif": "AVIF", ".heic": "HEIF", ".heif": "HEIF", ".hif": "HEIF",
}  # fmt: skip
IMAGE_SUFFIXES = tuple(_ENDINGS)
"""Endings of the files that are taken for pictures in folders and shards, small letters."""
_CODECS = {"WEBP": "webp", "JPEG2000": "jpg_2000", "AVIF": "avif"}  # what Pillow may lack
_HEIF = "pip install 'mofa-nvdr[heic]'"
_WAYS = {"HEIF": _HEIF, "AVIF": "needs Pillow 11.3 or newer"}
HEAD = 64  # bytes of a file by which its format is known
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")


@functools.cache
def readable_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that can be read on this machine, of those that are named here."""
    formats = []
    for name in dict.fromkeys(_ENDINGS.values()):
        if name == "HEIF":
            try:
                importlib.import_module("pillow_heif").register_heif_opener()
            except (ImportError, AttributeError):
                continue
        elif name in _CODECS:
            # Pillow before 11.3 does not know AVIF's name.
            if (
                _CODECS[name]
                not in features.get_supported_codecs() + features.get_supported_modules()
            ):
                continue
        formats.append(name)
    Image.init()
    return tuple(name for name in formats if name in Image.OPEN)


def why_unreadable(path: str | os.PathLike[str]) -> str | None:
    """What a picture file would need to be read here, by its ending and its first bytes.

    Returns:
        None: nothing, its format is one that can be read. Else the way out, empty if none is known.
    """
    name = _ENDINGS[os.path.splitext(os.fspath(path))[1].lower()]
    if name in ("HEIF", "AVIF"):  # each is found under the other's ending
        name = sniffed(path) or name
    return None if name in readable_formats() else _WAYS.get(name, "not in this build of Pillow")


def sniffed(path: str | os.PathLike[str]) -> str:
    """HEIF or AVIF by the first bytes of a file; empty: neither, or it cannot be read."""
    try:
        with open(path, "rb") as file:
            return format_of(file.read(HEAD))
    except OSError:
        return ""


def format_of(head: bytes) -> str:
    """HEIF or AVIF by the first bytes of a file, an ISO media file's brands; empty: neither."""
    if head[4:8] != b"ftyp":
        return ""
    # A neutral brand (mif1) comes first in some AVIF files too; the others follow it.
    if any(brand in head[8:] for brand in (b"avif", b"avis")):
        return "AVIF"
    return "HEIF" if head[8:12] in _HEIF_BRANDS else ""


def unidentified(head: bytes) -> str:
    """Why Pillow knows no file with these first bytes, in words."""
    name = format_of(head)
    if name and name not in readable_formats():
        return f"{name} ({_WAYS[name]})"
    if head[:4] in (b"%!PS", b"%PDF", b"\xc5\xd0\xd3\xc6"):
        return "EPS and PDF are not opened; save it as JPEG or PNG"
    return f"no picture, or damaged; read are {', '.join(readable_formats())}"
