"""A face that turns, talks and blinks, as codes whose truth is known; with noise, and as clips."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder

EYES = ((37, 41), (38, 40), (43, 47), (44, 46))  # upper and lower lids
LIPS = ((61, 67), (62, 66), (63, 65))  # inner edges
STILL = (
    0,
    2,
    4,
    6,
    8,
    10,
    12,
    14,
    16,
    27,
    28,
    29,
    30,
    31,
    33,
    35,
    36,
    39,
    42,
    45,
)  # not of lids and lips
MOVING = (*range(36, 48), *range(48, 68))


def turning_head(model: FaceModel, seconds: float, fps: float) -> FaceCode:
    """Codes of the frames: a person who turns and nods before a light that changes."""
    t = torch.arange(round(seconds * fps)) / fps
    code = model.layout.zeros(len(t)).map(torch.clone)
    generator = torch.Generator().manual_seed(5)
    code.shape[:] = 0.7 * torch.randn(code.shape.shape[1], generator=generator)
    code.albedo[:] = 0.7 * torch.randn(code.albedo.shape[1], generator=generator)
    code.rotation[:, 1] = 0.35 * (1.9 * t).sin()
    code.rotation[:, 0] = 0.10 * (2.7 * t).sin()
    code.rotation[:, 2] = 0.06 * (1.3 * t).sin()
    code.translation[:, 0] = 12 * (1.1 * t).sin()
    code.translation[:, 1] = 6 * (1.7 * t).sin()
    code.translation[:, 2] = 25 * (0.8 * t).sin()
    code.light[:, 0] = 0.25
    code.light[:, 2] = 0.3
    code.light[:, 1] = 0.15 * (0.7 * t).sin()[:, None]
    return code


def moving_face(model: FaceModel, seconds: float = 6.0, fps: float = 30.0) -> FaceCode:
    """The same, and the mouth talks for a while, and lids blink four times."""
    named, code = model.named_expressions, turning_head(model, seconds, fps)
    t = torch.arange(code.batch_size) / fps
    # Syllables of 4.5 a second, between a third and two thirds of the clip.
    talk = ((t - seconds / 3) * (2 * seconds / 3 - t) > 0) * (0.5 - 0.5 * (9 * torch.pi * t).cos())
    code.expression[:] += 0.45 * talk[:, None] * named["jawOpen"]
    blink = sum(_blink(t, seconds * share) for share in (0.12, 0.4, 0.7, 0.9))
    code.expression[:] += blink[:, None] * (named["eyeBlinkLeft"] + named["eyeBlinkRight"])
    code.expression[:] += 0.3 * (named["mouthSmileLeft"] + named["mouthSmileRight"])
    return code


def _blink(t: Tensor, at: float) -> Tensor:
    """A lid's way: shut within 0.1 s, open again within 0.2 s."""
    shut, opened = ((t - at) / 0.1).clamp(0, 1), ((t - at - 0.1) / 0.2).clamp(0, 1)
    smooth = [x * x * (3 - 2 * x) for x in (shut, opened)]
    return smooth[0] - smooth[1]


# Deviations of a small encoder's predictions from frame to frame.
NOISE = {
    "shape": 0.15, "expression": 0.10, "albedo": 0.15, "rotation": 0.010, "translation": (0.8, 0.8, 6.0),
    "light": 0.02,
}  # fmt: skip


def with_noise(code: FaceCode, seed: int = 0, amount: float = 1.0) -> FaceCode:
    """Codes with noise of every frame's own; that of the expression is correlated, as a network's is."""
    generator = np.random.default_rng(seed)
    parts = {}
    for name, deviation in NOISE.items():
        part = getattr(code, name)
        noise = torch.from_numpy(generator.standard_normal(part.shape).astype(np.float32))
        if name == "expression":
            size = part.shape[1]
            mix = np.eye(size) + 0.5 * generator.standard_normal((size, size)) / size**0.5
            noise = noise @ torch.from_numpy(mix.astype(np.float32))
        parts[name] = part + amount * noise * torch.tensor(deviation)
    return code.replace(**parts)


@torch.no_grad()
def landmarks(decoder: FaceDecoder, code: FaceCode) -> np.ndarray:
    """Projected landmarks [N, 68, 2] px."""
    index = decoder.model.landmarks.long()
    return decoder.camera.project(decoder.points(code, index)).double().numpy()


@torch.no_grad()
def head_points(model: FaceModel, code: FaceCode) -> np.ndarray:
    """Landmarks [N, 68, 3] in mm in the frame of the head, without its pose."""
    index = model.landmarks.long()
    return model.vertices(code.shape, code.expression, index).double().numpy()


def opening(points: np.ndarray, pairs: tuple[tuple[int, int], ...]) -> np.ndarray:
    """[N] mean distance of pairs of landmarks [N, 68, D]."""
    return np.mean([np.linalg.norm(points[:, a] - points[:, b], axis=-1) for a, b in pairs], axis=0)
