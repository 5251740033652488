"""Expressions of people in portraits, as weights of named blendshapes (ARKit's 52 names).

Random coefficients of an expression basis hardly ever make a smile; most people in photographs smile, talk
or look aside. What is drawn here is a rough guess at how often and how far, not a measurement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

# Share of the faces, and range of the weight where it is there: uniform, or squared (mostly small). Names
# without a side mean both sides, about alike.
_HABITS: tuple[tuple[str, float, float, float, int], ...] = (
    ("mouthSmile", 0.55, 0.15, 1.0, 1),
    ("jawOpen", 0.35, 0.03, 0.8, 2),
    ("browInnerUp", 0.20, 0.1, 0.7, 1),
    ("browOuterUp", 0.20, 0.1, 0.7, 1),
    ("browDown", 0.25, 0.1, 0.8, 1),
    ("eyeBlink", 0.35, 0.0, 0.6, 2),
    ("eyeSquint", 0.25, 0.1, 0.7, 1),
    ("eyeWide", 0.10, 0.1, 0.7, 1),
    ("cheekPuff", 0.03, 0.1, 0.6, 1),
    ("noseSneer", 0.08, 0.1, 0.6, 1),
    ("mouthFrown", 0.12, 0.1, 0.7, 1),
    ("mouthPress", 0.12, 0.1, 0.7, 1),
    ("mouthPucker", 0.06, 0.1, 0.6, 1),
    ("mouthFunnel", 0.10, 0.1, 0.7, 1),
    ("mouthStretch", 0.08, 0.1, 0.6, 1),
    ("mouthDimple", 0.10, 0.1, 0.6, 1),
    ("mouthShrugLower", 0.10, 0.1, 0.6, 1),
    ("mouthShrugUpper", 0.06, 0.1, 0.5, 1),
    ("mouthRollLower", 0.06, 0.1, 0.5, 1),
    ("mouthRollUpper", 0.06, 0.1, 0.5, 1),
    ("mouthUpperUp", 0.10, 0.1, 0.6, 1),
    ("mouthLowerDown", 0.15, 0.1, 0.7, 1),
    ("mouthLeft", 0.04, 0.1, 0.5, 1),
    ("mouthRight", 0.04, 0.1, 0.5, 1),
    ("jawLeft", 0.04, 0.1, 0.5, 1),
    ("jawRight", 0.04, 0.1, 0.5, 1),
)  # fmt: skip
_CLOSED_EYES = 0.04  # share of the faces
# What goes with a smile of weight 1; the lips part and show the teeth in a share of the smiles.
_SMILE = {"cheekSquint": 0.6, "eyeSquint": 0.4}
_TEETH_SHARE = 0.65
_TEETH = {"mouthUpperUp": 0.45, "mouthLowerDown": 0.3, "jawOpen": 0.12}
_SIDES = 0.15  # relative deviation of either side
_GAZE = (0.3, 0.22)  # weights of the eyes' turns sideways and up, deviations
_NUMBERS = 2 * len(_HABITS) + 2


class ExpressionHabits:
    """Draws coefficients from the named blendshapes of a face model.

    Args:
        named: FaceModel.named_expressions, name -> coefficients [E] at weight 1. Names that the table above
            does not have are never drawn, and others that it has are not used.
    """

    def __init__(self, named: Mapping[str, Tensor]) -> None:
        self._matrix = torch.stack([value.cpu() for value in named.values()]).double().numpy()
        column = {name: index for index, name in enumerate(named)}

        def columns(name: str) -> list[int]:
            return [column[name + side] for side in ("", "Left", "Right") if name + side in column]

        smile = [habit[0] for habit in _HABITS].index("mouthSmile")
        self._habits = [columns(habit[0]) for habit in _HABITS]
        self._smile = (
            smile,
            {k: (columns(k), _SMILE.get(k, 0), _TEETH.get(k, 0)) for k in _SMILE | _TEETH},
        )
        self._blink = columns("eyeBlink")
        self._gaze = [
            [column[f"eyeLook{way}"] for way in ways if f"eyeLook{way}" in column]
            for ways in (
                ("OutLeft", "InRight"), ("InLeft", "OutRight"),
                ("UpLeft", "UpRight"), ("DownLeft", "DownRight"),
            )
        ]  # fmt: skip

    @staticmethod
    def of(named: Mapping[str, Tensor]) -> ExpressionHabits | None:
        """Of FaceModel.named_expressions; None of a model that has no name for a smile or an open mouth."""
        if {"mouthSmileLeft", "mouthSmileRight", "jawOpen"} <= set(named):
            return ExpressionHabits(named)
        return None

    def draw(self, generators: Sequence[np.random.Generator]) -> Tensor:
        """Coefficients [count, E] of an expression for each generator; one may stand there many times."""
        count, names = len(generators), len(self._matrix)
        u, uneven = np.empty((count, _NUMBERS)), np.empty((count, names))
        gaze = np.empty((count, 2))
        for k, generator in enumerate(generators):
            generator.random(out=u[k])
            generator.standard_normal(out=uneven[k])
            gaze[k] = generator.standard_normal(2)
        across, up = (gaze * _GAZE).T
        weights = np.zeros((count, names))
        smile, company = self._smile
        for k, (_, share, low, high, power) in enumerate(_HABITS):
            shown = u[:, 2 * k] < share
            weight = np.where(shown, low + (high - low) * u[:, 2 * k + 1] ** power, 0.0)
            weights[:, self._habits[k]] += weight[:, None]
            if k == smile:
                teeth = u[:, -2] < _TEETH_SHARE
                for columns, always, with_teeth in company.values():
                    weights[:, columns] += (weight * (always + teeth * with_teeth))[:, None]
        weights[:, self._blink] += (u[:, -1] < _CLOSED_EYES)[:, None]
        for columns, turn in zip(self._gaze, (across, -across, up, -up)):
            weights[:, columns] += np.maximum(turn, 0.0)[:, None]
        weights = np.clip(weights * (1 + _SIDES * uneven), 0, 1)
        # In float64, then rounded: bits that don't depend on how many are drawn at once.
        return torch.from_numpy(weights @ self._matrix).float()
