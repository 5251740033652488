"""Basel Face Model 2017 and 2019 (.h5 of scalismo and Statismo): full, face12 and head files share one tree.

shape|color|expression/model/{mean, pcaBasis, pcaVariance}, shape/representer/{points, cells}. Bases have
unit norm, with variances; millimetres; colour 0 to 1. The neutral face is the sum of both means.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from mofa_nvdr.importers.files.containers import (
    H5File,
    interleaved,
    read_h5,
    scaled_modes,
    triangle_table,
    unit_colors,
)
from mofa_nvdr.importers.foreign import ForeignModel, ImportOptions, ModelFileError
from mofa_nvdr.importers.landmark_points import known_landmarks

_COLORSPACE, _LANDMARKS = "color/representer/colorspace", "metadata/landmarks/json"
_MAGIC = b"\x89HDF\r\n\x1a\n"
# Names of landmarks in metadata/landmarks/json that are iBUG points (numbers from 0).
_NAMED = {
    "right.eye.corner_outer": 36, "right.eye.corner_inner": 39, "left.eye.corner_inner": 42,
    "left.eye.corner_outer": 45, "center.nose.tip": 30, "right.nose.wing.outer": 31,
    "left.nose.wing.outer": 35, "right.lips.corner": 48, "left.lips.corner": 54,
    "center.lips.upper.outer": 51, "center.lips.lower.outer": 57, "center.lips.upper.inner": 62,
    "center.lips.lower.inner": 66, "center.chin.tip": 8,
}  # fmt: skip


def looks_like(path: Path) -> bool:
    """Whether this is an HDF5 file; the tree is looked at when it is read."""
    with open(path, "rb") as file:
        return file.read(8) == _MAGIC


def read(path: Path, options: ImportOptions) -> ForeignModel:
    """Read the .h5 of BFM 2017 or 2019, full or face12.

    Raises:
        ModelFileError: not such a file.
    """
    cells_name = "shape/representer/cells"
    names: dict[str, int | None] = {cells_name: None}
    for part, count in (
        ("shape", options.shape_modes),
        ("expression", options.expression_modes),
        ("color", options.albedo_modes),
    ):
        names |= _names(part, count)
    file = read_h5(path, names, (_COLORSPACE, _LANDMARKS))
    mean, shape = _model(file, "shape")
    cells = triangle_table(path, cells_name, file.read(cells_name))
    expression = None
    if file.has("expression/model/mean"):
        offset, expression = _model(file, "expression")
        _same(path, "expression", offset, mean)
        mean = mean + offset
    mean_albedo = albedo = None
    if file.has("color/model/mean"):
        mean_albedo, albedo = _model(file, "color")
        _same(path, "color", mean_albedo, mean)
        space = file.text(_COLORSPACE)
        if space and space.upper() not in ("RGB", "SRGB"):
            raise ModelFileError(f"{path}: colours are {space[:20]!r}, expected RGB")
        mean_albedo, albedo = unit_colors(mean_albedo, albedo)
    if options.albedo is not None:
        mean_albedo, albedo = read_albedo(options.albedo, options.albedo_modes, len(mean))
    landmarks = known_landmarks("bfm2017", len(mean), options.landmarks)
    if not landmarks:
        landmarks = _own_landmarks(file, mean)
    year = "2019" if "2019" in path.name else "2009" if "2009" in path.name else "2017"
    return ForeignModel(
        name=f"bfm{year}" + ("-face12" if "face12" in path.name else ""),
        licence="Basel Face Model licence (academic, signed); University of Basel",
        source=f"Basel Face Model, {path.name}",
        mean=mean,
        shape=shape,
        polygons=cells,
        expression=expression,
        mean_albedo=mean_albedo,
        albedo=albedo,
        landmarks=landmarks,
    )


def read_albedo(path: Path, modes: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Diffuse albedo in the topology of a BFM (AlbedoMM .h5): mean [V, 3], modes [K, V, 3].

    Raises:
        ModelFileError: not such a file, or another number of vertices than `count`.
    """
    if not looks_like(path):
        raise ModelFileError(f"--albedo {path}: not an AlbedoMM .h5 file")
    mean, basis = _model(read_h5(path, _names("diffuseAlbedo", modes)), "diffuseAlbedo")
    if len(mean) != count:
        raise ModelFileError(f"--albedo {path}: {len(mean)} vertices, but the model has {count}")
    return mean, basis


def _names(part: str, count: int) -> dict[str, int | None]:
    """The data sets of one part, and how many columns of each."""
    tree = f"{part}/model"
    return {f"{tree}/mean": None, f"{tree}/pcaBasis": count, f"{tree}/pcaVariance": None}


def _model(file: H5File, part: str) -> tuple[np.ndarray, np.ndarray]:
    path, tree = file.path, f"{part}/model"
    mean = interleaved(path, f"{tree}/mean", file.read(f"{tree}/mean").reshape(-1), modes=False)
    names = f"{tree}/pcaBasis", f"{tree}/pcaVariance"
    basis = file.read(names[0])
    return mean, scaled_modes(path, names, basis, file.read(names[1]), variances=True)


def _same(path: Path, part: str, one: np.ndarray, other: np.ndarray) -> None:
    if one.shape != other.shape:
        raise ModelFileError(
            f"{path}: {part}/model has {len(one)} vertices, but shape/model {len(other)}"
        )


def _own_landmarks(file: H5File, mean: np.ndarray) -> dict[int, int]:
    """The iBUG points among the file's own landmarks, at their nearest vertices."""
    try:
        entries = json.loads(file.text(_LANDMARKS) or "[]")
        points = {
            _NAMED[entry["id"]]: np.array(entry["coordinates"], float).reshape(3)
            for entry in entries
            if entry.get("id") in _NAMED
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
    if not points or not all(np.isfinite(p).all() for p in points.values()):
        return {}
    distance, nearest = cKDTree(mean).query(np.stack(list(points.values())))
    return {k: int(v) for k, d, v in zip(points, distance, nearest) if d < 5.0}
