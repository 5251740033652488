"""The model-based autoencoder next to learned ones, its decoder next to a learned one: Figs. 12 and 13."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mofa_nvdr.apply.color_solver import ColorSolver
from mofa_nvdr.apply.learned_pictures import (
    BATCH,
    TEST,
    LearnedOptions,
    drawn_codes,
    learn_autoencoder,
    learn_components,
    learn_decoder,
    moments,
)
from mofa_nvdr.data.crop_tables import DataError
from mofa_nvdr.data.photographs import Corpus
from mofa_nvdr.data.sampling import val_batches
from mofa_nvdr.data.shards import open_corpus
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.losses.color_distance import color_distance
from mofa_nvdr.losses.sharpness import edge_agreement, gradient_sums, sharpness
from mofa_nvdr.networks.convolutional import ConvolutionalAutoencoder, ConvolutionalDecoder
from mofa_nvdr.networks.linear_autoencoder import LinearAutoencoder
from mofa_nvdr.render.decoder import FaceDecoder, face_image
from mofa_nvdr.runs.measured import Measured
from mofa_nvdr.runs.rows import facts_of
from mofa_nvdr.runs.trained import Reconstructor

Runs = Mapping[str, Reconstructor]
AUTOENCODER, COMPONENTS, COLORS = "convolutional autoencoder", "principal components", "colours"
FAR = 1.5  # times a code's distance from the mean
_SEED = 20172  # of the codes that are measured
_CODES = 200  # of them, where pictures are counted otherwise
_RUNS = 5  # of which the fastest is a decoder's time


@dataclass(frozen=True)
class Learned:
    """What was trained to stand next to runs.

    Attributes:
        options: with which.
        autoencoders: by their names in the tables; empty without photographs.
        decoders: the analytic one at the options' size and the learned one, of each run.
    """

    options: LearnedOptions
    autoencoders: dict[str, ConvolutionalAutoencoder | LinearAutoencoder]
    decoders: dict[str, tuple[FaceDecoder, ConvolutionalDecoder]]


def learn_counterparts(runs: Runs, on: str, options: LearnedOptions) -> Learned:
    """Train a learned decoder for each face model and, on a folder, the autoencoders.

    Args:
        runs: encoders, by the names of their rows.
        on: "synthetic", or a training folder whose training pictures the autoencoders learn from.
        options: how.

    Raises:
        DataError: no such folder, or no training or no validation picture in it.
    """
    autoencoders: dict[str, ConvolutionalAutoencoder | LinearAutoencoder] = {}
    if on != "synthetic":
        _watched(on, options.size)
        first = next(iter(runs.values()))
        # The paper's middle layer is as long as the face model's code.
        given = (
            open_corpus(on, "train", options.size), first.decoder.model.layout.size, options, first.device
        )  # fmt: skip
        autoencoders = {
            COMPONENTS: learn_components(*given),
            AUTOENCODER: learn_autoencoder(*given),
        }
    decoders: dict[str, tuple[FaceDecoder, ConvolutionalDecoder]] = {}
    known: dict[tuple[object, ...], ConvolutionalDecoder] = {}
    for name, run in runs.items():
        camera = run.decoder.pinhole.resized(options.size)
        analytic = FaceDecoder(run.decoder.model, camera=camera).to(run.device)
        what = (run.decoder.model.hash, camera)
        if what not in known:
            known[what] = learn_decoder(analytic, options)
        decoders[name] = (analytic, known[what])
    return Learned(options, autoencoders, decoders)


@dataclass(frozen=True)
class SeenPictures:
    """Validation pictures, and what a run makes of them.

    Attributes:
        photo: [B, 3, S, S] at the learned networks' size.
        code: the encoder's.
        solved: with light and albedo solved for in the picture.
    """

    photo: Tensor
    code: FaceCode
    solved: FaceCode


@torch.no_grad()
def seen_by(run: Reconstructor, folder: str, size: int, count: int) -> Iterator[SeenPictures]:
    """The folder's validation pictures, at most `count`, evenly spaced; 0: all."""
    corpora = [_watched(folder, side) for side in (run.decoder.camera.size[0], size)]
    solve = ColorSolver(run.decoder)
    for own, small in zip(*(val_batches(corpus, BATCH, count or None) for corpus in corpora)):
        images = own.images.to(run.device)
        code = run(images)
        yield SeenPictures(small.images.to(run.device), code, solve(images, code))


