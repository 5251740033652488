"""The training loop: photographs or synthetic faces in, a run folder out.

batch -> encoder -> code -> decoder -> losses.mofa_loss -> one optimizer step
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mofa_nvdr.checkpoint import (
    CheckpointError,
    checkpoint_path,
    list_checkpoints,
    read_checkpoint,
    restore_encoder,
    restore_training,
    save_checkpoint,
)
from mofa_nvdr.config import TrainConfig, check_config
from mofa_nvdr.data.photographs import INDEX_FILE, DataError, Photographs
from mofa_nvdr.data.sampling import Batch, batches, val_batches
from mofa_nvdr.data.synthetic import SyntheticFaces
from mofa_nvdr.decoder import FaceDecoder, RasterFace, VertexFace
from mofa_nvdr.device import resolve_device
from mofa_nvdr.encoder import Encoder, build_encoder
from mofa_nvdr.evaluation import validate
from mofa_nvdr.face_code import CodeLayout
from mofa_nvdr.face_model import FaceModel
from mofa_nvdr.losses import (
    LossWeights,
    code_distance,
    landmark_alignment,
    mofa_loss,
    photometric_raster,
    photometric_vertex,
)
from mofa_nvdr.model_reference import ModelReference
from mofa_nvdr.pictures import panels, sheet, write_png
from mofa_nvdr.run_folder import JsonLog, open_run

_SHEET_FACES = 12
# A run whose faces cover less than this share of what they covered at the start is collapsing: the
# photometric figure alone rewards it.
_MASK_ALARM = 0.6


def train(config: TrainConfig, name: str = "mofa", root: Path = Path("runs")) -> Path:
    """Train an encoder, or go on with a run that was stopped; returns the run folder.

    Args:
        config: everything the run depends on.
        name: used in the folder's name when config.out is empty.
        root: where run folders are made when config.out is empty.

    Raises:
        ValueError: a mistake in the configuration, the data or the files it names.
        RuntimeError: CUDA asked for where there is none; a loss that is not finite.
    """
    check_config(config)
    device = resolve_device(config.device)
    torch.manual_seed(config.seed)
    model = FaceModel.load(config.face_model)
    decoder = FaceDecoder(
        model,
        config.image_size,
        config.render_mode,
        config.raster_gradient,
        outline="edges" if config.outline_gradient else "none",
    ).to(device)
    encoder = make_encoder(config, model.layout).to(device)
    optimizer = _make_optimizer(config, encoder)
    corpus = _Corpus(config, decoder)
    run = open_run(config, name, root)
    done, facts = _resume(run, encoder, optimizer, model)
    log = JsonLog(run / "log.jsonl", done)
    board = _tensorboard(run, done)
    say = tqdm.write if sys.stderr.isatty() else lambda text: print(text, flush=True)
    say(f"{run}: {corpus}; {model.name} face model, {config.encoder} on {device}"
        + (f"; resuming after step {done}" if done else ""))  # fmt: skip

    def report(step: int) -> None:
        line = {"step": step, "split": "val", **validate(encoder, decoder, corpus.val())}
        facts.setdefault("first_mask_fraction", line["mask_fraction"])
        if line["mask_fraction"] < _MASK_ALARM * facts["first_mask_fraction"]:
            line["warning"] = "the face vanishes"
            say(
                f"WARNING: step {step}: the rendered face covers {line['mask_fraction']:.3f} of the "
                f"image, {facts['first_mask_fraction']:.3f} at the start: the run is collapsing, and "
                "its photometric figure means nothing"
            )
        log.write(line)
        for key, value in line.items():
            if board and isinstance(value, float):
                board.add_scalar(f"val/{key}", value, step)
        say(
            f"step {step}: val photometric {line['photometric']:.4f}, landmarks "
            f"{line['landmark_px']:.2f} px, mask {line['mask_fraction']:.3f}, scale "
            f"{line['scale']:.3f}"
        )

    if done == 0:
        report(0)
        _write_sheet(run, 0, encoder, decoder, corpus)
        save_checkpoint(
            checkpoint_path(run, 0), encoder, optimizer, _metadata(config, model, decoder, 0, facts)
        )
    bar = tqdm(total=config.steps, initial=done, unit="step", disable=not sys.stderr.isatty())
    encoder.train()
    started, images, skipped_in_a_row = time.monotonic(), 0, 0
    stream = corpus.train(done)
    try:
        for step, batch in zip(range(done + 1, config.steps + 1), stream):
            _set_rates(config, optimizer, step)
            terms = loss_terms(config, encoder, decoder, batch, step)
            optimizer.zero_grad(set_to_none=True)
            terms["loss"].backward()
            largest = config.clip_gradient if config.clip_gradient > 0 else math.inf
            norm = torch.nn.utils.clip_grad_norm_(encoder.parameters(), largest)
            trouble = _not_finite(terms, norm)
            if trouble:
                skipped_in_a_row += 1
                log.write({"step": step, "skipped": trouble})
                say(f"WARNING: step {step}: {trouble}; skipped, {_save_batch(run, step, batch)}")
                if skipped_in_a_row >= config.stop_after_skips:
                    raise RuntimeError(
                        f"step {step}: {trouble}, {skipped_in_a_row} steps in a row; lower "
                        "--learning-rate or set --clip-gradient (the newest checkpoint of "
                        f"{run} is from before)"
                    )
            else:
                skipped_in_a_row = 0
                optimizer.step()

            images += len(batch.images)
            bar.update()
            if not trouble and (step % config.log_every == 0 or step == config.steps):
                line: dict[str, Any] = {"step": step}
                line |= {key: value.item() for key, value in terms.items()}
                rate = images / (time.monotonic() - started)
                line["images_per_second"] = round(rate, 2)
                log.write(line)
                for key, value in line.items():
                    if board and key != "step" and math.isfinite(value):
                        board.add_scalar(f"train/{key}", value, step)
                bar.set_postfix_str(f"loss {line['loss']:.4f}, {rate:.1f} images/s")
                if bar.disable and step % (5 * config.log_every) == 0:
                    left = (config.steps - step) * config.batch_size / rate / 60
                    warm = step <= config.warm_start_steps
                    part = "warm start" if warm else f"photometric {line['photometric']:.4f}"
                    say(
                        f"step {step}/{config.steps}: loss {line['loss']:.4f}, {part}, "
                        f"{rate:.1f} images/s, {left:.0f} min left"
                    )
            last = step == config.steps
            if step % config.val_every == 0 or last:
                report(step)
            if step % config.sheet_every == 0 or last:
                _write_sheet(run, step, encoder, decoder, corpus)
            if step % config.checkpoint_every == 0 or last:
                metadata = _metadata(config, model, decoder, step, facts)
                save_checkpoint(checkpoint_path(run, step), encoder, optimizer, metadata)
                for old in list_checkpoints(run)[: -config.keep_checkpoints]:
                    old.unlink()
    finally:
        stream.close()
        bar.close()
        log.close()
        if board:
            board.close()
    if corpus.skipped:
        say(
            f"{len(corpus.skipped)} unreadable images were skipped: {', '.join(corpus.skipped[:5])}"
        )
    say(f"{run}: finished at step {max(done, config.steps)}")
    return run


def face_model_of(metadata: dict[str, Any]) -> ModelReference:
    """The face model that a checkpoint was trained with, from its metadata."""
    return ModelReference(**metadata["face_model"])


def loss_terms(
    config: TrainConfig, encoder: Encoder, decoder: FaceDecoder, batch: Batch, step: int
) -> dict[str, Tensor]:
    """One forward pass: the loss and its terms (losses.mofa_loss) for a batch at a step.

    While the warm start lasts the loss is losses.code_distance, and the terms are NaN.
    """
    device = next(encoder.parameters()).device
    photo = batch.images.to(device)
    vector = _hold_back(config, encoder(photo), decoder.model.layout, step)
    code = decoder.model.layout.unpack(vector)
    if step <= config.warm_start_steps:
        assert batch.codes is not None
        true = decoder.model.layout.unpack(batch.codes.to(device))
        unknown = torch.tensor(math.nan)  # nothing is rendered
        terms = dict.fromkeys(("photometric", "landmark", "regularizer", "pose_prior"), unknown)
        return {"loss": code_distance(code, true).mean(), **terms}
    face = decoder(code)
    if isinstance(face, VertexFace):
        photometric = photometric_vertex(face.positions, face.colors, face.front_facing, photo)
    else:
        photometric = photometric_raster(face, photo)
    unit = config.landmark_unit * config.image_size / 240
    landmark = landmark_alignment(
        face.landmarks, batch.landmarks.to(device), batch.confidence.to(device), unit
    )
    weights = LossWeights(
        photometric=config.weight_photometric,
        landmark=config.weight_landmark,
        regularizer=config.weight_regularizer,
        albedo=config.weight_albedo,
        expression=config.weight_expression,
        pose_prior=config.weight_pose_prior,
    )
    return mofa_loss(code, photometric, landmark, weights)


def _not_finite(terms: dict[str, Tensor], gradient_norm: Tensor) -> str:
    """Which term, or else the gradient, is not a finite number; empty: all are."""
    if torch.isfinite(terms["loss"]) and torch.isfinite(gradient_norm):
        return ""
    if torch.isfinite(terms["loss"]):
        return f"the gradient's norm is {gradient_norm.item()}"
    # In a warm start only the loss itself is there, the terms are NaN.
    known = [name for name in terms if name != "loss" and not torch.isfinite(terms[name])]
    name = known[0] if 0 < len(known) < len(terms) - 1 else "loss"
    return f"the {name} is {terms[name].item()}"


def _save_batch(run: Path, step: int, batch: Batch) -> str:
    """Keep a batch for inspection; the words that say where, and which files it is of."""
    file = run / f"skipped-{step:08d}.npz"
    np.savez_compressed(
        file,
        images=batch.images.cpu().numpy(),
        landmarks=batch.landmarks.cpu().numpy(),
        confidence=batch.confidence.cpu().numpy(),
        paths=np.array([str(path) for path in batch.paths]),
    )
    files = ", ".join(path.name for path in batch.paths) or "rendered faces"
    return f"its batch is in {file} ({files})"


def make_encoder(config: TrainConfig, layout: CodeLayout) -> Encoder:
    """The configured encoder with its output scales."""
    scale = {
        "shape": config.scale_shape,
        "expression": config.scale_expression,
        "albedo": config.scale_albedo,
        "rotation": config.scale_rotation,
        "translation_xy": config.scale_xy,
        "translation_z": config.scale_z,
        "light": config.scale_light,
    }
    size: int | str = config.encoder_size or "default"
    return build_encoder(config.encoder, layout, config.encoder_weights or None, scale, size)


class _Corpus:
    """Training and validation batches of photographs or of synthetic faces."""

    def __init__(self, config: TrainConfig, decoder: FaceDecoder) -> None:
        self.config = config
        self.synthetic: SyntheticFaces | None = None
        if config.data == "synthetic":
            self.faces = self.synthetic = SyntheticFaces(decoder)
        else:
            self.train_set = Photographs(config.data, "train", config.image_size)
            self.val_set = Photographs(config.data, "val", config.image_size)
            if len(self.val_set) == 0:
                raise DataError(
                    f"{config.data}: no picture to validate on; bring at least two, or give some the "
                    f"split 'val' in {INDEX_FILE}"
                )
            self.faces = SyntheticFaces(decoder, photographs=self.train_set)

    def __str__(self) -> str:
        if self.synthetic is not None:
            return "synthetic faces"
        return f"{len(self.train_set)} training and {len(self.val_set)} validation photographs"

    def train(self, start_step: int) -> Generator[Batch, None, None]:
        """Batches from `start_step` on: rendered faces while the warm start lasts, then the corpus."""
        c = self.config
        warm = self.faces.batches(c.batch_size, c.seed, start_step)
        yield from itertools.islice(warm, max(0, c.warm_start_steps - start_step))
        start_step = max(start_step, c.warm_start_steps)
        if self.synthetic is not None:
            yield from self.synthetic.batches(c.batch_size, c.seed, start_step)
        else:
            yield from batches(self.train_set, c.batch_size, c.seed, start_step, flip=c.flip)

    def val(self, limit: int | None = None) -> Generator[Batch, None, None]:
        count = self.config.val_images if limit is None else limit
        if self.synthetic is not None:
            return self.synthetic.val_batches(count or 256, self.config.batch_size)
        return val_batches(self.val_set, self.config.batch_size, count or None)

    @property
    def skipped(self) -> list[str]:
        return [] if self.synthetic is not None else self.train_set.skipped + self.val_set.skipped


def _hold_back(config: TrainConfig, vector: Tensor, layout: CodeLayout, step: int) -> Tensor:
    """Zero the parts of the code that are not free yet: light and albedo first, then pose, then shape."""
    held = ["rotation", "translation"] if step <= config.pose_from_step else []
    held += ["shape", "expression"] if step <= config.shape_from_step else []
    if not held:
        return vector
    free = torch.ones_like(vector[:1])
    for part in held:
        free[:, layout.slices[part]] = 0
    return vector * free


def _make_optimizer(config: TrainConfig, encoder: Encoder) -> torch.optim.Optimizer:
    groups = []
    for part, parameters in encoder.parameter_groups().items():
        depth = part == "translation_z" and config.translation_z_rate > 0
        rate = config.translation_z_rate if depth else config.learning_rate
        groups.append({"params": parameters, "lr": rate, "base_rate": rate})
    if config.optimizer == "adam":
        return torch.optim.Adam(groups, betas=(0.9, 0.99))
    # Caffe's AdaDelta, which the paper used, has 0.95 and 1e-6 as its customary constants.
    return torch.optim.Adadelta(groups, rho=0.95, eps=1e-6)


def _set_rates(config: TrainConfig, optimizer: torch.optim.Optimizer, step: int) -> None:
    factor = min(1.0, step / config.warmup_steps) if config.warmup_steps else 1.0
    if config.schedule == "cosine":
        factor *= 0.1 + 0.45 * (1 + math.cos(math.pi * (step - 1) / max(config.steps, 1)))
    if config.warm_start_steps and step > config.warm_start_steps:
        factor *= config.rate_after_warm_start
    for group in optimizer.param_groups:
        group["lr"] = group["base_rate"] * factor


def _metadata(
    config: TrainConfig, model: FaceModel, decoder: FaceDecoder, step: int, facts: dict[str, Any]
) -> dict[str, Any]:
    return {
        "step": step,
        "config": dataclasses.asdict(config),
        "face_model": dataclasses.asdict(ModelReference.of(model, config.face_model)),
        "camera": dataclasses.asdict(decoder.camera),
        "facts": facts,
    }


def _resume(
    run: Path, encoder: Encoder, optimizer: torch.optim.Optimizer, model: FaceModel
) -> tuple[int, dict[str, Any]]:
    """Restore the newest readable checkpoint; (steps done, facts). A damaged one gives way to the last."""
    for path in reversed(list_checkpoints(run)):
        try:
            tensors, metadata = read_checkpoint(path)
        except CheckpointError as error:
            print(f"WARNING: {error}; taking the one before", file=sys.stderr)
            continue
        face_model_of(metadata).check(model, f"{path}: trained with")
        restore_encoder(encoder, tensors)
        restore_training(optimizer, tensors)
        return metadata["step"], metadata["facts"]
    return 0, {}


@torch.no_grad()
def _write_sheet(
    run: Path, step: int, encoder: Encoder, decoder: FaceDecoder, corpus: _Corpus
) -> None:
    """sheet-STEP.png: input, overlay, geometry, albedo and shading of the first validation images."""
    training = encoder.training
    encoder.eval()
    rows: list[Any] = []
    for batch in corpus.val(_SHEET_FACES):
        images = batch.images.to(next(encoder.parameters()).device)
        face = decoder(encoder(images), render_mode="raster")
        assert isinstance(face, RasterFace)
        rows.extend(panels(images, face))
    encoder.train(training)
    picture = sheet(torch.stack([torch.from_numpy(r) for r in rows]).numpy(), columns=2)
    write_png(run / f"sheet-{step:08d}.png", picture)


def _tensorboard(run: Path, step: int) -> Any:
    """A TensorBoard writer, or None where the package is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(run), purge_step=step + 1 if step else None)
