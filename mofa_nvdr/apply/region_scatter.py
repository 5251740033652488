"""Where face models draw badly, and by how much photographs' colours scatter more there."""

from __future__ import annotations

import torch
from torch import Tensor

from mofa_nvdr.face.model import FaceModel

# Regions and times the variance.
_SCATTER = {"eyes": 9.0, "mouth": 9.0, "teeth": 9.0, "eyelids": 4.0, "brows": 4.0, "lips": 4.0}


def region_scatter(model: FaceModel) -> Tensor:
    """Factors [R] of the variance of colours in a model's regions, on the model's device; [0] without any."""
    factors = [_SCATTER.get(name, 1.0) for name in model.region_names]
    return torch.tensor(factors, device=model.mean_albedo.device)
