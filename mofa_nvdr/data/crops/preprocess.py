"""From photographs to training crops: find faces, frame them, leave out bad ones, remember where each was.

The output folder is a data set as `data.photographs.Photographs` reads it: `images/`, `index.csv`, and
`landmarks68.npz` where landmarks were known. `preprocess.jsonl` holds a line for each photograph done; the
same command again goes on after the last one, and other photographs are added to those that it holds.
"""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from mofa_nvdr.data.crops.detection import FaceDetector, LandmarkModel
from mofa_nvdr.data.crops.framing import (
    Crop,
    crop_from_box,
    crop_from_landmarks,
    sharpness,
    turned_away,
)
from mofa_nvdr.data.crops.landmark_files import landmarks_next_to, landmarks_of_folders, reason_of
from mofa_nvdr.data.images import MIN_SIDE, ImageError, read_image
from mofa_nvdr.data.packing import write_shards
from mofa_nvdr.data.photographs import IMAGE_SUFFIXES, DataError, npz_bytes, split_by_name
from mofa_nvdr.face.landmarks import NUM_LANDMARKS
from mofa_nvdr.system.files import (
    check_out,
    make_folders,
    named_errors,
    read_json_lines,
    write_files,
    write_text,
)

LOG_FILE = "preprocess.jsonl"
_COLUMNS = ("file", "split", "source", "left", "top", "side", "score", "found_by")
_QUALITY = 95
_LONGEST_NAME = 200  # bytes; file systems take 255
# Least and largest values; what is beyond is a typing error.
_RANGES: dict[str, tuple[float, float]] = {
    "size": (MIN_SIDE, 16384),
    "smallest": (1, 16384),
    "sharpness": (0, 1e6),
    "turned": (0, 1000),
    "score": (-100, 100),
    "workers": (1, 1024),
    "shards": (0, 1e6),
}
# A crop that must shrink by more to lie inside of its photograph shows a face that the photograph cuts.
_LEAST_INSIDE = 0.75
# Crops by landmarks and by the detector's box differ by 8 % in size and 5 % in place (one deviation).
_MOST_APART = 0.35


@dataclass(frozen=True)
class PreprocessOptions:
    """How crops are made and which are left out.

    Attributes:
        size: side of the crops, px.
        smallest: least side of a crop in the photograph, px.
        sharpness: least `framing.sharpness`.
        turned: largest `framing.turned_away`, where landmarks are known.
        score: least certainty of the detector.
        landmark_model: .dat file of dlib, for landmarks of faces that have none next to them; empty: none.
    """

    size: int = 256
    smallest: int = 48
    sharpness: float = 15.0
    turned: float = 0.9
    score: float = 2.0
    landmark_model: str = ""


