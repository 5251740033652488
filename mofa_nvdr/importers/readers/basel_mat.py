"""Models in MATLAB files: Basel Face Model 2009, Deep3DFaceRecon's cut of it, and LYHM.

Convention of the files: columns of x, y, z interleaved, triangles counted from 1.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mofa_nvdr.importers.files.containers import (
    interleaved,
    mat_names,
    numbers,
    read_mat,
    scaled_modes,
    triangle_table,
    unit_colors,
    whole,
)
from mofa_nvdr.importers.foreign import ForeignModel, ImportOptions, ModelFileError
from mofa_nvdr.importers.landmark_points import known_landmarks
from mofa_nvdr.importers.readers.basel_h5 import read_albedo

_BFM_KEYS = ["shapeMU", "shapePC", "shapeEV", "texMU", "texPC", "texEV", "tl"]
_DEEP3D_KEYS = ["meanshape", "idBase", "exBase", "meantex", "texBase", "tri"]
_LYHM_KEYS = ["shp", "tri"]
_BASEL = "Basel Face Model licence (academic, signed); University of Basel"


def looks_like_bfm2009(path: Path) -> bool:
    """Whether the file has the variables of 01_MorphableModel.mat."""
    return {"shapeMU", "shapePC"} <= mat_names(path)


def looks_like_deep3d(path: Path) -> bool:
    """Whether the file has the variables of BFM_model_front.mat."""
    return {"meanshape", "idBase"} <= mat_names(path)


def looks_like_lyhm(path: Path) -> bool:
    """Whether the file has the variables of LYHM's .mat."""
    return set(_LYHM_KEYS) <= mat_names(path)


def read_bfm2009(path: Path, options: ImportOptions) -> ForeignModel:
    """01_MorphableModel.mat: micrometres, colours 0 to 255, deviations next to unit bases.

    Raises:
        ModelFileError: not such a file.
    """
    data = read_mat(path, _BFM_KEYS)
    mean = interleaved(path, "shapeMU", data["shapeMU"], modes=False) / 1e3
    shape = _scaled(path, "shape", data, options.shape_modes) / 1e3
    albedo = _scaled(path, "tex", data, options.albedo_modes) / 255
    mean_albedo = interleaved(path, "texMU", data["texMU"], modes=False) / 255
    if options.albedo is not None:
        mean_albedo, albedo = read_albedo(options.albedo, options.albedo_modes, len(mean))
    return ForeignModel(
        name="bfm2009",
        licence=_BASEL,
        source="Basel Face Model 2009",
        mean=mean,
        shape=shape,
        polygons=triangle_table(path, "tl", data["tl"]) - 1,
        mean_albedo=mean_albedo,
        albedo=albedo,
        landmarks=known_landmarks("bfm2009", len(mean), options.landmarks),
    )


def read_deep3d(path: Path, options: ImportOptions) -> ForeignModel:
    """BFM_model_front.mat of Deep3DFaceRecon: decimetres, bases that carry their deviations.

    Raises:
        ModelFileError: not such a file.
    """
    data = read_mat(path, _DEEP3D_KEYS, ("keypoints",))
    decimetre = 100.0
    mean = interleaved(path, "meanshape", data["meanshape"], modes=False) * decimetre
    landmarks = known_landmarks("deep3d", len(mean), options.landmarks)
    if "keypoints" in data and options.landmarks is None:
        points = whole(path, "keypoints", data["keypoints"]).ravel() - 1
        if len(points) == 68:
            landmarks = dict(enumerate(points.tolist()))
    return ForeignModel(
        name="deep3d",
        licence=_BASEL + "; expressions: FaceWarehouse (research)",
        source="Deep3DFaceRecon BFM_model_front.mat, from the Basel Face Model 2009",
        mean=mean,
        shape=_first(path, "idBase", data, options.shape_modes) * decimetre,
        polygons=triangle_table(path, "tri", data["tri"]) - 1,
        expression=_first(path, "exBase", data, options.expression_modes) * decimetre,
        mean_albedo=interleaved(path, "meantex", data["meantex"], modes=False) / 255,
        albedo=_first(path, "texBase", data, options.albedo_modes) / 255,
        landmarks=landmarks,
    )


def read_lyhm(path: Path, options: ImportOptions) -> ForeignModel:
    """LYHM's head model: structures shp and tex of mu, eigVec, eigVal (variances), millimetres.

    Raises:
        ModelFileError: not such a file.
    """
    data = read_mat(path, _LYHM_KEYS, ("tex",))
    shape = _structure(path, "shp", data, ("mu", "eigVec", "eigVal"))
    faces = _structure(path, "tri", data, ("faces",))["faces"]
    mean = interleaved(path, "shp.mu", shape["mu"].reshape(-1), modes=False)
    mean_albedo = albedo = None
    if "tex" in data:
        texture = _structure(path, "tex", data, ("mu", "eigVec", "eigVal"))
        mean_albedo = interleaved(path, "tex.mu", texture["mu"].reshape(-1), modes=False)
        albedo = _by_variance(path, "tex", texture, options.albedo_modes)
        mean_albedo, albedo = unit_colors(mean_albedo, albedo)
    return ForeignModel(
        name="lyhm",
        licence="Liverpool-York Head Model licence (research, by request)",
        source="Liverpool-York Head Model",
        mean=mean,
        shape=_by_variance(path, "shp", shape, options.shape_modes),
        polygons=triangle_table(path, "tri.faces", faces) - 1,
        mean_albedo=mean_albedo,
        albedo=albedo,
        landmarks=known_landmarks("lyhm", len(mean), options.landmarks),
    )


def _scaled(path: Path, part: str, data: dict, count: int) -> np.ndarray:
    """The first modes of unit bases times their standard deviations, [K, V, 3]."""
    names = f"{part}PC", f"{part}EV"
    basis = numbers(path, names[0], data[names[0]], (None, None))[:, :count]
    return scaled_modes(path, names, basis, data[names[1]], variances=False)


def _first(path: Path, name: str, data: dict, count: int) -> np.ndarray:
    return interleaved(path, name, numbers(path, name, data[name], (None, None))[:, :count], True)


def _by_variance(path: Path, name: str, part: dict[str, np.ndarray], count: int) -> np.ndarray:
    names = f"{name}.eigVec", f"{name}.eigVal"
    basis = numbers(path, names[0], part["eigVec"], (None, None))[:, :count]
    return scaled_modes(path, names, basis, part["eigVal"], variances=True)


def _structure(
    path: Path, name: str, data: dict[str, np.ndarray], fields: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """Fields of a 1 x 1 MATLAB structure."""
    if not all(f"{name}.{field}" in data for field in fields):
        raise ModelFileError(f"{path}: {name} is no structure with {', '.join(fields)}")
    return {field: data[f"{name}.{field}"] for field in fields}
