"""What a training step minimises: a list of terms, built from the options once, and their weighted sum.

    batch -> encoder -> codes -> StepContext (decoded faces, renderings) -> terms -> loss

A term is one line in `photograph_terms`: its name in the log, its weight, and a function of the step's
context. What it computes is a plain function in losses/.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import cast

import torch
from torch import Tensor, nn

from mofa_nvdr.data.sampling import Batch
from mofa_nvdr.face.code import CodeLayout, FaceCode
from mofa_nvdr.face.dense_landmarks import NUM_DENSE, DenseLandmarks
from mofa_nvdr.losses.consistency import Placement, mean_placement_anchor, mirror_consistency
from mofa_nvdr.losses.identity import identity_distance
from mofa_nvdr.losses.known_faces import known_face_distance
from mofa_nvdr.losses.landmark_terms import (
    aligned,
    dense_opening_alignment,
    dense_weights,
    opening_alignment,
)
from mofa_nvdr.losses.mofa import (
    LANDMARK_UNIT,
    batch_pose_prior,
    landmark_alignment,
    photometric_raster,
    photometric_vertex,
    statistical_regularizer,
)
from mofa_nvdr.losses.occlusion import visible_weight
from mofa_nvdr.networks.encoder import Encoder
from mofa_nvdr.networks.face_recognition import FaceRecognition
from mofa_nvdr.networks.on_request import NetworkMissingError
from mofa_nvdr.render.decoder import FaceDecoder, Geometry, RasterFace, face_image
from mofa_nvdr.runs.options import ConfigError, LossOptions, TrainConfig
from mofa_nvdr.system import distributed
from mofa_nvdr.training.timing import StageClock

_BEHIND = 0.5  # grey behind rendered faces that are to be recognised


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
        Term("synthetic", w.synthetic, lambda c: known_face_distance(
            c.decoder, c.unpack("rendered"), c.unpack("known"), w.decoded).mean()),
        Term("fitted", w.fitted, lambda c: c.fitted_distance(w.decoded)),
        Term("identity", w.identity, lambda c: c.identity_distance(w.identity_photographs)),
    ]  # fmt: skip
    return terms + [term for term in more if term.weight > 0]


def warm_start_terms(config: TrainConfig) -> list[Term]:
    """The terms of a step of the warm start: rendered faces, whose codes are known."""
    decoded = config.loss.decoded
    return [
        Term("known_faces", 1.0, lambda c: known_face_distance(
            c.decoder, c.unpack("photo"), c.unpack("known"), decoded).mean()),
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


@dataclass
class StepContext:
    """What terms may look at. What is decoded or rendered is made when a term first asks for it.

    Attributes:
        decoder: codes to faces.
        batch: this process's share of the step's batch.
        target: [B, 3, H, W] photographs, on the decoder's device.
        codes: name -> [N, size]: "photo"; "mirror" of the mirrored photographs; "rendered" of the rendered
            faces next to them, "known" their true codes; "teacher" of the frozen encoder.
        loss: gains of the photographs' gradients (gain_shape, gain_expression).
        recognition: of loss.identity.
    """

    decoder: FaceDecoder
    batch: Batch
    target: Tensor
    codes: dict[str, Tensor]
    loss: LossOptions
    recognition: FaceRecognition | None = None
    _placements: dict[str, Placement] = field(default_factory=dict)

    def unpack(self, name: str) -> FaceCode:
        """Codes by their parts."""
        return self.layout.unpack(self.codes[name])

    @property
    def layout(self) -> CodeLayout:
        """The code's parts."""
        return self.decoder.model.layout

    @cached_property
    def code(self) -> FaceCode:
        """The photographs' codes, through which the terms of Eq. 7 pull; with the gains' gradient."""
        code = self.unpack("photo")
        return dataclasses.replace(
            code,
            shape=_gain(code.shape, self.loss.gain_shape),
            expression=_gain(code.expression, self.loss.gain_expression),
        )

    @cached_property
    def geometry(self) -> Geometry:
        """The photographs' faces in camera space."""
        return self.decoder.geometry(self.code)

    @cached_property
    def rendering(self) -> RasterFace:
        """The photographs' faces, rasterized."""
        return self.decoder.rasterize(self.geometry)

    @cached_property
    def photometric_raster(self) -> Tensor:
        """[B] losses.mofa.photometric_raster."""
        weight = None
        if self.loss.occlusion == "robust":
            weight = visible_weight(self.rendering.image, self.target, self.rendering.mask)
        return photometric_raster(self.rendering, self.target, weight=weight)

    @cached_property
    def photometric_vertex(self) -> Tensor:
        """[B] losses.mofa.photometric_vertex."""
        v = self.decoder.shade_vertices(self.geometry)
        return photometric_vertex(v.positions, v.colors, v.front_facing, self.target)

    def landmark_alignment(self) -> Tensor:
        """Eq. 9, or losses.landmark_terms.aligned over dense landmarks; the mean over the batch."""
        if self.loss.landmark_set == "dense":
            projected = self.decoder.dense_landmarks(self.geometry)
            weight = dense_weights(self._places.spread)
            return aligned(projected, self._dense(), weight, self._landmark_unit).mean()
        landmarks, confidence = self.batch.landmarks, self.batch.confidence
        return landmark_alignment(
            self.decoder.landmarks(self.geometry),
            landmarks.to(self.target.device),
            confidence.to(self.target.device),
            self._landmark_unit,
        ).mean()

    def opening_alignment(self) -> Tensor:
        """losses.landmark_terms.opening_alignment or its dense twin, the mean over the batch."""
        projected = self.decoder.landmarks(self.geometry)
        if self.loss.landmark_set == "dense":
            dense = self.decoder.dense_landmarks(self.geometry)
            known = self._places.known
            return dense_opening_alignment(
                projected, dense, known, self._dense(), self._landmark_unit
            ).mean()
        landmarks, confidence = self.batch.landmarks, self.batch.confidence
        return opening_alignment(
            projected,
            landmarks.to(self.target.device),
            confidence.to(self.target.device),
            self._landmark_unit,
        ).mean()

    @property
    def _places(self) -> DenseLandmarks:
        places = self.decoder.model.dense_landmarks
        assert places is not None  # Objective has looked
        return places

    @property
    def _landmark_unit(self) -> float:
        return LANDMARK_UNIT * self.decoder.camera.size[0] / 240

    def _dense(self) -> Tensor:
        """The batch's dense landmarks [B, 478, 2]; NaN where there are none."""
        if self.batch.dense is None:
            return self.target.new_full((len(self.target), NUM_DENSE, 2), math.nan)
        return self.batch.dense.to(self.target.device)

    def fitted_distance(self, decoded: float) -> Tensor:
        """losses.known_faces.known_face_distance to fitted codes; photographs without one count as 0."""
        fitted = self.batch.codes
        if fitted is None:
            return self.codes["photo"].new_zeros(())
        fitted = fitted.to(self.target.device)
        rows = fitted.isfinite().all(1)
        if not rows.any():
            return self.codes["photo"].new_zeros(())
        code, true = (self.layout.unpack(x[rows]) for x in (self.codes["photo"], fitted))
        return known_face_distance(self.decoder, code, true, decoded).sum() / len(rows)

    def identity_distance(self, most: int) -> Tensor:
        """losses.identity.identity_distance of the first photographs with landmarks; their mean."""
        network, landmarks = self.recognition, self.batch.landmarks
        assert network is not None  # Objective has loaded it
        rows = landmarks.isfinite().all(2).all(1).nonzero()[:most, 0].to(self.target.device)
        if not len(rows):
            return self.codes["photo"].new_zeros(())
        marks = landmarks.to(self.target.device)[rows]
        with torch.no_grad():
            people = network.embed(self.target[rows], marks, samples=1)
        face = self.rendering
        assert face.landmarks is not None
        # One sample a px: training pictures are smaller than chips.
        drawn = network.embed(face_image(face, _BEHIND)[rows], face.landmarks[rows], samples=1)
        return identity_distance(drawn, people).mean()

    def regularizer(self, weights: LossOptions) -> Tensor:
        """Eq. 10, the mean over the batch."""
        return statistical_regularizer(self.code, weights.albedo, weights.expression).mean()

    def placement(self, name: str) -> Placement:
        """Where the faces of some codes are."""
        if name not in self._placements:
            self._placements[name] = Placement.of(self.decoder, self.unpack(name))
        return self._placements[name]


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
        self.recognition = None
        if config.loss.identity > 0:
            try:
                self.recognition = FaceRecognition.load(decoder.triangles.device)
            except NetworkMissingError as error:
                raise ConfigError(f"--loss.identity is {config.loss.identity:g}: {error}") from None
        self.config = config
        self.decoder = decoder
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
        warm = step <= self.config.schedule.warm_start_steps
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
        codes = _encode_together(encoder, groups)
        if known is not None:
            codes["known"] = known.to(device)
        if batch.teacher_codes is not None:
            codes["teacher"] = batch.teacher_codes.to(device)
        return StepContext(self.decoder, batch, target, codes, self.config.loss, self.recognition)


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


