"""The 68 landmarks of a foreign model: published lists, the user's file, and what is missing by geometry."""

from __future__ import annotations

import importlib.resources
import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mofa_nvdr.face.landmarks import NUM_LANDMARKS
from mofa_nvdr.importers.foreign import ModelFileError
from mofa_nvdr.system.array_files import read_npy
from mofa_nvdr.system.budget import read_text, words_of

LISTS_FILE = "landmark_lists.json"


def known_landmarks(topology: str, num_vertices: int, file: Path | None) -> dict[int, int]:
    """Table of iBUG number from 0 -> vertex: the user's file, or the published list of the topology.

    Returns:
        As many of the 68 as are known; empty where the file's mesh is no published one.

    Raises:
        ModelFileError: the user's file cannot be read.
    """
    if file is not None:
        return read_landmark_vertices(file, num_vertices)
    for entry in _lists():
        if entry["format"] == topology and entry["vertices"] == num_vertices:
            return {int(k): int(v) for k, v in entry["landmarks"].items()}
    return {}


@cache
def _lists() -> list[dict[str, Any]]:
    text = (importlib.resources.files("mofa_nvdr.assets") / LISTS_FILE).read_text("utf-8")
    return json.loads(text)["lists"]


def read_landmark_vertices(path: Path, num_vertices: int) -> dict[int, int]:
    """Read a landmark file.

    .json: a list of 68 vertex indices, or {"iBUG number from 1": vertex}. .txt: a line for each landmark,
    either one vertex or pairs "vertex weight", of which the heaviest vertex counts. .npy: 68 integers.
    Vertices count from 0.

    Raises:
        ModelFileError: no such file, not as above, or an index outside the mesh.
    """
    if not path.is_file():
        raise ModelFileError(f"--landmarks {path}: no such file")
    try:
        if path.suffix == ".json":
            points = _of_json(json.loads(read_text(path)))
        elif path.suffix == ".npy":
            values = read_npy(path)
            if values.dtype.kind not in "iu":
                raise ValueError(f"it holds {values.dtype}, expected integers")
            points = dict(enumerate(values.ravel().tolist()))
        else:
            points = _of_text(read_text(path))
    except (ValueError, TypeError, ArithmeticError, OSError, RecursionError) as error:
        raise ModelFileError(
            f"--landmarks {path}: expected 68 vertex indices counted from 0 ({words_of(error)})"
        ) from None
    if not points or not all(0 <= k < NUM_LANDMARKS for k in points) or len(points) < 6:
        raise ModelFileError(
            f"--landmarks {path}: {len(points)} landmarks, expected 68 vertex indices counted from 0"
        )
    outside = [v for v in points.values() if not 0 <= v < num_vertices]
    if outside:
        raise ModelFileError(
            f"--landmarks {path}: vertex {outside[0]} is outside the mesh, which has {num_vertices}"
        )
    return points


def _of_json(value: Any) -> dict[int, int]:
    if isinstance(value, list):
        return {k: _whole(v) for k, v in enumerate(value)}
    if isinstance(value, dict):
        return {_whole(k) - 1: _whole(v) for k, v in value.items()}
    raise ValueError("neither a list nor a table")


def _of_text(text: str) -> dict[int, int]:
    rows = [line.replace(",", " ").split() for line in text.splitlines()]
    rows = [row for row in rows if row and not row[0].startswith("#")]
    if len(rows) == 1:
        return {k: _whole(v) for k, v in enumerate(rows[0])}
    points = {}
    for k, row in enumerate(rows):
        if len(row) == 1:
            points[k] = _whole(row[0])
            continue
        if len(row) % 2:
            raise ValueError(f"line {k + 1} is neither one vertex nor pairs of vertex and weight")
        heaviest = int(np.argmax([float(weight) for weight in row[1::2]]))
        points[k] = _whole(row[2 * heaviest])
    return points


def _whole(value: Any) -> int:
    number = float(value)
    if not math.isfinite(number) or number != int(number) or abs(number) > 2**53:
        raise ValueError(f"{value!r} is no whole number of a vertex")
    return int(number)
