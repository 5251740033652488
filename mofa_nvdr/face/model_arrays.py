"""The arrays of a face model: their names, number types and shapes, and what is refused.

Messages begin with FaceModel, whose arrays they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mofa_nvdr.face.dense_landmarks import NUM_DENSE
from mofa_nvdr.face.landmarks import NUM_LANDMARKS
from mofa_nvdr.system.budget import MOST_MODES

_LARGEST = np.finfo(np.float32).max

# name -> (dtype, shape); letters are sizes that must agree between the arrays.
ARRAYS: dict[str, tuple[type, tuple[str | int, ...]]] = {
    "mean_shape": (np.float32, ("V", 3)),
    "mean_albedo": (np.float32, ("V", 3)),
    "shape_basis": (np.float32, ("S", "V", 3)),
    "expression_basis": (np.float32, ("E", "V", 3)),
    "albedo_basis": (np.float32, ("A", "V", 3)),
    "triangles": (np.int32, ("T", 3)),
    "landmarks": (np.int64, (NUM_LANDMARKS,)),
    "mirror_index": (np.int64, ("V",)),
    "frontal_mask": (np.bool_, ("V",)),
}
# What a model may also have. Left out of the hash: no number of a code or a checkpoint depends on it,
# so a model that gets a texture layout keeps its parameter files and its trained encoders.
OPTIONAL: dict[str, tuple[type, tuple[str | int, ...]]] = {
    "uv": (np.float32, ("U", 2)),
    "uv_triangles": (np.int32, ("T", 3)),
    "regions": (np.uint8, ("V",)),
    "dense_vertices": (np.int32, (NUM_DENSE, 3)),
    "dense_weights": (np.float32, (NUM_DENSE, 3)),
    "dense_spread": (np.float32, (NUM_DENSE,)),
}
DENSE = ("dense_vertices", "dense_weights", "dense_spread")
# name -> the size that its indices stay below.
INDICES = {
    "triangles": "V",
    "landmarks": "V",
    "mirror_index": "V",
    "uv_triangles": "U",
    "dense_vertices": "V",
}


def check_arrays(arrays: Mapping[str, Any], region_names: Sequence[str] = ()) -> None:
    """Refuse what is no whole face model.

    Args:
        arrays: by their names, of any number type.
        region_names: names of the labels in `regions`.

    Raises:
        ValueError: as `FaceModel`.
    """
    _check_sizes(arrays)
    _check_layout(arrays, region_names)


def _check_sizes(arrays: Mapping[str, Any]) -> None:
    missing = sorted(set(ARRAYS) - set(arrays))
    if missing:
        raise ValueError(f"FaceModel: missing {', '.join(missing)}")
    given = {name: want for name, want in OPTIONAL.items() if arrays.get(name) is not None}
    sizes: dict[str, int] = {}
    for name, (dtype, shape) in (ARRAYS | given).items():
        array = np.asarray(arrays[name])
        want = [sizes.get(s, s) if isinstance(s, str) else s for s in shape]
        fits = array.ndim == len(shape) and all(
            isinstance(w, str) or w == got for w, got in zip(want, array.shape)
        )
        if not fits:
            raise ValueError(f"FaceModel: {name} is {list(array.shape)}, expected {want}")
        sizes.update({s: n for s, n in zip(shape, array.shape) if isinstance(s, str)})
        if array.dtype.kind not in "biuf":
            raise ValueError(f"FaceModel: {name} holds {array.dtype}, expected numbers")
        if np.issubdtype(dtype, np.floating) and not (np.abs(array) <= _LARGEST).all():
            raise ValueError(f"FaceModel: {name} holds numbers that are not finite")
    for size in "SEA":
        if sizes[size] > MOST_MODES:
            raise ValueError(
                f"FaceModel: {sizes[size]} modes in a basis, expected at most {MOST_MODES}"
            )
    for name, size in INDICES.items():
        if arrays.get(name) is None or size not in sizes:
            continue
        array = np.asarray(arrays[name])
        if array.dtype.kind == "f" and not (np.isfinite(array) & (array == np.rint(array))).all():
            raise ValueError(f"FaceModel: {name} holds numbers that are no indices")
        if array.size and (array.min() < 0 or array.max() >= sizes[size]):
            where, what = ("mesh", "vertices") if size == "V" else ("texture", "uv")
            raise ValueError(
                f"FaceModel: {name} points outside the {where} (index {int(array.min())} to "
                f"{int(array.max())}, {sizes[size]} {what})"
            )


def _check_layout(arrays: Mapping[str, Any], region_names: Sequence[str]) -> None:
    """Texture coordinates, labels and dense landmarks, beyond shapes and indices."""
    if lacking := [name for name in DENSE if arrays.get(name) is None]:
        if len(lacking) < len(DENSE):
            raise ValueError(f"FaceModel: missing {', '.join(lacking)}; give all three or none")
    uv, regions = arrays.get("uv"), arrays.get("regions")
    if uv is None and arrays.get("uv_triangles") is not None:
        raise ValueError("FaceModel: uv_triangles without uv; give both or none")
    if uv is not None:
        uv, num_vertices = np.asarray(uv), len(arrays["mean_shape"])
        if arrays.get("uv_triangles") is None and len(uv) != num_vertices:
            raise ValueError(
                f"FaceModel: uv is {list(uv.shape)}, expected [{num_vertices}, 2], one a vertex, or "
                "uv_triangles [T, 3] with it"
            )
        if uv.size and not (uv.min() >= 0 and uv.max() <= 1):
            raise ValueError(
                f"FaceModel: uv runs from {uv.min():.4g} to {uv.max():.4g}, expected [0, 1]"
            )
    if regions is not None:
        regions = np.asarray(regions)
        if regions.dtype.kind not in "iu" or regions.min() < 0:
            raise ValueError("FaceModel: regions is not an array of labels 0, 1, 2, ...")
        if regions.max() >= len(region_names):
            raise ValueError(
                f"FaceModel: regions has label {int(regions.max())}, but there are "
                f"{len(region_names)} region_names"
            )
    elif region_names:
        raise ValueError("FaceModel: region_names without regions; give both or none")
