"""From photographs to training crops: find faces, frame them, leave out bad ones, remember where each was.

The output folder is a data set as `data.photographs.Photographs` reads it: `images/`, `index.csv`, and
`landmarks68.npz` where landmarks were known. `preprocess.jsonl` holds a line for each photograph done; the
same command again goes on after the last one.
"""

from __future__ import annotations

import csv
import io
import json
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from mofa_nvdr.data.images import ImageError, read_image
from mofa_nvdr.data.packing import write_shards
from mofa_nvdr.data.photographs import IMAGE_SUFFIXES, DataError, npz_bytes, split_by_name
from mofa_nvdr.face_crops import (
    Crop,
    FaceDetector,
    LandmarkModel,
    crop_from_box,
    crop_from_landmarks,
    sharpness,
    turned_away,
)
from mofa_nvdr.files import write_files
from mofa_nvdr.landmarks import NUM_LANDMARKS
from mofa_nvdr.run_folder import write_text

LOG_FILE = "preprocess.jsonl"
_COLUMNS = ("file", "split", "source", "left", "top", "side", "score", "found_by")
_QUALITY = 95
# A crop that must shrink by more to lie inside of its photograph shows a face that the photograph cuts.
_LEAST_INSIDE = 0.75
# Crops by landmarks and by the detector's box differ by 8 % in size and 5 % in place (one deviation).
_MOST_APART = 0.35


