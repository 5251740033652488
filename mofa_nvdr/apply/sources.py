"""Which photograph a result is of: names that keep results of different files apart.

A result's place below `--out` and its `source` are one path: that of the photograph below the folder that
was given, so that results lie as the photographs do. What is there already is replaced only by a result of
the same source: the same path, the same bytes.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class Source:
    """A photograph, and what its results are called.

    Attributes:
        path: the file.
        name: path below the folder that was given, with forward slashes: what `source` says in the .npz.
        result: path of the results below `--out`, without their endings.
    """

    path: Path
    name: str
    result: str


def name_sources(groups: Sequence[tuple[str | Path, Sequence[Path]]]) -> list[Source]:
    """Give every photograph a name of its own; one that is reached twice comes once.

    Of one folder the results lie as its photographs do. With several inputs, each folder keeps its own name
    (`alice/0001`), and a file is called by its name alone, so that `people/*` and `people` are the same.
    Photographs that differ in their ending alone keep it (`x.png`, `x.tif`); where that does not help, like
    for A.jpg and a.jpg, which are one file on many systems, later ones have a number (`a-2`).

    Args:
        groups: an input, and its photographs: itself, or those in the folder.
    """
    folders = _folder_names([Path(given) for given, _ in groups])
    found: dict[str, tuple[Path, PurePosixPath]] = {}
    for (given, paths), folder in zip(groups, folders):
        for path in paths:
            inside = path.relative_to(given).as_posix() if path != Path(given) else path.name
            # A link to a folder leads there; a link to a photograph is one of its own.
            place = os.path.join(os.path.realpath(path.parent), path.name)
            found.setdefault(place, (path, PurePosixPath(folder, inside)))
    plain = Counter(_key(name.with_suffix("")) for _, name in found.values())
    taken: set[str] = set()
    sources = []
    for path, name in found.values():
        stem = name.with_suffix("")
        result = _free(stem if plain[_key(stem)] == 1 else name, taken)
        sources.append(Source(path, str(name), result))
    return sources


def _folder_names(given: list[Path]) -> list[str]:
    """What the results of each input begin with: nothing, or the folder's name, each of its own."""
    if len({os.path.realpath(path) for path in given}) == 1:
        return [""] * len(given)
    names: dict[str, str] = {}
    taken: set[str] = set()
    for path in given:
        place = os.path.realpath(path)
        if path.is_dir() and place not in names:
            names[place] = _free(PurePosixPath(os.path.basename(place)), taken)
    return [names.get(os.path.realpath(path), "") for path in given]


def _free(name: PurePosixPath, taken: set[str]) -> str:
    """The name, or the name with the first number that makes it free; it is taken then."""
    number, free = 1, name
    while _key(free) in taken:
        number += 1
        free = name.with_name(f"{name.name}-{number}")
    taken.add(_key(free))
    return str(free)


def _key(name: PurePosixPath) -> str:
    """The same for names that some file systems take for one."""
    return unicodedata.normalize("NFC", str(name)).casefold()
