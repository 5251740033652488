"""The photograph that a parameter file was made of."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.data.listing import not_a_photograph
from mofa_nvdr.system.notes import say
from mofa_nvdr.system.origins import content_hash


def source_photo(npz: Path, face: FaceParameters, given: str = "", way_out: str = "") -> Path:
    """The photograph of a parameter file: the given one, or the one that it names.

    Args:
        npz: the file.
        face: what is in it.
        given: the user's --photo; empty: none. A note says so if it is another file than the one that the
            parameters were made of.
        way_out: what else the user can do, for the message.

    Raises:
        ValueError: it is a file that the package wrote, is not found, or has changed since.
    """
    if given:
        if other := not_a_photograph(Path(given)):
            raise ValueError(f"--photo {other}")
        if (
            face.source_hash
            and Path(given).is_file()
            and content_hash(Path(given)) != face.source_hash
        ):
            say(f"note: --photo {given} is not the file that {npz} was made of", sys.stderr)
        return Path(given)
    if path := named_photograph(npz, face):
        return path
    changed = next((str(path) for path in _places(npz, face) if path.is_file()), "")
    reason = (
        f"{changed} is not the photograph that it was made of, or has changed since"
        if changed
        else f"its photograph {face.source or '(unnamed)'} is not here"
    )
    raise ValueError(f"{npz}: {reason}; give it as --photo{way_out and f', or {way_out}'}")


def named_photograph(npz: Path, face: FaceParameters) -> Path | None:
    """The photograph that a parameter file names: here, near it, or where it was; None: gone."""
    return _first(face, _places(npz, face))


def photograph_in(face: FaceParameters, folders: Iterable[Path]) -> Path | None:
    """The photograph that parameters name, in the first of the folders that has it; None: in none."""
    return _first(face, [folder / face.source for folder in folders] if face.source else [])


def way_to(photo: Path, folder: Path) -> str:
    """`FaceParameters.source_file`: from a file's folder to its photograph; empty: there is no way."""
    try:
        place = os.path.join(os.path.realpath(photo.parent), photo.name)
        return Path(os.path.relpath(place, os.path.realpath(folder))).as_posix()
    except ValueError:  # another drive
        return ""


def _places(npz: Path, face: FaceParameters) -> list[Path]:
    places = []
    if face.source:
        places += [folder / face.source for folder in (Path(), npz.parent, npz.parent.parent)]
    if face.source_file and face.source_hash:  # a file of others may name any place
        # As people write it first; where a folder on the way is a link, that leads elsewhere.
        written, real = npz.parent / face.source_file, os.path.realpath(npz.parent)
        places += [Path(os.path.normpath(written)), Path(real, face.source_file)]
    return places


def _first(face: FaceParameters, places: Iterable[Path]) -> Path | None:
    for path in places:
        if path.is_file() and face.source_hash in ("", content_hash(path)):
            return path
    return None
