"""FLAME 2020 and 2023: generic_model.pkl or an .npz of the same arrays, and its albedo spaces.

Metres, y up, z out of the face. shapedirs hold identity and expression after one another (300 and 100 as
published), scaled by their standard deviations. The jaw is a joint, not a mode: three of its turns become
expression modes, without which no mouth would open.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mofa_nvdr.importers.files.containers import npz_names, numbers, read_npz, whole
from mofa_nvdr.importers.files.restricted_pickle import read_object_npy, read_pickle
from mofa_nvdr.importers.foreign import ForeignModel, ImportOptions, ModelFileError, check_indices
from mofa_nvdr.importers.landmark_points import known_landmarks

_MM = 1000.0
_WANTED = ["v_template", "shapedirs", "f"]
_OPTIONAL = ("posedirs", "weights", "J_regressor")
_IDENTITY_SHARE = 0.75  # 300 of 400
_JAW = 2  # root, neck, jaw, eyes
# Standard deviations of the jaw's turns in radians: opening, to a side, rolling; and named full turns.
_JAW_DEVIATIONS = {(1, 0, 0): 0.10, (0, 1, 0): 0.03, (0, 0, 1): 0.02}
_JAW_NAMED = {"jawOpen": (0.35, 0, 0), "jawLeft": (0, 0.10, 0), "jawRight": (0, -0.10, 0)}


def looks_like(path: Path) -> bool:
    """Whether this is a pickle, or an .npz with FLAME's arrays."""
    with open(path, "rb") as file:
        start = file.read(2)
    return start[:1] == b"\x80" or start == b"(d" or set(_WANTED) <= npz_names(path)


def read(path: Path, options: ImportOptions) -> ForeignModel:
    """Read the model and, with options.albedo, an albedo space in FLAME's texture coordinates.

    Raises:
        ModelFileError: not such a file, or it asks for more than arrays.
    """
    if npz_names(path):
        data: dict[str, Any] = read_npz(path, _WANTED, _numeric(path))
    else:
        data = read_pickle(path)
    missing = [name for name in _WANTED if data.get(name) is None]
    if missing:
        raise ModelFileError(f"{path}: missing {', '.join(missing)}")
    mean = numbers(path, "v_template", data["v_template"], (None, 3)).astype(np.float64)
    directions = numbers(path, "shapedirs", data["shapedirs"], (len(mean), 3, None))
    faces = whole(path, "f", data["f"])
    if faces.ndim != 2 or faces.shape[1] != 3:
        raise ModelFileError(f"{path}: f is {list(faces.shape)}, expected [T, 3]")
    check_indices(path, "f", faces, len(mean))
    split = round(directions.shape[2] * _IDENTITY_SHARE)
    modes = np.ascontiguousarray(directions.transpose(2, 0, 1)) * _MM
    notes = []
    turns = _jaw_turns(path, data, mean)
    if turns is None:
        notes.append("no joints in this file: its expressions do not open the mouth")
        jaw: np.ndarray = modes[:0]
        named: dict[str, np.ndarray] = {}
    else:
        jaw, named = turns
        notes.append("three turns of the jaw are its first expression modes")
    expression = np.concatenate([jaw, modes[split:]])[: options.expression_modes]
    if options.landmarks is not None and options.landmarks.suffix == ".npy":
        landmarks = _embedded(options.landmarks, faces, len(mean))
    else:
        landmarks = known_landmarks("flame", len(mean), options.landmarks)
    mean_albedo = albedo = uv = None
    if options.albedo is not None:
        mean_albedo, albedo, uv = _albedo(options.albedo, faces, len(mean), options.albedo_modes)
    year = "2023" if "2023" in str(path) else "2020" if "2020" in str(path) else ""
    return ForeignModel(
        name=f"flame{year}",
        licence="FLAME model licence of Max Planck (2023 Open: CC-BY-4.0; others non-commercial)"
        + ("; albedo: its own, non-commercial" if options.albedo else ""),
        source=f"FLAME, {path.name}" + (f" with {options.albedo.name}" if options.albedo else ""),
        mean=mean * _MM,
        shape=modes[:split][: options.shape_modes],
        polygons=faces,
        expression=expression,
        named_expressions=named,
        mean_albedo=mean_albedo,
        albedo=albedo,
        landmarks=landmarks,
        uv=uv,
        notes=notes,
    )


def _numeric(path: Path) -> tuple[str, ...]:
    """The optional arrays of an .npz that are no pickled objects."""
    names = []
    for name in _OPTIONAL:
        try:
            read_npz(path, [name])
        except ModelFileError:
            continue
        names.append(name)
    return tuple(names)


