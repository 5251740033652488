"""The recipe's product as arrays, and its compact file."""

from __future__ import annotations

import importlib.resources
import io
from pathlib import Path
from typing import Any

import numpy as np

from mofa_nvdr.system.files import replacing

PRODUCT_FILE = "default_face.npz"
# Quantisation steps: far below what a rendered pixel shows.
_STEP_MM = 0.004
_STEP_ALBEDO = 0.0005
# Named expressions are sums of many modes of expression, so these are stored finer.
_BASES = {
    "shape_basis": _STEP_MM,
    "expression_basis": _STEP_MM / 4,
    "albedo_basis": _STEP_ALBEDO,
}
_MEANS = {"mean_shape": _STEP_MM / 4, "mean_albedo": _STEP_ALBEDO}
_PLAIN = (
    "triangles",
    "landmarks",
    "mirror_index",
    "frontal_mask",
    "expression_names",
    "named_expressions",
    "regions",
    "region_names",
)
_STEP_UV = 1 / 32767  # 1/30 of a texel at 1024


def build() -> dict[str, np.ndarray]:
    """Run the recipe: every array of mofa_nvdr.face.model.FaceModel, names of expressions and regions.

    Returns:
        float32, int32 and bool arrays; vertices in mm about the head's centre.

    Raises:
        ImportError: scipy is not installed.
    """
    from mofa_nvdr.face.recipe import tables
    from mofa_nvdr.face.recipe.albedo import albedo_basis, mean_albedo
    from mofa_nvdr.face.recipe.expressions import expression_basis
    from mofa_nvdr.face.recipe.identity import identity_basis
    from mofa_nvdr.face.recipe.landmark_vertices import detected_vertices, frontal_mask
    from mofa_nvdr.face.recipe.layout import REGION_NAMES, region_labels, texture_layout
    from mofa_nvdr.face.recipe.mean import face_grid, mean_shape

    grid = face_grid()
    vertices = mean_shape()
    colors = mean_albedo(vertices, grid)
    expressions, named = expression_basis(vertices, grid)
    return {
        "mean_shape": (vertices - tables.HEAD_CENTRE).astype(np.float32),
        "mean_albedo": colors.astype(np.float32),
        "shape_basis": identity_basis(vertices, grid).astype(np.float32),
        "expression_basis": expressions.astype(np.float32),
        "albedo_basis": albedo_basis(vertices, grid, colors).astype(np.float32),
        "triangles": grid.triangles,
        "landmarks": detected_vertices(vertices, grid),
        "mirror_index": grid.mirror,
        "frontal_mask": frontal_mask(vertices, grid),
        "expression_names": np.array(list(named)),
        "named_expressions": np.stack(list(named.values())).astype(np.float32),
        "uv": texture_layout(vertices, grid).astype(np.float32),
        "regions": region_labels(vertices, grid, colors),
        "region_names": np.array(REGION_NAMES),
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
    stored["uv"] = _encode(arrays["uv"][None, half], _STEP_UV, np.int16)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **stored)
    path = Path(path)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def load_product(path: str | Path | None = None) -> dict[str, np.ndarray]:
    """Read a product of `write_product`, None: the shipped one; the keys and shapes of `build`."""
    committed = importlib.resources.files("mofa_nvdr.assets") / PRODUCT_FILE
    data = committed.read_bytes() if path is None else Path(path).read_bytes()
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
    uv = _decode(stored["uv"], _STEP_UV)[0]
    arrays["uv"] = np.empty((len(mirror), 2), np.float32)
    arrays["uv"][mirror[half]] = uv * np.array([-1, 1], np.float32) + np.array([1, 0], np.float32)
    arrays["uv"][half] = uv
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
