"""A face model small enough for finite differences: an ellipsoidal cap with smooth modes."""

from __future__ import annotations

import numpy as np

from mofa_nvdr.face.model import FaceModel


def small_face(rows: int = 12, modes: int = 4, seed: int = 0) -> FaceModel:
    """A cap of `rows` x `rows` vertices about the size and place of a face, in mm."""
    s, t = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(1, -1, rows))
    x, y = 70 * s, 95 * t
    z = 80 * np.sqrt(1 - 0.35 * (s**2 + t**2)) - 20
    mean = np.stack([x, y, z], -1).reshape(-1, 3)
    rng = np.random.default_rng(seed)

    def smooth(count: int, scale: float) -> np.ndarray:
        frequency = rng.normal(size=(count, 3, 3)) * 0.02
        phase = rng.uniform(0, 6, size=(count, 1, 3))
        return scale * np.sin(np.einsum("vi,kij->kvj", mean, frequency) + phase)

    index = np.arange(rows * rows).reshape(rows, rows)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    triangles = np.concatenate(
        [np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)]
    )
    albedo = 0.5 + 0.2 * np.sin(mean * 0.05 + rng.uniform(0, 6, size=3))
    frontal = np.ones(rows * rows, bool)
    return FaceModel(
        {
            "mean_shape": mean,
            "mean_albedo": albedo,
            "shape_basis": smooth(modes, 4.0),
            "expression_basis": smooth(modes - 1, 3.0),
            "albedo_basis": smooth(modes + 1, 0.05),
            "triangles": triangles,
            "landmarks": np.linspace(0, rows * rows - 1, 68).round(),
            "mirror_index": index[:, ::-1].reshape(-1),
            "frontal_mask": frontal,
        },
        {"name": "cap"},
    )


def textured_face(modes: int = 4) -> FaceModel:
    """The small cap with named expressions, regions and a layout; its origin far from its middle."""
    plain = small_face(modes=modes)
    arrays = {name: value.numpy() for name, value in plain.named_buffers()}
    mean = arrays["mean_shape"].copy()
    arrays["uv"] = (mean[:, :2] - mean[:, :2].min(0)) / np.ptp(mean[:, :2], axis=0)
    arrays["mean_shape"] = mean + [200, -50, 30]
    arrays["regions"] = (mean[:, 0] > 0).astype(np.uint8)
    return FaceModel(
        arrays,
        {"name": "cap", "licence": "own work"},
        {"grin": np.ones(modes - 1), "frown": -np.ones(modes - 1)},
        ["right", "left"],
    )
