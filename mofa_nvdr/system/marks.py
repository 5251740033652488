"""The mark in pictures that the package writes, by which it recognises them among photographs.

A PNG has it as its text `Software`, a GIF and a JPEG as their comment: `mofa-nvdr (KIND)`. Programs that show
pictures ignore it, copies keep it, and a picture that another program saves again has lost it.
"""

from __future__ import annotations

import os
import re

KEY = "Software"  # of PNG's registered words: the program that made the picture
MARKED = (".png", ".gif", ".jpg")  # the endings of pictures that can have one
_HEAD = 4096  # bytes; all are before the pixels, behind a palette at most
# Any other text of the package's, whose words begin with its name, is a mark too.
_PATTERN = re.compile(
    rb"(?:tEXt[ -~]{1,79}\0|\x21\xfe.|\xff\xfe..)mofa-nvdr (?:\(([a-z ]{1,40})\))?", re.DOTALL
)


def mark(kind: str) -> str:
    """The text that marks a picture of a kind, for example "panel".

    Raises:
        ValueError: the kind is not 1 to 40 small letters and spaces.
    """
    if not re.fullmatch("[a-z ]{1,40}", kind):
        raise ValueError(f"mark: kind is {kind!r}, expected 1 to 40 small letters and spaces")
    return f"mofa-nvdr ({kind})"


def read_mark(path: str | os.PathLike[str]) -> str:
    """The kind of a picture that the package wrote; empty: it has no mark, or cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(_HEAD)
    except OSError:
        return ""
    found = _PATTERN.search(head) if b"mofa-nvdr" in head else None  # hardly any has it
    return (found[1] or b"picture").decode() if found else ""
