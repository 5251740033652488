"""The tables next to face crops: which split, which landmarks, and which code each picture has."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mofa_nvdr.data.crops.landmark_shape import wrong_rows
from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.face.dense_landmarks import NUM_DENSE
from mofa_nvdr.face.landmarks import NUM_LANDMARKS
from mofa_nvdr.system.array_files import NotArrays, read_npz
from mofa_nvdr.system.budget import printable, words_of

INDEX_FILE = "index.csv"
LANDMARK_FILE = "landmarks68.npz"
DENSE_FILE = "landmarks478.npz"
CODE_FILE = "codes.npz"


class DataError(ValueError):
    """A folder or a file next to it that cannot be used; the message is one line that names it."""


def read_index(path: Path, names: list[str], folder: Path) -> dict[str, str]:
    """Name -> split of an index.csv.

    Args:
        path: the file.
        names: of the pictures that are there.
        folder: where they are, for messages.

    Raises:
        DataError: not such a table, or it names what is not there.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            missing = [column for column in ("file", "split") if column not in columns]
            if missing:
                raise DataError(
                    f"{path}: no column {' and '.join(missing)}; expected file and split, "
                    f"found {printable(', '.join(columns), 200) or 'nothing'}"
                )
            rows = [(row["file"] or "", row["split"] or "") for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot read it as CSV: {words_of(error)}") from error
    _check_known(path, [file for file, _ in rows], names, folder)
    return dict(rows)


def read_landmarks(
    path: Path, names: list[str], folder: Path, rendered: Container[str]
) -> dict[str, np.ndarray]:
    """Name -> [68, 3] of a landmarks68.npz: x, y in pixels of the picture, confidence.

    Args:
        path: the file.
        names: of the pictures that are there.
        folder: where they are, for messages.
        rendered: names of rendered pictures, whose landmarks need not look like a face's.

    Raises:
        DataError: not such a table, it names what is not there, or half of its rows are no faces.
    """
    files, landmarks, confidence = _load_landmark_arrays(path)
    num = len(files)
    expected: dict[str, tuple[np.ndarray, list[int], Callable[[np.ndarray], bool]]] = {
        "files": (files, [num], lambda array: array.dtype.kind == "U"),
        "lm68": (landmarks, [num, NUM_LANDMARKS, 2], lambda array: array.dtype.kind == "f"),
    }
    if confidence is not None:
        expected["confidence"] = (
            confidence,
            [num, NUM_LANDMARKS],
            lambda array: array.dtype.kind == "f",
        )
    for key, (array, shape, is_kind) in expected.items():
        if list(array.shape) != shape or not is_kind(array):
            kind = "text" if key == "files" else "floats"
            raise DataError(
                f"{path}: {key} is {list(array.shape)} {array.dtype}, expected {shape} {kind}"
            )
    listed = [str(name) for name in files]
    _check_known(path, listed, names, folder)
    _check_faces(path, listed, landmarks, rendered)
    known = np.isfinite(landmarks).all(-1)  # [N, 68]
    if confidence is None:
        confidence = np.ones((num, NUM_LANDMARKS), np.float32)
    elif not ((confidence >= 0) & (confidence <= 1)).all():
        raise DataError(f"{path}: confidence leaves [0, 1]")
    table = np.concatenate(
        [
            np.where(known[..., None], landmarks, np.nan),
            np.where(known, confidence, 0.0)[..., None],
        ],
        axis=-1,
    ).astype(np.float32)
    return dict(zip(listed, table))


def read_dense_landmarks(
    path: Path, names: list[str], folder: Path, rendered: Container[str]
) -> dict[str, np.ndarray]:
    """Name -> [478, 2] of a landmarks478.npz: x, y in pixels of the picture; NaN: not known.

    Args:
        path: the file.
        names: of the pictures that are there.
        folder: where they are, for messages.
        rendered: names of rendered pictures, whose landmarks need not look like a face's.

    Raises:
        DataError: not such a table, it names what is not there, or half of its rows are no faces.
    """
    found = _load_arrays(path)
    files, points = found.get("files"), found.get("lm478")
    if (
        files is None
        or points is None
        or files.ndim != 1
        or files.dtype.kind != "U"
        or points.shape != (len(files), NUM_DENSE, 2)
        or points.dtype.kind != "f"
    ):
        raise DataError(
            f"{path}: expected files [N] text and lm478 [N, {NUM_DENSE}, 2] floats, found {_kinds(found)}"
        )
    listed = [str(name) for name in files]
    _check_known(path, listed, names, folder)
    _check_faces(path, listed, points, rendered)
    known = np.isfinite(points).all(-1, keepdims=True)
    return dict(zip(listed, np.where(known, points, np.nan).astype(np.float32)))


def read_codes(path: Path) -> tuple[dict[str, np.ndarray], str]:
    """A codes.npz: name -> true code [size] of a rendered face, or fitted one, and its face model's hash.

    Rows that are not finite, photographs that could not be fitted, are left out. The hash is empty where
    the file does not say it.

    Raises:
        DataError: not such a table.
    """
    found = _load_arrays(path)
    files, codes = found.get("files"), found.get("codes")
    if (
        files is None
        or codes is None
        or files.ndim != 1
        or files.dtype.kind != "U"
        or codes.ndim != 2
        or codes.dtype.kind != "f"
        or len(codes) != len(files)
    ):
        raise DataError(
            f"{path}: expected files [N] text and codes [N, size] floats, found {_kinds(found)}"
        )
    table = zip((str(name) for name in files), codes.astype(np.float32))
    whose = printable(found.get("face_model_hash", ""))
    return {name: code for name, code in table if np.isfinite(code).all()}, whose


def code_table(
    codes: Mapping[str, np.ndarray], layout: CodeLayout, face_model_hash: str, **more: np.ndarray
) -> dict[str, np.ndarray]:
    """The arrays of a codes.npz.

    Args:
        codes: name -> [size].
        layout: the parts of a code.
        face_model_hash: of the face model that they belong to.
        more: what else is known of each picture, in the order of `codes`.
    """
    return {
        "files": np.array(list(codes)),
        "codes": np.stack(list(codes.values())),
        "parts": np.array(list(layout.sizes)),
        "sizes": np.array(list(layout.sizes.values())),
        "face_model_hash": np.array(face_model_hash),
        **more,
    }


def npz_bytes(**arrays: np.ndarray) -> bytes:
    """The compressed .npz of some arrays, the same bytes each time."""
    stream = io.BytesIO()
    save: Any = np.savez_compressed
    save(stream, **arrays)
    return stream.getvalue()


def _kinds(found: dict[str, np.ndarray]) -> str:
    """The arrays of a file, in words."""
    words = ", ".join(f"{k} {list(v.shape)} {v.dtype}" for k, v in found.items())
    return printable(words or "nothing", 300)


def _check_faces(
    path: Path, listed: list[str], points: np.ndarray, rendered: Container[str]
) -> None:
    """Raise DataError where half of the rows of a table [N, 68 or 478, 2] or more are no faces."""
    wrong = wrong_rows(points)
    wrong = {row: reason for row, reason in wrong.items() if listed[row] not in rendered}
    if 2 * len(wrong) >= len(listed) and wrong:  # of fewer, `Corpus` refuses the pictures
        row, reason = next(iter(wrong.items()))
        raise DataError(
            f"{path}: {len(wrong)} of {len(listed)} rows are no landmarks in px of their pictures as viewers "
            f"show them: the points of {listed[row]!r} {reason}"
        )


def _check_known(path: Path, listed: list[str], names: list[str], folder: Path) -> None:
    """Every name in a file next to the pictures must be a picture, and occur once."""
    known = set(names)
    unknown = [name for name in listed if name not in known]
    if unknown:
        raise DataError(
            f"{path}: names {len(unknown)} pictures that are not under {folder}, "
            f"first {unknown[0]!r}; remove these rows or bring the pictures"
        )
    if len(set(listed)) < len(listed):
        twice = next(name for i, name in enumerate(listed) if name in listed[:i])
        raise DataError(f"{path}: names {twice!r} more than once")


def _load_landmark_arrays(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The arrays files, lm68 and confidence (None if absent), not yet checked."""
    found = _load_arrays(path)
    missing = [key for key in ("files", "lm68") if key not in found]
    if missing:
        raise DataError(
            f"{path}: no array {' and '.join(missing)}; expected files and lm68, "
            f"found {printable(', '.join(found), 200) or 'no named array'}"
        )
    return np.atleast_1d(found["files"]), found["lm68"], found.get("confidence")


def _load_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        return read_npz(path, error=DataError)
    except (NotArrays, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path}: cannot read it as .npz without pickles: {reason}") from error
