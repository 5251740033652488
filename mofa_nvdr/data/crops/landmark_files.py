"""Landmarks next to photographs: which file belongs to a photograph, and reading it.

A photograph's own file has its name and `.pts`, `.npz`, `.txt` or `.csv`; it is next to it, or in a folder
`landmarks` or `detections` next to it or next to its folder. A table is `landmarks68.npz` in its folder or
the one above, or of another number that is read. Names may differ in case, and in the picture's suffix, as
long as a single photograph is meant.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mofa_nvdr.data.crop_tables import DataError
from mofa_nvdr.data.crops.point_sets import POINT_SETS, READ, READ_WORDS, as_landmarks
from mofa_nvdr.data.images import ImageError
from mofa_nvdr.data.listing import LANDMARK_FOLDERS, LANDMARK_SUFFIXES, is_parameter_file
from mofa_nvdr.data.picture_formats import IMAGE_SUFFIXES
from mofa_nvdr.face.dense_landmarks import NUM_DENSE, NUM_MESH
from mofa_nvdr.system.array_files import NotArrays, read_npz
from mofa_nvdr.system.budget import MOST_TEXT

TABLE_ORDER = (68, 98, 106, NUM_DENSE, NUM_MESH, 5)
"""Numbers of points: of what a folder or an .npz holds the first is taken."""
DENSE_FIRST = (NUM_DENSE, NUM_MESH, 68, 98, 106, 5)
"""The same for who has a place for each point."""
_KEYS = ", ".join(f"lm{count}" for count in sorted(TABLE_ORDER))
_EXPECTED = f"expected {READ_WORDS} rows of x and y"


class LandmarkError(ImageError):
    """Landmarks that cannot be used for their photograph; the message is one line that names the file."""


@dataclass(frozen=True)
class KnownFaces:
    """What is known of a photograph.

    Attributes:
        points: of each face [N, 2], pixels of the picture as a viewer shows it; None: nothing is known.
        file: where it stands; None: nowhere.
        notes: what was found and is something else, or was read in another way than it stands there.
    """

    points: list[np.ndarray] | None = None
    file: Path | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Tables:
    """The tables of the folders of photographs.

    Attributes:
        known: photograph -> what its rows say.
        notes: of rows that belong to no photograph, or to which one cannot be told.
    """

    known: dict[Path, KnownFaces]
    notes: list[str]


class Folders:
    """What is in the folders next to photographs; each is listed once."""

    def __init__(self) -> None:
        self._names: dict[Path, dict[str, list[str]]] = {}

    def names(self, folder: Path) -> dict[str, list[str]]:
        """Name in lower case -> the names of that spelling; of a folder that can't be listed nothing."""
        if folder not in self._names:
            try:
                found = sorted(os.listdir(folder))
            except OSError:
                found = []
            names: dict[str, list[str]] = {}
            for name in found:
                names.setdefault(name.lower(), []).append(name)
            self._names[folder] = names
        return self._names[folder]

    def pictures(self, folder: Path) -> list[str]:
        """Names of the pictures in a folder."""
        names = self.names(folder).items()
        return [n for low, same in names if low.endswith(IMAGE_SUFFIXES) for n in same]

    def matching(self, folder: Path, name: str) -> list[Path]:
        """The file of a name, else those whose names differ in case alone."""
        same = self.names(folder).get(name.lower(), [])
        return [folder / n for n in ([name] if name in same else same)]


def read_tables(photographs: Iterable[Path], order: tuple[int, ...] = TABLE_ORDER) -> Tables:
    """What the `landmarks68.npz`, or of another number, of the photographs' folders say of them.

    The table of a folder goes before that of the folder above; of a folder's the first of `order`. Rows name
    pictures relative to their table, in any case of letters and with or without a suffix.

    Raises:
        DataError: a table that cannot be read, or of other arrays.
    """
    photographs = list(photographs)
    places = Folders()
    own = {path.parent for path in photographs}
    tables = Tables({}, [])
    for folder in sorted(own) + sorted({folder.parent for folder in own} - own):
        for key, count in ((f"lm{count}", count) for count in order):
            path = folder / f"landmarks{count}.npz"
            if os.path.isfile(path):  # False too where the folder may be listed and no more
                rows = _rows_of(path, key, count)
                _assign(tables, path, rows, photographs, places, folder in own)
                break
    return tables


def landmarks_next_to(path: Path, folders: Folders | None = None) -> KnownFaces:
    """What a file of the photograph's own name says of it.

    A file that holds no points, or points of another kind, is something else, and named in the notes.

    Raises:
        LandmarkError: a file of landmarks that is damaged or cannot be read, or two that may be meant.
    """
    folders = folders or Folders()
    notes: list[str] = []
    for place in _places(path):
        for suffix in LANDMARK_SUFFIXES:
            for name in (path.stem + suffix, path.name + suffix):
                files = [f for f in folders.matching(place, name) if os.path.isfile(f)]
                if suffix == ".npz":  # reconstruct names its parameters alike
                    files = [f for f in files if not is_parameter_file(f)]
                if len(files) > 1:
                    raise LandmarkError(
                        f"{files[0]} and {files[1].name}: either may be the landmarks of {path.name}; "
                        "remove or rename one"
                    )
                if not files:
                    continue
                points, note = _read_points(files[0])
                notes += [f"{files[0]}: {note}"] if note else []
                if points is not None:
                    return KnownFaces([points], files[0], notes)
    return KnownFaces(None, None, notes)


