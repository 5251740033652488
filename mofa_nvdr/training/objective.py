"""What a training step minimises: a list of terms, built from the options once, and their weighted sum.

    batch -> encoder -> codes -> StepContext (decoded faces, renderings) -> terms -> loss

A term is one line in `photograph_terms`: its name in the log, its weight, and a function of the step's
context. What it computes is a plain function in losses/.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mofa_nvdr.data.sampling import Batch
from mofa_nvdr.losses.batch_distribution import batch_distribution
from mofa_nvdr.losses.consistency import mean_placement_anchor, mirror_consistency
from mofa_nvdr.losses.mofa import batch_pose_prior
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.runs.options import ConfigError, TrainConfig, known_face_steps
from mofa_nvdr.training.encoding import encode_together
from mofa_nvdr.training.step_context import StepContext, Tools
from mofa_nvdr.training.timing import StageClock


@dataclass(frozen=True)
class Term:
    """One term of the loss.

    Attributes:
        name: in log.jsonl and in messages.
        weight: factor in the loss; 0: computed in reported steps, for the log alone.
        compute: from the step's context to a scalar.
        with_mirror: it looks at the codes of the mirrored photographs, `codes["mirror"]`.
    """

    name: str
    weight: float
    compute: Callable[[StepContext], Tensor]
    with_mirror: bool = False


def photograph_terms(config: TrainConfig) -> list[Term]:
    """The terms of a step on photographs, in the order of the log. A new term is a line here."""
    w, size = config.loss, config.data.image_size
    terms = [
        *_photometric_terms(config),
        Term("landmark", w.landmark, lambda c: c.landmark_alignment()),
        Term("regularizer", w.regularizer, lambda c: c.regularizer(w)),
        Term("pose_prior", w.pose_prior, lambda c: batch_pose_prior(c.code)),
    ]
    more = [
        Term("anchor", w.anchor, lambda c: mean_placement_anchor(
            c.placement("photo"), c.placement("teacher"), size, c.batch.teacher_offset)),
        Term("mirror", w.mirror, lambda c: mirror_consistency(
            c.placement("photo"), c.placement("mirror"), size).mean(), with_mirror=True),
        Term("lid", w.lid, lambda c: c.opening_alignment()),
        Term("synthetic", w.synthetic, lambda c: c.known_distance(
            c.unpack("rendered"), c.unpack("known")).mean()),
        Term("fitted", w.fitted, lambda c: c.fitted_distance()),
        Term("identity", w.identity, lambda c: c.identity_distance()),
        Term("batch_distribution", w.batch_distribution, lambda c: batch_distribution(c.unpack("photo"))),
        Term("loopback", w.loopback, lambda c: c.loopback_distance()),
    ]  # fmt: skip
    return terms + [term for term in more if term.weight > 0]


def warm_start_terms(config: TrainConfig) -> list[Term]:
    """The terms of a step of the warm start: rendered faces, whose codes are known."""
    return [
        Term("known_faces", 1.0, lambda c: c.known_distance(
            c.unpack("photo"), c.unpack("known")).mean()),
    ]  # fmt: skip


def _photometric_terms(config: TrainConfig) -> list[Term]:
    raster = Term("photometric_raster", 0.0, lambda c: c.photometric_raster.mean())
    vertex = Term("photometric_vertex", 0.0, lambda c: c.photometric_vertex.mean())
    weight = config.loss.photometric
    if config.render.mode == "raster":
        return [dataclasses.replace(raster, name="photometric", weight=weight)]
    if config.render.mode == "vertex":
        return [dataclasses.replace(vertex, name="photometric", weight=weight)]

    def both(c: StepContext) -> Tensor:
        return (0.5 * c.photometric_raster + 0.5 * c.photometric_vertex).mean()

    # The two come before their sum: of terms that are not finite the guard names the first.
    return [raster, vertex, Term("photometric", weight, both)]


class Objective:
    """The loss of a training step and its terms.

    Args:
        config: weights and modes.
        decoder: of runs.build.make_decoder.

    Raises:
        ConfigError: the face model lacks what a term needs, or a network is not here.
    """

    def __init__(self, config: TrainConfig, decoder: FaceDecoder) -> None:
        if config.loss.landmark_set == "dense" and decoder.model.dense_landmarks is None:
            raise ConfigError(
                f"--loss.landmark-set is dense, but face model {decoder.model.name} has no places for dense "
                "landmarks; import it again with the landmark networks at hand, or give ibug"
            )
        self.config = config
        self.decoder = decoder
        self.tools = Tools.of(config, decoder)
        self.terms = photograph_terms(config)
        self.warm_start = warm_start_terms(config)

    def __call__(
        self,
        encoder: nn.Module,
        batch: Batch,
        step: int,
        clock: StageClock | None = None,
        reported: bool = True,
    ) -> dict[str, Tensor]:
        """One forward pass: "loss", a scalar, and the terms by their names.

        While the warm start lasts nothing is rendered, and the photographs' terms are NaN.

        Args:
            encoder: images to codes.
            batch: this process's share of the step's batch; for loss.anchor of teacher.with_teacher.
            step: from 1.
            clock: times the encoder, and gets the codes to time their gradient.
            reported: also the terms that have no weight, which may need a rendering of their own.
        """
        warm = step <= known_face_steps(self.config)
        terms = self.warm_start if warm else self.terms
        terms = [term for term in terms if reported or term.weight > 0]
        context = self._encode(encoder, batch, terms)
        if clock is not None:
            clock.lap("encoder_forward")
            clock.watch(context.codes["photo"])
        values = {term.name: term.compute(context) for term in terms}
        weighted = [term.weight * values[term.name] for term in terms if term.weight > 0]
        # With all weights at zero the loss still reaches the encoder.
        loss = sum(weighted[1:], weighted[0]) if weighted else 0 * context.codes["photo"].sum()
        if warm:
            nothing = torch.tensor(math.nan, device=loss.device)
            values = dict.fromkeys((term.name for term in self.terms), nothing)
        return {"loss": loss, **values}

    def _encode(self, encoder: nn.Module, batch: Batch, terms: list[Term]) -> StepContext:
        device = next(encoder.parameters()).device
        photo, target = batch.images.to(device), batch.target.to(device)
        groups, known = {"photo": photo}, batch.codes
        if any(term.with_mirror for term in terms):
            groups["mirror"] = photo.flip(3)
        if batch.rendered is not None:
            groups["rendered"] = batch.rendered.images.to(device)
            known = batch.rendered.codes
        codes = encode_together(encoder, groups)
        if known is not None:
            codes["known"] = known.to(device)
        if batch.teacher_codes is not None:
            codes["teacher"] = batch.teacher_codes.to(device)
        return StepContext(
            self.decoder, batch, target, codes, encoder, self.config.loss, self.tools
        )


def not_finite(terms: dict[str, Tensor], gradient_norm: Tensor) -> str:
    """Which term, or otherwise the gradient, is not a finite number; empty: all are."""
    if torch.isfinite(terms["loss"]) and torch.isfinite(gradient_norm):
        return ""
    if torch.isfinite(terms["loss"]):
        return f"the gradient's norm is {gradient_norm.item()}"
    # In a warm start only the loss itself is there, the terms are NaN.
    known = [name for name in terms if name != "loss" and not torch.isfinite(terms[name])]
    name = known[0] if 0 < len(known) < len(terms) - 1 else "loss"
    return f"the {name} is {terms[name].item()}"