def _encode_together(encoder: nn.Module, groups: dict[str, Tensor]) -> dict[str, Tensor]:
    """One pass of the encoder over several groups of images [N, 3, S, S].

    One, so that BatchNorm has the same statistics for a photograph and its mirror image, and that
    DistributedDataParallel exchanges gradients once. The groups are interleaved evenly: then the images of
    several processes, one process after the other, are in the order in which one process has them,
    which Dropout's masks are drawn in.
    """
    if len(groups) == 1:
        return {name: encoder(images) for name, images in groups.items()}
    own = cast(Encoder, getattr(encoder, "module", encoder))  # without DistributedDataParallel
    groups = {name: own.resize(images) for name, images in groups.items()}
    counts = [len(images) for images in groups.values()]
    common = math.lcm(*counts)
    places = [(2 * k + 1) * (common // n) for n in counts for k in range(n)]
    order = sorted(range(len(places)), key=places.__getitem__)
    images = torch.cat(list(groups.values()))[order]
    back = sorted(range(len(order)), key=order.__getitem__)
    return dict(zip(groups, encoder(images)[back].split(counts)))


def _gain(x: Tensor, gain: float) -> Tensor:
    """The same values; what sets an image's gradient [B, N] apart from the batch's mean is multiplied.

    The mean keeps its length: with it, all faces would soon have one expression, and smaller, nearer heads.
    """
    if gain == 1:
        return x
    apart = x - distributed.batch_mean(x.mean(0))
    return x + (gain - 1) * (apart - apart.detach())
