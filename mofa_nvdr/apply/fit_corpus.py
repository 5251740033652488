"""Codes of the photographs that an encoder trains on: `mofa-nvdr fit FOLDER --codes`.

The photographs of a corpus are fitted as they are, with its landmarks, and codes.npz next to them says what
came of it: an encoder then has known codes to learn from (`loss.fitted`).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from mofa_nvdr.apply.fit_stages import QUICK_STAGES
from mofa_nvdr.apply.fitting import FaceFitter, FitOptions, Observed
from mofa_nvdr.data.crop_tables import CODE_FILE, DataError, code_table, npz_bytes
from mofa_nvdr.data.images import ImageError
from mofa_nvdr.data.photographs import SPLITS, Photographs
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.system.array_files import NotArrays, read_npz
from mofa_nvdr.system.files import write_bytes
from mofa_nvdr.system.locks import locked
from mofa_nvdr.system.notes import say

_SIZE = 240  # px at which photographs are fitted
MOST_DEVIATION = 0.08
"""Of a channel about the rendering: photographs that are fitted worse get no code."""


@dataclass(frozen=True)
class FittedCorpus:
    """What came of a corpus's photographs.

    Attributes:
        path: the codes.npz.
        fitted: photographs with a code.
        without: photographs without: no landmarks, unreadable, or fitted badly.
    """

    path: Path
    fitted: int
    without: int


def fit_corpus(
    folder: str | Path,
    face_model: str = "portraits",
    batch: int = 24,
    most_deviation: float = MOST_DEVIATION,
) -> FittedCorpus:
    """Fit every photograph of a folder that `preprocess` made, and write FOLDER/codes.npz.

    The file is written after each batch; the same call again goes on with it. Photographs are fitted as
    they are, so that codes belong to the very pictures of the folder.

    Args:
        folder: face crops with landmarks478.npz.
        face_model: as FaceModel.load takes it.
        batch: photographs that are fitted together.
        most_deviation: standard deviation of a channel about the rendering over what is visible of the face,
            above which a photograph gets no code.

    Raises:
        DataError: no such folder, no dense landmarks in it, or a codes.npz of something else.
        ValueError: a number out of its range, or the face model has no places for the landmarks.
        FolderInUse: another command writes the folder.
        OSError: the folder cannot be written; the codes of the batches before are in the file.
    """
    if batch < 1:
        raise ValueError(f"--batch is {batch}, expected 1 or more")
    if not most_deviation > 0:
        raise ValueError(f"fit: most_deviation is {most_deviation:g}, expected more than 0")
    model = FaceModel.load(face_model)
    splits = [Photographs(folder, split, _SIZE) for split in SPLITS]
    base = splits[0].base
    if not splits[0].has_dense:
        raise DataError(
            f"{folder}: no landmarks478.npz; `mofa-nvdr preprocess` writes it once the landmark networks are "
            "here (mofa-nvdr networks get landmarks)"
        )
    with locked(base, "mofa-nvdr fit --codes"):
        return _fit(splits, base / CODE_FILE, model, batch, most_deviation)


def _fit(
    splits: list[Photographs], path: Path, model: FaceModel, batch: int, most_deviation: float
) -> FittedCorpus:
    done = _read(path, model) if path.is_file() else {}
    todo = [
        (split, k) for split in splits for k, name in enumerate(split.names) if name not in done
    ]
    fitter = FaceFitter(model, FitOptions(stages=QUICK_STAGES))
    with tqdm(total=len(todo), unit="face", disable=not sys.stderr.isatty()) as bar:
        for first in range(0, len(todo), batch):
            some = todo[first : first + batch]
            done |= _fit_batch(fitter, some, most_deviation)
            codes = {name: code for name, (code, _) in done.items()}
            deviation = np.array([d for _, d in done.values()], np.float32)
            table = code_table(codes, model.layout, model.hash, deviation=deviation)
            write_bytes(path, npz_bytes(**table))
            bar.update(len(some))
    fitted = sum(bool(np.isfinite(code).all()) for code, _ in done.values())
    say(f"{fitted} fitted, {len(done) - fitted} without a code: {path}")
    return FittedCorpus(path, fitted, len(done) - fitted)


def _read(path: Path, model: FaceModel) -> dict[str, tuple[np.ndarray, float]]:
    """What an earlier call wrote.

    Raises:
        DataError: it is of another face model, or not of this command.
    """
    try:
        found = read_npz(path)
        whose, deviation = str(found["face_model_hash"]), found["deviation"].tolist()
        rows = dict(zip(found["files"].tolist(), zip(found["codes"], deviation)))
    except (NotArrays, OSError, LookupError, TypeError):
        raise DataError(
            f"{path}: is there, and not of `mofa-nvdr fit --codes`; remove it or give another folder"
        ) from None
    if not model.has_codes_of(whose):
        raise DataError(
            f"{path}: codes of another face model than {model.name}; give that one, or remove the file"
        )
    return rows


def _fit_batch(
    fitter: FaceFitter, some: list[tuple[Photographs, int]], most_deviation: float
) -> dict[str, tuple[np.ndarray, float]]:
    """Name -> code [size] and deviation; a code of NaN where there is none."""
    unknown = np.full(fitter.model.layout.size, np.nan, np.float32)
    out, names, photos, points = {}, [], [], []
    for split, k in some:
        name = split.names[k]
        out[name] = (unknown, float("nan"))
        try:
            sample = split[k]
        except ImageError as error:
            split.report_skipped(split.files[k], str(error))
            continue
        if sample.dense is None or not np.isfinite(sample.dense).any():
            continue
        names.append(name)
        photos.append(torch.from_numpy(sample.image).permute(2, 0, 1).float() / 255)
        points.append(torch.from_numpy(sample.dense).float())
    if names:
        fits = fitter(Observed(torch.stack(photos), torch.stack(points)))
        codes = fits.code.pack().numpy()
        for name, code, deviation in zip(names, codes, fits.deviation.tolist()):
            good = np.isfinite(code).all() and deviation <= most_deviation
            out[name] = (code if good else unknown, deviation)
    return out
