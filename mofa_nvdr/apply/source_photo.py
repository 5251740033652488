"""The photograph that a parameter file was made of."""

from __future__ import annotations

import sys
from pathlib import Path

from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.data.listing import not_a_photograph
from mofa_nvdr.system.notes import say
from mofa_nvdr.system.origins import content_hash


def source_photo(npz: Path, face: FaceParameters, given: str = "", way_out: str = "") -> Path:
    """The photograph of a parameter file: the given one, or the one that it names, near it or near here.

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
    changed = ""
    for folder in (Path(), npz.parent, npz.parent.parent):
        path = folder / face.source
        if face.source and path.is_file():
            if not face.source_hash or content_hash(path) == face.source_hash:
                return path
            changed = changed or str(path)
    reason = (
        f"{changed} is not the photograph that it was made of, or has changed since"
        if changed
        else f"its photograph {face.source or '(unnamed)'} is not here"
    )
    raise ValueError(f"{npz}: {reason}; give it as --photo{way_out and f', or {way_out}'}")
