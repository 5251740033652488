"""A face model from photographs in files: `mofa-nvdr model learn`."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
from tqdm import tqdm

from mofa_nvdr.apply.kept_steps import KeptSteps, kept_steps
from mofa_nvdr.apply.landmark_places import place_dense_landmarks
from mofa_nvdr.apply.largest_face import FIT_SIZE, largest_face
from mofa_nvdr.apply.learning import Arrays, Faces, LearnOptions, ModelLearner
from mofa_nvdr.apply.result_files import image_paths
from mofa_nvdr.apply.sources import Source, name_sources
from mofa_nvdr.data.decoding import MAX_MEGAPIXELS, Picture
from mofa_nvdr.data.images import ImageError
from mofa_nvdr.data.listing import Inventory, not_a_photograph
from mofa_nvdr.face.dense_landmarks import NUM_DENSE
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.networks.landmark_detector import LandmarkDetector
from mofa_nvdr.system.budget import TooMuch, read_text
from mofa_nvdr.system.files import check_model_out
from mofa_nvdr.system.notes import say
from mofa_nvdr.system.origins import KEY, check_free, content_hash, origin

_LEAST_PEOPLE = 8
_FACES = 24  # photographs of one file of the work folder
_PIGMENTS = (
    0,
    1,
    10,
    11,
)  # modes of the procedural face: melanin, haemoglobin, and two of the iris
# What a photograph must be, or it teaches nothing: certain, in colour and sharp. Of the middle half of its
# crop: the mean distance of the brightest and the darkest channel, and the mean change between neighbours, in
# bytes.
_SCORE, _COLOURFUL, _SHARP = 0.8, 20.0, 7.0


@dataclass(frozen=True)
class LearnFileOptions:
    """Options of the command.

    Attributes:
        face_model: that is fitted first, as FaceModel.load takes it.
        people: .csv file with columns file, the path below the folder that was given, and person; photographs
            of a person share shape and albedo. Those that it does not name, all if it is empty, show another
            person each.
        rounds: of colours.
        albedo_modes: of the learned model.
        licence: of the photographs: a note in the file.
        name: of the model; empty: the file's.
        smallest: least side of a face's crop in the photograph, px.
        max_megapixels: larger photographs are not read.
        overwrite: replace a file that is there, whatever it was made from.
    """

    face_model: str = "default"
    people: str = ""
    rounds: int = 2
    albedo_modes: int = 80
    licence: str = ""
    name: str = ""
    smallest: int = 80
    max_megapixels: float = MAX_MEGAPIXELS
    overwrite: bool = False


def learn_model(
    inputs: Sequence[str | Path], out: str | Path, options: LearnFileOptions | None = None
) -> FaceModel:
    """Learn a face model from photographs.

    What is done is kept in the folder OUT.learning until the model is written: the same command goes on where
    it was stopped.

    Args:
        inputs: image files or folders of images.
        out: .safetensors file.
        options: None: the defaults.

    Returns:
        The model.

    Raises:
        NetworkMissingError: the landmark networks are not here.
        FolderInUse: another process learns the same file.
        ValueError: a mistake in the inputs or options, too few usable photographs, or `out` is another's.
    """
    o, path = options or LearnFileOptions(), Path(out)
    _check(o, path)
    if not inputs:
        image_paths([], command="model learn")  # raises
    model = FaceModel.load(o.face_model)
    detector = LandmarkDetector.load()
    inventory = Inventory()
    sources = name_sources([(g, image_paths([g], inventory, "model learn")) for g in inputs])
    if str(inventory):
        say(f"note: {inventory}", sys.stderr)
    people = _people(o.people, sources)
    facts = {key: value for key, value in asdict(o).items() if key != "overwrite"}
    hashes = [f"{s.name} {_hash(s.path)}" for s in sources]
    made_from = origin(
        "model learn", model.hash, json.dumps(facts, sort_keys=True), *hashes,
        *(f"{name} {person}" for name, person in sorted(people.items())),
    )  # fmt: skip
    with kept_steps(path, "mofa-nvdr model learn") as steps:
        check_free(out, [path], made_from, o.overwrite)  # here, where no other process can write it
        steps.begin(made_from)
        if model.dense_landmarks is None:
            say(f"measuring where the 478 landmarks lie on {model.name}", sys.stderr)
            places = place_dense_landmarks(
                model, lambda some: [[f.points for f in faces] for faces in detector.detect(some)]
            )
            model.place_dense_landmarks(places)
        faces = _faces(sources, people, detector, o, steps)
        learned = _learned(model, faces, o, steps)
        learned.metadata.update(_metadata(o, path, model, faces))
        learned.metadata[KEY] = made_from
        try:
            learned.save(path)
        except OSError as error:
            raise ValueError(
                f"--out {out}: cannot write there ({error.strerror or error})"
            ) from None
        steps.remove()
    size = path.stat().st_size / 1e6
    say(
        f"{learned.name} {learned.hash}: {path} ({size:.0f} MB), learned from {len(faces)} photographs"
    )
    return learned


def _hash(path: Path) -> str:
    try:
        return content_hash(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot read it ({error.strerror or error})") from None


def _check(o: LearnFileOptions, path: Path) -> None:
    check_model_out(path)
    for name in ("rounds", "albedo_modes", "smallest"):
        if getattr(o, name) < 1:
            raise ValueError(
                f"--{name.replace('_', '-')} is {getattr(o, name)}, expected 1 or more"
            )


def _people(table: str, sources: Sequence[Source]) -> dict[str, str]:
    """Name of a photograph -> its person, from a table; those without a person are left out."""
    if not table:
        return {}
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(table), newline="")))
    except TooMuch as error:  # names the file
        raise ValueError(f"--people {error}") from None
    except (OSError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"--people {table}: cannot read it ({reason})") from None
    if not rows or not {"file", "person"} <= set(rows[0]):
        raise ValueError(f"--people {table}: expected a table with the columns file and person")
    known = {source.name for source in sources}
    files = [row["file"] for row in rows]
    if unknown := [name for name in files if name not in known]:
        raise ValueError(
            f"--people {table}: {unknown[0]} is none of the photographs (such as {sources[0].name})"
        )
    name, times = Counter(files).most_common(1)[0]
    if times > 1:
        raise ValueError(f"--people {table}: {name} is there {times} times, expected once")
    return {row["file"]: row["person"] for row in rows if row["person"]}


def _faces(
    sources: Sequence[Source],
    people: Mapping[str, str],
    detector: LandmarkDetector,
    o: LearnFileOptions,
    steps: KeptSteps,
) -> Faces:
    """The usable faces; those of a person next to each other."""
    # Sorted by person, so that batches of fits hold a person's photographs together.
    places = {source.name: k for k, source in enumerate(sources)}
    first: dict[str, int] = {}
    for name, person in people.items():
        first.setdefault(person, places[name])

    def order(source: Source) -> tuple[int, int]:
        own = places[source.name]
        return first[people[source.name]] if source.name in people else own, own

    ordered = sorted(sources, key=order)
    parts: list[Arrays] = []
    with tqdm(total=len(ordered), unit="photograph", disable=not sys.stderr.isatty()) as bar:
        for k in range(0, len(ordered), _FACES):
            some = ordered[k : k + _FACES]
            parts.append(steps.keep(f"faces {k // _FACES}", partial(_read, some, detector, o)))
            bar.update(len(some))
    paths = {source.name: source.path for source in sources}
    rows = [row for part in parts for row in part["left_out"].tolist()]
    for name, reason in rows:
        say(f"skipped: {paths[name]}: {reason}", sys.stderr)
    for reason, count in sorted(Counter(reason for _, reason in rows).items()):
        say(f"note: {count} left out: {reason}", sys.stderr)
    photo, known, points, names = (
        np.concatenate([part[key] for part in parts])
        for key in ("photo", "known", "points", "name")
    )
    number: dict[str, int] = {}
    numbers = [
        number.setdefault(f"person {people[n]}" if n in people else f"file {n}", len(number))
        for n in map(str, names)
    ]
    if len(number) < _LEAST_PEOPLE:
        raise ValueError(
            f"model learn: {len(number)} people in usable photographs, expected {_LEAST_PEOPLE} or more"
        )
    say(f"{len(photo)} photographs of {len(number)} people", sys.stderr)
    return Faces(photo, known, points, np.array(numbers, np.int64))


def _read(sources: Sequence[Source], detector: LandmarkDetector, o: LearnFileOptions) -> Arrays:
    """Faces of some photographs, and why others have none."""
    photos, known, points, names, left_out = [], [], [], [], []
    for source in sources:
        try:
            if other := not_a_photograph(source.path):
                raise ImageError(other)
            with Picture(source.path, max_megapixels=o.max_megapixels) as picture:
                face = largest_face(picture, source.path, detector)
        except ImageError as error:
            left_out.append((source.name, str(error).removeprefix(f"{source.path}: ")))
            continue
        assert face.points is not None
        seen = face.photo.isfinite().all(0).numpy()
        photo = (face.photo.nan_to_num(0.0) * 255).round().byte().permute(1, 2, 0).numpy()
        if reason := _unusable(photo, face.crop.side, face.score, o):
            left_out.append((source.name, reason))
            continue
        photos.append(photo)
        known.append(seen)
        points.append(face.points.numpy())
        names.append(source.name)
    return {
        "photo": np.array(photos, np.uint8).reshape(-1, FIT_SIZE, FIT_SIZE, 3),
        "known": np.array(known, bool).reshape(-1, FIT_SIZE, FIT_SIZE),
        "points": np.array(points, np.float32).reshape(-1, NUM_DENSE, 2),
        "name": np.array(names, str),
        "left_out": np.array(left_out, str).reshape(-1, 2),
    }


def _unusable(photo: np.ndarray, side: float, score: float, o: LearnFileOptions) -> str:
    """Why a face teaches nothing; empty: it does.

    Args:
        photo: bytes [S, S, 3] of the crop.
        side: of the crop in the photograph, px.
        score: of the landmark networks.
        o: the options.
    """
    if side < o.smallest:
        return f"faces smaller than {o.smallest} px (--smallest)"
    if score < _SCORE:
        return "uncertain landmarks"
    quarter = len(photo) // 4
    middle = photo[quarter:-quarter, quarter:-quarter].astype(np.float64)
    if (middle.max(2) - middle.min(2)).mean() < _COLOURFUL:
        return "without colour"
    down, right = np.gradient(middle.mean(2))
    if np.abs(down).mean() + np.abs(right).mean() < _SHARP:
        return "blurred"
    return ""


class _Bars:
    """A progress bar for each step of learning, one after the other."""

    def __init__(self) -> None:
        self.step = ""
        self.bar: tqdm[NoReturn] | None = None

    def __call__(self, step: str, count: int, total: int) -> None:
        """`count` more of a step's `total` photographs are done."""
        if self.bar is None or step != self.step:
            self.close()
            hidden = not sys.stderr.isatty()
            self.step, self.bar = step, tqdm(total=total, unit="face", desc=step, disable=hidden)
        self.bar.update(count)

    def close(self) -> None:
        """Close the last bar."""
        if self.bar is not None:
            self.bar.close()


def _learned(model: FaceModel, faces: Faces, o: LearnFileOptions, steps: KeptSteps) -> FaceModel:
    # Pigments of the procedural face stay modes: they reach tones that few of those who are seen have.
    pigments = model.has_codes_of(FaceModel.load("procedural").hash)
    options = LearnOptions(
        rounds=o.rounds,
        albedo_modes=o.albedo_modes,
        kept_modes=_PIGMENTS if pigments and o.albedo_modes > len(_PIGMENTS) else (),
    )
    with closing(_Bars()) as bars:
        learner = ModelLearner(
            model, faces, options, steps.keep, lambda line: say(line, sys.stderr), bars
        )
        return learner()


def _metadata(o: LearnFileOptions, path: Path, model: FaceModel, faces: Faces) -> dict[str, str]:
    people = len(set(faces.person.tolist()))
    return {
        "name": o.name or path.stem,
        "version": "1",
        "licence": o.licence or "that of the photographs, and of the model that was fitted first",
        "source": f"mofa-nvdr model learn: {len(faces)} photographs of {people} people, fitted first with "
        f"{model.name} {model.hash} ({model.metadata.get('licence', 'no licence given')})",
    }