def orphans(photographs: Iterable[Path]) -> list[str]:
    """Notes of the landmark files in the photographs' folders that are of no picture there."""
    notes = []
    folders = Folders()
    photographs = list(photographs)
    for folder in sorted({path.parent for path in photographs}):
        pictures = {name.lower() for name in folders.pictures(folder)}
        stems = {Path(name).stem for name in pictures} | pictures
        for place, suffixes in (
            (folder, (".pts",)),
            *((folder / f, LANDMARK_SUFFIXES) for f in LANDMARK_FOLDERS),
        ):
            files = [name for same in folders.names(place).values() for name in same]
            lost = [
                n
                for n in files
                if n.lower().endswith(suffixes) and Path(n.lower()).stem not in stems
            ]
            if lost and pictures:
                which = f"{lost[0]}" + f" and {len(lost) - 1} more" * (len(lost) > 1)
                notes.append(f"{place}: {which}: landmarks of no picture in {folder}; not used")
    return notes


def reason_of(error: OSError | ValueError) -> str:
    """What an error says, without the file that it may name."""
    if isinstance(error, OSError):
        return f"cannot read it ({error.strerror or error})"
    return str(error)


def _places(path: Path) -> list[Path]:
    """Where a photograph's own file may be: the nearest first."""
    folder = path.parent
    return [
        folder,
        *(folder / f for f in LANDMARK_FOLDERS),
        *(folder.parent / f for f in LANDMARK_FOLDERS),
    ]


