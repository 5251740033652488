"""The recipe's product as arrays, and its compact file."""

from __future__ import annotations

import importlib.resources
import io
import os
from pathlib import Path
from typing import Any

import numpy as np

PRODUCT_FILE = "default_face.npz"
# Quantisation steps: far below what a rendered pixel shows.
_STEP_MM = 0.004
_STEP_ALBEDO = 0.0005
_BASES = {"shape_basis": _STEP_MM, "expression_basis": _STEP_MM, "albedo_basis": _STEP_ALBEDO}
_MEANS = {"mean_shape": _STEP_MM / 4, "mean_albedo": _STEP_ALBEDO}
_PLAIN = (
    "triangles",
    "landmarks",
    "mirror_index",
    "frontal_mask",
    "expression_names",
    "named_expressions",
)


def build() -> dict[str, np.ndarray]:
    """Run the recipe: every array of mofa_nvdr.face_model.FaceModel, names and coefficients of expressions.

    Returns:
        float32, int32 and bool arrays; vertices in mm about the head's centre.

    Raises:
        ImportError: scipy is not installed.
    """
    from mofa_nvdr.procedural_face import tables
    from mofa_nvdr.procedural_face.albedo import albedo_modes, mean_albedo
    from mofa_nvdr.procedural_face.expressions import expression_basis
    from mofa_nvdr.procedural_face.identity import identity_basis
    from mofa_nvdr.procedural_face.landmarks import frontal_mask, landmark_vertices
    from mofa_nvdr.procedural_face.mean import face_grid, mean_shape
    from mofa_nvdr.procedural_face.modes import principal, scalar_process

    grid = face_grid()
    vertices = mean_shape()
    colors = mean_albedo(vertices, grid)
    authored = np.stack(list(albedo_modes(vertices, grid, colors).values()))
    # Smooth skin colour beyond the named modes: blotches of 8 to 40 mm, mostly in brightness and redness.
    skin = np.where(np.arange(len(vertices)) < grid.num_skin, 1.0, 0.0)
    even, odd = scalar_process(
        vertices, skin * 0.010, ((40.0, 1.2), (18.0, 1.0), (8.0, 0.7)), keep=70
    )
    tones = np.array([[1.0, 0.95, 0.85], [0.25, -0.25, -0.15]])
    textures = [
        np.einsum("vk,tc->ktvc", part, tones).reshape(-1, len(vertices), 3) for part in (even, odd)
    ]
    free = principal(textures[0], textures[1] * 0.6, 80 - len(authored))
    expressions, named = expression_basis(vertices, grid)
    return {
        "mean_shape": (vertices - tables.HEAD_CENTRE).astype(np.float32),
        "mean_albedo": colors.astype(np.float32),
        "shape_basis": identity_basis(vertices, grid).astype(np.float32),
        "expression_basis": expressions.astype(np.float32),
        "albedo_basis": np.concatenate([authored, free]).astype(np.float32),
        "triangles": grid.triangles,
        "landmarks": landmark_vertices(vertices, grid),
        "mirror_index": grid.mirror,
        "frontal_mask": frontal_mask(vertices, grid),
        "expression_names": np.array(list(named)),
        "named_expressions": np.stack(list(named.values())).astype(np.float32),
    }


def write_product(path: str | Path, arrays: dict[str, np.ndarray] | None = None) -> None:
    """Store the recipe's product: half the face, quantised, as differences between neighbours.

    Args:
        path: .npz file, written atomically.
        arrays: of `build`; None runs it.
    """
    arrays = build() if arrays is None else arrays
    mirror = arrays["mirror_index"]
    half = np.flatnonzero(mirror >= np.arange(len(mirror)))
    stored: dict[str, Any] = {name: arrays[name] for name in _PLAIN}
    for name, step in _MEANS.items():
        stored[name] = _encode(arrays[name][None, half], step, np.int32)
    for name, step in _BASES.items():
        basis = arrays[name]
        flip = np.array([-1, 1, 1]) if name != "albedo_basis" else np.ones(3)
        parity = np.sign((basis * (basis[:, mirror] * flip)).sum((1, 2))).astype(np.int8)
        stored[name] = _encode(basis[:, half], step, np.int16)
        stored[f"{name}_parity"] = parity
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **stored)
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(buffer.getvalue())
    os.replace(temporary, path)


def load_product() -> dict[str, np.ndarray]:
    """Read the committed product; the keys and shapes of `build`."""
    data = (importlib.resources.files("mofa_nvdr.assets") / PRODUCT_FILE).read_bytes()
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        stored = {key: file[key] for key in file.files}
    arrays = {name: stored[name] for name in _PLAIN}
    mirror = arrays["mirror_index"]
    half = np.flatnonzero(mirror >= np.arange(len(mirror)))
    for name, step in (_MEANS | _BASES).items():
        values = _decode(stored[name], step)
        flip = np.ones(3, np.float32) if "albedo" in name else np.array([-1, 1, 1], np.float32)
        parity = stored.get(f"{name}_parity", np.ones(1, np.int8)).astype(np.float32)
        full = np.empty((len(values), len(mirror), 3), np.float32)
        # The midline is its own mirror image: what changes its sign there is zero.
        full[:, mirror[half]] = values * flip * parity[:, None, None]
        full[:, half] = values
        arrays[name] = full if name in _BASES else full[0]
    return arrays


def _encode(values: np.ndarray, step: float, dtype: type[np.signedinteger]) -> np.ndarray:
    """[K, H, 3] -> integer differences along the vertices, components first, so that neighbours compress."""
    quantised = np.rint(values / step).astype(np.int32).transpose(0, 2, 1)
    differences = np.diff(quantised, axis=2, prepend=0)
    if np.abs(differences).max() > np.iinfo(dtype).max:
        raise ValueError(f"write_product: a step of {step} is too fine for {dtype.__name__}")
    return differences.astype(dtype)


def _decode(differences: np.ndarray, step: float) -> np.ndarray:
    quantised = np.cumsum(differences, axis=2, dtype=np.int32)
    return (quantised.transpose(0, 2, 1) * np.float32(step)).astype(np.float32)
