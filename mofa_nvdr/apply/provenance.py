"""What pictures and meshes came of, so that none replaces what came of something else.

An origin is a few words of ASCII that any format can hold as a comment: PNG and GIF text, a line of an .obj,
.mtl or .ply, a note in a .glb. It is looked for in the bytes of a file, whatever the format.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.face.model import FaceModel

_ORIGIN = re.compile(rb"mofa-nvdr source ([0-9a-f]{32})")


def origin_of(*sources: FaceParameters | FaceModel) -> str:
    """What results made of these carry: of faces their photographs' content, of models their own.

    A face reconstructed again, by another run too, is the same source.
    """
    digest = hashlib.sha256()
    for source in sources:
        if isinstance(source, FaceModel):
            digest.update(f"model {source.hash}\n".encode())
        elif source.source_hash:
            digest.update(f"photograph {source.source_hash}\n".encode())
        else:  # of an earlier version
            digest.update(b"code " + source.code.pack().numpy().tobytes())
    return f"mofa-nvdr source {digest.hexdigest()[:32]}"


def is_free(path: Path, origin: str) -> bool:
    """Whether `path` may be written: nothing is there, or a result with this origin.

    Of a folder it says yes: nothing can replace one, and writing says so.

    Raises:
        OSError: what is there cannot be read.
    """
    if not os.path.lexists(path) or path.is_dir():
        return True
    found = _ORIGIN.search(path.read_bytes()) if path.is_file() else None
    return found is not None and found[0].decode() == origin


def check_free(out: str | Path, paths: Iterable[Path], origin: str, overwrite: bool) -> None:
    """Refuse to replace what is not an earlier result of the same source.

    Args:
        out: the user's `--out`.
        paths: the files to be written.
        origin: of `origin_of`.
        overwrite: the user's `--overwrite`, which allows it.

    Raises:
        ValueError: one of the files is there, and came of something else; the message names it.
    """
    for path in [] if overwrite else paths:
        try:
            free = is_free(path, origin)
        except OSError as error:
            raise ValueError(f"--out {out}: cannot read {path} ({error.strerror})") from None
        if not free:
            raise ValueError(
                f"--out {out}: {path} is there, and is no result of the same source; give another --out, "
                "or --overwrite"
            )
