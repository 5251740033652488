"""From photographs to training crops: find faces, frame them, leave out bad ones, remember where each was.

The output folder is a data set as `data.photographs.Photographs` reads it: `images/`, `index.csv`, and
`landmarks68.npz` and `landmarks478.npz` where landmarks were known. `preprocess.jsonl` holds a line for each
photograph done; the same command again goes on after the last one, and other photographs are added to those
that it holds.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from mofa_nvdr.data.crop_tables import DataError
from mofa_nvdr.data.crops.detection import LandmarkModel
from mofa_nvdr.data.crops.finder import FaceFinder, FoundFace, Networks, cut_crop
from mofa_nvdr.data.crops.framing import Crop, sharpness, turned_away
from mofa_nvdr.data.crops.known_points import KnownPoints
from mofa_nvdr.data.crops.landmark_files import LandmarkError, orphans, reason_of
from mofa_nvdr.data.crops.records import LOG_FILE, place_of, read_records, summary, write_tables
from mofa_nvdr.data.decoding import MAX_MEGAPIXELS, MIN_SIDE, ImageError, Picture
from mofa_nvdr.data.listing import Inventory, not_a_photograph
from mofa_nvdr.data.packing import write_shards
from mofa_nvdr.face.landmarks import NUM_LANDMARKS
from mofa_nvdr.system.files import (
    check_out,
    make_folders,
    named_errors,
    write_bytes,
)
from mofa_nvdr.system.locks import locked
from mofa_nvdr.system.memory import MemoryBudget
from mofa_nvdr.system.notes import say
from mofa_nvdr.system.threads import one_thread_each

_QUALITY = 95
_LONGEST_NAME = 200  # bytes; file systems take 255
# Least and largest values; what is beyond is a typing error.
_RANGES: dict[str, tuple[float, float]] = {
    "size": (MIN_SIDE, 16384),
    "smallest": (1, 16384),
    "sharpness": (0, 1e6),
    "turned": (0, 1000),
    "score": (-100, 100),
    "detection_size": (64, 16384),
    "max_megapixels": (0.001, 100_000),
    "workers": (1, 1024),
    "shards": (0, 1e6),
}
# A crop that must shrink by more to lie inside of its photograph shows a face that the photograph cuts.
_LEAST_INSIDE = 0.75
# Bytes of decoded photographs that all workers hold at once; a larger one is decoded alone.
_MEMORY = 2e9


@dataclass(frozen=True)
class PreprocessOptions:
    """How crops are made and which are left out.

    Attributes:
        size: side of the crops, px.
        smallest: least side of a crop in the photograph, px.
        sharpness: least `framing.sharpness`.
        turned: largest `framing.turned_away`, where landmarks are known.
        score: least certainty of OpenCV's detector.
        landmark_model: .dat file of dlib, for landmarks of faces that have none next to them; empty: none.
        detection_size: longer side of the copy in which faces are looked for, px.
    """

    size: int = 256
    smallest: int = 48
    sharpness: float = 15.0
    turned: float = 0.9
    score: float = 2.0
    landmark_model: str = ""
    detection_size: int = 1280


def preprocess_files(
    inputs: Sequence[str],
    out: str,
    options: PreprocessOptions | None = None,
    workers: int = 2,
    shards: float = 0.0,
    max_megapixels: float = MAX_MEGAPIXELS,
    networks: Networks | None = None,
) -> Path:
    """Make training crops of all faces in photographs; the command `mofa-nvdr preprocess`.

    Landmarks next to a photograph are used instead of the detector: `NAME.pts` (iBUG, 1-based), `NAME.txt`
    or `NAME.csv` (rows of x and y, whose number says what they are: `point_sets`; a .csv may name its
    columns), `NAME.npz` (`lm68`, or of another number), or a folder's `landmarks68.npz`, or of another
    number (`files` and `lm68`; one row for each face): pixels of the picture as a viewer shows it, after the
    EXIF turn. A photograph whose landmarks are of another frame or order is left out, and the detector does
    not take their place.

    A folder that holds crops keeps them and their names, and new ones are added under names that are free.
    Photographs that could not be read are tried again. What the package wrote itself is left out: results by
    their marks, and folders of crops, unless they are named.

    Args:
        inputs: image files or folders (with their subfolders, less `out`).
        out: the folder to make, or to go on with.
        options: None: the defaults.
        workers: photographs at once.
        shards: MB of the tar shards into which the crops are packed, in out/shards; 0: none.
        max_megapixels: larger photographs are not read.
        networks: find faces and their landmarks where none are next to a photograph; None: OpenCV's detector
            finds faces.

    Returns:
        The folder.

    Raises:
        ValueError: nothing to read, a number out of its range, a folder's landmark table that does not fit,
            other options than before, or a folder that cannot be made.
        RuntimeError: OpenCV or dlib is needed and missing.
        FolderInUse: another command writes the folder.
        OSError: the folder cannot be written any more; the crops that are done are whole.
        LandmarkError: photographs were left out for their landmarks; all others are done.
    """
    o = options or PreprocessOptions()
    values = {**asdict(o), "workers": workers, "shards": shards, "max_megapixels": max_megapixels}
    for name, (least, most) in _RANGES.items():
        if not least <= values[name] <= most:
            flag = f"--{name.replace('_', '-')}"
            raise ValueError(f"{flag} is {values[name]}, expected {least:g} to {most:.0f}")
    check_out(out)
    model = LandmarkModel(o.landmark_model) if o.landmark_model else None
    sources, closed, notes = _find_sources(inputs, Path(out))
    finder = FaceFinder(o.smallest, o.score, o.detection_size, model, networks)
    points = KnownPoints([source.path for source in sources], finder, o.detection_size)
    folder = make_folders(out, "images")
    for text in [*notes, *(f"skipped: {reason}" for reason in closed)]:
        say(text)
    for note in [*points.notes, *orphans(source.path for source in sources)]:
        say(f"note: {note}")
    with (
        locked(folder, "mofa-nvdr preprocess"),
        named_errors(folder, lambda: "the crops that are done are whole"),
    ):
        done = read_records(folder, asdict(o), asdict(PreprocessOptions()))
        budget = MemoryBudget(_MEMORY)

        def work(source: _Source) -> tuple[dict[str, Any], list[bytes]]:
            return _process(source, points, o, finder, max_megapixels, budget)

        # What could not be read may have been mended.
        todo = [s for s in sources if "unreadable" in done.get(s.place, {"unreadable": ""})]
        # Networks that look at one photograph gain less from a second thread than the next photograph does.
        with one_thread_each() if workers > 1 else nullcontext():
            _write_crops(folder, done, todo, work, workers)
        write_tables(folder, list(done.values()))
        records = [done[source.place] for source in sources]
        say(f"{summary(records, len(closed))}: {folder}")
        if len(done) > len(records):
            say(f"in all {summary(list(done.values()))}: {folder}")
        if shards and any(record["faces"] for record in done.values()):
            packed = write_shards(folder, str(folder / "shards"), shards)
            say(f"{len(packed)} shards: {folder / 'shards'}")
    refused = [record["unreadable"] for record in records if record.get("refused")]
    if refused:
        raise LandmarkError(
            f"{len(refused)} photographs left out for their landmarks, all others are done; correct the "
            f"landmarks and give the same command again, or remove them; first {refused[0]}"
        )
    return folder


@dataclass(frozen=True)
class _Source:
    """A photograph.

    Attributes:
        path: as it was given.
        name: what its crops are called where that is free.
        place: the same however it was given.
    """

    path: Path
    name: str
    place: str


def _write_crops(
    folder: Path,
    done: dict[str, dict[str, Any]],
    todo: list[_Source],
    work: Callable[[_Source], tuple[dict[str, Any], list[bytes]]],
    workers: int,
) -> None:
    """Write the crops of `todo` and a line of the log after those of each photograph.

    Names are given here, in the order of the photographs, and not by the workers.
    """
    taken = {face["file"].casefold() for record in done.values() for face in record["faces"]}
    pool = ThreadPoolExecutor(workers, thread_name_prefix="mofa-nvdr-preprocess")
    try:
        with open(folder / LOG_FILE, "a", encoding="utf-8") as log:
            results = zip(todo, pool.map(work, todo))
            bar = tqdm(results, total=len(todo), unit="photo", disable=not sys.stderr.isatty())
            for source, (record, pictures) in bar:
                files = _free_names(source.name, len(pictures), taken)
                for face, file, picture in zip(record["faces"], files, pictures):
                    face["file"] = file
                    write_bytes(folder / file, picture)
                done[source.place] = record
                log.write(json.dumps(record) + "\n")
                log.flush()
                for note in record.get("notes", ()):
                    say(f"note: {note}")
                if "unreadable" in record:
                    say(f"skipped: {record['unreadable']}")
    finally:
        pool.shutdown(cancel_futures=True)


def _free_names(name: str, count: int, taken: set[str]) -> list[str]:
    """Files for the crops of one photograph: NAME, NAME_1, ..., or NAME-2, NAME-2_1, ..., as is free.

    Names that differ in upper and lower case alone are one file on many systems.
    """
    number, base = 1, name
    while True:
        files = [f"images/{base}{f'_{k}' if k else ''}.jpg" for k in range(count)]
        if taken.isdisjoint(file.casefold() for file in files):
            taken.update(file.casefold() for file in files)
            return files
        number += 1
        base = f"{name}-{number}"


def _process(
    source: _Source,
    points: KnownPoints,
    o: PreprocessOptions,
    finder: FaceFinder,
    max_megapixels: float,
    budget: MemoryBudget,
) -> tuple[dict[str, Any], list[bytes]]:
    """One photograph: what is to be remembered of it, and its crops as JPEG."""
    path = source.path
    record: dict[str, Any] = {"source": _utf8(str(path)), "place": source.place}
    record |= {"faces": [], "pruned": []}
    pictures: list[bytes] = []
    try:
        if other := not_a_photograph(path):
            raise ImageError(other)
        with Picture(path, "", max_megapixels, budget) as picture:
            known = points.of(path)
            if known.notes:
                record["notes"] = [_utf8(note) for note in known.notes]
            if known.points is not None:
                points.check(known, path, picture)
                faces, astray = [FoundFace.of(marks) for marks in known.points], 0
            else:
                faces, astray = finder.find(picture)
            record["pruned"] += ["landmarks off the face"] * astray
            for face in faces:
                _keep_face(face, picture, o, record, pictures)
    except LandmarkError as error:
        return {**record, "unreadable": _utf8(str(error)), "refused": True}, []
    except ImageError as error:
        return {**record, "faces": [], "pruned": [], "unreadable": _utf8(str(error))}, []
    except OSError as error:  # of a folder that may be listed and no more
        reason = f"{path}: cannot read it ({error.strerror or error})"
        return {**record, "unreadable": _utf8(reason)}, []
    return record, pictures


def _keep_face(
    face: FoundFace,
    picture: Picture,
    o: PreprocessOptions,
    record: dict[str, Any],
    pictures: list[bytes],
) -> None:
    """Add a face to the record of its photograph, and its crop to the pictures; or why it is left out."""
    landmarks, score = face.landmarks, face.score
    inside = face.crop.inside(picture.height, picture.width)
    reason = _reason(face.crop, inside, landmarks, o)
    if not reason:
        cut = cut_crop(picture, inside, o.size)
        reason = "blurred" if sharpness(cut) < o.sharpness else ""
    if reason:
        record["pruned"].append(reason)
        return
    stream = io.BytesIO()
    Image.fromarray(cut).save(stream, "JPEG", quality=_QUALITY, subsampling=0)
    pictures.append(stream.getvalue())
    row: dict[str, Any] = {"left": inside.left, "top": inside.top, "side": inside.side,
            "score": score, "found_by": face.found_by}  # fmt: skip
    if landmarks is not None:
        by = f"{face.found_by}, " if score is not None else ""
        row["found_by"] = f"{by}{len(landmarks)} landmarks"
        if len(landmarks) == NUM_LANDMARKS:
            row["lm68"] = np.round(inside.to_crop(landmarks, o.size), 3).tolist()
    if face.dense is not None:
        dense = np.round(inside.to_crop(face.dense, o.size), 2).tolist()
        row["lm478"] = [
            p if np.isfinite(p).all() else [None, None] for p in dense
        ]  # JSON has no NaN
    record["faces"].append(row)


def _reason(crop: Crop, inside: Crop, landmarks: np.ndarray | None, o: PreprocessOptions) -> str:
    """Why a face is left out by its place; empty: it is not."""
    if crop.side < o.smallest:
        return "too small"
    if inside.side < _LEAST_INSIDE * crop.side:
        return "cut by the edge"
    if landmarks is not None and turned_away(landmarks) > o.turned:
        return "turned away"
    return ""


def _find_sources(inputs: Sequence[str], out: Path) -> tuple[list[_Source], list[str], list[str]]:
    """Photographs, each once; reasons of subfolders that cannot be read; notes on what is left out."""
    if not inputs:
        raise DataError("preprocess: no input; give photographs or folders of them")
    own = Path(os.path.realpath(out))
    images = own / "images"
    sources: dict[str, _Source] = {}
    inventory, notes = Inventory(), []

    def leave_out(place: Path) -> bool:
        """What the command writes: its own folder, and folders of earlier calls."""
        if Path(os.path.realpath(place)) in (own, images):
            return True
        if crops := os.path.isfile(place / LOG_FILE):
            notes.append(_utf8(f"left out: {place} holds crops; name it to crop them again"))
        return crops

    for text in inputs:
        if not text:  # pathlib takes it for the working directory
            raise DataError("preprocess: an input is empty, expected a photograph or a folder")
        path = Path(text)
        try:
            is_folder = path.is_dir()
            if not is_folder and not path.is_file():
                raise DataError(f"{path}: no such photograph or folder")
        except OSError as error:
            raise DataError(f"{path}: {reason_of(error)}") from None
        where = Path(os.path.realpath(path if is_folder else path.parent))
        if where.is_relative_to(images):
            raise DataError(f"{path}: lies in {out / 'images'}, where crops go; give another --out")
        for file in inventory.photographs(path, leave_out) if is_folder else [path]:
            parts = file.relative_to(path).with_suffix("").parts if is_folder else (path.stem,)
            source = _Source(file, _utf8("_".join(parts), _LONGEST_NAME), place_of(file))
            sources.setdefault(source.place, source)
    closed = [
        _utf8(f"{error.filename}: cannot read this folder ({error.strerror})")
        for error in inventory.closed
    ]
    notes += [str(inventory)] if str(inventory) else []
    if not sources:
        words = [f"{', '.join(inputs)}: no pictures here or in subfolders", *notes]
        raise DataError("; ".join(closed or words))
    return list(sources.values()), closed, notes


def _utf8(text: str, most: int = 0) -> str:
    """`text`, or its last bytes, without what is no UTF-8 in the names of files: tables can't hold it."""
    return text.encode("utf-8", "surrogateescape")[-most:].decode("utf-8", "replace")
