"""What photographs of many people say of the colours of faces: tone apart from light, and modes of albedo.

A photograph fixes only the product of albedo and shading. What splits it: the light of a set of portraits is
about the same and without a colour of its own, up to small deviations with a strict prior, while skin may
have any tone. Each vertex that was seen then has an albedo, the photograph over the shading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr.apply.fit_prior import FitPrior
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.levels import Level, learn_level
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.face.skin import bearded_area
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.lighting import sh_basis, total_light
from mofa_nvdr.scene.normals import vertex_normals

# What the light of one picture differs by from the set's, as deviations: of the mean shading of a face, and
# of its colour; of each coefficient, and of its colour.
_SHADING, _TINT, _COEFFICIENT, _COLOURED = 0.07, 0.04, 0.12, 0.03
_LEAST_COSINE, _LEAST_SHADING = 0.25, 0.15  # of a vertex whose colour is taken
_LEAST_KNOWN = 0.9  # of the pixels about it
_DEPTH = 4.0  # mm behind the drawn surface from which a vertex is hidden
_ODD = (3, 4, 7)  # coefficients of x, xy and xz, which light one side of a face
_NOSE_SEEN = 0.5  # share of the nose that is seen of somebody whose beard hides the skin
_NEIGHBOURS = 24  # from which a vertex beyond the frontal region takes its colours


@dataclass(frozen=True)
class Seen:
    """Albedo that was seen of people, at the vertices of the frontal region.

    Attributes:
        albedo: [B, F, 3] in [0, 1]; anything where the weight is 0.
        weight: [B, F] in [0, 1], how far the vertex was seen.
    """

    albedo: Tensor
    weight: Tensor

    def __getitem__(self, some: Tensor) -> Seen:
        """Of some people, by their numbers or a mask [B]."""
        return Seen(self.albedo[some], self.weight[some])

    @staticmethod
    def joined(parts: Sequence[Seen]) -> Seen:
        """Of all people of several batches."""
        albedo, weight = zip(*((part.albedo, part.weight) for part in parts))
        return Seen(torch.cat(albedo), torch.cat(weight))


def strict_light(prior: FitPrior, model: FaceModel, light: Tensor) -> FitPrior:
    """A prior of codes whose light is about the same in all photographs.

    Its deviations from the set's light: 7 % of the mean shading of the mean face, and 4 % of it in colour;
    0.12 of each coefficient, and 0.03 in colour. They hold together: precisions add up. A deviation of colour
    is the length of what the channels differ by from their mean.

    Args:
        prior: of everything else.
        model: the face model; its mean face is what light falls on.
        light: [9] code of the light in each channel, the set's.
    """
    mean, precision = prior.mean.clone(), prior.precision.clone()
    where = model.layout.slices["light"]
    mean[where] = light.repeat_interleave(3)
    normals = _mean_normals(model)
    onto = sh_basis(normals).mean(0)  # [9], coefficients to mean shading
    shading = float(onto @ _total(light))
    together = torch.full((3, 3), 1 / 3)
    apart = torch.eye(3) - together
    outer = torch.outer(onto, onto) / shading**2
    of_light = torch.kron(torch.eye(9), together / (3 * _COEFFICIENT**2) + apart / _COLOURED**2)
    of_light += torch.kron(outer, together / (3 * _SHADING**2) + apart / _TINT**2)
    precision[where] = 0
    precision[:, where] = 0
    precision[where, where] = of_light
    return FitPrior(mean, precision)


def wide_tone(prior: FitPrior, model: FaceModel, kept: Sequence[int], factor: float) -> FitPrior:
    """A prior whose deviations of some modes of albedo are `factor` times as large.

    Args:
        prior: of codes.
        model: the face model.
        kept: numbers of the modes.
        factor: of the deviations.
    """
    precision = prior.precision.clone()
    first = model.layout.slices["albedo"].start
    for k in kept:
        precision[first + k] /= factor
        precision[:, first + k] /= factor
    return FitPrior(prior.mean, precision)


def common_light(code: FaceCode) -> Tensor:
    """The light [9] of a set, as in codes: the median over its photographs, grey, the same on both sides."""
    light = code.light.mean(2).median(0).values.clone()
    light[list(_ODD)] = 0
    return light


class ColorObserver:
    """Reads the albedo of a face model's frontal vertices off photographs.

    Args:
        model: the face model.
        camera: of the photographs.
    """

    def __init__(self, model: FaceModel, camera: Camera) -> None:
        self.model, self.decoder = model, FaceDecoder(model, camera=camera)
        self.index = model.frontal_mask.nonzero()[:, 0]
        self.mirror = frontal_mirror(model)
        self._bearded = bearded_area(model)[self.index]
        self._nose = model.in_regions("nose")[self.index]

    @torch.no_grad()
    def __call__(self, photo: Tensor, code: Tensor, visible: Tensor) -> Seen:
        """Photographs over shading.

        Args:
            photo: [B, 3, S, S]; NaN where unknown.
            code: [B, 257] of the faces.
            visible: [B, 1, S, S] how far a pixel shows the face.
        """
        geometry = self.decoder.geometry(code)
        face = self.decoder.rasterize(geometry)
        places, index = geometry.vertices[:, self.index], self.index
        normals = geometry.normals[:, index]
        size = photo.shape[-1]
        grid = (self.decoder.camera.project(places) / size * 2 - 1)[:, None]
        known = photo.isfinite().all(1, keepdim=True).float()
        planes = torch.cat([photo.nan_to_num(0.0) * known, known, visible], 1)
        samples = F.grid_sample(planes, grid, align_corners=False)[:, :, 0]
        colors = (samples[:, :3] / samples[:, 3:4].clamp(min=1e-3)).mT
        depth = F.grid_sample(face.depth, grid, mode="nearest", align_corners=False)[:, 0, 0]
        cosine = -(normals * F.normalize(places, dim=-1)).sum(-1)
        shading = sh_basis(normals) @ geometry.light
        seen = (cosine > _LEAST_COSINE) & ((depth + places[..., 2]).abs() < _DEPTH)
        seen &= (shading.amin(2) > _LEAST_SHADING) & (samples[:, 3] > _LEAST_KNOWN)
        albedo = (colors / shading.clamp(min=0.05)).clamp(0, 1)
        visible = samples[:, 4]
        return Seen(albedo, seen * (visible + self._beard(visible)))

    def _beard(self, visible: Tensor) -> Tensor:
        """How far a beard is what hides the skin at vertices [B, F] that are seen so far.

        No skin has a beard's colours, so a face without one takes it for something before the face. But a
        beard is on both sides of the chin, and not on the nose, as masks are.
        """
        hidden = 1 - visible
        both = torch.minimum(hidden, hidden[:, self.mirror]) * self._bearded
        nose = (visible * self._nose).sum(1) / self._nose.sum().clamp(min=1)
        return both * (nose > _NOSE_SEEN)[:, None]


def learn_colors(
    seen: Seen,
    model: FaceModel,
    kept: Sequence[int],
    count: int,
    still: Tensor | None = None,
) -> tuple[Tensor, Tensor, Level]:
    """A mean and `count` modes of albedo: learned ones, and some of the model's.

    The model's stay as wide as they are, and what people differ in along them is learned none the less:
    pigments then vary by both, by more than among those who were seen, of whom some tones may be few.

    Args:
        seen: of B people.
        model: the face model, whose mean and modes are what is changed.
        kept: numbers of the model's modes that stay; they come first.
        count: of all modes, more than are kept; those that so few people do not have are zero.
        still: bool [F], vertices of the frontal region whose colours stay the model's; None: none.

    Returns:
        Mean albedo [V, 3], modes [count, V, 3], and the level at the frontal vertices, its mean relative to
        the model's.

    Raises:
        ValueError: no mode is left to be learned.
    """
    index = model.frontal_mask.nonzero()[:, 0]
    base = model.mean_albedo[index]
    values = seen.albedo - base
    if still is not None:
        values = values.where(~still[:, None], 0.0)
    level = learn_level(values, seen.weight, frontal_mirror(model), count - len(kept))
    spread = _Beyond(model)
    mean = model.mean_albedo + spread(level.mean[None])[0]
    modes = torch.zeros(count, *model.mean_albedo.shape)
    modes[: len(kept)] = model.albedo_basis[list(kept)]
    modes[len(kept) : len(kept) + len(level.modes)] = spread(level.modes)
    return mean.clamp(0, 1), modes, level


def frontal_mirror(model: FaceModel) -> Tensor:
    """Of each vertex of the frontal region the number [F] of that on the other side; without one its own."""
    index = model.frontal_mask.nonzero()[:, 0]
    number = torch.full((model.num_vertices,), -1)
    number[index] = torch.arange(len(index))
    mirror = number[model.mirror_index[index]]
    return torch.where(mirror < 0, torch.arange(len(index)), mirror)


class _Beyond:
    """Colours of the whole mesh from those of its frontal region: what lies beyond takes its neighbours'."""

    def __init__(self, model: FaceModel) -> None:
        places, front = model.mean_shape, model.frontal_mask
        self.index, self.beyond = front.nonzero()[:, 0], (~front).nonzero()[:, 0]
        away = torch.cdist(places[self.beyond], places[self.index])
        near = away.topk(min(_NEIGHBOURS, len(self.index)), largest=False)
        self.near = near.indices
        weight = 1 / (near.values + 1.0)
        self.weight = (weight / weight.sum(1, keepdim=True))[..., None]
        self.count = model.num_vertices

    def __call__(self, colors: Tensor) -> Tensor:
        """[K, F, 3] to [K, V, 3]."""
        out = colors.new_zeros(len(colors), self.count, 3)
        out[:, self.index] = colors
        for k, own in enumerate(colors):
            out[k, self.beyond] = (own[self.near] * self.weight).sum(1)
        return out


def _mean_normals(model: FaceModel) -> Tensor:
    """Normals [N, 3] of the mean face's frontal region, of those that face the camera."""
    normals = vertex_normals(model.mean_shape[None], model.triangles)[0]
    return normals[model.frontal_mask & (normals[:, 2] > _LEAST_COSINE)]


def _total(light: Tensor) -> Tensor:
    """A grey light's coefficients [9] with the ambient offset, from those of a code."""
    return total_light(light[None, :, None].expand(1, 9, 3))[0, :, 0]
