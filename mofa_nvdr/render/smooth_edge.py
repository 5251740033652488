"""The frontal region with a smooth edge, for pictures: that of training ends in teeth of triangles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.renderer import Rendering
from mofa_nvdr.shaders.gbuffer import GBuffer

_SIGMA = 7.0  # mm, deviation of a Gaussian: teeth are up to 12 mm wide and 3 high
_NEAR = 8.0  # mm; what is farther from the old edge is on the same side of the new one
_REACH = 2.5  # deviations; what is farther from a vertex does not count
_CHUNK = 512  # vertices whose distances are in memory at once
_INSIDE = 0.5


_known: WeakKeyDictionary[FaceModel, Tensor] = WeakKeyDictionary()


def edge_field(model: FaceModel) -> Tensor:
    """How far each vertex is inside of the frontal region, [V, 1] in [0, 1]: its edge is at a half.

    The share of a Gaussian about the vertex of the mean face that lies in the region. Where the mesh ends
    with the region there is no edge, nor at the openings of lids and mouth. It takes a tenth of a second
    and is kept with the model: a clip's every frame is drawn by another decoder.
    """
    if model not in _known:
        _known[model] = _edge_field(model)
    return _known[model].to(model.mean_shape.device)


@torch.no_grad()
def _edge_field(model: FaceModel) -> Tensor:
    field = model.frontal_mask.to(model.mean_shape)
    corners = model.triangles.long()
    mixed = field[corners].sum(1).remainder(3) != 0
    edge = model.mean_shape[corners[mixed].unique()]
    if not len(edge):
        return field[:, None]
    distance = torch.cat(
        [torch.cdist(part, edge).amin(1) for part in model.mean_shape.split(_CHUNK)]
    )
    near = torch.nonzero(distance < _NEAR)[:, 0]
    around = torch.nonzero(distance < _NEAR + _REACH * _SIGMA)[:, 0]
    for part in near.split(_CHUNK):
        apart = torch.cdist(model.mean_shape[part], model.mean_shape[around])
        weight = (-0.5 * (apart / _SIGMA).square()).exp()
        field[part] = (weight @ model.frontal_mask[around].to(weight)) / weight.sum(1)
    return field[:, None]


def within(rendering: Rendering, field: Tensor) -> Rendering:
    """What a rendering of the whole mesh shows of the frontal region, zeros elsewhere; without gradients.

    Args:
        rendering: a renderer's.
        field: of `edge_field`.
    """
    inside = rendering.interpolate(field) > _INSIDE
    return replace(
        rendering,
        image=rendering.image * inside,
        mask=rendering.mask * inside,
        make_gbuffer=partial(_cut, rendering.make_gbuffer, inside),
    )


def _cut(make: Callable[[], GBuffer], inside: Tensor) -> GBuffer:
    buffers = make()
    return GBuffer(
        buffers.albedo * inside,
        buffers.normal * inside,
        buffers.shading * inside,
        buffers.depth * inside,
        torch.where(inside[:, 0], buffers.triangle_ids, -1),
    )