@torch.no_grad()
def measure_autoencoders(runs: Runs, learned: Learned, folder: str, count: int = 0) -> Measured:
    """Fig. 12: photographs as the model-based autoencoder and as learned ones give them back.

    Args:
        runs: encoders, by the names of their rows.
        learned: of `learn_counterparts` with the same folder.
        folder: whose validation pictures are measured.
        count: at most this many, evenly spaced; 0: all.

    Raises:
        DataError: no such folder, or no validation picture in it.
    """
    rows: dict[str, dict[str, float]] = {}
    several, size, number = len(runs) > 1, learned.options.size, 0
    for name, run in runs.items():
        analytic, _ = learned.decoders[name]
        found: dict[str, list[Tensor]] = {}
        number = 0
        for seen in seen_by(run, folder, size, count):
            number += len(seen.photo)
            face = analytic(seen.code)
            pictures = {
                name: (face.image, False),
                f"{name}, {COLORS}": (analytic(seen.solved).image, False),
            }
            for kind, network in learned.autoencoders.items():
                row = f"{kind}, where {name} draws" if several else kind
                pictures[row] = (network(seen.photo), True)
            for row, (picture, whole) in pictures.items():
                values = _compared(picture.clamp(0, 1), seen.photo, face.mask, whole)
                found.setdefault(row, []).append(values)
        rows |= {row: _row(torch.cat(parts)) for row, parts in found.items()}
    network = learned.autoencoders[AUTOENCODER]
    known = open_corpus(folder, "train", size)
    own = [
        color_distance(network(images).clamp(0, 1), images, dim=1).mean((1, 2)).cpu()
        for images in (b.images.to(run.device) for b in val_batches(known, BATCH, number))
    ]
    rows[f"{AUTOENCODER}, pictures that it learned from"] = {
        "whole picture": float(torch.cat(own).mean())
    }
    length = next(iter(runs.values())).decoder.model.layout.size
    return Measured(
        "The model-based autoencoder and learned ones (MoFA, Fig. 12)",
        [
            f"{number} validation pictures of {Path(folder).name}, at {size} px; the paper shows pictures "
            "and has no numbers.",
            f"{AUTOENCODER}: the paper's layers, {length} numbers in the middle, {learned.options.steps} "
            f"steps of {BATCH} pictures on the folder's {len(known)} training pictures (Adam, mean RGB "
            f"distance of the whole picture, seed {learned.options.seed}); the paper does not say how many "
            f"steps it took. {COMPONENTS}: {length} of the same pictures and their mirror images, the best "
            "that is linear: a convolutional autoencoder that is behind them would gain from more steps.",
            f"{COLORS}: light and albedo solved for in the picture, as reconstruct does; pose and form the "
            "encoder's.",
            "photometric: mean RGB distance, channels in [0, 1], over the encoder's rendered mask in all "
            "rows (mask: its share of the picture). whole picture: the same of all pixels, for those that "
            "draw all.",
            "sharpness: gradient energy (squared central differences) within the mask, without its outline, "
            "in units of the photographs'; 1 is as sharp. It counts edges in wrong places too: edges is the "
            "correlation of the gradients with the photographs'.",
        ],
        {"photometric": "", "sharpness": "", "edges": "", "mask": "", "whole picture": ""},
        rows,
        facts_of(runs),
    )  # fmt: skip


