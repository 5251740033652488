"""The code of a mirrored face, for models whose modes are symmetric or antisymmetric."""

from __future__ import annotations

import torch
from torch import Tensor

from mofa_nvdr.face.model import FaceModel

_STRIDE = 4
_LEAST = 0.999  # correlation of a mode with its mirror image, or the negative of it
# Axis-angle turns by the other way about y and z; the picture's x and the directions with it change sign.
_ROTATION, _TRANSLATION = (1.0, -1.0, -1.0), (-1.0, 1.0, 1.0)
_LIGHT = (1.0, 1.0, 1.0, -1.0, -1.0, 1.0, 1.0, -1.0, 1.0)  # 1, y, z, x, xy, yz, 3z^2-1, xz, x^2-y^2


def mirror_signs(model: FaceModel) -> Tensor | None:
    """Factors [size] of 1 and -1 that turn a code into that of the face seen in a mirror.

    Args:
        model: with `mirror_index`, the vertex on the other side of each.

    Returns:
        The factors, float32 on the CPU; None where the model does not know its other side, or has modes that
        are neither symmetric nor antisymmetric.
    """
    if model.mirror_index is None:
        return None
    # A quarter of the vertices tells it, in a quarter of the time: every start of `reconstruct` asks.
    index, parts = model.mirror_index.long().cpu()[::_STRIDE], []
    for name in ("shape", "expression", "albedo"):
        whole = getattr(model, f"{name}_basis").detach().cpu()  # [K, V, 3]
        basis = whole[:, ::_STRIDE]
        across = torch.tensor([1.0, 1, 1] if name == "albedo" else [-1.0, 1, 1])
        image = whole[:, index] * across
        alike = (basis * image).sum((1, 2)) / basis.square().sum((1, 2)).clamp(min=1e-12)
        moves = basis.square().sum((1, 2)) > 0  # a mode of zeros is its own image
        if (alike[moves].abs() < _LEAST).any():
            return None
        parts.append(torch.where(alike < 0, -1.0, 1.0))
    light = torch.tensor(_LIGHT).repeat_interleave(3)  # nine coefficients of three channels
    return torch.cat([*parts, torch.tensor(_ROTATION), torch.tensor(_TRANSLATION), light])
