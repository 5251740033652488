"""What an object in front of a face does to its reconstruction: the MoFA paper's Fig. 15, in numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mofa_nvdr.apply.color_solver import ColorOptions, ColorSolver
from mofa_nvdr.apply.fit_stages import REFINE_STAGES
from mofa_nvdr.apply.fitting import FaceFitter, FitOptions, Observed, Stage
from mofa_nvdr.apply.same_person import model_on_cpu
from mofa_nvdr.data.crop_tables import DataError
from mofa_nvdr.data.occluders import Occluders
from mofa_nvdr.data.sampling import val_batches
from mofa_nvdr.data.shards import open_corpus
from mofa_nvdr.data.synthetic.faces import SyntheticFaces
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.losses.face_errors import face_errors
from mofa_nvdr.losses.mofa import landmark_error, photometric_raster
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.render.renderer import Rendering
from mofa_nvdr.runs.measured import Measured
from mofa_nvdr.runs.rows import facts_of, one_face_model
from mofa_nvdr.runs.trained import Reconstructor

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Of each face, covered."""
_BATCH = 8
_SEED = 20171  # of rendered faces and boxes: no training draws these
_TOLD, _UNTOLD = "occluders told", "not told"

Way = Callable[[Tensor, FaceCode], FaceCode]
"""Pictures [B, 3, S, S] and the codes that an encoder says of them, to codes."""


@dataclass(frozen=True)
class _Faces:
    """Pictures before they are covered, and what is known of them.

    Attributes:
        image: [B, 3, S, S], what the encoder would see.
        clean: the same without anything before the face.
        shown: [B, 1, S, S], where the face is.
        landmarks: [B, 68, 2] px, NaN where unknown.
        code: the true one; None: unknown.
        places: number of each.
    """

    image: Tensor
    clean: Tensor
    shown: Tensor
    landmarks: Tensor
    code: FaceCode | None
    places: range


@torch.no_grad()
def measure_occluded(
    runs: Mapping[str, Reconstructor], on: str, count: int, plain: bool = False
) -> Measured:
    """Errors by the share of the face that a box covers.

    Each encoder's own codes; the same with light and albedo solved for in the picture; and a fit of some
    steps from there. The last two with and without telling what is in front of the face by its colours.

    Args:
        runs: encoders, by the names of their rows.
        on: "synthetic": rendered people of the runs' face model; or a training folder: its validation
            pictures.
        count: how many faces; of a folder at most, and 0: all.
        plain: of rendered people: without heads, occluders of their own and a camera's faults.

    Raises:
        DataError: no such folder, or no validation picture in it.
        ValueError: count below 1, or rendered people and runs of several face models.
    """
    rendered = on == "synthetic"
    if rendered and count < 1:
        raise ValueError(f"evaluate: --count is {count}, expected at least 1")
    model = one_face_model(runs) if rendered else ""
    guide = next(iter(runs.values()))
    found: dict[tuple[str, float], list[dict[str, Tensor]]] = {}
    for name, run in runs.items():
        ways = _ways(run.decoder)
        number = 0
        for faces in (
            _rendered(run, count, plain) if rendered else _photographs(run, guide, on, count)
        ):
            number += len(faces.places)
            occluders = Occluders(faces.shown, _SEED, faces.places)
            for share in SHARES:
                image, box = occluders.cover(faces.image, share)
                said = run(image)
                for way, solve in ways.items():
                    errors = _errors(run.decoder, solve(image, said), faces, box)
                    found.setdefault((f"{name}{way}", share), []).append(errors)
    keys = ("landmarks", "photometric seen", "photometric hidden")
    units = {"landmarks": "px", **dict.fromkeys(keys[1:], "")}
    if rendered:
        units = {"geometry": "mm", "form": "mm", **units}
    order = list(dict.fromkeys(row for row, _ in found))
    rows = {
        f"{row}, {share:.0%}": {
            key: float(torch.cat([part[key] for part in parts]).nanmean()) for key in units
        }
        for (row, share), parts in sorted(found.items(), key=lambda item: order.index(item[0][0]))
    }
    return Measured(
        "What covers the face (MoFA, Fig. 15)", _protocol(model, on, number, plain), units, rows,
        facts_of(runs),
    )  # fmt: skip


