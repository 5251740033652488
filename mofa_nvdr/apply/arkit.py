"""Expressions as weights of ARKit's 52 blendshapes.

Source: Apple's ARFaceAnchor.BlendShapeLocation, whose names these are: each weight is 0 (neutral) to 1 (the
motion at its full extent); Left and Right are the subject's.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.dr.parallel import jit
from mofa_nvdr.face.model import FaceModel

_SIDED = (
    "browDown", "browOuterUp", "cheekSquint", "eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut",
    "eyeLookUp", "eyeSquint", "eyeWide", "mouthDimple", "mouthFrown", "mouthLowerDown", "mouthPress",
    "mouthSmile", "mouthStretch", "mouthUpperUp", "noseSneer",
)  # fmt: skip
_WHOLE = (
    "browInnerUp", "cheekPuff", "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose", "mouthFunnel",
    "mouthLeft", "mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower",
    "mouthShrugUpper", "tongueOut",
)  # fmt: skip
BLENDSHAPES = tuple(
    sorted([f"{name}{side}" for name in _SIDED for side in ("Left", "Right")] + list(_WHOLE))
)
"""The 52 names, in the order of their weights."""

NEVER_SEEN = ("tongueOut",)
"""Blendshapes that fits and encoders tell nothing of: nothing is known of a tongue, and their weight is 0."""

_SWEEPS, _CLOSE = 1000, 1e-5
# mm^2 that a blendshape at full weight must explain, on the mean over the face's vertices, to be worth it:
# with none, small motions that cancel each other fill all 52.
_WORTH = 1e-3


@dataclass(frozen=True)
class ArkitWeights:
    """Weights, and how well they say what the expressions do.

    Attributes:
        weights: float32 [B, 52] in [0, 1], in the order of BLENDSHAPES.
        left_mm: [B] root mean square of the motion that they leave, mm over the face's vertices.
        motion_mm: [B] that of the whole motion.
    """

    weights: np.ndarray
    left_mm: np.ndarray
    motion_mm: np.ndarray

    def named(self, row: int = 0) -> dict[str, float]:
        """One expression's weights by name."""
        return {name: float(w) for name, w in zip(BLENDSHAPES, self.weights[row])}


def arkit_expressions(model: FaceModel) -> dict[str, Tensor]:
    """The blendshapes that a face model has, as coefficients [E] of its expression basis.

    Names of halves as ICT-FaceKit writes them (`eyeBlink_L`) count; a blendshape that ARKit has whole and the
    model in halves is their sum.
    """
    own = model.named_expressions
    found = {}
    for name in BLENDSHAPES:
        stem = name.removesuffix("Left").removesuffix("Right")
        short = f"{stem}_{name[len(stem)]}" if stem != name else name
        if name in own:
            found[name] = own[name]
        elif short in own:
            found[name] = own[short]
        elif f"{name}_L" in own and f"{name}_R" in own:
            found[name] = own[f"{name}_L"] + own[f"{name}_R"]
    return found


def arkit_weights(model: FaceModel, expression: Tensor) -> ArkitWeights:
    """Weights in [0, 1] whose blendshapes come closest to expressions.

    Least squares over the vertices' motion in mm, with bounds, and a price on weights so that as few as
    possible say it; by coordinate descent, which ends at the one optimum. A blendshape that the model lacks,
    and those of NEVER_SEEN, have the weight 0.

    Args:
        model: with named expressions.
        expression: coefficients [B, E].

    Raises:
        ValueError: the model has none of ARKit's blendshapes.
    """
    names, rows, towards, normal = _blendshapes(model)
    if not names:
        raise ValueError(
            f"face model {model.name} has none of ARKit's 52 blendshapes; weights need a model that "
            "names its expressions, like the built-in ones"
        )
    gram = _gram(model)
    code = expression.detach().double().cpu().numpy()
    weights = _bounded(normal, code @ towards - _WORTH / 2)
    left = code - weights @ rows
    every = np.zeros((len(code), len(BLENDSHAPES)), np.float32)
    every[:, [BLENDSHAPES.index(name) for name in names]] = weights

    def size(motion: np.ndarray) -> np.ndarray:
        return np.sqrt(((motion @ gram) * motion).sum(1).clip(min=0))

    return ArkitWeights(every, size(left), size(code))


@jit
def _bounded(normal, wanted):  # type: ignore[no-untyped-def]
    """Weights w [B, K] in [0, 1] that minimise w N w / 2 - b w, for N [K, K] and b [B, K]."""
    count, size = wanted.shape
    weights = np.zeros((count, size))
    for b in range(count):
        slope = wanted[b].copy()
        for _ in range(_SWEEPS):
            most = 0.0
            for k in range(size):
                moved = weights[b, k] + slope[k] / max(normal[k, k], 1e-12)
                step = min(max(moved, 0.0), 1.0) - weights[b, k]
                if step != 0.0:
                    weights[b, k] += step
                    for i in range(size):
                        slope[i] -= step * normal[k, i]
                    most = max(most, abs(step))
            if most < _CLOSE:
                break
    return weights


@functools.lru_cache(maxsize=2)
def _blendshapes(model: FaceModel) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Names of a model's K blendshapes but NEVER_SEEN, their coefficients [K, E], G [E, K] and N [K, K].

    Of coefficients c the products with the blendshapes are c G, those of the blendshapes themselves N.
    """
    shapes = {k: v for k, v in arkit_expressions(model).items() if k not in NEVER_SEEN}
    if not shapes:
        return [], *(np.zeros((0, 0)),) * 3
    rows, gram = torch.stack(list(shapes.values())).double().cpu().numpy(), _gram(model)
    return list(shapes), rows, gram @ rows.T, rows @ gram @ rows.T


@functools.lru_cache(maxsize=2)
def _gram(model: FaceModel) -> np.ndarray:
    """[E, E]: mm^2 of two coefficients, on the mean over vertices."""
    basis = model.expression_basis.detach().double().cpu().flatten(1)
    return (basis @ basis.T / model.num_vertices).numpy()


def arrays(model: FaceModel, expression: Tensor) -> dict[str, np.ndarray]:
    """What parameter files hold of expressions [B, E]: `arkit_weights` [B, 52] and `arkit_names` [52].

    Of a model without ARKit's blendshapes they hold nothing.
    """
    if not _blendshapes(model)[0]:
        return {}
    found = arkit_weights(model, expression)
    return {"arkit_weights": found.weights, "arkit_names": np.array(BLENDSHAPES)}


def csv_text(columns: Mapping[str, np.ndarray], weights: np.ndarray, origin: str) -> str:
    """Weights as lines of a .csv.

    Args:
        columns: further ones before the weights, name -> [B].
        weights: [B, 52].
        origin: what they were made from, in a last column (system/origins.py).
    """
    lines = [",".join([*columns, *BLENDSHAPES, "origin"])]
    for k, row in enumerate(weights):
        first = [f"{values[k]:.9g}" for values in columns.values()]
        lines.append(",".join([*first, *(f"{value:.4f}" for value in row), origin]))
    return "\n".join(lines) + "\n"
