"""What dense landmarks of many people say of the shape of faces beyond a face model: a mean and modes.

After a fit some distance is left between the points that a detector saw and those of the model. It is read as
a displacement of the surface, smooth over the face: a Gaussian process, whose kernel is of distances on the
mean face and on one with an open mouth, so that the lips part. Of depth a photograph from the front says
nothing; what is said of it comes from those that are turned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mofa_nvdr.face.dense_landmarks import DENSE_MIRROR
from mofa_nvdr.face.levels import combinations, learn_level, principal_axes, products
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.pose import axis_angle_to_matrix
from mofa_nvdr.system.threads import on_one_thread

# Of the displacements' kernel: deviations, mm, and the distances, mm, over which they go together.
_KERNEL = ((2.0, 35.0), (0.8, 12.0))
_DETECTED, _SLIDING = (
    0.8,
    0.5,
)  # deviation of a detected point, mm, and its share of the point's spread
_LITTLE = 0.05  # mm^2 of noise with which displacements of points are carried on to the surface
_ACROSS = (-1.0, 1.0, 1.0)
_OPENING = "jawOpen"


@dataclass(frozen=True)
class FormLevel:
    """Learned displacements.

    Attributes:
        mean: [V, 3] mm, of everybody.
        modes: [K, V, 3] mm, scaled by their deviations.
        left: rms distance, mm in the picture's plane, of detected points from the model's: before; with the
            mean; with the modes.
    """

    mean: Tensor
    modes: Tensor
    left: tuple[float, float, float]


class FormLearner:
    """Reads displacements of one face model's surface.

    Args:
        model: with places for dense landmarks.
        camera: of the photographs.

    Raises:
        ValueError: the face model has no places for dense landmarks.
    """

    def __init__(self, model: FaceModel, camera: Camera) -> None:
        places = model.dense_landmarks
        if places is None:
            raise ValueError(
                f"model learn: face model {model.name} has no places for 478 landmarks; import it again with "
                "the landmark networks here"
            )
        self.model, self.decoder, self._places = model, FaceDecoder(model, camera=camera), places
        self.known = places.known
        surface = closed_and_open(model)
        corners = surface[places.vertices[self.known]]
        at = (corners * places.weights[self.known][..., None]).sum(1)  # [L, 6]
        self._reach = kernel(surface, at)  # [V, L]
        self._at = at[:, :3]
        noise = torch.hypot(torch.tensor(_DETECTED), _SLIDING * places.spread[self.known])
        self._own, self._noise = kernel(at, at).double(), noise.double().square()

    def residuals(self, code: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """What is left between detected points and a model's.

        Args:
            code: [B, 257] fitted codes.
            points: [B, 478, 2] px.

        Returns:
            [B, L, 2] mm, right and up in the picture, of the L points that have a place; and the cameras'
            axes [B, 2, 3] in model space.
        """
        parts = self.model.layout.slices
        geometry = self.decoder.geometry(code)
        depth = -self._places.of(geometry.vertices)[:, self.known, 2]
        away = (points - self.decoder.dense_landmarks(geometry))[:, self.known]
        away = away * (depth / self.decoder.pinhole.focal_px)[..., None]
        rotation = axis_angle_to_matrix(code[:, parts["rotation"]])
        return away * away.new_tensor([1, -1]), rotation[:, :2]

    def learn(
        self, code: Tensor, points: Tensor, count: int, say: Callable[[str], None] | None = None
    ) -> FormLevel:
        """A mean and modes of the displacements of B people.

        Args:
            code: [B, 257].
            points: [B, 478, 2] px.
            count: of the modes; fewer come back of few people.
            say: called with lines that tell what was found.
        """
        level = on_one_thread(lambda: self._learn(code, points, count))
        if say is not None:
            say(
                f"shape: {level.left[0]:.2f} mm between points before, {level.left[1]:.2f} with the mean, "
                f"{level.left[2]:.2f} with {len(level.modes)} modes"
            )
        return level

    def _learn(self, code: Tensor, points: Tensor, count: int) -> FormLevel:
        batches = [self.residuals(c, p) for c, p in zip(code.split(64), points.split(64))]
        away, axes = (torch.cat(parts) for parts in zip(*batches))
        people, mirror = len(away), self._mirror()
        space = torch.einsum("bla,bac->blc", away, axes)  # [B, L, 3] in model space
        middle = self._smooth(_symmetric(space.mean(0), mirror), self._noise / people)
        rest = space - torch.einsum("lc,bac,bad->bld", middle, axes, axes)
        level = learn_level(
            torch.stack([self._smooth(r, self._noise) for r in rest]), torch.ones(people, len(middle)),
            mirror, count, fixed=_rigid(self._at), across=_ACROSS,
        )  # fmt: skip
        middle = middle + level.mean
        middle = middle - self._expression(middle)
        modes = torch.stack([self._surface(mode) for mode in level.modes])
        return FormLevel(self._surface(middle), modes, _left(away, axes, middle, level.modes))

    def _mirror(self) -> Tensor:
        """[L] numbers of the points on the other side; a point whose twin has no place is its own."""
        own = torch.arange(int(self.known.sum()))
        number = torch.full((len(self.known),), -1)
        number[self.known] = own
        twin = number[torch.tensor(DENSE_MIRROR)[self.known]]
        return torch.where(twin < 0, own, twin)

    def _smooth(self, points: Tensor, noise: Tensor) -> Tensor:
        """What is expected of displacements [L, 3] of which noisy ones are given."""
        solved = torch.linalg.solve(self._own + torch.diag(noise), points.double())
        return (self._own @ solved).float()

    def _surface(self, points: Tensor) -> Tensor:
        """Displacements [V, 3] of the surface from those [L, 3] of the points."""
        little = _LITTLE * torch.eye(len(self._own), dtype=torch.float64)
        return self._reach @ torch.linalg.solve(self._own + little, points.double()).float()

    def _expression(self, points: Tensor) -> Tensor:
        """The part of displacements [L, 3] that is an expression: nobody is born with a smile."""
        modes = self.model.expression_basis[:, self._places.vertices[self.known]]
        shares = self._places.weights[self.known][..., None]
        basis = (modes * shares).sum(2).flatten(1).double()  # [E, 3 L]
        noise = self._noise.repeat_interleave(3)
        normal = (basis / noise) @ basis.T + torch.eye(len(basis), dtype=torch.float64)
        weights = torch.linalg.solve(normal, (basis / noise) @ points.flatten().double())
        return (weights @ basis).float().view_as(points)


def closed_and_open(model: FaceModel) -> Tensor:
    """[V, 6]: places of the vertices on the mean face, and their ways where the mouth opens, mm."""
    named = model.named_expressions.get(_OPENING)
    if named is None:
        return torch.cat([model.mean_shape, torch.zeros_like(model.mean_shape)], 1)
    opened = torch.einsum("e,evd->vd", named, model.expression_basis)
    return torch.cat([model.mean_shape, opened], 1)


def kernel(a: Tensor, b: Tensor, parts: tuple[tuple[float, float], ...] = _KERNEL) -> Tensor:
    """Covariances [N, M] of displacements at places [N, D] and [M, D], mm^2.

    Args:
        a: [N, D] mm.
        b: [M, D] mm.
        parts: what is added up: deviations, and the distances over which they go together, mm.
    """
    squared = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()
    every = [s**2 * (-squared / (2 * reach**2)).exp() for s, reach in parts]
    return torch.stack(every).sum(0)


def _symmetric(points: Tensor, mirror: Tensor) -> Tensor:
    """The mean of displacements [L, 3] and of their mirror image."""
    return (points + points[mirror] * points.new_tensor(_ACROSS)) / 2


def _left(away: Tensor, axes: Tensor, mean: Tensor, modes: Tensor) -> tuple[float, float, float]:
    """Rms mm of displacements [B, L, 2] along axes [B, 2, 3]: of all, less the mean, less the modes too."""
    rest = away - torch.einsum("lc,bac->bla", mean, axes)
    unexplained = []
    for one, axis in zip(rest, axes):
        basis = (modes @ axis.T).flatten(1).T.double()  # [2 L, K]
        flat = one.flatten().double()
        unexplained.append(flat - basis @ torch.linalg.lstsq(basis, flat[:, None]).solution[:, 0])
    before, with_mean, with_modes = (
        float(x.double().square().sum().div(away.shape[:2].numel()).sqrt())
        for x in (away, rest, torch.stack(unexplained))
    )
    return before, with_mean, with_modes


def _rigid(places: Tensor) -> Tensor:
    """[7, V, 3]: what moving, turning and scaling does to places [V, 3], each of unit length."""
    eye = torch.eye(3)
    moves = [eye[k].expand_as(places) for k in range(3)]
    turns = [torch.linalg.cross(eye[k].expand_as(places), places) for k in range(3)]
    every = torch.stack([*moves, *turns, places - places.mean(0)])
    return every / every.flatten(1).norm(dim=1)[:, None, None]


def fold(basis: Tensor, more: Tensor) -> Tensor:
    """The modes [K, V, 3] that hold most of the variance of modes [K, V, 3] and [M, V, 3] together."""
    every = torch.cat([basis, more])
    flat = every.flatten(1)
    _, vectors = principal_axes(products(flat, flat))
    return combinations(vectors[:, : len(basis)].T, flat).unflatten(1, (-1, 3))
