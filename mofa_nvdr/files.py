"""Files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together: all under temporary names, then each in its place, in order.

    Args:
        contents: path -> bytes; the folders must exist. What names the others comes last.

    Raises:
        OSError: a file can't be written; then none of the temporary ones stays.
    """
    temporary = {path: path.with_name(f"{path.name}.{os.getpid()}.tmp") for path in contents}
    try:
        for path, data in contents.items():
            temporary[path].write_bytes(data)
        for path, name in temporary.items():
            os.replace(name, path)
    finally:
        for name in temporary.values():
            with contextlib.suppress(OSError):  # a disk that refuses this has refused more before
                name.unlink(missing_ok=True)
