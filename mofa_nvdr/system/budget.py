"""What one file may ask of the machine: the same limits for every reader, checked before memory is taken.

docs/security.md states them for people. A compressed file of a few kilobytes can stand for gigabytes, so what
a file unfolds into is measured against its own size: numbers as they are published shrink to a half at best,
masks and tables of zeros to little more than nothing, for which there is an allowance.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

ALLOWANCE = 64 * 2**20  # bytes that any file may unfold into
RATIO = 16  # and as many times its own size,
MOST_BYTES = 4 * 2**30  # but no more than this; no file above it is read at all
MOST_MEMBERS = 10_000  # of an archive
MOST_DEPTH = 64  # of values within values
MOST_STEPS = 1_000_000  # opcodes of a pickle
MOST_TEXT = 16 * 2**20  # bytes of a text that is read as a whole: landmarks, configurations
MOST_MODES = 4096  # of a face model; what is computed of them grows with their square
MOST_SIDE = 2048  # px of a picture that a file asks to render

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class TooMuch(ValueError):
    """A file that asks for more than its share; the message is one line that names it."""


class Budget:
    """What is left of one file's share.

    Args:
        path: the file, for messages.
        size: its bytes; None: they are looked up.
        error: the kind of error that a file beyond its share raises.

    Raises:
        ValueError: the file is above MOST_BYTES.
        OSError: `size` is None and the file is not there.
    """

    def __init__(
        self, path: str | Path, size: int | None = None, error: type[ValueError] = TooMuch
    ) -> None:
        self.path, self._error = path, error
        size = os.stat(path).st_size if size is None else size
        if size > MOST_BYTES:
            raise error(f"{path}: {_amount(size)}, more than the {_amount(MOST_BYTES)} of any file")
        self.whole = self.left = min(ALLOWANCE + RATIO * size, MOST_BYTES)

    def take(self, what: str, count: int) -> None:
        """Set `count` bytes aside for a part of the file.

        Raises:
            ValueError: (or the chosen kind) they are more than what is left.
        """
        if not 0 <= count <= self.left:
            raise self._error(
                f"{self.path}: {what} unfolds into {_amount(count)}, with the rest of the file more than "
                f"the {_amount(self.whole)} that a file of this size may take"
            )
        self.left -= count

    def take_array(self, what: str, shape: tuple[int, ...], itemsize: int) -> None:
        """Set an array's bytes aside; an element counts at least one.

        Raises:
            ValueError: (or the chosen kind) as `take`, or a negative size.
        """
        count = max(int(itemsize), 1)
        for size in shape:
            if size < 0:
                raise self._error(f"{self.path}: {what} is {list(shape)}, a size below 0")
            count *= int(size)
        self.take(f"{what} {list(shape)}", count)

    def members(self, count: int) -> None:
        """Raise unless an archive may have as many members."""
        if count > MOST_MEMBERS:
            raise self._error(
                f"{self.path}: {count} members in it, expected at most {MOST_MEMBERS}"
            )


def read_text(path: str | Path, error: type[ValueError] = TooMuch) -> str:
    """A small text file, UTF-8.

    Raises:
        ValueError: (or the chosen kind) more than MOST_TEXT bytes, or not UTF-8; the message names the file.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        data = file.read(MOST_TEXT + 1)
    if len(data) > MOST_TEXT:
        raise error(f"{path}: more than the {_amount(MOST_TEXT)} that such a text may have")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        raise error(
            f"{path}: not a text in UTF-8 (byte {wrong.start} is 0x{data[wrong.start]:02x})"
        ) from None


def printable(text: object, longest: int = 0) -> str:
    r"""A text of a file as it may be shown: control characters as \n, \x1b and so on.

    A newline in a name would begin a line of its own, an escape sequence would command the terminal.

    Args:
        text: of any kind; its str is taken.
        longest: characters, if more than 0; what is beyond is left out and "..." says so.
    """
    shown = str(text)
    if longest and len(shown) > longest:
        shown = shown[:longest] + "..."
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), shown)


def words_of(error: BaseException, longest: int = 200) -> str:
    """What an error says, as part of one line; the name of its kind where it says nothing."""
    return printable(" ".join(str(error)[: 4 * longest].split()), longest) or type(error).__name__


def _amount(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"
