"""eos' .bin files (cereal, little-endian): Surrey Face Model and others, and their blendshape files.

A matrix is int32 rows, int32 columns, float32 column by column. A PCA model is mean, orthonormal basis,
eigenvalues (variances), uint64 n and n triangles of int32. The file: uint32 version, shape, colour (may be
empty), then texture coordinates. Millimetres.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from mofa_nvdr.importers.files.containers import (
    interleaved,
    scaled_modes,
    unit_colors,
)
from mofa_nvdr.importers.foreign import ForeignModel, ImportOptions, ModelFileError
from mofa_nvdr.importers.landmark_points import known_landmarks
from mofa_nvdr.importers.modes import blendshape_modes
from mofa_nvdr.system.budget import Budget, printable

_VERSIONS = range(1, 10)


def looks_like(path: Path) -> bool:
    """Whether the file begins as an eos model: a small version, then a column of 3 V numbers."""
    with open(path, "rb") as file:
        start = file.read(12)
    if len(start) < 12:
        return False
    version, rows, columns = struct.unpack("<Iii", start)
    return version in _VERSIONS and columns == 1 and rows > 0 and rows % 3 == 0


def read(path: Path, options: ImportOptions) -> ForeignModel:
    """Read a morphable model of eos, with options.expressions its blendshapes.

    Raises:
        ModelFileError: not such a file, or cut short.
    """
    reader = _Reader(path)
    version = reader.integer("<I", "the version")
    if version not in _VERSIONS:
        raise ModelFileError(f"{path}: not an eos model (its version would be {version})")
    mean, shape, triangles = _pca(reader, "shape", options.shape_modes)
    color_mean, color, _ = _pca(reader, "colour", options.albedo_modes)
    if len(triangles) == 0:
        raise ModelFileError(f"{path}: no triangles in this file")
    uv = _texture_coordinates(reader, len(mean)) if version == 1 else None
    motions = {} if options.expressions is None else _blendshapes(options.expressions, len(mean))
    modes = None
    if motions:
        modes, _ = blendshape_modes(motions, options.expression_modes)
    has_color = len(color_mean) > 0
    if has_color:
        color_mean, color = unit_colors(color_mean, color)
    return ForeignModel(
        name="eos",
        licence="that of the model in the file (Surrey Face Model: non-commercial)",
        source=f"eos, {path.name}",
        mean=mean,
        shape=shape,
        polygons=triangles,
        expression=modes,
        named_expressions=motions,
        mean_albedo=color_mean if has_color else None,
        albedo=color if has_color else None,
        landmarks=known_landmarks("eos", len(mean), options.landmarks),
        uv=uv,
    )


def _pca(reader: _Reader, part: str, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean [V, 3], modes [K, V, 3] and triangles [T, 3] of one PCA model; an empty one has no vertices."""
    mean = reader.matrix(f"the {part} mean")
    basis = reader.matrix(f"the {part} basis")
    values = reader.matrix(f"the {part} eigenvalues")
    length = reader.integer("<Q", f"the number of {part} triangles")
    triangles = reader.array(f"the {part} triangles", "<i4", (length, 3))
    if mean.size == 0:
        none = np.zeros((0, 3), np.float32)
        return none, none[None][:0], triangles
    if len(basis) != mean.size:
        raise ModelFileError(
            f"{reader.path}: the {part} basis is {list(basis.shape)} for a mean of {mean.size} numbers"
        )
    names = f"the {part} basis", f"the {part} eigenvalues"
    points = interleaved(reader.path, f"the {part} mean", mean.ravel(), modes=False)
    modes = scaled_modes(reader.path, names, basis[:, :count], values, variances=True)
    return points, modes, triangles


def _texture_coordinates(reader: _Reader, count: int) -> np.ndarray | None:
    if reader.at_end:
        return None
    length = reader.integer("<Q", "the number of texture coordinates")
    if length == 0:
        return None
    if length != count:
        raise ModelFileError(f"{reader.path}: {length} texture coordinates for {count} vertices")
    uv = reader.array("the texture coordinates", "<f8", (length, 2)).copy()
    uv[:, 1] = 1 - uv[:, 1]  # eos counts v downwards
    return np.clip(uv, 0, 1)


def _blendshapes(path: Path, count: int) -> dict[str, np.ndarray]:
    """Motions [V, 3] by name: uint64 n, then uint64 length, name and a column each."""
    reader = _Reader(path)
    number = reader.integer("<Q", "the number of blendshapes")
    if not 0 < number <= 4096:
        raise ModelFileError(f"{path}: {number} blendshapes; not an eos blendshape file")
    motions = {}
    for _ in range(number):
        length = reader.integer("<Q", "the length of a name")
        name = reader.array("a name", "u1", (length,)).tobytes().decode("utf-8", "replace")
        name = printable(name, 100)
        motion = interleaved(path, name, reader.matrix(f"blendshape {name!r}").ravel(), modes=False)
        if len(motion) != count:
            raise ModelFileError(
                f"{path}: blendshape {name!r} has {len(motion)} vertices, the model {count}"
            )
        motions[name] = motion
    return motions


class _Reader:
    """Takes values off a file, none larger than what is left of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            Budget(path, error=ModelFileError)
            self._data = path.read_bytes()
        except OSError as error:
            raise ModelFileError(f"{path}: cannot read this file ({error.strerror})") from None
        self._at = 0

    @property
    def at_end(self) -> bool:
        """Whether nothing is left."""
        return self._at >= len(self._data)

    def integer(self, layout: str, what: str) -> int:
        """One number of a struct layout."""
        size = struct.calcsize(layout)
        self._need(size, what)
        (value,) = struct.unpack_from(layout, self._data, self._at)
        self._at += size
        return value

    def array(self, what: str, kind: str, shape: tuple[int, ...]) -> np.ndarray:
        """Numbers in the file's order."""
        count = int(np.prod(shape, dtype=object))
        self._need(count * np.dtype(kind).itemsize, what)
        value = np.frombuffer(self._data, kind, count, self._at)
        self._at += value.nbytes
        return value.reshape(shape)

    def matrix(self, what: str) -> np.ndarray:
        """Rows, columns and float32 column by column."""
        rows, columns = self.integer("<i", what), self.integer("<i", what)
        if rows < 0 or columns < 0:
            raise ModelFileError(f"{self.path}: {what} is {rows} x {columns}: not an eos file")
        return self.array(what, "<f4", (columns, rows)).T

    def _need(self, size: int, what: str) -> None:
        left = len(self._data) - self._at
        if size > left:
            raise ModelFileError(
                f"{self.path}: the file ends within {what} ({size} bytes wanted, {left} left): cut short, "
                "or not an eos file"
            )