def preprocess_files(
    inputs: Sequence[str],
    out: str,
    options: PreprocessOptions | None = None,
    workers: int = 2,
    shards: float = 0.0,
) -> Path:
    """Make training crops of all faces in photographs; the command `mofa-nvdr preprocess`.

    Landmarks next to a photograph are used instead of the detector: `NAME.pts` (iBUG, 1-based), `NAME.txt`
    or `NAME.csv` (68 or 5 rows of x and y; a .csv may name its columns), `NAME.npz` (`lm68` or `lm5`), or a
    folder's `landmarks68.npz` or `landmarks5.npz` (`files`, and `lm68` or `lm5`; one row for each face).

    A folder that holds crops keeps them and their names, and new ones are added under names that are free.
    Photographs that could not be read are tried again.

    Args:
        inputs: image files or folders (with their subfolders, less `out`).
        out: the folder to make, or to go on with.
        options: None: the defaults.
        workers: photographs at once.
        shards: MB of the tar shards into which the crops are packed, in out/shards; 0: none.

    Returns:
        The folder.

    Raises:
        ValueError: nothing to read, a number out of its range, a folder's landmark table that does not fit,
            other options than before, or a folder that cannot be made.
        RuntimeError: OpenCV or dlib is needed and missing.
        OSError: the folder cannot be written any more; the crops that are done are whole.
    """
    o = options or PreprocessOptions()
    values = {**asdict(o), "workers": workers, "shards": shards}
    for name, (least, most) in _RANGES.items():
        if not least <= values[name] <= most:
            raise ValueError(f"--{name} is {values[name]}, expected {least:.0f} to {most:.0f}")
    check_out(out)
    model = LandmarkModel(o.landmark_model) if o.landmark_model else None
    sources, closed = _find_sources(inputs, Path(out))
    known = landmarks_of_folders({source.path.parent for source in sources})
    folder = make_folders(out, "images")
    say = tqdm.write if sys.stderr.isatty() else lambda text: print(text, flush=True)
    for reason in closed:
        say(f"skipped: {reason}")
    with named_errors(folder, lambda: "the crops that are done are whole"):
        done = _read_log(folder, o)
        detectors = _Detectors(o)

        def work(source: _Source) -> tuple[dict[str, Any], list[bytes]]:
            return _process(source, known.get(source.path), o, detectors, model)

        # What could not be read may have been mended.
        todo = [s for s in sources if "unreadable" in done.get(s.place, {"unreadable": ""})]
        _write_crops(folder, done, todo, work, workers, say)
        _write_index(folder, list(done.values()))
        records = [done[source.place] for source in sources]
        say(f"{_summary(records, len(closed))}: {folder}")
        if len(done) > len(records):
            say(f"in all {_summary(list(done.values()))}: {folder}")
        if shards and any(record["faces"] for record in done.values()):
            packed = write_shards(folder, str(folder / "shards"), shards)
            say(f"{len(packed)} shards: {folder / 'shards'}")
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
    say: Callable[[str], None],
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
                    (folder / file).write_bytes(picture)
                done[source.place] = record
                log.write(json.dumps(record) + "\n")
                log.flush()
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
    known: list[np.ndarray] | None,
    o: PreprocessOptions,
    detectors: _Detectors,
    model: LandmarkModel | None,
) -> tuple[dict[str, Any], list[bytes]]:
    """One photograph: what is to be remembered of it, and its crops as JPEG."""
    path = source.path
    record: dict[str, Any] = {"source": _utf8(str(path)), "place": source.place}
    record |= {"faces": [], "pruned": []}
    try:
        image = read_image(path)
        points = known if known is not None else landmarks_next_to(path)
    except ImageError as error:
        return {**record, "unreadable": _utf8(str(error))}, []
    except OSError as error:  # of a folder that may be listed and no more
        reason = f"{path}: cannot read it ({error.strerror or error})"
        return {**record, "unreadable": _utf8(reason)}, []
    found: list[tuple[Crop, np.ndarray | None, float | None]]
    if points is not None:
        found = [(crop_from_landmarks(p), p, None) for p in points]
    elif model is not None:
        found = []
        for box in detectors.boxes(image):
            marks = model(image, box)
            found.append((crop_from_landmarks(marks), marks, box[3]))
            if _apart(found[-1][0], crop_from_box(*box[:3])):
                record["pruned"].append("landmarks off the face")
                found.pop()
    else:
        found = [(crop_from_box(*box[:3]), None, box[3]) for box in detectors.boxes(image)]
    pictures = []
    for crop, landmarks, score in found:
        inside = crop.inside(*image.shape[:2])
        reason = _reason(crop, inside, landmarks, o)
        if not reason:
            cut = inside.cut(image, o.size)
            reason = "blurred" if sharpness(cut) < o.sharpness else ""
        if reason:
            record["pruned"].append(reason)
            continue
        stream = io.BytesIO()
        Image.fromarray(cut).save(stream, "JPEG", quality=_QUALITY, subsampling=0)
        pictures.append(stream.getvalue())
        face: dict[str, Any] = {"left": inside.left, "top": inside.top, "side": inside.side,
                "score": score, "found_by": "detector"}  # fmt: skip
        if landmarks is not None:
            by = "detector, " if score is not None else ""
            face["found_by"] = f"{by}{len(landmarks)} landmarks"
            if len(landmarks) == NUM_LANDMARKS:
                face["lm68"] = np.round(inside.to_crop(landmarks, o.size), 3).tolist()
        record["faces"].append(face)
    return record, pictures


def _apart(crop: Crop, other: Crop) -> bool:
    """Whether two crops show different things: landmarks that went astray frame something else."""
    shift = np.hypot(
        crop.left - other.left + (crop.side - other.side) / 2,
        crop.top - other.top + (crop.side - other.side) / 2,
    )
    return bool(shift > _MOST_APART * other.side or abs(crop.side / other.side - 1) > _MOST_APART)


def _reason(crop: Crop, inside: Crop, landmarks: np.ndarray | None, o: PreprocessOptions) -> str:
    """Why a face is left out by its place; empty: it is not."""
    if crop.side < o.smallest:
        return "too small"
    if inside.side < _LEAST_INSIDE * crop.side:
        return "cut by the edge"
    if landmarks is not None and turned_away(landmarks) > o.turned:
        return "turned away"
    return ""


class _Detectors:
    """One detector for each thread, made when the first photograph without landmarks comes."""

    def __init__(self, o: PreprocessOptions) -> None:
        self._options = o
        self._local = threading.local()
        self._lock = threading.Lock()  # two first imports of OpenCV at once see half of it

    def boxes(self, image: np.ndarray) -> list[tuple[float, float, float, float]]:
        if not hasattr(self._local, "detector"):
            # A box is smaller than its crop.
            smallest = max(20, round(0.8 * self._options.smallest))
            with self._lock:
                self._local.detector = FaceDetector(smallest, self._options.score)
        return self._local.detector.boxes(image)


