"""What a folder of crops remembers: a line of its log for each photograph, and the tables made of them."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from mofa_nvdr.data.crop_tables import DENSE_FILE, INDEX_FILE, LANDMARK_FILE, npz_bytes
from mofa_nvdr.data.photographs import split_by_name
from mofa_nvdr.system.files import read_json_lines, write_files, write_text

LOG_FILE = "preprocess.jsonl"
_COLUMNS = ("file", "split", "source", "left", "top", "side", "score", "found_by")


def place_of(path: Path) -> str:
    """Where a photograph is; a link to a folder leads there, a link to a photograph is one of its own."""
    return os.path.join(os.path.realpath(path.parent), path.name)


def read_records(
    folder: Path, options: dict[str, Any], defaults: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Place -> the record of each photograph that is done; makes a log to which lines can be appended.

    A half-written last line of a killed process does not count, and of two lines for one photograph the
    later one does.

    Args:
        folder: of the crops, with images/ in it.
        options: of this call.
        defaults: what holds for those that an earlier version did not have.

    Raises:
        ValueError: the folder holds something else, or was made with other options.
    """
    path = folder / LOG_FILE
    lines = read_json_lines(path)
    if not path.is_file() and any((folder / "images").iterdir()):
        raise ValueError(
            f"--out {folder}: its images/ holds files, and no {LOG_FILE} says of what; give another folder"
        )
    theirs = [name for name in (INDEX_FILE, LANDMARK_FILE, DENSE_FILE) if (folder / name).exists()]
    if not path.is_file() and theirs:  # of the photographs, if they lie here
        raise ValueError(
            f"--out {folder}: holds {theirs[0]}, and no {LOG_FILE} says that it is of crops; give another "
            "folder"
        )
    if lines and {**defaults, **(lines[0].get("options") or {})} != options:
        raise ValueError(
            f"{folder}: was made with other options ({lines[0].get('options')}); use them, or another --out"
        )
    done = {
        line.get("place") or place_of(Path(line["source"])): line
        for line in lines
        if "source" in line
    }
    # Where crops of two photographs were written to one file, which is there now? Both are made again.
    uses = Counter(face["file"] for record in done.values() for face in record["faces"])
    done = {
        place: record
        for place, record in done.items()
        if all(uses[face["file"]] == 1 for face in record["faces"])
    }
    # Written again, so that nothing is appended to half a line.
    kept = [{"options": options}, *done.values()]
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
    return done


def write_tables(folder: Path, records: list[dict[str, Any]]) -> None:
    """Write index.csv, and landmarks68.npz and landmarks478.npz if any are known, of the records' crops.

    Raises:
        OSError: the folder cannot be written.
    """
    faces = [(record["source"], face) for record in records for face in record["faces"]]
    # Faces of one photograph go to one split.
    splits = split_by_name(sorted({source for source, _ in faces}))
    table = io.StringIO()
    writer = csv.DictWriter(table, _COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for source, face in faces:
        writer.writerow({**face, "source": source, "split": splits[source]})
    contents = {folder / INDEX_FILE: table.getvalue().encode()}
    marked = [face for _, face in faces if "lm68" in face]
    if marked:
        marks = npz_bytes(
            files=np.array([face["file"] for face in marked]),
            lm68=np.array([face["lm68"] for face in marked], np.float32),
        )
        contents = {folder / LANDMARK_FILE: marks, **contents}
    dense = [face for _, face in faces if "lm478" in face]
    if dense:
        marks = npz_bytes(
            files=np.array([face["file"] for face in dense]),
            lm478=np.array([face["lm478"] for face in dense], np.float32),
            source=np.array([_source_of(face) for face in dense]),
        )
        contents = {folder / DENSE_FILE: marks, **contents}
    write_files(contents)


def _source_of(face: dict[str, Any]) -> str:
    """Whose the dense landmarks of a face are, in words."""
    if face["score"] is None:
        return "next to the photograph"
    return "MediaPipe's face mesh and iris networks"


def summary(records: list[dict[str, Any]], closed: int = 0) -> str:
    """What became of photographs, in words; `closed`: how many folders could not be read."""
    kept = sum(len(record["faces"]) for record in records)
    pruned = Counter(reason for record in records for reason in record["pruned"])
    refused = sum(bool(record.get("refused")) for record in records)
    unreadable = sum("unreadable" in record for record in records) - refused
    empty = sum(
        not record["faces"] and not record["pruned"] and "unreadable" not in record
        for record in records
    )
    parts = [f"{kept} faces from {len(records)} photographs"]
    parts += [f"{count} left out as {reason}" for reason, count in sorted(pruned.items())]
    parts += [f"no face in {empty}"] if empty else []
    parts += [f"{refused} with landmarks that are refused"] if refused else []
    parts += [f"{unreadable} unreadable"] if unreadable else []
    parts += [f"{closed} folders that cannot be read"] if closed else []
    return ", ".join(parts)