@torch.no_grad()
def measure_decoders(runs: Runs, learned: Learned, on: str, count: int = 0) -> Measured:
    """Fig. 13: the learned decoder's pictures next to the analytic decoder's, of the same codes.

    Args:
        runs: encoders, by the names of their rows.
        learned: of `learn_counterparts`.
        on: "synthetic", or a training folder: then of the codes of its validation pictures too.
        count: how many codes are drawn, and at most how many pictures; 0: some hundred, and all pictures.

    Raises:
        DataError: no such folder, or no validation picture in it.
    """
    rows: dict[str, dict[str, float]] = {}
    drawn = count or _CODES
    several, done = len({id(network) for _, network in learned.decoders.values()}) > 1, set()
    for name, run in runs.items():
        analytic, network = learned.decoders[name]
        model = f" of {run.decoder.model.name}" if several else ""
        if id(network) not in done:
            done.add(id(network))
            codes = unseen_codes(analytic, drawn)
            mean = moments(analytic.model)[0].to(codes)
            far = mean + FAR * (codes - mean)
            rows[f"analytic decoder{model}"] = {"ms": _time(analytic, codes)}
            rows[f"learned decoder{model}"] = {
                **_against(analytic, network, codes), "ms": _time(network, codes)
            }  # fmt: skip
            rows[f"learned decoder{model}, {FAR} times as far from the mean"] = _against(
                analytic, network, far
            )
        if on != "synthetic":
            said = [seen.code.pack() for seen in seen_by(run, on, learned.options.size, count)]
            row = f"learned decoder{model}, codes of {name}"
            rows[row] = _against(analytic, network, torch.cat(said))
    size, steps = learned.options.size, learned.options.steps
    lines = [
        f"{drawn} codes drawn as people of synthesize are, seed {_SEED}, none of which was trained on; "
        f"pictures of {size} px on black. The paper shows pictures and has no numbers.",
        f"learned decoder: the paper's deconvolutions from a code to the analytic decoder's picture of it, "
        f"{steps} steps of {BATCH} renders, each seen once (Adam, mean RGB distance, seed "
        f"{learned.options.seed}); codes are given to it as deviations times how "
        "much each changes the mean code's picture.",
        f"{FAR} times as far from the mean: the same codes, each number's distance from its mean stretched.",
        "face: mean RGB distance to the analytic decoder's picture over its mask (mask: its share of the "
        "picture); whole picture: over all pixels.",
        "sharpness: gradient energy within the mask, without its outline, in units of the analytic "
        "decoder's; edges: correlation of the gradients with its.",
        f"ms: a face, the fastest of {_RUNS} batches of {BATCH}, on this machine; no gradients.",
    ]
    if on != "synthetic":
        lines.insert(3, f"codes of an encoder: of the validation pictures of {Path(on).name}.")
    units = {"face": "", "sharpness": "", "edges": "", "mask": "", "whole picture": "", "ms": ""}
    return Measured(
        "The analytic decoder and a learned one (MoFA, Fig. 13)", lines, units, rows, facts_of(runs)
    )


def unseen_codes(decoder: FaceDecoder, count: int) -> Tensor:
    """Codes [count, size] that no training draws, on the decoder's device."""
    return drawn_codes(decoder.model, count, _SEED, TEST).to(decoder.triangles.device)


def _watched(folder: str, size: int) -> Corpus:
    corpus = open_corpus(folder, "val", size)
    if not len(corpus):
        raise DataError(f"{folder}: no validation picture; index.csv says which are (docs/data.md)")
    return corpus


def _against(
    decoder: FaceDecoder, network: ConvolutionalDecoder, codes: Tensor
) -> dict[str, float]:
    """Measures of the learned decoder against the analytic one."""
    parts = []
    for some in codes.split(BATCH):
        face = decoder(some)
        picture = network(some).clamp(0, 1)
        parts.append(_compared(picture, face_image(face), face.mask, True))
    row = _row(torch.cat(parts))
    return {"face": row.pop("photometric"), **row}


def _compared(picture: Tensor, wanted: Tensor, mask: Tensor, whole: bool) -> Tensor:
    """[B, 6] on the CPU: distance over the mask, mask, distance of all pixels, sums of gradients."""
    away = color_distance(picture, wanted, dim=1)  # [B, S, S]
    inside = mask[:, 0]
    masked = (away * inside).sum((1, 2)) / inside.sum(
        (1, 2)
    )  # NaN of a face that is not in the picture
    everywhere = away.mean((1, 2)) if whole else torch.full_like(masked, torch.nan)
    columns = torch.stack([masked, inside.mean((1, 2)), everywhere], 1)
    return torch.cat([columns, gradient_sums(picture, wanted, mask)], 1).cpu()


def _row(values: Tensor) -> dict[str, float]:
    masked, share, everywhere = values[:, :3].double().nanmean(0).tolist()
    sums = values[:, 3:]
    return {
        "photometric": masked, "sharpness": sharpness(sums), "edges": edge_agreement(sums), "mask": share,
        "whole picture": everywhere,
    }  # fmt: skip


def _time(decode: torch.nn.Module, codes: Tensor) -> float:
    """Milliseconds a face."""
    some, times = codes[:BATCH], []
    for _ in range(_RUNS + 1):  # the first warms up
        if some.is_cuda:
            torch.cuda.synchronize(some.device)
        start = time.perf_counter()
        decode(some)
        if some.is_cuda:
            torch.cuda.synchronize(some.device)
        times.append(time.perf_counter() - start)
    return 1e3 * min(times[1:]) / len(some)