def _find_sources(inputs: Sequence[str], out: Path) -> tuple[list[_Source], list[str]]:
    """Photographs, each once, and the reasons of subfolders that cannot be read."""
    if not inputs:
        raise DataError("preprocess: no input; give photographs or folders of them")
    own = Path(os.path.realpath(out))
    images = own / "images"
    sources: dict[str, _Source] = {}
    closed: list[str] = []
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
        for file in _pictures(path, (own, images), closed) if is_folder else [path]:
            parts = file.relative_to(path).with_suffix("").parts if is_folder else (path.stem,)
            source = _Source(file, _utf8("_".join(parts), _LONGEST_NAME), _place(file))
            sources.setdefault(source.place, source)
    if not sources:
        raise DataError(
            "; ".join(closed) or f"{', '.join(inputs)}: no pictures here or in subfolders"
        )
    return list(sources.values()), closed


def _pictures(folder: Path, left_out: tuple[Path, Path], closed: list[str]) -> list[Path]:
    """Pictures below a folder, sorted; what the command writes is left out."""

    def note(error: OSError) -> None:
        closed.append(_utf8(f"{error.filename}: cannot read this folder ({error.strerror})"))

    files = []
    for root, folders, names in os.walk(folder, onerror=note):
        place = Path(root)
        folders[:] = [f for f in folders if Path(os.path.realpath(place / f)) not in left_out]
        files += [
            place / name
            for name in names
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")
        ]
    return sorted(files)


def _place(path: Path) -> str:
    """Where a photograph is; a link to a folder leads there, a link to a photograph is one of its own."""
    return os.path.join(os.path.realpath(path.parent), path.name)


def _utf8(text: str, most: int = 0) -> str:
    """`text`, or its last bytes, without what is no UTF-8 in the names of files: tables can't hold it."""
    return text.encode("utf-8", "surrogateescape")[-most:].decode("utf-8", "replace")


def _read_log(folder: Path, o: PreprocessOptions) -> dict[str, dict[str, Any]]:
    """Place -> the record of each photograph that is done, and a log that can be written on.

    A half-written last line of a killed process does not count, and of two lines for one photograph the
    later one does.
    """
    path = folder / LOG_FILE
    lines = read_json_lines(path)
    if not path.is_file() and any((folder / "images").iterdir()):
        raise ValueError(
            f"--out {folder}: its images/ holds files, and no {LOG_FILE} says of what; give another folder"
        )
    theirs = [name for name in ("index.csv", "landmarks68.npz") if (folder / name).exists()]
    if not path.is_file() and theirs:  # of the photographs, if they lie here
        raise ValueError(
            f"--out {folder}: holds {theirs[0]}, and no {LOG_FILE} says that it is of crops; give another "
            "folder"
        )
    if lines and lines[0].get("options") != asdict(o):
        raise ValueError(
            f"{folder}: was made with other options ({lines[0].get('options')}); use them, or another --out"
        )
    done = {
        line.get("place") or _place(Path(line["source"])): line
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
    kept = [{"options": asdict(o)}, *done.values()]
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
    return done


def _write_index(folder: Path, records: list[dict[str, Any]]) -> None:
    faces = [(record["source"], face) for record in records for face in record["faces"]]
    # Faces of one photograph go to one split.
    splits = split_by_name(sorted({source for source, _ in faces}))
    table = io.StringIO()
    writer = csv.DictWriter(table, _COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for source, face in faces:
        writer.writerow({**face, "source": source, "split": splits[source]})
    contents = {folder / "index.csv": table.getvalue().encode()}
    marked = [face for _, face in faces if "lm68" in face]
    if marked:
        marks = npz_bytes(
            files=np.array([face["file"] for face in marked]),
            lm68=np.array([face["lm68"] for face in marked], np.float32),
        )
        contents = {folder / "landmarks68.npz": marks, **contents}
    write_files(contents)


def _summary(records: list[dict[str, Any]], closed: int = 0) -> str:
    kept = sum(len(record["faces"]) for record in records)
    pruned = Counter(reason for record in records for reason in record["pruned"])
    unreadable = sum("unreadable" in record for record in records)
    empty = sum(
        not record["faces"] and not record["pruned"] and "unreadable" not in record
        for record in records
    )
    parts = [f"{kept} faces from {len(records)} photographs"]
    parts += [f"{count} left out as {reason}" for reason, count in sorted(pruned.items())]
    parts += [f"no face in {empty}"] if empty else []
    parts += [f"{unreadable} unreadable"] if unreadable else []
    parts += [f"{closed} folders that cannot be read"] if closed else []
    return ", ".join(parts)
