"""Rendered faces with exact landmarks, of a small face model that fits in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mofa_nvdr.apply.fit_prior import FitPrior, fit_prior
from mofa_nvdr.apply.fitting import Observed
from mofa_nvdr.face.dense_landmarks import NUM_DENSE, DenseLandmarks
from mofa_nvdr.face.landmarks import NUM_LANDMARKS
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder, RasterFace
from tests.helpers.small_face import small_face

SIZE = 64
BACKGROUND = 0.35
_EYES = {36: (4, -4), 45: (4, 4)}  # rows and columns about the middle, of the 68
_DENSE_EYES = {33: 36, 263: 45}


def landmarked_face(rows: int = 16, modes: int = 4) -> FaceModel:
    """The small cap with its eyes' corners where eyes are, and places of 478 points."""
    plain = small_face(rows, modes)
    arrays = {name: value.numpy().copy() for name, value in plain.named_buffers()}
    for number, (down, right) in _EYES.items():
        arrays["landmarks"][number] = (rows // 2 - down) * rows + rows // 2 + right
    model = FaceModel(arrays, {"name": "cap"})
    generator = torch.Generator().manual_seed(7)
    numbers = torch.randint(len(model.triangles), (NUM_DENSE,), generator=generator)
    weights = torch.rand(NUM_DENSE, 3, generator=generator)
    weights /= weights.sum(1, keepdim=True)
    vertices = model.triangles[numbers].long()
    for dense, ibug in _DENSE_EYES.items():
        vertices[dense], weights[dense] = model.landmarks[ibug], torch.tensor([1.0, 0, 0])
    spread = torch.full((NUM_DENSE,), 2.0)
    spread[::50] = 0  # points without a place
    model.place_dense_landmarks(DenseLandmarks(vertices, weights, spread))
    return model


@dataclass(frozen=True)
class KnownFaces:
    """Rendered photographs [B, 3, S, S], the codes behind them, and where their landmarks are, px."""

    photo: Tensor
    code: Tensor
    face: RasterFace
    dense: Tensor
    landmarks68: Tensor
    prior: FitPrior

    def observed(self, landmarks: str = "dense", **more: object) -> Observed:
        """What a fitter is given: "dense", "68" or no landmarks."""
        marks = {"dense": self.dense, "68": self.landmarks68}.get(landmarks)
        return Observed(**{"photo": self.photo, "landmarks": marks, **more})  # type: ignore[arg-type]


def known_faces(
    model: FaceModel, count: int = 2, size: int = SIZE, seed: int = 1, scale: float = 0.7
) -> KnownFaces:
    """Render people at random, turned a little, under coloured lights."""
    prior, parts = fit_prior(model), model.layout.slices
    generator = torch.Generator().manual_seed(seed)
    code = prior.mean.repeat(count, 1)
    for name, deviation in (
        ("shape", scale), ("albedo", scale), ("expression", scale), ("rotation", 0.15),
        ("translation", 8.0), ("light", 0.06),
    ):  # fmt: skip
        width = parts[name].stop - parts[name].start
        code[:, parts[name]] += deviation * torch.randn(count, width, generator=generator)
    decoder = FaceDecoder(model, size)
    with torch.no_grad():
        return render_known(decoder, code, prior)


@torch.no_grad()
def render_known(decoder: FaceDecoder, code: Tensor, prior: FitPrior) -> KnownFaces:
    """Render given codes [B, 257]."""
    geometry = decoder.geometry(code)
    face = decoder.rasterize(geometry)
    photo = torch.where(face.mask > 0, face.image, BACKGROUND).clamp(0, 1)
    places = decoder.model.dense_landmarks
    assert places is not None and face.landmarks is not None
    assert face.landmarks.shape[1] == NUM_LANDMARKS
    dense = decoder.camera.project(places.of(geometry.vertices))
    return KnownFaces(photo, code, face, dense, face.landmarks, prior)


def color_distance(photo: Tensor, face: RasterFace) -> Tensor:
    """Mean RGB distance [B] of photographs and renderings over the masks."""
    distance = (face.image - photo).norm(dim=1) * face.mask[:, 0]
    return distance.flatten(1).sum(1) / face.mask.flatten(1).sum(1)
