"""Small pictures of faces under a light: parameters as reconstruct leaves them."""

import numpy as np
import torch

from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.scene.camera import Camera

SIZE = 64

BACKGROUND = 33  # 0.13 * 255, rounded


def lit_face(
    model: FaceModel, seed: int | None = None, camera: Camera | None = None
) -> FaceParameters:
    """Code zero, or a random one of small numbers."""
    vector = torch.zeros(1, model.layout.size)
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        vector = 0.1 * torch.randn(1, model.layout.size, generator=generator)
    code = model.layout.unpack(vector)
    crop = np.array([0.0, 0.0, 64.0])
    return FaceParameters(code, camera or Camera(SIZE), crop, (model.name, model.hash), "a.jpg")
