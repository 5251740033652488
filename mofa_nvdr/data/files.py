"""Files that are either the old or the new one, never half of it."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, then give it its own.

    Raises:
        OSError: the folder can't be written, or the disk is full; an older file is untouched.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_npz(path: Path, compressed: bool = True, **arrays: np.ndarray) -> None:
    """Write arrays as .npz in the same way.

    Raises:
        OSError: as `write_bytes`.
    """
    stream = io.BytesIO()
    save: Any = np.savez_compressed if compressed else np.savez
    save(stream, **arrays)
    write_bytes(path, stream.getvalue())
