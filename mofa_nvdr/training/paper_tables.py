"""The MoFA paper's quantitative tables for trained encoders, next to the paper's numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mofa_nvdr.data.crop_tables import DataError
from mofa_nvdr.data.sampling import val_batches
from mofa_nvdr.data.shards import open_corpus
from mofa_nvdr.data.synthetic.faces import SyntheticFaces
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.losses.face_errors import expression_way, face_errors
from mofa_nvdr.losses.mofa import photometric_raster
from mofa_nvdr.networks.encoder import Encoder
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.runs.measured import Measured
from mofa_nvdr.runs.rows import facts_of, one_face_model
from mofa_nvdr.runs.trained import Reconstructor
from mofa_nvdr.training.evaluation import validate

Runs = Mapping[str, Reconstructor]
"""Encoders of the package (not exported ones), by the names of their rows."""

_BATCH = 8
_BEFORE = "before training"
_STRONG = "strong expressions"
_SEED = 20170  # of the rendered faces: no training draws these
# Sec. 6 and Fig. 10: 5,000 rendered faces, AlexNet, unsupervised, 240 px.
_PAPER_RENDERS = {
    "paper, AlexNet before": {"geometry": 21.6, "photometric": 0.33, "landmarks": 31.6},
    "paper, AlexNet": {"geometry": 4.5, "photometric": 0.05, "landmarks": 3.9},
}
# Real validation images, without and with the landmark term.
_PAPER_PHOTOGRAPHS = {
    "paper, AlexNet": {"photometric": 0.075, "landmarks": 5.3},
    "paper, VGG-Face": {"photometric": 0.073, "landmarks": 4.9},
    "paper, AlexNet, landmarks in training": {"photometric": 0.078, "landmarks": 3.7},
    "paper, VGG-Face, landmarks in training": {"photometric": 0.078, "landmarks": 3.4},
}


@torch.no_grad()
def measure_renders(runs: Runs, count: int, plain: bool = False) -> Measured:
    """Rendered people of the runs' face model, whose codes are known: the paper's Figs. 10 and 11.

    Args:
        runs: whose encoders are measured, on the same faces.
        count: how many faces.
        plain: faces alone in front of made-up rooms, without heads, occluders and a camera's faults.

    Raises:
        ValueError: count below 1, an exported encoder, or runs of several face models.
    """
    if count < 1:
        raise ValueError(f"evaluate: --count is {count}, expected at least 1")
    model = one_face_model(runs)
    found: dict[str, list[dict[str, Tensor]]] = {}
    strength: list[Tensor] = []  # mm, of the true expressions
    for number, (name, run) in enumerate(runs.items()):
        own_encoder(run)
        decoder, layout = run.decoder, run.decoder.model.layout
        faces = SyntheticFaces(decoder, plain=plain)
        for first in range(0, count, _BATCH):
            some = faces.render(_SEED, range(first, min(first + _BATCH, count)))
            codes = {name: run(some.picture.image)}
            if number == 0:
                zero = layout.zeros().pack().to(run.device)
                codes = {_BEFORE: layout.unpack(zero.expand(some.code.batch_size, -1)), **codes}
                strength.append(expression_way(decoder, some.code).norm(dim=2).mean(1).cpu())
            for row, code in codes.items():
                errors = _against_truth(decoder, code, some.code, some.picture.clean)
                found.setdefault(row, []).append(errors)
    moved = torch.cat(strength)
    strong = moved >= moved.quantile(2 / 3)
    rows = {}
    for name, parts in found.items():
        errors = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        for row, which in ((name, moved >= 0), (f"{name}, {_STRONG}", strong)):
            rows[row] = {key: float(values[which].mean()) for key, values in errors.items()}
    around = (
        "made-up rooms behind them" if plain else "heads, hair, occluders and a camera's faults"
    )
    return Measured(
        "Rendered faces with known codes (MoFA, Figs. 10 and 11)",
        [
            f"{count} people drawn from the prior of face model {model}, with {around}, seed {_SEED}; "
            "the paper has 5,000, with pictures behind the faces.",
            "geometry: mean distance of the vertices of the frontal region in camera space; translation and "
            "isotropic scale compensated by least squares, rotation not (Sec. 6).",
            "form: the same of shape and expression, after the similarity that brings both closest.",
            "expression: mean distance of what both expressions do to the average face. Strong: the third "
            "of the people whose expressions move the face most (Fig. 11 shows such).",
            "photometric: mean RGB distance over the rendering's mask, without what covers the face.",
            "landmarks: mean over the 46 points, pixels at 240.",
            "albedo: root mean square over the frontal region. light: that of the SH coefficients.",
        ],
        {
            "geometry": "mm", "form": "mm", "expression": "mm", "photometric": "", "landmarks": "px",
            "albedo": "", "light": "",
        },
        {**rows, **_PAPER_RENDERS},
        facts_of(runs),
    )  # fmt: skip


def _against_truth(
    decoder: FaceDecoder, code: FaceCode, true: FaceCode, picture: Tensor
) -> dict[str, Tensor]:
    geometry = decoder.geometry(code)
    errors = face_errors(decoder, code, true, geometry, decoder.geometry(true))
    return {**errors, "photometric": photometric_raster(decoder.rasterize(geometry), picture).cpu()}


@torch.no_grad()
def measure_photographs(runs: Runs, folder: str | Path, count: int = 0) -> Measured:
    """The validation pictures of a training folder: the paper's figures on real images.

    Args:
        runs: whose encoders are measured, each at its own size of the pictures.
        folder: face crops, as `preprocess` writes them, or their shards.
        count: at most this many, evenly spaced; 0: all.

    Raises:
        DataError: no such folder, or no validation picture in it.
        ValueError: an exported encoder.
    """
    columns = {
        "photometric": "photometric", "photometric over vertices": "photometric_vertex",
        "landmarks": "landmark_px", "mask": "mask_fraction",
    }  # fmt: skip
    rows: dict[str, dict[str, float]] = {}
    for name, run in runs.items():
        encoder, decoder = own_encoder(run), run.decoder
        corpus = open_corpus(folder, "val", decoder.camera.size[0])
        if not len(corpus):
            raise DataError(
                f"{folder}: no validation picture; index.csv says which are (docs/data.md)"
            )
        measured: dict[str, torch.nn.Module] = {name: encoder}
        if not rows:
            measured = {_BEFORE: _Zero(encoder), **measured}
        for row, network in measured.items():
            pictures = val_batches(corpus, _BATCH, count or None)
            values = validate(network, decoder, pictures)  # type: ignore[arg-type]
            rows[row] = {column: values[key] for column, key in columns.items()}
    number = min(count, len(corpus)) if count else len(corpus)
    return Measured(
        "Photographs (MoFA, Sec. 6)",
        [
            f"{number} validation pictures of {Path(folder).name}; the paper's are of CelebA, LFW, "
            "FaceWarehouse and 300-VW, framed by a Haar cascade: other pictures, other people.",
            "photometric: mean RGB distance, channels in [0, 1], over the rendering's mask; over vertices: "
            "over the front-facing vertices (Eq. 8), which is the paper's. A face that shrinks or drifts "
            "lowers both: read the mask next to them, the share of the picture that the face covers.",
            "landmarks: mean over the 46 points, pixels at 240, to those of the folder's landmarks68.npz: "
            "where a network found these, agreement with it is no accuracy.",
        ],
        {"photometric": "", "photometric over vertices": "", "landmarks": "px", "mask": ""},
        {**rows, **_PAPER_PHOTOGRAPHS},
        facts_of(runs),
    )


class _Zero(torch.nn.Module):
    """The encoder before training: code zero, whatever it sees."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.place = torch.nn.Parameter(next(encoder.parameters()).detach()[:0])
        self.size = encoder.layout.size

    def forward(self, images: Tensor) -> Tensor:
        return images.new_zeros(len(images), self.size)


def own_encoder(run: Reconstructor) -> Encoder:
    """The run's encoder.

    Raises:
        ValueError: it is an exported one.
    """
    if not isinstance(run.encoder, Encoder):
        raise ValueError(f"evaluate: {run.path} is an exported encoder; give its run or checkpoint")
    return run.encoder
