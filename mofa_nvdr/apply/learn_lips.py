"""Lips that touch: a mouth that is shut on the face that was fitted first is shut on a learned one.

Dense landmarks of people who smile show lips that are apart, and what an expression does not explain of it
becomes form: a mean that shows its teeth, with an upper lip that goes through the lower one beside them.
Nobody is born with either, so learned shapes move lips together where they touch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mofa_nvdr.apply.learn_form import closed_and_open, kernel
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.system.threads import on_one_thread

_ONE_PLACE, _PARTED = 0.1, 1.0  # mm apart on the mean face, and at least where the mouth opens
_AROUND = 5.0  # mm beyond the mouth's landmarks within which vertices may touch
_REACH = 8.0  # mm over which what is about a lip's edge goes with it
_LITTLE = 1e-3  # of noise in the variance of a displacement, so that the equations can be solved
_MOUTH = slice(48, 68)  # of the landmarks


def touching(model: FaceModel) -> Tensor:
    """Vertices int64 [N, 2] of two lips that are in one place on the mean face, the higher number second.

    None of a mesh whose mouth is open, or of a model without the expression jawOpen.
    """
    places = closed_and_open(model)
    mouth = places[model.landmarks[_MOUTH], :3]
    low, high = mouth.amin(0) - _AROUND, mouth.amax(0) + _AROUND
    near = ((places[:, :3] > low) & (places[:, :3] < high)).all(1).nonzero()[:, 0]
    closed, opened = (
        torch.cdist(part, part, compute_mode="donot_use_mm_for_euclid_dist")
        for part in (places[near, :3], places[near, 3:])
    )
    pairs = ((closed < _ONE_PLACE) & (opened > _PARTED)).triu().nonzero()
    return near[pairs]


def with_lips_together(first: FaceModel, shapes: Tensor) -> Tensor:
    """Shapes or displacements in which lips that touch on a model's mean face stay together.

    Each goes half of the way, and what is about it goes along, but for the teeth.

    Args:
        first: the model, of which the others were learned.
        shapes: [K, V, 3] mm.
    """
    pairs = touching(first)
    if not len(pairs):
        return shapes
    return on_one_thread(lambda: _together(first, shapes, pairs))


def _together(first: FaceModel, shapes: Tensor, pairs: Tensor) -> Tensor:
    places, rim = closed_and_open(first), pairs.T.flatten()
    reach = ((1.0, _REACH),)
    own = kernel(places[rim], places[rim], reach).double()
    own += _LITTLE * torch.eye(len(rim), dtype=torch.float64)
    carried = kernel(places, places[rim], reach)  # [V, 2 N]
    carried[first.in_regions("teeth")] = 0
    out = []
    for shape in shapes:
        one, other = shape[pairs.T]
        middle = (one + other) / 2
        ways = torch.cat([middle - one, middle - other])
        moved = shape + carried @ torch.linalg.solve(own, ways.double()).float()
        moved[rim] = middle.repeat(
            2, 1
        )  # the same bits on both sides: light shines through no crack
        out.append(moved)
    return torch.stack(out)
