"""A face to export, with its parameter file."""

import numpy as np
import torch

from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.lighting import directional_light


def some_face(model: FaceModel, path, seed: int = 0, modest: float = 0.7) -> FaceParameters:
    """A parameter file of a turned, smiling, one-sidedly lit person."""
    generator = torch.Generator().manual_seed(seed)
    layout = model.layout

    def normal(size: int) -> torch.Tensor:
        return modest * torch.randn(1, size, generator=generator)

    code = layout.zeros().replace(
        shape=normal(layout.num_shape),
        expression=normal(layout.num_expression),
        albedo=normal(layout.num_albedo),
        rotation=torch.tensor([[0.1, 0.35, 0.05]]),
        translation=torch.tensor([[10.0, 5.0, 20.0]]),
        light=0.5 * directional_light(torch.tensor([[-1.0, 0.5, 0.8]])),
    )
    crop = np.array([0, 0, 240.0])
    face = FaceParameters(code, Camera(240), crop, (model.name, model.hash), "someone.jpg")
    face.save(path)
    return face