def _jaw_turns(
    path: Path, data: dict[str, Any], mean: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]] | None:
    """Motions in mm of the jaw's turns: modes [3, V, 3] and named ones; None without joints."""
    weights, regressor = data.get("weights"), data.get("J_regressor")
    if weights is None or regressor is None:
        return None
    weights = numbers(path, "weights", weights, (len(mean), None))
    regressor = numbers(path, "J_regressor", regressor, (None, len(mean)))
    if weights.shape[1] <= _JAW or len(regressor) <= _JAW:
        return None
    joint = regressor[_JAW] @ mean
    correctives = data.get("posedirs")
    if correctives is not None:
        correctives = numbers(path, "posedirs", correctives, (len(mean), 3, None))
        if correctives.shape[2] < 9 * _JAW:
            correctives = None

    def motion(turn: np.ndarray) -> np.ndarray:
        change = _rotation(turn) - np.eye(3)
        moved = weights[:, _JAW, None] * ((mean - joint) @ change.T)
        if correctives is not None:  # nine numbers of each joint but the root
            moved = moved + correctives[:, :, 9 * (_JAW - 1) : 9 * _JAW] @ change.ravel()
        return (moved * _MM).astype(np.float32)

    modes = [motion(np.array(axis) * sd) for axis, sd in _JAW_DEVIATIONS.items()]
    return np.stack(modes), {name: motion(np.array(turn)) for name, turn in _JAW_NAMED.items()}


def _rotation(turn: np.ndarray) -> np.ndarray:
    angle = float(np.linalg.norm(turn))
    x, y, z = turn / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _embedded(path: Path, faces: np.ndarray, count: int) -> dict[int, int]:
    """landmark_embedding.npy: triangles and weights of 68 points; the heaviest corner of each counts."""
    if not path.is_file():
        raise ModelFileError(f"--landmarks {path}: no such file")
    table = read_object_npy(path)
    if not isinstance(table, dict):  # plain indices
        return known_landmarks("flame", count, path)
    try:
        triangle = np.asarray(table["full_lmk_faces_idx"]).ravel().astype(np.int64)
        weights = np.asarray(table["full_lmk_bary_coords"]).reshape(-1, 3)
        return dict(enumerate(faces[triangle, weights.argmax(1)].tolist()))
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise ModelFileError(
            f"--landmarks {path}: no embedding of 68 landmarks for this model ({error})"
        ) from None


def _albedo(
    path: Path, faces: np.ndarray, count: int, modes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean [V, 3], modes [A, V, 3] and texture coordinates [V, 2] from a texture space.

    MU and PC (AlbedoMM; 0 to 1, RGB), or mean and tex_dir (FLAME's own; 0 to 255, BGR).
    """
    if not path.is_file():
        raise ModelFileError(f"--albedo {path}: no such file")
    names = npz_names(path)
    if {"MU", "PC"} <= names:
        mean_key, basis_key, factor, reverse = "MU", "PC", 1.0, False
    elif {"mean", "tex_dir"} <= names:
        mean_key, basis_key, factor, reverse = "mean", "tex_dir", 1 / 255, True
    else:
        raise ModelFileError(
            f"--albedo {path}: neither MU and PC nor mean and tex_dir in it; expected an .npz albedo "
            "space of FLAME"
        )
    data = read_npz(path, [mean_key, basis_key, "vt", "ft"])
    mean = numbers(path, mean_key, data[mean_key], (None, None, 3))
    basis = numbers(path, basis_key, data[basis_key][..., :modes], (*mean.shape, None))
    points = numbers(path, "vt", data["vt"], (None, 2))
    corners = whole(path, "ft", data["ft"])
    if corners.shape != faces.shape:
        raise ModelFileError(
            f"--albedo {path}: {len(corners)} triangles, but the model has {len(faces)}"
        )
    check_indices(path, "ft", corners, len(points))
    uv = np.zeros((count, 2))
    uv[faces.ravel()] = points[corners.ravel()]
    colors = _sample(np.concatenate([mean[..., None], basis], axis=3), uv) * factor
    colors = colors[..., ::-1] if reverse else colors
    return colors[0], np.ascontiguousarray(colors[1:]), uv


def _sample(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear samples [K, V, 3] of a texture [H, W, 3, K] whose first row is v = 1."""
    height, width = texture.shape[:2]
    x = np.clip(uv[:, 0] * width - 0.5, 0, width - 1)
    y = np.clip((1 - uv[:, 1]) * height - 0.5, 0, height - 1)
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    x1, y1 = np.minimum(x0 + 1, width - 1), np.minimum(y0 + 1, height - 1)
    fx, fy = (x - x0)[:, None, None], (y - y0)[:, None, None]
    top = texture[y0, x0] * (1 - fx) + texture[y0, x1] * fx
    bottom = texture[y1, x0] * (1 - fx) + texture[y1, x1] * fx
    return (top * (1 - fy) + bottom * fy).transpose(2, 0, 1).astype(np.float32)
