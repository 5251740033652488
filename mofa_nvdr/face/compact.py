"""Face models in little space: half of a symmetric face, in steps, as differences between neighbours.

A mode is its own mirror image, or the negative of it, so half of it is stored and which of the two it is.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mofa_nvdr.system.files import replacing


def pack(
    arrays: Mapping[str, np.ndarray], mirror: np.ndarray, steps: Mapping[str, float]
) -> dict[str, np.ndarray]:
    """Arrays [V, 3] and bases [K, V, 3] in steps; of each basis also the modes' parity.

    Args:
        arrays: those that are named in `steps`, and others.
        mirror: [V] the vertex on the other side.
        steps: name -> the size of a step.

    Raises:
        ValueError: a step is too fine for the numbers that are stored.
    """
    half = half_of(mirror)
    stored: dict[str, np.ndarray] = {}
    for name, step in steps.items():
        values = arrays[name]
        if values.ndim == 2:
            stored[name] = encode(values[None, half], step, np.int32)
            continue
        image = values[:, mirror] * _across(name)
        parity = np.sign((values * image).sum((1, 2)))
        stored[f"{name}_parity"] = np.where(parity == 0, 1, parity).astype(np.int8)
        stored[name] = encode(values[:, half], step, np.int16)
    return stored


def unpack(
    stored: Mapping[str, np.ndarray], mirror: np.ndarray, steps: Mapping[str, float]
) -> dict[str, np.ndarray]:
    """The arrays that `pack` took, float32, rounded to the steps."""
    half, arrays = half_of(mirror), {}
    for name, step in steps.items():
        values = decode(stored[name], step)
        parity = stored.get(f"{name}_parity")
        sign = np.ones(1, np.float32) if parity is None else parity.astype(np.float32)
        full = np.empty((len(values), len(mirror), 3), np.float32)
        # The midline is its own mirror image: what changes its sign there is zero.
        full[:, mirror[half]] = values * _across(name) * sign[:, None, None]
        full[:, half] = values
        arrays[name] = full[0] if parity is None else full
    return arrays


def write_packed(path: str | Path, stored: Mapping[str, np.ndarray]) -> None:
    """Write arrays as a compressed .npz file, atomically."""
    buffer = io.BytesIO()
    save: Any = np.savez_compressed  # its declaration takes the names of arrays for its options
    save(buffer, **stored)
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(buffer.getvalue())


def read_packed(data: bytes, without: Collection[str] = ()) -> dict[str, np.ndarray]:
    """The arrays of a .npz file's bytes, but for those named in `without`."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return {key: file[key] for key in file.files if key not in without}


def half_of(mirror: np.ndarray) -> np.ndarray:
    """Numbers of the vertices of one side, and of the middle."""
    return np.flatnonzero(mirror >= np.arange(len(mirror)))


def _across(name: str) -> np.ndarray:
    return np.array((1, 1, 1) if "albedo" in name else (-1, 1, 1), np.float32)


def encode(values: np.ndarray, step: float, dtype: type[np.signedinteger]) -> np.ndarray:
    """[K, H, C] to integer differences along the vertices, components first, so that neighbours compress.

    Raises:
        ValueError: a difference does not fit the number type.
    """
    quantised = np.rint(values / step).astype(np.int32).transpose(0, 2, 1)
    differences = np.diff(quantised, axis=2, prepend=0)
    if np.abs(differences).max(initial=0) > np.iinfo(dtype).max:
        raise ValueError(f"compact face: a step of {step} is too fine for {dtype.__name__}")
    return differences.astype(dtype)


def decode(differences: np.ndarray, step: float) -> np.ndarray:
    """What `encode` took, float32, rounded to the step."""
    quantised = np.cumsum(differences, axis=2, dtype=np.int32)
    return (quantised.transpose(0, 2, 1) * np.float32(step)).astype(np.float32)