@dataclass(frozen=True)
class Options:
    """How crops are made and which are left out.

    Attributes:
        size: side of the crops, px.
        smallest: least side of a crop in the photograph, px.
        sharpness: least `face_crops.sharpness`.
        turned: largest `face_crops.turned_away`, where landmarks are known.
        score: least certainty of the detector.
        landmark_model: .dat file of dlib, for landmarks of faces that have none beside them; empty: none.
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
    options: Options | None = None,
    workers: int = 2,
    shards: float = 0.0,
) -> Path:
    """Make training crops of all faces in photographs; the command `mofa-nvdr preprocess`.

    Landmarks beside a photograph are used instead of the detector: `NAME.pts` (iBUG, 1-based), `NAME.txt`
    or `NAME.csv` (68 or 5 rows of x and y), `NAME.npz` (`lm68` or `lm5`), or a folder's `landmarks68.npz` or
    `landmarks5.npz` (`files`, and `lm68` or `lm5`; one row a face).

    Args:
        inputs: image files or folders (with their subfolders).
        out: the folder to make, or to go on with.
        options: None: the defaults.
        workers: photographs at once.
        shards: MB of the tar shards into which the crops are packed, in out/shards; 0: none.

    Returns:
        The folder.

    Raises:
        ValueError: nothing to read, a landmark file that does not fit, or other options than before.
        RuntimeError: OpenCV or dlib is needed and missing.
        OSError: the folder can't be written.
    """
    o = options or Options()
    for name, value in (("size", o.size), ("smallest", o.smallest), ("workers", workers)):
        if value < 1:
            raise ValueError(f"preprocess: {name} is {value}, expected at least 1")
    if not shards >= 0:
        raise ValueError(f"preprocess: shards is {shards} MB, expected 0 or more")
    model = LandmarkModel(o.landmark_model) if o.landmark_model else None
    sources = _find_sources(inputs)
    known = _folder_landmarks({path.parent for path, _ in sources})
    folder = Path(out)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    done = _read_log(folder / LOG_FILE, o)
    todo = [(path, name) for path, name in sources if str(path) not in done]
    detectors = _Detectors(o)
    say = tqdm.write if sys.stderr.isatty() else lambda text: print(text, flush=True)

    def work(item: tuple[Path, str]) -> dict[str, Any]:
        return _process(item[0], item[1], known.get(item[0]), o, folder, detectors, model)

    with (
        open(folder / LOG_FILE, "a", encoding="utf-8") as log,
        ThreadPoolExecutor(workers, thread_name_prefix="mofa-nvdr-preprocess") as pool,
    ):
        if not done:
            log.write(json.dumps({"options": asdict(o)}) + "\n")
        results = pool.map(work, todo)
        for record in tqdm(results, total=len(todo), unit="photo", disable=not sys.stderr.isatty()):
            done[record["source"]] = record
            log.write(json.dumps(record) + "\n")
            log.flush()
            if "unreadable" in record:
                say(f"skipped: {record['unreadable']}")
    records = [done[str(path)] for path, _ in sources]
    _write_index(folder, records, o)
    say(f"{_summary(records)}: {folder}")
    if shards and any(record["faces"] for record in records):
        packed = write_shards(folder, str(folder / "shards"), shards)
        say(f"{len(packed)} shards: {folder / 'shards'}")
    return folder


def _process(
    path: Path,
    name: str,
    known: list[np.ndarray] | None,
    o: Options,
    folder: Path,
    detectors: _Detectors,
    model: LandmarkModel | None,
) -> dict[str, Any]:
    """One photograph: its crops are written, and what is to be remembered is returned."""
    record: dict[str, Any] = {"source": str(path), "faces": [], "pruned": []}
    try:
        image = read_image(path)
        points = known if known is not None else _sidecar(path)
    except ImageError as error:
        return {**record, "unreadable": str(error)}
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
    for crop, landmarks, score in found:
        inside = crop.inside(*image.shape[:2])
        cut = inside.cut(image, o.size)
        reason = _reason(crop, inside, cut, landmarks, o)
        if reason:
            record["pruned"].append(reason)
            continue
        number = len(record["faces"])
        file = f"images/{name}{f'_{number}' if number else ''}.jpg"
        Image.fromarray(cut).save(folder / file, quality=_QUALITY, subsampling=0)
        face = {"file": file, "left": inside.left, "top": inside.top, "side": inside.side,
                "score": score, "found_by": "detector"}  # fmt: skip
        if landmarks is not None:
            by = "detector, " if score is not None else ""
            face["found_by"] = f"{by}{len(landmarks)} landmarks"
            if len(landmarks) == NUM_LANDMARKS:
                face["lm68"] = np.round(inside.to_crop(landmarks, o.size), 3).tolist()
        record["faces"].append(face)
    return record


def _apart(crop: Crop, other: Crop) -> bool:
    """Whether two crops show different things: landmarks that went astray frame something else."""
    shift = np.hypot(
        crop.left - other.left + (crop.side - other.side) / 2,
        crop.top - other.top + (crop.side - other.side) / 2,
    )
    return bool(shift > _MOST_APART * other.side or abs(crop.side / other.side - 1) > _MOST_APART)


def _reason(
    crop: Crop, inside: Crop, cut: np.ndarray, landmarks: np.ndarray | None, o: Options
) -> str:
    """Why a face is left out; empty: it is not."""
    if crop.side < o.smallest:
        return "too small"
    if inside.side < _LEAST_INSIDE * crop.side:
        return "cut by the edge"
    if landmarks is not None and turned_away(landmarks) > o.turned:
        return "turned away"
    if sharpness(cut) < o.sharpness:
        return "blurred"
    return ""


class _Detectors:
    """One detector for each thread, made when the first photograph without landmarks comes."""

    def __init__(self, o: Options) -> None:
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


def _find_sources(inputs: Sequence[str]) -> list[tuple[Path, str]]:
    """Photographs with the names of their crops, each name once."""
    if not inputs:
        raise DataError("preprocess: no input; give photographs or folders of them")
    paths: list[tuple[Path, str]] = []
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            files = sorted(
                file
                for file in path.rglob("*")
                if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
            )
            paths += [(f, "_".join(f.relative_to(path).with_suffix("").parts)) for f in files]
        elif path.is_file():
            paths.append((path, path.stem))
        else:
            raise DataError(f"{path}: no such photograph or folder")
    if not paths:
        raise DataError(f"{', '.join(map(str, inputs))}: no pictures here or in subfolders")
    taken: Counter[str] = Counter()
    result = []
    for path, name in paths:
        taken[name] += 1
        result.append((path, name if taken[name] == 1 else f"{name}-{taken[name]}"))
    return result


def _folder_landmarks(folders: set[Path]) -> dict[Path, list[np.ndarray]]:
    """Photograph -> the landmarks of its faces, from the tables of their folders."""
    known: dict[Path, list[np.ndarray]] = {}
    for folder in sorted(folders):
        for key, count in (("lm68", NUM_LANDMARKS), ("lm5", 5)):
            path = folder / f"landmarks{count}.npz"
            if not path.is_file():
                continue
            table = _load_npz(path)
            if not {"files", key} <= table.keys() or table[key].shape != (
                len(table["files"]),
                count,
                2,
            ):
                raise DataError(f"{path}: expected files [N] and {key} [N, {count}, 2]")
            for file, points in zip(table["files"], table[key]):
                if np.isfinite(points).all():
                    known.setdefault(folder / str(file), []).append(points.astype(np.float64))
            break
    return known


def _sidecar(path: Path) -> list[np.ndarray] | None:
    """Landmarks in a file of the photograph's own name, or None."""
    for suffix in (".pts", ".npz", ".txt", ".csv"):
        file = path.with_suffix(suffix)
        if file.is_file():
            points = _read_points(file)
            if points.shape not in ((NUM_LANDMARKS, 2), (5, 2)) or not np.isfinite(points).all():
                raise ImageError(
                    f"{file}: holds points {list(points.shape)}, expected 68 or 5 rows of x and y"
                )
            return [points]
    return None


