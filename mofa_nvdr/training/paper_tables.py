"""The MoFA paper's quantitative tables for a trained encoder, next to the paper's numbers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from mofa_nvdr.data.crop_tables import DataError
from mofa_nvdr.data.sampling import Batch, val_batches
from mofa_nvdr.data.shards import open_corpus
from mofa_nvdr.data.synthetic.faces import SyntheticFaces
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.losses.mofa import landmark_error, photometric_raster
from mofa_nvdr.networks.encoder import Encoder
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.runs.measured import Measured
from mofa_nvdr.runs.trained import Reconstructor
from mofa_nvdr.scene.similarity import similarity
from mofa_nvdr.training.evaluation import validate

_BATCH = 8
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


def centred_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean distance [B] of points [B, N, 3] to others, in their unit: the paper's geometric error.

    Translation and isotropic scale are compensated, by least squares; the rotation is not (Sec. 6).
    """
    a, b = a.double(), b.double()
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    scale = (a * b).sum((1, 2)) / a.square().sum((1, 2)).clamp(min=1e-12)
    return (scale[:, None, None] * a - b).norm(dim=2).mean(1)


def similar_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean distance [B] of points [B, N, 3] after the similarity that brings them closest: form alone."""
    errors = []
    for one, other in zip(a.double().cpu().numpy(), b.double().cpu().numpy()):
        scale, turn, shift = similarity(one, other)
        moved = torch.from_numpy(scale * one @ turn.T + shift - other)
        errors.append(moved.norm(dim=1).mean())
    return torch.stack(errors)


@torch.no_grad()
def measure_renders(run: Reconstructor, count: int) -> Measured:
    """Rendered people of the run's face model, whose codes are known: the paper's Fig. 10.

    Args:
        run: an encoder of the package (not an exported one).
        count: how many faces.

    Raises:
        ValueError: count below 1, or an exported encoder.
    """
    if count < 1:
        raise ValueError(f"evaluate: --count is {count}, expected at least 1")
    own_encoder(run)
    decoder = run.decoder
    faces = SyntheticFaces(decoder)
    found: dict[str, list[dict[str, Tensor]]] = {"before training": [], "this encoder": []}
    layout = decoder.model.layout
    for first in range(0, count, _BATCH):
        places = range(first, min(first + _BATCH, count))
        some = faces.render(_SEED, places)
        start = layout.unpack(layout.zeros().pack().expand(len(places), -1).to(run.device))
        for name, code in (("before training", start), ("this encoder", run(some.picture.image))):
            found[name].append(_against_truth(decoder, code, some.code, some.picture.clean))
    rows = {
        name: {key: float(torch.cat([part[key] for part in parts]).mean()) for key in parts[0]}
        for name, parts in found.items()
    }
    model = decoder.model
    return Measured(
        "Rendered faces with known codes (MoFA, Fig. 10)",
        [
            f"{count} people drawn from the prior of face model {model.name}, with heads, hair, occluders "
            f"and a camera's faults, seed {_SEED}; the paper has 5,000, with pictures behind the faces.",
            "geometry: mean distance of the vertices of the frontal region in camera space; translation and "
            "isotropic scale compensated by least squares, rotation not (Sec. 6).",
            "form: the same of shape and expression, after the similarity that brings both closest.",
            "photometric: mean RGB distance over the rendering's mask, without what covers the face.",
            "landmarks: mean over the 46 points, pixels at 240.",
            "albedo: root mean square over the frontal region. light: that of the SH coefficients.",
        ],
        {
            "geometry": "mm", "form": "mm", "photometric": "", "landmarks": "px", "albedo": "", "light": "",
        },
        {**rows, **_PAPER_RENDERS},
        _facts(run),
    )  # fmt: skip


def _against_truth(
    decoder: FaceDecoder, code: FaceCode, true: FaceCode, picture: Tensor
) -> dict[str, Tensor]:
    model, index = decoder.model, decoder.model.frontal_mask.nonzero()[:, 0]
    geometry, truth = decoder.geometry(code), decoder.geometry(true)
    face = decoder.rasterize(geometry)
    marks, there = decoder.landmarks(geometry), decoder.landmarks(truth)
    own, known = geometry.vertices[:, index], truth.vertices[:, index]
    albedo = model.albedo(code.albedo, index) - model.albedo(true.albedo, index)
    scale = 240 / picture.shape[-1]
    return {
        "geometry": centred_distance(own, known).cpu(),
        "form": similar_distance(own, known),
        "photometric": photometric_raster(face, picture).cpu(),
        "landmarks": (landmark_error(marks, there) * scale).cpu(),
        "albedo": albedo.square().mean((1, 2)).sqrt().cpu(),
        "light": (code.light - true.light).square().mean((1, 2)).sqrt().cpu(),
    }


@torch.no_grad()
def measure_photographs(run: Reconstructor, folder: str | Path, count: int = 0) -> Measured:
    """The validation pictures of a training folder: the paper's figures on real images.

    Args:
        run: an encoder of the package (not an exported one).
        folder: face crops, as `preprocess` writes them, or their shards.
        count: at most this many, evenly spaced; 0: all.

    Raises:
        DataError: no such folder, or no validation picture in it.
        ValueError: an exported encoder.
    """
    encoder, decoder = own_encoder(run), run.decoder
    size = decoder.camera.size[0]
    corpus = open_corpus(folder, "val", size)
    if not len(corpus):
        raise DataError(f"{folder}: no validation picture; index.csv says which are (docs/data.md)")

    def pictures() -> list[Batch]:
        return list(val_batches(corpus, _BATCH, count or None))

    own = validate(encoder, decoder, pictures())
    start = validate(_Zero(encoder), decoder, pictures())  # type: ignore[arg-type]
    columns = {
        "photometric": "photometric", "photometric over vertices": "photometric_vertex",
        "landmarks": "landmark_px", "mask": "mask_fraction",
    }  # fmt: skip
    rows = {
        name: {column: values[key] for column, key in columns.items()}
        for name, values in (("before training", start), ("this encoder", own))
    }
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
        _facts(run),
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


def _facts(run: Reconstructor) -> dict[str, str | int | float]:
    return {
        "encoder": run.path.name,
        "step": int(run.metadata["step"]),
        "face_model": run.decoder.model.name,
        "face_model_hash": run.decoder.model.hash,
    }
