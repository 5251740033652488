"""What a kind of input is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Action = Callable[[], object]


@dataclass(frozen=True)
class Kind:
    """One kind of input.

    Attributes:
        files: names below the seeds' folder that are mutated.
        act: the mutated file and the folder of the case -> arguments of the command line, or a call.
        around: what lies next to the file: it is copied with it, the file in its place.
    """

    files: tuple[str, ...]
    act: Callable[[Path, Path], list[str] | Action]
    around: str = ""