def _rows_of(path: Path, key: str, count: int) -> list[tuple[str, np.ndarray]]:
    """Name and points of each row of a table of which all landmarks are known."""
    try:
        table = _load_npz(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {reason_of(error)}") from None
    files, points = table.get("files", np.empty(())), table.get(key, np.empty(()))
    if points.ndim == 3 and count in (NUM_MESH, NUM_DENSE):  # MediaPipe's have a depth
        points = points[..., :2]
    expected = (*files.shape, count, 2)
    if files.ndim != 1 or points.shape != expected or points.dtype.kind not in "fiu":
        raise DataError(f"{path}: expected files [N] and {key} [N, {count}, 2]")
    rows = zip((str(file) for file in files), points.astype(np.float64))
    return [(file, marks) for file, marks in rows if np.isfinite(as_landmarks(marks)).all()]


def _assign(
    tables: Tables,
    path: Path,
    rows: list[tuple[str, np.ndarray]],
    photographs: list[Path],
    places: Folders,
    own: bool,
) -> None:
    """Give the rows of a table to the photographs that they name, and note those of none.

    Args:
        tables: what the tables before say; changed.
        path: the table.
        rows: names and points.
        photographs: those that may be meant, all of them.
        places: what is in their folders.
        own: whether there are photographs next to the table.
    """
    folder = path.parent
    below = [p for p in photographs if p.parent == folder or p.parent.parent == folder]
    exact = {p.relative_to(folder).as_posix(): p for p in below}
    loose: dict[str, set[Path]] = {}
    for name, photograph in exact.items():
        # The photograph's path, its name alone, and both without the suffix.
        for text in (name, photograph.name):
            for key in (text.lower(), str(Path(text.lower()).with_suffix(""))):
                loose.setdefault(key, set()).add(photograph)
    new: dict[Path, KnownFaces] = {}
    lost: list[str] = []
    unclear: list[str] = []
    several: list[str] = []
    meant: dict[Path, dict[str, list[np.ndarray]]] = {}  # by each photograph: rows by their name
    for name, marks in rows:
        text = _plain(name)
        there = os.path.exists(folder / text)  # the picture itself, which need not be asked for
        found = {exact[text]} if text in exact else set() if there else _loosely(loose, text)
        if len(found) > 1:
            unclear.append(name)
        elif found:
            meant.setdefault(next(iter(found)), {}).setdefault(name, []).append(marks)
        elif own and not there:
            lost.append(name)
    for photograph, by_name in meant.items():
        right = [name for name in by_name if exact.get(_plain(name)) == photograph]
        if not right and len(by_name) > 1:  # x/1.jpg and y/1.jpg, and one 1.jpg: which of them?
            several += [name for name, every in by_name.items() for _ in every]
            continue
        points = [marks for name in right or by_name for marks in by_name[name]]
        several += [name for name in by_name if right and name not in right for _ in by_name[name]]
        if photograph not in tables.known:
            new[photograph] = KnownFaces(points, path)
    tables.known.update(new)
    for names, what in (
        (lost, "name no picture there; they are not used"),
        (
            unclear,
            "may mean several photographs; they are not used: give names with folder and suffix",
        ),
        (
            several,
            "may mean a photograph that others mean too; they are not used: give names with folder and "
            "suffix",
        ),
    ):
        if names:
            tables.notes.append(
                f"{path}: {len(names)} of {len(rows)} rows, first {names[0]!r}, {what}"
            )


def _plain(name: str) -> str:
    """A row's name as a path below the table's folder."""
    return name.replace("\\", "/").removeprefix("./")


def _loosely(loose: dict[str, set[Path]], text: str) -> set[Path]:
    """The photographs that a row may mean: by path, by name, and by both without the suffix."""
    path = text.lower()
    name = path.rpartition("/")[2]
    keys = (
        path,
        name,
        str(Path(path).with_suffix("")),
        str(Path(name).with_suffix("")) if name else "",
    )
    return next((loose[key] for key in keys if key in loose), set())


def _read_points(file: Path) -> tuple[np.ndarray | None, str]:
    """The points [N, 2] of a photograph's file, or None if it holds something else, and a note.

    Raises:
        LandmarkError: it is damaged or cannot be read.
    """
    points: np.ndarray | None
    try:
        if file.suffix.lower() == ".npz":
            table = _load_npz(file)
            found = [table[f"lm{count}"] for count in TABLE_ORDER if f"lm{count}" in table]
            if not found:
                return None, f"holds none of {_KEYS}; not taken for landmarks"
            if found[0].dtype.kind not in "fiu":
                raise ValueError(f"holds points of kind {found[0].dtype}, expected numbers")
            points, note = found[0].astype(np.float64), ""
            if points.ndim == 2 and len(points) in (
                NUM_MESH,
                NUM_DENSE,
            ):  # MediaPipe's have a depth
                points = points[:, :2]
        else:
            points, note = _text_points(file)
    except (OSError, ValueError) as error:
        raise LandmarkError(f"{file}: {reason_of(error)}") from None
    if points is None:
        return None, note
    if points.shape not in [(count, 2) for count in READ]:
        if file.suffix.lower() in (".pts", ".npz") and (points.ndim != 2 or len(points) < 2):
            raise LandmarkError(f"{file}: holds points {list(points.shape)}, {_EXPECTED}")
        kind = POINT_SETS.get(len(points))
        name = f" ({kind.name})" if kind else ""
        return None, f"holds {len(points)} points{name}, {_EXPECTED}; not used"
    if not np.isfinite(as_landmarks(points)).all():
        raise LandmarkError(f"{file}: holds points that are not finite, {_EXPECTED}")
    return points, note


def _text_points(file: Path) -> tuple[np.ndarray | None, str]:
    """The points of a .pts, .txt or .csv file.

    Raises:
        ValueError: most of its rows are points, and others are not.
        OSError: it cannot be read.
    """
    is_pts = file.suffix.lower() == ".pts"
    if file.stat().st_size > MOST_TEXT:
        raise ValueError(f"more than the {MOST_TEXT} bytes that a text of landmarks may have")
    text = file.read_text(encoding="utf-8-sig", errors="replace")
    if is_pts:
        text = text.partition("{")[2].partition("}")[0]
    rows = [line.replace(",", " ").replace(";", " ").split() for line in text.splitlines()]
    rows = [row for row in rows if row]
    x, y = 0, 1
    header = [name.strip("\"'").lower() for name in rows[0]] if rows else []
    named = {"x", "y"} <= set(header)
    if named:
        x, y = header.index("x"), header.index("y")
        rows = rows[1:]
    numbers = [row for row in rows if len(row) > max(x, y) and _is_number(row[x], row[y])]
    if not is_pts and not named and 2 * len(numbers) <= len(rows):
        return None, "holds no rows of x and y; not taken for landmarks"
    if len(numbers) < len(rows):
        bad = next(row for row in rows if row not in numbers)
        words = " ".join(bad)
        raise ValueError(f"row {words[:40]!r} is no x and y, {_EXPECTED}")
    note = ""
    if not named and _counts_points(numbers):
        x, y = 1, 2
        note = "its first column counts the points; the next two are taken as x and y"
    points = np.array([[float(row[x]), float(row[y])] for row in numbers]).reshape(-1, 2)
    # iBUG's files count from 1, at pixel centres.
    return (points - 0.5 if is_pts else points), note


def _counts_points(rows: list[list[str]]) -> bool:
    """Whether rows are a number from 0 or 1 on, x and y; no face has such x."""
    if len(rows) not in POINT_SETS or not all(len(r) > 2 and _is_number(r[2]) for r in rows):
        return False
    column = [float(row[0]) for row in rows]
    return column in ([*range(len(rows))], [*range(1, len(rows) + 1)])


def _is_number(*texts: str) -> bool:
    try:
        for text in texts:
            float(text)
    except ValueError:
        return False
    return True


def _load_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        return read_npz(path)
    except NotArrays as error:
        raise ValueError("cannot read it as .npz without pickles") from error
    except ValueError as error:  # of its budget, which names the file
        raise ValueError(str(error).removeprefix(f"{path}: ")) from None
