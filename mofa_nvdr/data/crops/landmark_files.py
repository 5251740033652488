"""Landmarks next to photographs: .pts, .txt, .csv and .npz files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from mofa_nvdr.data.images import ImageError
from mofa_nvdr.data.photographs import DataError
from mofa_nvdr.face.landmarks import NUM_LANDMARKS
from mofa_nvdr.system.array_files import NotArrays, read_npz
from mofa_nvdr.system.budget import MOST_TEXT


def landmarks_of_folders(folders: set[Path]) -> dict[Path, list[np.ndarray]]:
    """Photograph -> the landmarks of its faces, from the tables of their folders."""
    known: dict[Path, list[np.ndarray]] = {}
    for folder in sorted(folders):
        for key, count in (("lm68", NUM_LANDMARKS), ("lm5", 5)):
            path = folder / f"landmarks{count}.npz"
            if not os.path.isfile(path):  # False too where the folder may be listed and no more
                continue
            try:
                table = _load_npz(path)
            except (OSError, ValueError) as error:
                raise DataError(f"{path}: {reason_of(error)}") from None
            files, points = table.get("files", np.empty(())), table.get(key, np.empty(()))
            expected = (*files.shape, count, 2)
            if files.ndim != 1 or points.shape != expected or points.dtype.kind not in "fiu":
                raise DataError(f"{path}: expected files [N] and {key} [N, {count}, 2]")
            for file, marks in zip(files, points):
                if np.isfinite(marks).all():
                    known.setdefault(folder / str(file), []).append(marks.astype(np.float64))
            break
    return known


def landmarks_next_to(path: Path) -> list[np.ndarray] | None:
    """Landmarks in a file of the photograph's own name, or None."""
    for suffix in (".pts", ".npz", ".txt", ".csv"):
        file = path.with_suffix(suffix)
        if file.is_file():
            try:
                points = _read_points(file)
            except (OSError, ValueError) as error:
                raise ImageError(f"{file}: {reason_of(error)}") from None
            if points.shape not in ((NUM_LANDMARKS, 2), (5, 2)) or not np.isfinite(points).all():
                raise ImageError(
                    f"{file}: holds points {list(points.shape)}, expected 68 or 5 rows of x and y"
                )
            return [points]
    return None


def reason_of(error: OSError | ValueError) -> str:
    """What an error says, without the file that it may name."""
    if isinstance(error, OSError):
        return f"cannot read it ({error.strerror or error})"
    return str(error)


def _read_points(file: Path) -> np.ndarray:
    """The points in a file as they are, [N, 2] if it holds what it should.

    Raises:
        ValueError: it holds no points; the message does not name the file.
        OSError: it cannot be read.
    """
    if file.suffix == ".npz":
        table = _load_npz(file)
        points = table.get("lm68", table.get("lm5", np.empty((0, 2))))
        if points.dtype.kind not in "fiu":
            raise ValueError(f"holds points of kind {points.dtype}, expected numbers")
        return points.astype(np.float64)
    if file.stat().st_size > MOST_TEXT:
        raise ValueError(f"more than the {MOST_TEXT} bytes that a text of landmarks may have")
    text = file.read_text(encoding="utf-8-sig", errors="replace")
    if file.suffix == ".pts":
        text = text.partition("{")[2].partition("}")[0]
    rows = [line.replace(",", " ").split() for line in text.splitlines()]
    x, y = 0, 1
    header = [name.strip("\"'").lower() for name in rows[0]] if rows else []
    if file.suffix == ".csv" and {"x", "y"} <= set(header):
        x, y = header.index("x"), header.index("y")
        rows = rows[1:]
    rows = [row for row in rows if len(row) > max(x, y)]
    try:
        points = np.array([[float(row[x]), float(row[y])] for row in rows]).reshape(-1, 2)
    except ValueError as error:
        raise ValueError(f"{error}, expected 68 or 5 rows of x and y") from None
    # iBUG's files count from 1, at pixel centres.
    return points - 0.5 if file.suffix == ".pts" else points


def _load_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        return read_npz(path)
    except NotArrays as error:
        raise ValueError("cannot read it as .npz without pickles") from error
    except ValueError as error:  # of its budget, which names the file
        raise ValueError(str(error).removeprefix(f"{path}: ")) from None
