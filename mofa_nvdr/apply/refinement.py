"""Fitting of a few steps from an encoder's prediction: `mofa-nvdr reconstruct --refine`.

Without landmarks only the photographs' colours are compared; where the landmark networks found the faces,
their landmarks count as in `mofa-nvdr fit`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mofa_nvdr.apply.face_search import Candidate
from mofa_nvdr.apply.fit_stages import REFINE_STAGES
from mofa_nvdr.apply.fitting import FaceFitter, FitOptions, Observed
from mofa_nvdr.apply.largest_face import FIT_SIZE
from mofa_nvdr.data.crops.framing import Crop
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.scene.camera import Camera


class Refiner:
    """Improves predicted codes; `prediction.Predictor` calls it.

    Args:
        model: the face model of the codes.
        camera: of their crops.
    """

    def __init__(self, model: FaceModel, camera: Camera) -> None:
        self._model = model
        self._fitter = FaceFitter(model, FitOptions(stages=REFINE_STAGES), camera=camera)

    def __call__(
        self,
        candidates: Sequence[Candidate],
        crops: Sequence[Crop],
        code: FaceCode,
        same_person: bool = False,
    ) -> FaceCode:
        """Codes that are closer to the photographs, on the CPU; of one person they share shape and albedo."""
        photo = torch.stack([c.known(crop, FIT_SIZE) for c, crop in zip(candidates, crops)])
        landmarks: Tensor | None = None
        if all(candidate.points is not None for candidate in candidates):
            landmarks = torch.stack([self._marks(c, crop) for c, crop in zip(candidates, crops)])
        person = torch.zeros(len(photo), dtype=torch.long) if same_person else None
        return self._fitter(Observed(photo, landmarks, person), code).code

    def _marks(self, candidate: Candidate, crop: Crop) -> Tensor:
        dense = self._model.dense_landmarks is not None
        points = candidate.points if dense else candidate.points68
        assert points is not None
        return torch.from_numpy(crop.to_crop(points, FIT_SIZE)).float()
