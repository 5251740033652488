"""A small face with three of ARKit's blendshapes, and a clip of it whose weights are known."""

from __future__ import annotations

import numpy as np
import torch

from mofa_nvdr.apply.clip_parameters import Clip, ClipTrack
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.scene.camera import Camera
from tests.helpers.small_face import textured_face

NAMES = ("jawOpen", "mouthSmileLeft", "mouthSmileRight")


def arkit_cap() -> FaceModel:
    """The small cap, whose three modes mix three of ARKit's blendshapes."""
    plain = textured_face()
    arrays = {name: value.numpy() for name, value in plain.named_buffers()}
    rows = np.array([[1.5, 0.5, 0], [0, 1, 1], [0.5, -1, 1]], np.float32)
    return FaceModel(
        arrays, {"name": "cap", "licence": "own work"}, dict(zip(NAMES, rows)), ["right", "left"]
    )


def known_clip(model: FaceModel, frames: int = 6) -> tuple[Clip, np.ndarray]:
    """A clip of two people, and the weights [N, 3] of the first one's expressions.

    Between frames 3 and 4 the face is not there for a while, and frame 5 is another scene.
    """
    share = torch.linspace(0, 1, frames)[:, None]
    weights = torch.cat([share, 0.5 * (1 - share), 0.25 * share], 1)
    named = torch.stack([model.named_expressions[name] for name in NAMES])
    tracks = []
    for person in range(2):
        code = model.layout.zeros(frames).map(torch.clone)
        code.expression[:] = weights @ named * (1 - person)
        code.shape[:] = 0.3 * person
        code.rotation[:, 1] = 0.3 * share[:, 0]
        code.translation[:, 0] = 10 * share[:, 0]
        frame = np.array([0, 1, 2, 3, 9, 10])[:frames]
        tracks.append(
            ClipTrack(
                frame, frame / 25 + 0.04, np.ones(frames, bool), np.full(frames, 0.9), code,
                np.zeros((frames, 68, 2)), np.zeros((frames, 3)),
            )
        )  # fmt: skip
    camera = Camera((120, 160), 500.0)
    clip = Clip(
        tuple(tracks), camera, 11, 25.0, (model.name, model.hash), source="clip.mp4",
        source_hash="ab" * 32, cuts=np.array([10]),
    )  # fmt: skip
    return clip, weights.numpy()
