"""A landmark detector that knows where the landmarks of pictures are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from mofa_nvdr.networks.landmark_detector import LandmarkDetector
from mofa_nvdr.networks.on_request import NetworkMissingError
from tests.helpers.fitted_faces import known_faces, landmarked_face

MISSING = "the networks 'landmarks' are not in /c; get them with mofa-nvdr networks get landmarks"


@dataclass(frozen=True)
class KnownLandmarks:
    """What of a detected face is used: points [478, 3], landmarks68 [68, 2], px of the picture, and score."""

    points: np.ndarray
    landmarks68: np.ndarray
    score: float = 1.0


class FakeDetector:
    """Pictures, recognised by their top left pixel, to their faces; no other picture has any."""

    def __init__(self) -> None:
        self._faces: dict[tuple[int, ...], Sequence[KnownLandmarks]] = {}

    def know(self, picture: np.ndarray, faces: Sequence[KnownLandmarks]) -> None:
        """These are the faces of a picture, bytes [H, W, 3]."""
        self._faces[tuple(picture[0, 0].tolist())] = faces

    def __call__(self, picture: np.ndarray) -> Sequence[KnownLandmarks]:
        return self._faces.get(tuple(picture[0, 0].tolist()), [])

    def points(self, picture: np.ndarray) -> list[tuple[np.ndarray, float]]:
        """As `LandmarkDetector.points`."""
        return [(face.points[:, :2], face.score) for face in self(picture)]


def install_fake_detector(patch: pytest.MonkeyPatch) -> FakeDetector:
    """Load this detector in the place of the networks."""
    detector = FakeDetector()
    patch.setattr(LandmarkDetector, "load", lambda: detector)
    return detector


def take_networks_away(patch: pytest.MonkeyPatch) -> None:
    """The landmark networks are not on this machine."""

    def load() -> None:
        raise NetworkMissingError(MISSING)

    patch.setattr(LandmarkDetector, "load", load)


def face_and_wall(patch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Write face.png, which a detector knows, its model m.safetensors, and wall.png; returns the folder."""
    model = landmarked_face()
    model.save(folder / "m.safetensors")
    known = known_faces(model, 1)
    picture = (known.photo[0] * 255).byte().permute(1, 2, 0).numpy()
    picture[0, 0] = (1, 2, 3)
    points = np.concatenate([known.dense[0].numpy(), np.zeros((478, 1))], 1)
    install_fake_detector(patch).know(
        picture, [KnownLandmarks(points, known.landmarks68[0].double().numpy())]
    )
    iio.imwrite(folder / "face.png", picture)
    iio.imwrite(folder / "wall.png", np.full((40, 40, 3), 77, np.uint8))
    return folder
