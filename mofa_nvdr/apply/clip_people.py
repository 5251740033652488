"""From a track's sightings to one person: one identity, gaps filled, and a smooth course of the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch

from mofa_nvdr.apply.clip_parameters import ClipTrack
from mofa_nvdr.apply.clip_smoothing import Smoothing, smooth
from mofa_nvdr.apply.clip_tracks import Track
from mofa_nvdr.apply.same_person import (
    identity_weights,
    placed,
    share_identity,
    to_frame_camera,
)
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.pose import axis_angle_to_matrix, matrix_to_axis_angle

POSE = Smoothing(0.25, quick=0.16)
EXPRESSION = Smoothing(0.20)
LIGHT = Smoothing(0.50, quick=0.20)
LONGEST_GAP = 0.35
"""S for which a face that is not seen is where its neighbours in time say."""

_LEAST_WEIGHT = 0.05


def finish_track(
    track: Track,
    at: Mapping[int, float],
    cuts: Sequence[int],
    model: FaceModel,
    own: Camera,
    camera: Camera,
    smoothed: bool = True,
) -> ClipTrack:
    """One identity, gaps filled, and pose, expression and light smoothed.

    Args:
        track: a person's sightings.
        at: times of the clip's frames by their numbers.
        cuts: numbers of frames that begin another scene, across which nothing is smoothed.
        model: the face model, on the CPU.
        own: camera of the sightings' codes.
        camera: of the whole frames.
        smoothed: False: the codes of the frames as they are, but of one identity.
    """
    code = model.layout.unpack(torch.stack([s.code for s in track.sightings]))
    crops = [s.crop for s in track.sightings]
    certainty = np.array([s.certainty for s in track.sightings])
    weights = identity_weights(code, certainty, np.array([c.side for c in crops]))
    code = share_identity(model, own, code, weights)
    code = to_frame_camera(model, own, code, crops, camera)
    pieces = []
    for rows in _pieces(track, cuts):
        numbers = np.array(track.numbers)[rows]
        every = np.array([n for n in range(numbers[0], numbers[-1] + 1) if n in at])
        place = np.searchsorted(every, numbers)
        piece = _Piece(every, np.array([at[n] for n in every]), place)
        pieces.append((piece, piece.code(code, rows, certainty[rows], smoothed, camera), rows))
    whole = FaceCode(
        **{f.name: torch.cat([getattr(c, f.name) for _, c, _ in pieces]) for f in fields(FaceCode)}
    )
    boxes = np.array([[c.left, c.top, c.side] for c in crops])
    return ClipTrack(
        np.concatenate([p.numbers for p, _, _ in pieces]),
        np.concatenate([p.times for p, _, _ in pieces]),
        np.concatenate([p.seen for p, _, _ in pieces]),
        np.concatenate([p.spread(certainty[rows]) for p, _, rows in pieces]),
        whole,
        landmarks_of(model, camera, whole),
        np.concatenate([p.spread(boxes[rows]) for p, _, rows in pieces]),
    )


@torch.no_grad()
def landmarks_of(model: FaceModel, camera: Camera, code: FaceCode) -> np.ndarray:
    """[N, 68, 2] px of the frames."""
    index = model.landmarks.long()
    return camera.project(placed(model, camera, code, index)).double().numpy()


@dataclass(frozen=True)
class _Piece:
    """Frames of a track without a long gap or a cut.

    Attributes:
        numbers, times: of all frames. place: rows of them in which the face was seen.
    """

    numbers: np.ndarray
    times: np.ndarray
    place: np.ndarray

    @property
    def seen(self) -> np.ndarray:
        """[N] bool."""
        return np.isin(np.arange(len(self.numbers)), self.place)

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Values of the frames with a sighting at all frames, NaN at the others."""
        out = np.full((len(self.numbers), *values.shape[1:]), np.nan)
        out[self.place] = values
        return out

    def code(
        self,
        code: FaceCode,
        rows: np.ndarray,
        certainty: np.ndarray,
        smoothed: bool,
        camera: Camera,
    ) -> FaceCode:
        """Codes of all frames."""
        weights = np.zeros(len(self.numbers))
        weights[self.place] = np.maximum(certainty, _LEAST_WEIGHT)

        def series(values: np.ndarray, how: Smoothing) -> torch.Tensor:
            flat = np.nan_to_num(self.spread(values.reshape(len(values), -1)))
            if smoothed:
                flat = smooth(flat, self.times, weights, how)
            else:
                known = self.times[self.place]
                flat = np.stack(
                    [np.interp(self.times, known, column[self.place]) for column in flat.T], 1
                )
            return torch.from_numpy(flat.reshape(-1, *values.shape[1:])).float()

        own = code.map(lambda part: part[torch.from_numpy(rows)])
        turn, middle = _turns(own.rotation)
        pose = np.concatenate([turn, _sight(own.translation.double().numpy(), camera)], axis=1)
        smooth_pose = series(pose, POSE).double()
        rotation = matrix_to_axis_angle(axis_angle_to_matrix(smooth_pose[:, :3]) @ middle)
        count = len(self.numbers)
        return FaceCode(
            shape=own.shape[:1].expand(count, -1),
            expression=series(own.expression.double().numpy(), EXPRESSION),
            albedo=own.albedo[:1].expand(count, -1),
            rotation=rotation.float(),
            translation=torch.from_numpy(_from_sight(smooth_pose[:, 3:].numpy(), camera)).float(),
            light=series(own.light.double().numpy(), LIGHT),
        )


def _turns(rotation: torch.Tensor) -> tuple[np.ndarray, torch.Tensor]:
    """Rotations as turns [N, 3] from a middle one [3, 3]: small numbers that can be averaged."""
    matrices = axis_angle_to_matrix(rotation.double())
    u, _, v = torch.linalg.svd(matrices.sum(0))
    sign = torch.linalg.det(u @ v)
    middle = u @ torch.diag(torch.tensor([1.0, 1.0, float(sign)], dtype=u.dtype)) @ v
    return matrix_to_axis_angle(matrices @ middle.mT).numpy(), middle


def _sight(translation: np.ndarray, camera: Camera) -> np.ndarray:
    """Places as the picture shows them: slopes of the line of sight and the logarithm of the distance.

    A distance errs far more than a direction, and would shake the direction if mm were smoothed.
    """
    place = translation + np.array(camera.position)
    depth = np.maximum(-place[:, 2:], 1e-3)
    return np.concatenate([place[:, :2] / depth, np.log(depth)], axis=1)


def _from_sight(sight: np.ndarray, camera: Camera) -> np.ndarray:
    depth = np.exp(sight[:, 2:])
    place = np.concatenate([sight[:, :2] * depth, -depth], axis=1)
    return place - np.array(camera.position)


def _pieces(track: Track, cuts: Sequence[int]) -> list[np.ndarray]:
    """Rows of a track, cut at long gaps and at the clip's cuts."""
    numbers, times = np.array(track.numbers), np.array(track.times)
    ends = np.diff(times) > LONGEST_GAP
    for cut in cuts:
        ends |= (numbers[:-1] < cut) & (numbers[1:] >= cut)
    return np.split(np.arange(len(numbers)), np.flatnonzero(ends) + 1)
