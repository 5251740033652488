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
from mofa_nvdr.face.correctives import CorrectedFaceModel
from mofa_nvdr.losses.batch_distribution import batch_distribution
from mofa_nvdr.losses.consistency import mean_placement_anchor, mirror_consistency
from mofa_nvdr.losses.mofa import batch_pose_prior
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.runs.build import make_decoder
from mofa_nvdr.runs.options import ConfigError, TrainConfig, base_level_steps, known_face_steps
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
        of_corrections: it is of both levels of a face model, and not there while the base one learns alone.
    """

    name: str
    weight: float
    compute: Callable[[StepContext], Tensor]
    with_mirror: bool = False
    of_corrections: bool = False


def photograph_terms(config: TrainConfig) -> list[Term]:
    """The terms of a step on photographs, in the order of the log. A new term is a line here."""
    w, size = config.loss, config.data.image_size
    terms = [
        *_photometric_terms(config),
        Term("landmark", w.landmark, lambda c: c.landmark_alignment()),
        Term("regularizer", w.regularizer, lambda c: c.base.regularizer(w)),
        Term("pose_prior", w.pose_prior, lambda c: batch_pose_prior(c.code)),
    ]
    more = [
        Term("anchor", w.anchor, lambda c: mean_placement_anchor(
            c.placement("photo"), c.placement("teacher"), size, c.batch.teacher_offset)),
        Term("mirror", w.mirror, lambda c: mirror_consistency(
            c.placement("photo"), c.placement("mirror"), size).mean(), with_mirror=True),
        Term("lid", w.lid, lambda c: c.opening_alignment()),
        Term("synthetic", w.synthetic, lambda c: c.base.known_distance(
            c.base.unpack("rendered"), c.base.unpack("known")).mean()),
        Term("fitted", w.fitted, lambda c: c.base.fitted_distance()),
        Term("identity", w.identity, lambda c: c.identity_distance()),
        Term("batch_distribution", w.batch_distribution, lambda c: batch_distribution(
            c.base.unpack("photo"))),
        Term("loopback", w.loopback, lambda c: c.loopback_distance()),
        *_corrective_terms(config),
    ]  # fmt: skip
    return terms + [term for term in more if term.weight > 0]


def warm_start_terms(config: TrainConfig) -> list[Term]:
    """The terms of a step of the warm start: rendered faces, whose codes are known."""
    return [
        Term("known_faces", 1.0, lambda c: c.base.known_distance(
            c.base.unpack("photo"), c.base.unpack("known")).mean()),
    ]  # fmt: skip


def _corrective_terms(config: TrainConfig) -> list[Term]:
    """The terms of a face model of two levels, next to those of its final one."""
    k, mode = config.correctives, config.render.mode
    terms = [
        Term("base_photometric", k.base_photometric, lambda c: c.base.photometric(mode)),
        Term("base_landmark", k.base_landmark, lambda c: c.base.landmark_alignment()),
        Term("smoothness", k.smoothness, lambda c: c.correction_smoothness()),
        Term("sparsity", k.sparsity, lambda c: c.correction_sparsity()),
        Term("constancy", k.constancy, lambda c: c.correction_constancy()),
        Term("size", k.size, lambda c: c.correction_size()),
        Term("rendered_size", k.rendered_size, lambda c: c.rendered_correction_size()),
        Term("orthogonality", k.orthogonality, lambda c: c.corrective_orthogonality()),
    ]
    return [dataclasses.replace(term, of_corrections=True) for term in terms]


def _photometric_terms(config: TrainConfig) -> list[Term]:
    raster = Term("photometric_raster", 0.0, lambda c: c.photometric_raster.mean())
    vertex = Term("photometric_vertex", 0.0, lambda c: c.photometric_vertex.mean())
    weight = config.loss.photometric
    if config.render.mode == "raster":
        return [dataclasses.replace(raster, name="photometric", weight=weight)]
    if config.render.mode == "vertex":
        return [dataclasses.replace(vertex, name="photometric", weight=weight)]

    # The two come before their sum: of terms that are not finite the guard names the first.
    return [raster, vertex, Term("photometric", weight, lambda c: c.photometric("both"))]


class Objective:
    """The loss of a training step and its terms.

    Args:
        config: weights and modes.
        decoder: of runs.build.make_decoder; of a CorrectedFaceModel the modes learn too.

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
        self.base: FaceDecoder | None = None
        if isinstance(decoder.model, CorrectedFaceModel):
            self.base = make_decoder(config, decoder.model.base).to(decoder.triangles.device)
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

        While the warm start lasts nothing is rendered, and the photographs' terms are NaN; while the base
        level learns alone, those of corrections are.

        Args:
            encoder: images to codes.
            batch: this process's share of the step's batch; for loss.anchor of teacher.with_teacher.
            step: from 1.
            clock: times the encoder, and gets the codes to time their gradient.
            reported: also the terms that have no weight, which may need a rendering of their own.
        """
        warm = step <= known_face_steps(self.config)
        lower = step <= base_level_steps(self.config)
        terms = self.warm_start if warm else self.terms
        terms = [
            t for t in terms if (reported or t.weight > 0) and not (lower and t.of_corrections)
        ]
        context = self._encode(encoder, batch, terms)
        watched = context.codes["photo"]
        if lower:
            context = context.base
        if clock is not None:
            clock.lap("encoder_forward")
            clock.watch(watched)
        values = {term.name: term.compute(context) for term in terms}
        weighted = [term.weight * values[term.name] for term in terms if term.weight > 0]
        # With all weights at zero the loss still reaches the encoder.
        loss = sum(weighted[1:], weighted[0]) if weighted else 0 * watched.sum()
        if warm:
            values = {}
        # Behind those that are there: of terms that are not finite the guard names the first.
        nothing = torch.tensor(math.nan, device=loss.device)
        missing = [t.name for t in self.terms if warm or (lower and t.of_corrections)]
        return {"loss": loss, **values, **dict.fromkeys(missing, nothing)}

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
        context = StepContext(
            self.decoder, batch, target, codes, encoder, self.config.loss, self.tools
        )
        if self.base is not None:
            context.lower = context.at_base_level(self.base)
        return context


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