def _read_points(file: Path) -> np.ndarray:
    if file.suffix == ".npz":
        table = _load_npz(file)
        return np.asarray(table.get("lm68", table.get("lm5", np.empty((0, 2)))), np.float64)
    text = file.read_text(encoding="utf-8", errors="replace")
    if file.suffix == ".pts":
        text = text.partition("{")[2].partition("}")[0]
    rows = [line.replace(",", " ").split() for line in text.splitlines()]
    try:
        points = np.array([[float(x) for x in row[:2]] for row in rows if len(row) >= 2])
    except ValueError:
        points = np.empty((0, 2))
    # iBUG's files count from 1, at pixel centres.
    return points - 0.5 if file.suffix == ".pts" else points


def _load_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except Exception as error:  # numpy, zipfile and zlib each raise their own on damaged files
        raise DataError(f"{path}: cannot read it as .npz without pickles") from error


def _read_log(path: Path, o: Options) -> dict[str, dict[str, Any]]:
    """Photographs that are done; a half-written last line of a killed process does not count."""
    if not path.is_file():
        return {}
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    if lines and lines[0].get("options") != asdict(o):
        raise ValueError(
            f"{path.parent}: was made with other options ({lines[0].get('options')}); use them, or "
            "another --out"
        )
    # Written anew, so that nothing is appended to half a line.
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
    return {line["source"]: line for line in lines if "source" in line}


def _write_index(folder: Path, records: list[dict[str, Any]], o: Options) -> None:
    faces = [(record["source"], face) for record in records for face in record["faces"]]
    # Faces of one photograph go to one split.
    splits = split_by_name(sorted({source for source, _ in faces}))
    table = io.StringIO()
    writer = csv.DictWriter(table, _COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for source, face in faces:
        writer.writerow({**face, "source": source, "split": splits[source]})
    write_text(folder / "index.csv", table.getvalue())
    marked = [face for _, face in faces if "lm68" in face]
    if marked:
        marks = npz_bytes(
            files=np.array([face["file"] for face in marked]),
            lm68=np.array([face["lm68"] for face in marked], np.float32),
        )
        write_files({folder / "landmarks68.npz": marks})


def _summary(records: list[dict[str, Any]]) -> str:
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
    return ", ".join(parts)
