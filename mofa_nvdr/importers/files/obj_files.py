"""Wavefront OBJ files as far as face models are published in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mofa_nvdr.importers.foreign import MAX_VERTICES, ModelFileError, check_indices
from mofa_nvdr.importers.polygons import as_polygons

_MOST_BYTES = 400_000_000
_MOST_LINES = 3_000_000  # each is an object of its own in Python
_MOST_MATERIALS = 10_000


@dataclass(frozen=True)
class ObjMesh:
    """A mesh with its materials.

    Attributes:
        vertices: [V, 3]. polygons: [P, 4], triangles with a last -1.
        uv: [V, 2], of a vertex on a seam the first one; None where the file has none.
        material: [P] index into material_names; -1 before the first usemtl.
        uv_points, uv_polygons: texture coordinates as the file has them, [N, 2], and which of them each
            corner of `polygons` has, [P, 4]; -1 where it has none.
    """

    vertices: np.ndarray
    polygons: np.ndarray
    uv: np.ndarray | None
    material: np.ndarray
    material_names: list[str]
    uv_points: np.ndarray
    uv_polygons: np.ndarray


def read_vertices(path: Path) -> np.ndarray:
    """Positions [V, 3] of an .obj file, without looking at the rest.

    Raises:
        ModelFileError: no such file, a line that is no position, or numbers that are not finite.
    """
    return _numbers(path, [line[2:] for line in _lines(path) if line[:2] == b"v "], 3, "v")


def read_obj(path: Path) -> ObjMesh:
    """Read triangles and quads with texture coordinates and materials.

    Raises:
        ModelFileError: no such file, a line that cannot be read, an index outside the mesh, or a polygon
            of five corners and more.
    """
    lines = _lines(path)
    vertices = _numbers(path, [line[2:] for line in lines if line[:2] == b"v "], 3, "v")
    points = _numbers(path, [line[3:] for line in lines if line[:3] == b"vt "], 2, "vt")
    names: dict[str, int] = {}
    rows, uv_rows, material = [], [], []
    current = -1
    for number, line in enumerate(lines, 1):
        if line[:7] == b"usemtl ":
            name = line[7:].strip().decode("utf-8", "replace")
            current = names.setdefault(name, len(names))
            if len(names) > _MOST_MATERIALS:
                raise ModelFileError(f"{path}: more than {_MOST_MATERIALS} materials in it")
        elif line[:2] == b"f ":
            corners = [corner.split(b"/") for corner in line[2:].split()]
            if not 3 <= len(corners) <= 4:
                raise ModelFileError(
                    f"{path}: line {number} has a polygon of {len(corners)} corners, expected 3 or 4"
                )
            try:
                row = [_index(corner[0], len(vertices)) for corner in corners]
                has_uv = all(len(corner) > 1 and corner[1] for corner in corners)
                uv_row = [_index(c[1], len(points)) for c in corners] if has_uv else [-1] * len(row)
            except ValueError:
                raise ModelFileError(
                    f"{path}: line {number} is not a polygon: {_shown(line)}"
                ) from None
            rows.append(row + [-1] * (4 - len(row)))
            uv_rows.append(uv_row + [-1] * (4 - len(uv_row)))
            material.append(current)
    if not rows:
        raise ModelFileError(f"{path}: no polygon in this file")
    polygons, corners_uv = _whole(path, rows), _whole(path, uv_rows)
    check_indices(path, "a polygon", polygons[:, :3], len(vertices))
    check_indices(path, "a polygon", polygons[:, 3][polygons[:, 3] != -1], len(vertices))
    return ObjMesh(
        vertices, as_polygons(polygons), _vertex_uv(path, polygons, corners_uv, points, vertices),
        np.array(material), list(names), points, corners_uv,
    )  # fmt: skip


def _vertex_uv(
    path: Path, polygons: np.ndarray, corners: np.ndarray, points: np.ndarray, vertices: np.ndarray
) -> np.ndarray | None:
    given = corners >= 0
    if not given.any():
        return None
    check_indices(path, "a texture corner", corners[given], len(points))
    uv = np.zeros((len(vertices), 2))
    # Written last to first, so that the first polygon of the file has the word.
    uv[polygons[given][::-1]] = points[corners[given][::-1]]
    return uv


def _whole(path: Path, rows: list[list[int]]) -> np.ndarray:
    try:
        return np.array(rows, np.int64)
    except OverflowError:
        raise ModelFileError(f"{path}: a polygon points outside the mesh") from None


def _index(text: bytes, count: int) -> int:
    """OBJ counts from 1, or from the end with negative numbers; here from 0."""
    number = int(text)
    if number == 0:
        raise ValueError("0 is no index")
    return number - 1 if number > 0 else count + number


def _lines(path: Path) -> list[bytes]:
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise ModelFileError(
                f"{path}: {size / 1e6:.0f} MB, more than the {_MOST_BYTES / 1e6:.0f} MB that an .obj "
                "of a face may have"
            )
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: cannot read this file ({error.strerror or error})") from None
    if data.count(b"\n") + data.count(b"\r") > _MOST_LINES:
        raise ModelFileError(f"{path}: more than {_MOST_LINES} lines in it")
    return data.splitlines()


def _numbers(path: Path, rows: list[bytes], columns: int, kind: str) -> np.ndarray:
    if len(rows) > MAX_VERTICES:
        raise ModelFileError(f"{path}: {len(rows)} '{kind}' lines, expected at most {MAX_VERTICES}")
    try:
        parts = [row.split()[:columns] for row in rows]
        table = np.array(parts, dtype="S32").astype(np.float64).reshape(len(rows), columns)
    except ValueError:
        bad = next((row for row in rows if not _is_row(row, columns)), b"")
        raise ModelFileError(
            f"{path}: a '{kind}' line is not {columns} numbers: {_shown(bad)}"
        ) from None
    if not np.isfinite(table).all():
        raise ModelFileError(f"{path}: a '{kind}' line holds numbers that are not finite")
    if kind == "v" and not rows:
        raise ModelFileError(f"{path}: no vertex in this file; expected a Wavefront .obj")
    return table


def _is_row(row: bytes, columns: int) -> bool:
    try:
        return len([float(part) for part in row.split()[:columns]]) == columns
    except ValueError:
        return False


def _shown(line: bytes) -> str:
    return repr(line[:60].decode("utf-8", "replace"))
