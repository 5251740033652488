"""Notes and warnings of the package as lines for the person who runs a command.

To a program that uses the package they are records of `logging` and `warnings`, to treat as it likes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from mofa_nvdr.system.budget import printable

_PACKAGE = Path(__file__).resolve().parents[1]


def one_line(text: str) -> str:
    """A message as one line that any terminal can show: no line breaks, no control characters, UTF-8."""
    return printable(" ".join(text.split()))


def say(text: str, file: TextIO | None = None) -> None:
    r"""Print a line for the person who runs a command, above a progress bar if there is one.

    Args:
        text: what names of files and texts of files in it would do to a terminal is shown: \x1b, \n.
        file: None: stdout.
    """
    line = printable(text)
    if sys.stderr.isatty():
        tqdm.write(line, file=file)
    else:
        print(line, file=file, flush=True)


class _Notes(logging.Handler):
    """The package's notes as lines on whatever stderr is at the moment."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = "note" if record.levelno <= logging.INFO else record.levelname.lower()
        say(f"{kind}: {one_line(record.getMessage())}", sys.stderr)


def show_notes() -> None:
    """Print what the package logs, from notes on; and not what Pillow logs of damaged pictures.

    It raises an error as well, of which our line is made.
    """
    logger = logging.getLogger("mofa_nvdr")
    if not any(isinstance(handler, _Notes) for handler in logger.handlers):
        logger.addHandler(_Notes())
        logger.setLevel(logging.INFO)
        # Without any handler logging prints the bare message itself.
        logging.getLogger("PIL").addHandler(logging.NullHandler())


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Print the package's own warnings as `warning: ...`, without the line of code that they came from.

    Filters and the warnings of others stay as they are, but for what Pillow says of damaged pictures: either
    they can be read all the same, or our line says that they cannot.
    """
    before = warnings.showwarning

    def show(
        message: Warning | str, category: type[Warning], filename: str, *more: Any, **named: Any
    ) -> None:
        if Path(filename).parent.name == "PIL":
            return
        if _PACKAGE not in Path(filename).resolve().parents:
            before(message, category, filename, *more, **named)
            return
        rank = int(os.environ.get("RANK", "0"))  # of torchrun
        process = f"process {rank}: " if rank else ""
        say(f"warning: {process}{one_line(str(message))}", sys.stderr)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before
