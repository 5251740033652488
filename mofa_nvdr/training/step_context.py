"""What the terms of a step look at: its batch, its codes, and what is decoded, rendered or seen of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from mofa_nvdr.data.sampling import Batch
from mofa_nvdr.data.synthetic.codes import CodePrior
from mofa_nvdr.face.code import CodeLayout, FaceCode
from mofa_nvdr.face.correctives import CorrectedFaceModel, spaced_vertices
from mofa_nvdr.face.dense_landmarks import NUM_DENSE, DenseLandmarks
from mofa_nvdr.face.skin import skin_vertices
from mofa_nvdr.losses import corrections
from mofa_nvdr.losses.consistency import Placement
from mofa_nvdr.losses.identity import identity_cosine, identity_distance
from mofa_nvdr.losses.known_faces import code_distance, decoded_face_distance
from mofa_nvdr.losses.landmark_terms import (
    aligned,
    dense_opening_alignment,
    dense_weights,
    opening_alignment,
)
from mofa_nvdr.losses.model_space import model_space_distance, model_space_weights
from mofa_nvdr.losses.mofa import (
    LANDMARK_UNIT,
    landmark_alignment,
    photometric_raster,
    photometric_vertex,
    statistical_regularizer,
)
from mofa_nvdr.losses.occlusion import visible_weight
from mofa_nvdr.losses.parameter_distance import parameter_distance
from mofa_nvdr.networks.face_recognition import FaceRecognition
from mofa_nvdr.networks.identity_mean import identity_mean
from mofa_nvdr.networks.on_request import NetworkMissingError
from mofa_nvdr.render.decoder import FaceDecoder, Geometry, RasterFace, face_image
from mofa_nvdr.runs.options import ConfigError, LossOptions, TrainConfig
from mofa_nvdr.scene.vertex_graph import VertexGraph
from mofa_nvdr.system import distributed
from mofa_nvdr.training.views import RandomViews, Views

# Vertices over which modes are compared: all of them would cost as much as a rendering.
_SPACED = 6000
_BEHIND = 0.5  # grey behind rendered faces that are to be recognised


@dataclass(frozen=True)
class Tools:
    """What terms need apart from numbers, made once; None: no term needs it.

    Attributes:
        recognition: of loss.identity.
        views: of loss.views.
        model_space: weights of losses.model_space; empty: not needed.
        graph: the face model's edges, for corrections.
        skin: its bare skin, for correctives.constancy.
        spaced: some of its vertices, for correctives.orthogonality.
    """

    recognition: FaceRecognition | None = None
    views: RandomViews | None = None
    model_space: dict[str, Tensor] = field(default_factory=dict)
    graph: VertexGraph | None = None
    skin: Tensor | None = None
    spaced: Tensor | None = None

    @staticmethod
    def of(config: TrainConfig, decoder: FaceDecoder) -> Tools:
        """Those that a configuration asks for.

        Raises:
            ConfigError: a network is not here.
        """
        recognition, views, w = None, None, config.loss
        if w.identity > 0:
            try:
                recognition = FaceRecognition.load(decoder.triangles.device)
            except NetworkMissingError as error:
                raise ConfigError(f"--loss.identity is {w.identity:g}: {error}") from None
        if w.views > 0 and (w.identity > 0 or w.loopback > 0):
            prior = CodePrior().with_pose(config.synthetic.pose)
            views = RandomViews(decoder, w.views, config.run.seed, prior)
        space = model_space_weights(decoder.model) if w.model_space > 0 else {}
        model = decoder.model
        if not isinstance(model, CorrectedFaceModel):
            return Tools(recognition, views, space)
        graph = VertexGraph.of(model.triangles, model.num_vertices)
        spaced = spaced_vertices(model, _SPACED)
        return Tools(recognition, views, space, graph, skin_vertices(model), spaced)


@dataclass
class StepContext:
    """What terms may look at. What is decoded or rendered is made when a term first asks for it.

    Attributes:
        decoder: codes to faces.
        batch: this process's share of the step's batch.
        target: [B, 3, H, W] photographs, on the decoder's device.
        codes: name -> [N, size]: "photo"; "mirror" of the mirrored photographs; "rendered" of the rendered
            faces next to them, "known" their true codes; "teacher" of the frozen encoder.
        encoder: images to codes, for what is predicted again.
        loss: what terms need of it.
        tools: what they need apart from numbers.
        lower: the base level of the same photographs, where the face model has two.
    """

    decoder: FaceDecoder
    batch: Batch
    target: Tensor
    codes: dict[str, Tensor]
    encoder: Callable[[Tensor], Tensor]
    loss: LossOptions
    tools: Tools
    lower: StepContext | None = None
    _placements: dict[str, Placement] = field(default_factory=dict)

    @property
    def base(self) -> StepContext:
        """The base level, all that rendered faces and fitted codes know of; without two levels this one."""
        return self.lower or self

    def at_base_level(self, decoder: FaceDecoder) -> StepContext:
        """The same photographs with the codes of the base level, to which `decoder` belongs."""
        model, layout = self.decoder.model, self.layout
        assert isinstance(model, CorrectedFaceModel)

        def lower(code: Tensor) -> Tensor:
            # Known codes are of the base level already.
            both = code.shape[1] == layout.size
            return model.base_code(layout.unpack(code)).pack() if both else code

        return dataclasses.replace(
            self,
            decoder=decoder,
            codes={name: lower(code) for name, code in self.codes.items()},
            encoder=lambda images: lower(self.encoder(images)),
            _placements={},
        )

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

    def photometric(self, mode: str) -> Tensor:
        """The photometric term of a render mode, the mean over the batch."""
        if mode == "both":
            return (0.5 * self.photometric_raster + 0.5 * self.photometric_vertex).mean()
        return (self.photometric_raster if mode == "raster" else self.photometric_vertex).mean()

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

    def known_distance(self, code: FaceCode, true: FaceCode) -> Tensor:
        """Distance of predicted to known codes, [B]: the sum of what is asked for, a line each."""
        w, space = self.loss, self.tools.model_space
        lines: list[tuple[float, Callable[[], Tensor]]] = [
            (w.codes, lambda: code_distance(code, true)),
            (w.decoded, lambda: decoded_face_distance(self.decoder, code, true)),
            (w.parameter_shape, lambda: parameter_distance(code, true, 1.0, 0.0)),
            (w.parameter_albedo, lambda: parameter_distance(code, true, 0.0, 1.0)),
            (w.model_space, lambda: model_space_distance(code, true, space)),
        ]
        parts = [weight * distance() for weight, distance in lines if weight > 0]
        return sum(parts[1:], parts[0])

    def fitted_distance(self) -> Tensor:
        """`known_distance` to fitted codes; photographs without one count as 0."""
        fitted = self.batch.codes
        if fitted is None:
            return self.codes["photo"].new_zeros(())
        fitted = fitted.to(self.target.device)
        rows = fitted.isfinite().all(1)
        if not rows.any():
            return self.codes["photo"].new_zeros(())
        code, true = (self.layout.unpack(x[rows]) for x in (self.codes["photo"], fitted))
        return self.known_distance(code, true).sum() / len(rows)

    @cached_property
    def people(self) -> Tensor:
        """Which photographs loss.identity and loss.loopback look at: the first ones, with landmarks."""
        rows = torch.ones(len(self.target), dtype=torch.bool)
        if self.tools.recognition is not None:
            rows = self.batch.landmarks.isfinite().all(2).all(1)
        return rows.nonzero()[: self.loss.identity_photographs, 0].to(self.target.device)

    @cached_property
    def views(self) -> Views:
        """Other pictures of `people`, as they are predicted."""
        draw, code = self.tools.views, self.unpack("photo")
        assert draw is not None
        places = [self.batch.places[k] for k in self.people.tolist()] if self.batch.places else []
        return draw(code.shape[self.people], code.albedo[self.people], places)

    def identity_distance(self) -> Tensor:
        """losses.identity of `people`; the mean over them and their views."""
        network, rows = self.tools.recognition, self.people
        assert network is not None  # Objective has loaded it
        if not len(rows):
            return self.codes["photo"].new_zeros(())
        marks = self.batch.landmarks.to(self.target.device)[rows]
        # One sample a px: training pictures are smaller than chips.
        with torch.no_grad():
            people = network.embed(self.target[rows], marks, samples=1)
        if self.tools.views is None:
            face = self.rendering
            assert face.landmarks is not None
            images, marks = face_image(face, _BEHIND)[rows], face.landmarks[rows]
        else:
            images, marks = self.views.images, self.views.landmarks
            people = people.repeat_interleave(self.loss.views, 0)
        drawn = network.embed(images, marks, samples=1)
        if self.loss.identity_measure == "cosine":
            return identity_cosine(drawn, people, identity_mean().to(people)).mean()
        return identity_distance(drawn, people).mean()

    def loopback_distance(self) -> Tensor:
        """Shape and albedo of `people` against those predicted from the first of their views, the mean."""
        w, rows, code = self.loss, self.people, self.unpack("photo")
        if not len(rows):
            return self.codes["photo"].new_zeros(())
        again = self.layout.unpack(self.encoder(self.views.images[:: w.views]))
        first = code.map(lambda part: part[rows])
        return parameter_distance(again, first, w.parameter_shape, w.parameter_albedo).mean()

    def regularizer(self, weights: LossOptions) -> Tensor:
        """Eq. 10, the mean over the batch."""
        return statistical_regularizer(self.code, weights.albedo, weights.expression).mean()

    @cached_property
    def displacement(self) -> Tensor:
        """What corrections move, [B, V, 3] mm: turned with the head, which changes no length."""
        return self.geometry.vertices - self.base.geometry.vertices

    @cached_property
    def offset(self) -> Tensor:
        """What corrections paint, [B, V, 3] reflectance."""
        return self.geometry.albedo - self.base.geometry.albedo

    def correction_smoothness(self) -> Tensor:
        """losses.corrections.displacement_smoothness, the mean over the batch."""
        assert self.tools.graph is not None
        return corrections.displacement_smoothness(self.displacement, self.tools.graph).mean()

    def correction_sparsity(self) -> Tensor:
        """losses.corrections.reflectance_sparsity, by what the photograph shows where the base level is."""
        graph, camera = self.tools.graph, self.decoder.camera
        assert graph is not None
        with torch.no_grad():
            face = self.base.geometry
            facing = (face.normals * camera.view_directions(face.vertices)).sum(-1) > 0
            places = camera.project(face.vertices)
            similarity = corrections.neighbour_similarity(self.target, places, facing, graph)
        return corrections.reflectance_sparsity(self.offset, similarity, graph).mean()

    def correction_constancy(self) -> Tensor:
        """losses.corrections.skin_constancy, the mean over the batch."""
        assert self.tools.skin is not None  # runs.build has looked
        return corrections.skin_constancy(self.offset, self.tools.skin).mean()

    def correction_size(self) -> Tensor:
        """losses.corrections.correction_size, the mean over the batch."""
        return corrections.correction_size(self.displacement, self.offset).mean()

    def rendered_correction_size(self) -> Tensor:
        """losses.corrections.correction_size of rendered faces, which were drawn without any; their mean."""
        model = self.decoder.model
        assert isinstance(model, CorrectedFaceModel)
        return corrections.correction_size(*model.corrections(self.unpack("rendered"))).mean()

    def corrective_orthogonality(self) -> Tensor:
        """losses.corrections.soft_orthogonality of geometry's and of reflectance's modes, their sum."""
        model, some = self.decoder.model, self.tools.spaced
        assert isinstance(model, CorrectedFaceModel) and some is not None
        pairs = (
            (model.shape_correctives, model.shape_basis),
            (model.albedo_correctives, model.albedo_basis),
        )
        parts = [
            corrections.soft_orthogonality(a.index_select(1, some), b.index_select(1, some))
            for a, b in pairs
        ]
        return parts[0] + parts[1]

    def placement(self, name: str) -> Placement:
        """Where the faces of some codes are."""
        if name not in self._placements:
            self._placements[name] = Placement.of(self.decoder, self.unpack(name))
        return self._placements[name]


def _gain(x: Tensor, gain: float) -> Tensor:
    """The same values; what sets an image's gradient [B, N] apart from the batch's mean is multiplied.

    The mean keeps its length: with it, all faces would soon have one expression, and smaller, nearer heads.
    """
    if gain == 1:
        return x
    apart = x - distributed.batch_mean(x.mean(0))
    return x + (gain - 1) * (apart - apart.detach())
