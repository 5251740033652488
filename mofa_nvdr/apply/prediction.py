"""From squares of photographs to faces: a batch through the encoder, framed again by what it predicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.apply.certainty import face_certainty
from mofa_nvdr.apply.color_solver import color_solver
from mofa_nvdr.apply.face_search import BY_DETECTOR, Candidate
from mofa_nvdr.apply.largest_face import known_pixels
from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.apply.photo_camera import (
    PhotoFrame,
    crop_camera,
    extrinsics_of,
    full_frame_poses,
)
from mofa_nvdr.apply.result_files import with_measures
from mofa_nvdr.data.crops.framing import Crop, crop_from_landmarks
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.networks.encoder import Encoder
from mofa_nvdr.render.decoder import FaceDecoder, Geometry, RasterFace
from mofa_nvdr.render.pictures import FINER
from mofa_nvdr.runs.trained import Reconstructor
from mofa_nvdr.scene.lighting import total_light
from mofa_nvdr.scene.pose import axis_angle_to_matrix

# A second framing beyond these is of a face that was not understood: the first one stays.
_MOST_SHIFT, _MOST_SCALE = 0.4, 1.6
_POINTS = 64  # every how many vertices the full frame's pose is fitted to
_LEAST_POINTS = 60  # of a small mesh

Refine = Callable[[Sequence[Candidate], Sequence[Crop], FaceCode], FaceCode]
"""Candidates, their crops and the predicted codes, to better codes."""


@dataclass(frozen=True)
class Predicted:
    """The faces of some candidates.

    Attributes:
        parameters: without their sources and the photographs' cameras.
        photo: their crops [B, 3, S, S] in [0, 1].
        face: their renderings at the same size.
        points: [B, N, 3] some vertices before the crops' cameras, mm.
        geometry: all of them, as they are drawn.
    """

    parameters: list[FaceParameters]
    photo: Tensor
    face: RasterFace
    points: np.ndarray
    geometry: Geometry


class Predictor:
    """Predicts batches of faces with a trained encoder.

    Args:
        reconstructor: the encoder and its decoder.
        refine: what improves codes; None: the encoder's are taken.
        colors: where light and albedo are from, of color_solver.COLORS: the encoder; or the photograph, with
            the encoder's pose and form.

    Raises:
        ValueError: other colours.
    """

    def __init__(
        self, reconstructor: Reconstructor, refine: Refine | None = None, colors: str = "encoder"
    ) -> None:
        self._run, self._refine = reconstructor, refine
        self._solve = color_solver(reconstructor.decoder, colors)
        self._decoder = reconstructor.decoder
        self.size = self._decoder.camera.size[0]
        model = self._decoder.model
        self._index = frame_points(model)
        self._model = (model.name, model.hash)
        self._finer: FaceDecoder | None = None

    @torch.no_grad()
    def __call__(self, candidates: Sequence[Candidate]) -> Predicted:
        """Codes, measures and renderings of faces."""
        pixels = [candidate.pixels for candidate in candidates]
        crops = [candidate.crop for candidate in candidates]
        photo = self._tensor(pixels)
        # The networks' own landmarks frame a face better than predicted ones.
        again = [k for k, c in enumerate(candidates) if c.found_by == BY_DETECTOR]
        if again:
            marks = self._landmarks(self._run(photo[again]))
            for k, points in zip(again, marks):
                crops[k] = _framed(candidates[k], points, self.size)
                pixels[k] = candidates[k].cut(crops[k], self.size)
            photo = self._tensor(pixels)
        code = self._run(photo, both_ways=True)
        if self._solve is None and self._refine is None:
            return self._measured(photo, crops, code)
        # How sure the encoder is shows in its own colours: the photograph's explain what is no face too.
        geometry = self._decoder.geometry(code)
        face = self._decoder.rasterize(geometry)
        certainty = face_certainty(photo, face).tolist()
        if self._solve is not None:
            code = self._solve(self._within(photo, candidates, crops), code, geometry)
        if self._refine is not None:
            refined = self._refine(candidates, crops, code.map(lambda part: part.cpu()))
            code = refined.map(lambda part: part.to(self._run.device))
            return self._measured(photo, crops, code, certainty)
        # Pose and form are as they were.
        geometry = replace(
            geometry, albedo=self._decoder.model.albedo(code.albedo), light=total_light(code.light)
        )
        return self._described(
            photo, crops, code, geometry, self._decoder.recolored(face, geometry), certainty
        )

    @torch.no_grad()
    def measured(
        self,
        candidates: Sequence[Candidate],
        crops: Sequence[Crop],
        code: FaceCode,
        certainty: Sequence[float] | None = None,
    ) -> Predicted:
        """The same of codes that are known already, on any device, and of their certainty if it is known."""
        photo = self._tensor(self._cut(candidates, crops))
        here = code.map(lambda part: part.to(self._run.device))
        known = None if certainty is None else list(certainty)
        return self._measured(photo, crops, here, known)

    @torch.no_grad()
    def person(
        self, candidates: Sequence[Candidate], crops: Sequence[Crop], weights: np.ndarray
    ) -> tuple[Tensor, Tensor] | None:
        """Shape [1, S] and albedo [1, A] of one person's faces, on the CPU, by what all of them show.

        None of an encoder that recognises nobody (Encoder.person), or where colours are the photographs'.
        """
        encoder = self._run.encoder
        if self._solve is not None or not isinstance(encoder, Encoder) or encoder.identity is None:
            return None
        photo = self._tensor(self._cut(candidates, crops))
        shape, albedo = encoder.person(photo, torch.from_numpy(weights).to(photo))
        return shape.cpu(), albedo.cpu()

    def _cut(self, candidates: Sequence[Candidate], crops: Sequence[Crop]) -> list[np.ndarray]:
        return [
            one.pixels if crop == one.crop else one.cut(crop, self.size)
            for one, crop in zip(candidates, crops)
        ]

    def _measured(
        self,
        photo: Tensor,
        crops: Sequence[Crop],
        code: FaceCode,
        certainty: list[float] | None = None,
    ) -> Predicted:
        geometry = self._decoder.geometry(code)
        face = self._decoder.rasterize(geometry)
        certainty = face_certainty(photo, face).tolist() if certainty is None else certainty
        return self._described(photo, crops, code, geometry, face, certainty)

    def _described(
        self,
        photo: Tensor,
        crops: Sequence[Crop],
        code: FaceCode,
        geometry: Geometry,
        face: RasterFace,
        certainty: Sequence[float],
    ) -> Predicted:
        parameters = [
            FaceParameters(
                code=_one(code, k),
                camera=self._decoder.pinhole,
                crop=np.array([crop.left, crop.top, crop.side], np.float64),
                face_model=self._model,
                source="",
                face_model_file=self._run.face_model.file,
                certainty=certainty[k],
            )
            for k, crop in enumerate(crops)
        ]
        return Predicted(
            with_measures(parameters, photo, face), photo, face, self._points(geometry), geometry
        )

    @torch.no_grad()
    def finer(self, found: Predicted) -> RasterFace:
        """The same faces drawn FINER times as large, for pictures without steps."""
        if self._finer is None:
            self._finer = self._decoder.finer(FINER)
        return self._finer.rasterize(found.geometry)

    def _tensor(self, pixels: Sequence[np.ndarray]) -> Tensor:
        squares = torch.from_numpy(np.stack(pixels)).to(self._run.device)
        return squares.permute(0, 3, 1, 2).float().div(255)

    def _within(
        self, photo: Tensor, candidates: Sequence[Candidate], crops: Sequence[Crop]
    ) -> Tensor:
        """Crops with NaN beyond the edges of their photographs."""
        inside = np.stack(
            [known_pixels(crop, self.size, *c.size) for c, crop in zip(candidates, crops)]
        )
        return torch.where(torch.from_numpy(inside)[:, None].to(photo.device), photo, torch.nan)

    def _landmarks(self, code: FaceCode) -> np.ndarray:
        """[B, 68, 2] px of the crops."""
        points = self._decoder.points(code, self._decoder.model.landmarks)
        return self._decoder.camera.project(points).cpu().double().numpy()

    def _points(self, geometry: Geometry) -> np.ndarray:
        return geometry.vertices[:, self._index].cpu().double().numpy()


def frame_points(model: FaceModel) -> Tensor:
    """Numbers of the vertices to which the pose before a photograph's own camera is fitted, int64 [N]."""
    frontal = model.frontal_triangles.unique().long()
    return frontal[:: max(1, min(_POINTS, len(frontal) // _LEAST_POINTS))]


def with_frames(
    faces: Sequence[FaceParameters],
    points: Sequence[np.ndarray],
    size: tuple[int, int],
    intrinsics: np.ndarray,
    focal_from: str,
) -> list[FaceParameters]:
    """The faces of one photograph before its own camera.

    Args:
        faces: B faces.
        points: [N, 3] of each, before their crops' cameras, mm.
        size: height and width of the photograph, px.
        intrinsics: K [3, 3].
        focal_from: where its focal length is from.
    """
    cameras = [crop_camera(one.camera, Crop(*map(float, one.crop)), size) for one in faces]
    every = np.repeat(intrinsics[None], len(faces), 0)
    turns, shifts, errors = full_frame_poses(np.stack(points), cameras, every)
    framed = []
    for one, turn, shift, error in zip(faces, turns, shifts, errors):
        rotation = axis_angle_to_matrix(one.code.rotation.double())[0].numpy()
        place = one.code.translation[0].double().numpy() + np.array(one.camera.position)
        extrinsics = extrinsics_of(turn @ rotation, turn @ place + shift)
        frame = PhotoFrame(size, intrinsics, extrinsics, focal_from, float(error))
        framed.append(replace(one, frame=frame))
    return framed


def _framed(candidate: Candidate, landmarks: np.ndarray, size: int) -> Crop:
    """The framing by predicted landmarks, px of the candidate's crop at `size`; or the one it has."""
    first = candidate.crop
    marks = first.to_source(landmarks, size)
    if not np.isfinite(marks).all():
        return first
    crop = crop_from_landmarks(marks)
    shift = np.hypot(
        crop.left + crop.side / 2 - first.left - first.side / 2,
        crop.top + crop.side / 2 - first.top - first.side / 2,
    )
    ratio = crop.side / first.side
    if shift > _MOST_SHIFT * first.side or not 1 / _MOST_SCALE < ratio < _MOST_SCALE:
        return first
    return crop


def _one(code: FaceCode, k: int) -> FaceCode:
    return FaceCode(**{f.name: getattr(code, f.name)[k : k + 1].cpu() for f in fields(FaceCode)})
