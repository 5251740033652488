"""The recipe's product as arrays, and its compact file."""

from __future__ import annotations

import importlib.resources
from collections.abc import Collection
from pathlib import Path

import numpy as np

from mofa_nvdr.face.compact import (
    decode,
    encode,
    half_of,
    pack,
    read_packed,
    unpack,
    write_packed,
)

PRODUCT_FILE = "default_face.npz"
# Quantisation steps: far below what a rendered pixel shows.
_STEP_MM = 0.004
_STEP_ALBEDO = 0.0005
# Named expressions are sums of many modes of expression, so these are stored finer.
_STEPS = {
    "mean_shape": _STEP_MM / 4,
    "mean_albedo": _STEP_ALBEDO,
    "shape_basis": _STEP_MM,
    "expression_basis": _STEP_MM / 4,
    "albedo_basis": _STEP_ALBEDO,
}
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
    stored = {name: arrays[name] for name in _PLAIN}
    stored |= pack(arrays, mirror, _STEPS)
    stored["uv"] = encode(arrays["uv"][None, half_of(mirror)], _STEP_UV, np.int16)
    write_packed(path, stored)


def load_product(
    path: str | Path | None = None, without: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """Read a product of `write_product`; the keys and shapes of `build`.

    Args:
        path: None: the shipped one.
        without: names of means and bases that are not wanted, which saves the time to read them.
    """
    committed = importlib.resources.files("mofa_nvdr.assets") / PRODUCT_FILE
    data = committed.read_bytes() if path is None else Path(path).read_bytes()
    stored = read_packed(data, without)
    arrays = {name: stored[name] for name in _PLAIN}
    mirror = arrays["mirror_index"]
    half = half_of(mirror)
    steps = {name: step for name, step in _STEPS.items() if name not in without}
    arrays |= unpack(stored, mirror, steps)
    uv = decode(stored["uv"], _STEP_UV)[0]
    arrays["uv"] = np.empty((len(mirror), 2), np.float32)
    arrays["uv"][mirror[half]] = uv * np.array([-1, 1], np.float32) + np.array([1, 0], np.float32)
    arrays["uv"][half] = uv
    return arrays
