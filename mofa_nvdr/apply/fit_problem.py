"""The energy of photographs under a face model, and steps that lower it (Eq. 6 of the paper)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr.apply.face_jacobian import FaceJacobian, Pose
from mofa_nvdr.apply.fit_colors import Colors, PixelTerm, Rows, Target, VertexTerm
from mofa_nvdr.apply.fit_landmarks import LandmarkTerm
from mofa_nvdr.apply.fit_prior import FitPrior
from mofa_nvdr.apply.shut_lips import lip_edges, shut_share
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.losses.color_distance import known_photo
from mofa_nvdr.losses.occlusion import visibility
from mofa_nvdr.render.blur import blurred
from mofa_nvdr.render.decoder import FaceDecoder, Geometry, RasterFace
from mofa_nvdr.scene.pose import axis_angle_to_matrix, matrix_to_axis_angle
from mofa_nvdr.system.threads import on_threads

SATURATED = 0.985  # a channel from which a photograph does not say how bright it was
_FIRST_VARIANCE = 0.08**2  # of colours, before anything is known of them
_DAMPING = (1e-3, 0.3, 6.0)  # at the start, times after a success, and after a failure
_LEAST_DAMPING, _MOST_DAMPING = 1e-6, 1e6


@dataclass(frozen=True)
class Stage:
    """Some Gauss-Newton steps on some parts of the code.

    Attributes:
        parts: names of the code's parts that move.
        steps: how many.
        landmarks: weight of the landmark term.
        photometric: independent pixels that the photometric term counts for; 0: it is left out.
        detail: the same of the differences of pixels that lie a little apart; 0: they are left out. Shadows,
            flushes and tans that the model does not know change them less than the pixels themselves.
        blur: deviation of a Gaussian over the photograph, in 120ths of the side.
        occlusion: look for occluders before the first step of the stage.
    """

    parts: tuple[str, ...]
    steps: int
    landmarks: float = 0.0
    photometric: float = 0.0
    detail: float = 0.0
    blur: float = 0.0
    occlusion: bool = False


@dataclass(frozen=True)
class Observed:
    """What is known of B photographs.

    Attributes:
        photo: [B, 3, H, W] face crops in [0, 1]; NaN: no photograph there.
        landmarks: [B, N, 2] px of the crop, NaN: unknown; N is 5, 68 or 478. None: no landmarks.
        person: int64 [B], photographs with the same number share `shared`; None: each is another person.
        shared: parts of the code that a person's photographs have in common.
    """

    photo: Tensor
    landmarks: Tensor | None = None
    person: Tensor | None = None
    shared: tuple[str, ...] = ("shape", "albedo")


@dataclass(frozen=True)
class FitTools:
    """What one face model needs to be fitted at one image size.

    Attributes:
        model: the face model. decoder: of it, at that size. jacobian: of the decoder.
        term: the photometric term. prior: of codes. scatter: factors [T] of the variance of colours on the
            decoder's triangles, or None.
    """

    model: FaceModel
    decoder: FaceDecoder
    jacobian: FaceJacobian
    term: PixelTerm | VertexTerm
    prior: FitPrior
    scatter: Tensor | None

    @cached_property
    def lip_edges(self) -> Tensor:
        """Int64 [K, 2] of the model (shut_lips.py); a third of a second where a mouth is shut."""
        return lip_edges(self.model)


@dataclass
class FitState:
    """Codes and what follows from them."""

    code: Tensor  # [B, 257]
    geometry: Geometry | None = None
    colors: Colors | None = None
    energy: Tensor = field(default_factory=lambda: torch.zeros(0))


class FitProblem:
    """The energy of some photographs, and a step that lowers it."""

    def __init__(self, tools: FitTools, observed: Observed) -> None:
        self.tools, self.observed = tools, observed
        photo = observed.photo
        if photo.ndim != 4 or photo.shape[1] != 3 or photo.shape[2] != photo.shape[3]:
            raise ValueError(f"fit: photo is {list(photo.shape)}, expected [B, 3, S, S]")
        self.batch, self.side = photo.shape[0], photo.shape[2]
        self.size = size = tools.decoder.camera.size[0]
        full, known = known_photo(photo, None)
        self.photo = _resized(full, size)
        self.known = (_resized(known.float(), size) > 0.99)[:, 0]  # [B, S, S]
        self.known = self.known & (self.photo.amax(1) < SATURATED)
        self.landmarks = self._landmarks()
        self.person = self._people_of(observed.person)
        self.people = int(self.person.max()) + 1 if self.batch else 0
        # A person has one prior of what is shared, however many the photographs.
        photographs = torch.bincount(self.person, minlength=self.people)[self.person]
        self.prior_share = torch.ones(self.batch, tools.model.layout.size)
        for name in observed.shared:
            if name not in tools.model.layout.slices:
                raise ValueError(
                    f"fit: shared has {name!r}, expected some of {', '.join(tools.model.layout.slices)}"
                )
            where = tools.model.layout.slices[name]
            self.prior_share[:, where] = photographs[:, None].float().rsqrt()
        self.visible = torch.ones_like(self.photo[:, 0])
        self.variance = torch.full((self.batch,), _FIRST_VARIANCE)
        self._turn = 0

    def _people_of(self, person: Tensor | None) -> Tensor:
        """Numbers [B] of the people, from 0 on."""
        if person is None:
            return torch.arange(self.batch)
        if person.shape != (self.batch,):
            raise ValueError(f"fit: person is {list(person.shape)}, expected [{self.batch}]")
        return torch.unique(person, return_inverse=True)[1]

    def _landmarks(self) -> LandmarkTerm | None:
        given, tools = self.observed.landmarks, self.tools
        if given is None:
            return None
        if given.ndim != 3 or given.shape[0] != self.batch or given.shape[2] != 2:
            raise ValueError(
                f"fit: landmarks is {list(given.shape)}, expected [{self.batch}, N, 2]"
            )
        marks = given * (self.size / self.side)
        edges = tools.lip_edges if shut_share(marks).any() else None
        return LandmarkTerm(tools.model, tools.jacobian, marks, edges)

    def start(self, code: FaceCode | None) -> Tensor:
        """Codes [B, 257] to begin with; what a person's photographs share is their mean."""
        layout = self.tools.model.layout
        if code is None:
            if self.landmarks is None:
                raise ValueError("fit: no landmarks and no start; give one of them")
            packed = self.tools.prior.mean.expand(self.batch, -1).clone()
            packed[:, layout.slices["rotation"].start + 2] = -self.landmarks.roll()
            return packed
        layout.check(code)
        if code.batch_size != self.batch:
            raise ValueError(f"fit: start has {code.batch_size} codes, expected {self.batch}")
        packed = layout.pack(code).clone()
        for name in self.observed.shared:
            where = layout.slices[name]
            for person in range(self.people):
                own = self.person == person
                packed[own, where] = packed[own, where].mean(0)
        return packed

    def begin(self, stage: Stage, state: FitState) -> None:
        """Prepare a stage: its picture, and what is seen of the faces."""
        self.stage = stage
        parts = self.tools.model.layout.slices
        columns = [torch.arange(parts[name].start, parts[name].stop) for name in stage.parts]
        self.columns = torch.cat(columns)
        shared = {name for name in self.observed.shared if name in stage.parts}
        is_shared = torch.cat(
            [torch.full((len(c),), name in shared) for name, c in zip(stage.parts, columns)]
        )
        self.shared, self.own = is_shared.nonzero()[:, 0], (~is_shared).nonzero()[:, 0]
        if stage.occlusion:
            self._look_for_occluders(state.code)
        self.target = Target(
            blurred(self.photo, stage.blur * self.size / 120),
            self.known * self.visible,
            self.variance,
            self.tools.scatter,
            stage.photometric,
            stage.detail,
        )

    def first_damping(self) -> Tensor:
        """[people], of the first step of a stage."""
        return torch.full((self.people,), _DAMPING[0])

    def evaluate(self, code: Tensor, before: FitState | None = None) -> FitState:
        """Decode codes [B, 257] and sum up their energy [B].

        Args:
            code: codes.
            before: of codes from which these differ in the stage's parts alone.
        """
        state = FitState(code)
        like = None if before is None else before.geometry
        state.geometry = self.tools.decoder.geometry(code, like, self.stage.parts)
        prior = self.tools.prior
        energy = prior.energy(prior.mean + (code - prior.mean) * self.prior_share)
        if self.stage.landmarks and self.landmarks is not None:
            energy = energy + self.stage.landmarks * self.landmarks.energy(state.geometry)
        if self.stage.photometric:
            term = self.tools.term
            state.colors = term.look(state.geometry, self.target)
            energy = energy + term.energy(state.colors, self.target)
        state.energy = energy
        return state

    def step(self, state: FitState, damping: Tensor) -> tuple[FitState, Tensor]:
        """One damped Gauss-Newton step of every person, taken where it lowers the energy."""
        matrices, slopes = self._normal_equations(state)
        moves = self._solve(matrices, slopes, damping)
        tried = self.evaluate(self._moved(state.code, moves), state)
        before, now = (
            torch.zeros(self.people).index_add_(0, self.person, e)
            for e in (state.energy, tried.energy)
        )
        better = now < before
        _, success, failure = _DAMPING
        damping = torch.where(better, damping * success, damping * failure).clamp(
            _LEAST_DAMPING, _MOST_DAMPING
        )
        if better.all():
            return tried, damping
        keep = better[self.person]
        code = torch.where(keep[:, None], tried.code, state.code)
        return self.evaluate(code, state), damping

    def _normal_equations(self, state: FitState) -> tuple[Tensor, Tensor]:
        """J^T J [B, P, P] and J^T r [B, P] over the stage's columns, prior included."""
        assert state.geometry is not None
        columns, prior = self.columns, self.tools.prior
        matrices = prior.precision[columns][:, columns].expand(self.batch, -1, -1).clone()
        share = self.prior_share[:, columns]
        matrices *= share[:, :, None] * share[:, None]
        away = (state.code - prior.mean) @ prior.precision
        slopes = away[:, columns] * share.square()
        where = self.tools.model.layout.slices["rotation"]
        rotation = state.code[:, where]
        turned = (columns >= where.start) & (columns < where.stop)
        if turned.any():
            # The prior is on the axis-angle vector, the step a turn that comes after it.
            slopes[:, turned] = rotation * prior.precision[columns[turned], columns[turned]]
        self._turn += 1

        def add(b: int) -> None:
            for some in self._rows(state, b):
                _add(matrices[b], slopes[b], some.rows[:, :, columns], some.away, some.weight)

        on_threads(add, self.batch)
        return matrices, slopes

    def _rows(self, state: FitState, b: int) -> Iterator[Rows]:
        """Rows of one photograph, of all terms but the prior."""
        assert state.geometry is not None
        pose = self._pose(state, b)
        if self.stage.landmarks and self.landmarks is not None:
            yield self.landmarks.rows(b, pose, self.stage.landmarks)
        if state.colors is not None:
            yield from self.tools.term.rows(
                state.colors, state.geometry, self.target, b, pose, self._turn
            )

    def _pose(self, state: FitState, b: int) -> Pose:
        assert state.geometry is not None
        parts = self.tools.model.layout.slices
        translation = state.code[b, parts["translation"]]
        position = translation + translation.new_tensor(self.tools.decoder.camera.position)
        rotation = axis_angle_to_matrix(state.code[b : b + 1, parts["rotation"]])[0]
        return Pose(rotation, state.geometry.vertices[b], position)

    def _solve(self, matrices: Tensor, slopes: Tensor, damping: Tensor) -> Tensor:
        """Moves [B, P]: those of `shared` are the same for the photographs of a person."""
        own, shared, person = self.own, self.shared, self.person
        if self.people == self.batch:  # nothing is shared with another photograph
            own, shared = torch.cat([own, shared]), shared[:0]
        a, g = matrices.double(), slopes.double()
        scale = damping.double()[person][:, None] * a.diagonal(dim1=1, dim2=2) + 1e-9
        a = a + torch.diag_embed(scale)
        moves = torch.zeros_like(g)
        # The photographs' own columns are eliminated: Schur's complement, one for each person.
        count = len(shared)
        solved = g.new_zeros(self.batch, len(own), count + 1)
        rest = g.new_zeros(self.batch, count, count + 1)

        def eliminate(b: int) -> None:
            right = torch.cat([a[b][own][:, shared], g[b, own, None]], 1)
            solved[b] = torch.linalg.solve(a[b][own][:, own], right)
            rest[b] = torch.cat([a[b][shared][:, shared], g[b, shared, None]], 1)
            rest[b] -= a[b][shared][:, own] @ solved[b]

        def join(who: int) -> None:
            total = rest[person == who].sum(0)
            moves[(person == who).nonzero(), shared] = -torch.linalg.solve(
                total[:, :-1], total[:, -1]
            )

        def substitute(b: int) -> None:
            moves[b, own] = -(solved[b, :, -1] + solved[b, :, :-1] @ moves[b, shared])

        on_threads(eliminate, self.batch)
        if count:
            on_threads(join, self.people)
        on_threads(substitute, self.batch)
        return moves.float()

    def _moved(self, code: Tensor, moves: Tensor) -> Tensor:
        out = code.clone()
        where = self.tools.model.layout.slices["rotation"]
        change = torch.zeros_like(code)
        change[:, self.columns] = moves
        turn = change[:, where].clone()
        change[:, where] = 0
        out = out + change
        if turn.any():
            matrix = axis_angle_to_matrix(turn) @ axis_angle_to_matrix(code[:, where])
            out[:, where] = matrix_to_axis_angle(matrix)
        return out

    def _look_for_occluders(self, code: Tensor) -> None:
        """Probabilities of seeing the face, and the variance about it, each from the other."""
        decoder = self.tools.decoder
        face = decoder.rasterize(decoder.geometry(code))
        squared = (self.photo - face.image).square().sum(1)
        mask = face.mask[:, 0] * self.known
        self.visible, self.variance = visibility(squared, mask, self._scatter_at(face))

    def finish(
        self, state: FitState, decoder: FaceDecoder
    ) -> tuple[RasterFace, Tensor, Tensor, Tensor]:
        """Renderings at the photographs' size, what is visible there, and both deviations of FittedFaces."""
        geometry = decoder.geometry(state.code)
        face = decoder.rasterize(geometry)
        off = torch.full((self.batch,), torch.nan)
        if self.landmarks is not None:
            off = self.landmarks.distance(geometry) * (self.side / self.size)
        photo, known = known_photo(self.observed.photo, None)
        squared = (photo - face.image).square().sum(1)
        mask = face.mask[:, 0] * known[:, 0]
        visible, variance = visibility(squared, mask, self._scatter_at(face))
        return face, (visible * mask)[:, None], variance.sqrt(), off

    def _scatter_at(self, face: RasterFace) -> Tensor:
        """Factors of the variance at the pixels of a rendering, [B, S, S]."""
        scatter = self.tools.scatter
        if scatter is None:
            return torch.ones_like(face.mask[:, 0])
        return scatter[face.triangle_ids.clamp(min=0)]


def _add(matrix: Tensor, slope: Tensor, rows: Tensor, away: Tensor, weight: Tensor) -> None:
    """Matrix += J^T W J and slope += J^T W r, of rows [N, R, P], residuals [N, R], weights [N]."""
    flat = rows.flatten(0, 1)
    weighted = flat * weight.repeat_interleave(rows.shape[1])[:, None]
    matrix.addmm_(weighted.T, flat)
    slope.addmv_(weighted.T, away.flatten())


def _resized(picture: Tensor, size: int) -> Tensor:
    if picture.shape[-1] == size:
        return picture
    return F.interpolate(
        picture, (size, size), mode="bilinear", align_corners=False, antialias=True
    )
