"""Light probes as files: panoramas of linear radiance, Radiance .hdr or OpenEXR."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mofa_nvdr.scene.exr import read_exr
from mofa_nvdr.scene.hdr import read_hdr

_READERS = {".hdr": read_hdr, ".pic": read_hdr, ".rgbe": read_hdr, ".exr": read_exr}


def is_probe(path: str | Path) -> bool:
    """A file's ending is that of a light probe."""
    return Path(path).suffix.lower() in _READERS


def read_probe(path: str | Path) -> np.ndarray:
    """Read a panorama by its ending.

    Args:
        path: .hdr, .pic, .rgbe or .exr.

    Returns:
        float32 [H, W, 3] linear RGB, row 0 at the top.

    Raises:
        ValueError: another ending, or as `read_hdr` and `read_exr`.
    """
    try:
        read = _READERS[Path(path).suffix.lower()]
    except KeyError:
        raise ValueError(
            f"{path}: no light probe, expected {', '.join(_READERS)} (equirectangular panoramas)"
        ) from None
    return read(path)
