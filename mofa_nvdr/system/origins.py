"""What a result was made from, so that none replaces what was made from something else.

An origin is a few words of ASCII that any format can hold: as PNG or GIF text, a comment of an .obj, .mtl or
.ply, a note in a .glb, a fact in .safetensors, ONNX or JSON. It is looked for in the bytes of a file,
whatever the format.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

KEY = "origin"  # what it is called where facts have names
_ORIGIN = re.compile(rb"mofa-nvdr source ([0-9a-f]{32})")
_LENGTH = len("mofa-nvdr source ") + 32
_BLOCK = 1 << 20


def origin(*facts: bytes | str) -> str:
    """What results made of these carry; other facts, or the same in another order, give another origin."""
    digest = hashlib.sha256()
    for fact in facts:
        digest.update(fact if isinstance(fact, bytes) else f"{fact}\n".encode())
    return f"mofa-nvdr source {digest.hexdigest()[:32]}"


def content_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def is_free(path: Path, origin: str) -> bool:
    """Whether `path` may be written: nothing is there, an empty file, or a result with this origin.

    Of a folder it says yes: nothing can replace one, and writing says so.

    Raises:
        OSError: what is there cannot be read.
    """
    if not os.path.lexists(path) or path.is_dir():
        return True
    if not path.is_file():
        return False
    if not path.stat().st_size:  # of mktemp
        return True
    with open(path, "rb") as file:
        before = b""
        while block := file.read(_BLOCK):
            if found := _ORIGIN.search(before + block):
                return found[0].decode() == origin
            before = block[-_LENGTH:]
    return False


def check_free(
    out: str | Path, paths: Iterable[Path], origin: str, overwrite: bool, flag: str = "--out"
) -> None:
    """Refuse to replace what is not an earlier result of the same source.

    Args:
        out: what the user gave for `flag`.
        paths: the files to be written.
        origin: of `origin`.
        overwrite: the user's `--overwrite`, which allows it.
        flag: the option that names them.

    Raises:
        ValueError: one of the files is there, and was made from something else; the message names it.
    """
    for path in [] if overwrite else paths:
        try:
            free = is_free(path, origin)
        except OSError as error:
            raise ValueError(f"{flag} {out}: cannot read {path} ({error.strerror})") from None
        if not free:
            raise ValueError(
                f"{flag} {out}: {path} is there, and is no result of the same source; give another {flag}, "
                "or --overwrite"
            )