def _protocol(model: str, on: str, number: int, plain: bool) -> list[str]:
    if on == "synthetic":
        around = (
            "made-up rooms"
            if plain
            else "heads, hair, occluders of their own and a camera's faults"
        )
        who = f"{number} people drawn from the prior of face model {model}, with {around}, seed {_SEED}"
        shown = "the frontal region, where it is seen of the mesh"
        marks = "the true ones"
    else:
        who = f"{number} validation pictures of {Path(on).name}"
        shown = "what the first encoder draws of the picture before it is covered"
        marks = (
            "those of the folder's landmarks68.npz; where a network found these, agreement with it is no "
            "accuracy"
        )
    lines = [
        f"{who}; the paper shows pictures and has no numbers.",
        f"A turned box of one colour with some texture, in a place of its own on each face, covers the "
        f"share of the face's pixels that the row says ({shown}). Larger boxes contain the smaller ones.",
        f"landmarks: mean over the 46 points to {marks}, pixels at 240.",
        "photometric: mean RGB distance of the rendering to the picture without the box, over the "
        "rendering's pixels beside the box (seen) and behind it (hidden).",
        f"colours: light and albedo solved for in the covered picture, pose and form the encoder's. fit: "
        f"{sum(stage.steps for stage in _refinement(True))} steps from the encoder's face by colours alone, "
        f"as reconstruct --refine does without landmark networks. {_TOLD}: what no rendering explains "
        f"counts little, as everywhere in the package; {_UNTOLD}: every pixel counts.",
    ]
    if on == "synthetic":
        lines.insert(
            2,
            "geometry: mean distance of the vertices of the frontal region; translation and isotropic scale "
            "compensated, rotation not. form: after the similarity that brings both closest.",
        )
    return lines


def _ways(decoder: FaceDecoder) -> dict[str, Way]:
    """From an encoder's codes to those that are measured, by what the rows' names say of them."""
    ways: dict[str, Way] = {"": lambda image, code: code}
    for told in (True, False):
        word = _TOLD if told else _UNTOLD
        colors = ColorOptions() if told else ColorOptions(occluder=math.inf)
        ways[f", colours, {word}"] = ColorSolver(decoder, colors)
        options = FitOptions(stages=_refinement(told))
        fitter = FaceFitter(model_on_cpu(decoder.model), options, camera=decoder.pinhole)
        ways[f", fit, {word}"] = partial(_fitted, fitter)
    return ways


def _fitted(fitter: FaceFitter, image: Tensor, code: FaceCode) -> FaceCode:
    """On the CPU, where fitting is."""
    found = fitter(Observed(image.cpu()), code.map(Tensor.cpu)).code
    return found.map(lambda part: part.to(image.device))


def _refinement(told: bool) -> tuple[Stage, ...]:
    stages = [
        stage for stage in REFINE_STAGES if stage.photometric
    ]  # the first has landmarks alone
    return tuple(replace(stage, occlusion=stage.occlusion and told) for stage in stages)


def _rendered(run: Reconstructor, count: int, plain: bool) -> Iterator[_Faces]:
    synthetic = SyntheticFaces(run.decoder, plain=plain)
    for first in range(0, count, _BATCH):
        places = range(first, min(first + _BATCH, count))
        some = synthetic.render(_SEED, places)
        picture = some.picture
        yield _Faces(picture.image, picture.clean, some.frontal, some.landmarks, some.code, places)


def _photographs(
    run: Reconstructor, guide: Reconstructor, folder: str, count: int
) -> Iterator[_Faces]:
    size = run.decoder.camera.size[0]
    corpora = [open_corpus(folder, "val", own.decoder.camera.size[0]) for own in (run, guide)]
    if not len(corpora[0]):
        raise DataError(f"{folder}: no validation picture; index.csv says which are (docs/data.md)")
    read = [val_batches(corpus, _BATCH, count or None) for corpus in corpora]
    first = 0
    for batch, seen in zip(*read):
        places = range(first, first + len(batch.images))
        first = places.stop
        drawn = guide.decoder.rasterize(guide.decoder.geometry(guide(seen.images)))
        shown = torch.nn.functional.interpolate(drawn.mask, size)
        image = batch.images.to(run.device)
        yield _Faces(image, image, shown, batch.landmarks.to(run.device), None, places)


def _errors(decoder: FaceDecoder, code: FaceCode, faces: _Faces, box: Tensor) -> dict[str, Tensor]:
    geometry = decoder.geometry(code)
    drawn = decoder.rasterize(geometry)
    scale = 240 / faces.image.shape[-1]
    errors = {
        "landmarks": (landmark_error(decoder.landmarks(geometry), faces.landmarks) * scale).cpu(),
        "photometric seen": _distance(drawn, faces.clean, 1 - box),
        "photometric hidden": _distance(drawn, faces.clean, box),
    }
    if faces.code is not None:
        errors |= face_errors(decoder, code, faces.code, geometry, decoder.geometry(faces.code))
    return errors


def _distance(drawn: Rendering, photo: Tensor, where: Tensor) -> Tensor:
    """[B], NaN where the rendering has no such pixel."""
    own = photometric_raster(drawn, photo, weight=where)
    there = (drawn.mask * where).flatten(1).any(1)
    return own.where(there, own.new_tensor(math.nan)).cpu()
