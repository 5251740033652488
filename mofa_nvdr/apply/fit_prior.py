"""What is known of a face before its photograph is seen: a normal distribution of codes.

It is that of the people who are rendered for training (data/synthetic): portraits under ordinary light.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.data.synthetic.codes import CodePrior
from mofa_nvdr.data.synthetic.habits import ExpressionHabits
from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.scene.lighting import AMBIENT_OFFSET

_DRAWS = 4000
# Deviations of the light's coefficients, of the mean of the channels and of each about it.
_AMBIENT = (0.20, 0.06)  # of the ambient one's, times the median exposure
_FIRST, _SECOND = (0.22, 0.03), (0.10, 0.02)
# Pose is all but free: radians, and mm.
_TURN, _SHIFT = 1.0, 300.0


@dataclass(frozen=True)
class FitPrior:
    """A normal distribution of codes.

    Attributes:
        mean: [257]. precision: [257, 257], the inverse of the covariance.
    """

    mean: Tensor
    precision: Tensor

    def energy(self, code: Tensor) -> Tensor:
        """Half the squared distance from the mean in deviations, [B], of codes [B, 257]."""
        away = code - self.mean
        return 0.5 * ((away @ self.precision) * away).sum(1)


def fit_prior(
    model: FaceModel, prior: CodePrior | None = None, with_expression: bool = True
) -> FitPrior:
    """The distribution of a face model's codes, float32 on the model's device.

    Expressions are those of `ExpressionHabits` where the model names its blendshapes: their mean and
    covariance, which lets a mouth open wide and keeps a neutral face neutral.

    Args:
        model: whose codes.
        prior: of the people; None: the defaults.
        with_expression: False saves the time to draw some thousand; nothing is known of expressions then.
    """
    p = prior or CodePrior()
    layout = model.layout
    mean = torch.zeros(layout.size, dtype=torch.float64)
    precision = torch.zeros(layout.size, layout.size, dtype=torch.float64)
    parts = layout.slices
    for name, deviation in (("shape", p.shape), ("albedo", p.albedo)):
        _fill(precision, parts[name], deviation)
    _fill(precision, parts["rotation"], _TURN)
    _fill(precision, parts["translation"], _SHIFT)
    habits = ExpressionHabits.of(model.named_expressions)
    if not with_expression:
        pass
    elif habits is None:
        _fill(precision, parts["expression"], p.expression)
    else:
        drawn = habits.draw([np.random.default_rng(0)] * _DRAWS).double()
        own = p.unnamed**2 * torch.eye(layout.num_expression, dtype=torch.float64)
        mean[parts["expression"]] = drawn.mean(0)
        where = parts["expression"]
        precision[where, where] = torch.linalg.inv(torch.cov(drawn.T) + own)
    _fill_light(mean, precision, layout, p)
    device = model.mean_shape.device
    return FitPrior(mean.float().to(device), precision.float().to(device))


def _fill(precision: Tensor, where: slice, deviation: float) -> None:
    precision[where, where] = (
        torch.eye(where.stop - where.start, dtype=precision.dtype) / deviation**2
    )


def _fill_light(mean: Tensor, precision: Tensor, layout: CodeLayout, p: CodePrior) -> None:
    light = layout.slices["light"]
    mean[light][:3] = AMBIENT_OFFSET * (p.exposure - 1)
    ambient = tuple(AMBIENT_OFFSET * p.exposure * deviation for deviation in _AMBIENT)
    together = torch.ones(3, 3, dtype=torch.float64) / 3
    apart = torch.eye(3, dtype=torch.float64) - together
    for b in range(9):
        common, colour = (ambient, _FIRST, _SECOND)[math.isqrt(b)]
        first = light.start + 3 * b
        where = slice(first, first + 3)
        precision[where, where] = together / (3 * common**2) + apart / colour**2
