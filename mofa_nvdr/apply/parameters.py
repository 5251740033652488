"""Parameter files: what is known of one reconstructed face, as .npz without pickles."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mofa_nvdr.apply.photo_camera import FOCAL_SOURCES, PhotoFrame
from mofa_nvdr.face.code import CodeLayout, FaceCode
from mofa_nvdr.face.landmarks import NUM_LANDMARKS
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.face.model_reference import ModelReference
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.pose import axis_angle_to_matrix, to_paper_pose
from mofa_nvdr.system.array_files import NotArrays, read_npz
from mofa_nvdr.system.budget import MOST_SIDE, printable
from mofa_nvdr.system.files import replacing

_PARTS = ("shape", "expression", "albedo", "rotation", "translation", "light")
_TEXTS = ("face_model", "face_model_hash", "source")
# Absent in files of earlier versions.
_LATER_TEXTS = ("face_model_file", "source_hash", "source_file")
# So are these: numbers that were measured, and their ranges.
_MEASURES = {"certainty": (0.0, 1.0), "photometric": (0.0, math.inf), "mask_fraction": (0.0, 1.0)}
_LANDMARKS = "landmarks68"
# So is a face's place before the photograph's own camera (photo_camera.PhotoFrame): all of these, or none.
_FRAME: dict[str, tuple[int, ...]] = {
    "photo_size": (2,),
    "intrinsics": (3, 3),
    "extrinsics": (3, 4),
    "camera_error": (),
}
_FOCAL_FROM = "focal_from"
CLIP_KEY = "row_track"
"""Name of an array that only files of clips have (clip_parameters.py)."""
# Numbers next to the code, and their shapes.
_NUMBERS: dict[str, tuple[int, ...]] = {
    "image_size": (2,),
    "focal": (),
    "near": (),
    "far": (),
    "position": (3,),
    "crop": (3,),
}


@dataclass(frozen=True)
class FaceParameters:
    """One reconstructed face.

    Attributes:
        code: a batch of one.
        camera: the camera that the code belongs to.
        crop: [3] x0, y0 and side in pixels of the source picture: a point of the crop with side S
            is crop[:2] + point * crop[2] / S in the source.
        face_model: name and content hash of the face model.
        face_model_file: where the model was (reference.ModelReference.file); empty: unknown.
        source: the picture's path below the folder that was given, with forward slashes.
        source_hash: SHA-256 of the picture's file, in hexadecimal; empty: unknown.
        source_file: the way from the file's folder to the picture, with forward slashes; empty: unknown.
        certainty: that the picture shows a face there, 0 to 1 (certainty.py); NaN: unknown.
        photometric: mean RGB distance of photograph and rendering over the face's mask; NaN: unknown.
        mask_fraction: share of the crop that the mask covers, next to which `photometric` is to be read.
        landmarks68: [68, 2] where the face's landmarks are in px of the source picture; None: unknown.
        frame: the photograph's camera and the face's pose before it; None: unknown.
    """

    code: FaceCode
    camera: Camera
    crop: np.ndarray
    face_model: tuple[str, str]
    source: str
    face_model_file: str = ""
    source_hash: str = ""
    source_file: str = ""
    certainty: float = math.nan
    photometric: float = math.nan
    mask_fraction: float = math.nan
    landmarks68: np.ndarray | None = None
    frame: PhotoFrame | None = None

    def save(self, path: str | Path, more: Mapping[str, np.ndarray] | None = None) -> None:
        """Write the .npz, atomically.

        In addition to what `load_parameters` reads, it holds the paper's camera pose Phi(v) = T^-1 (v - t)
        as T [3, 3] and t [3] mm.

        Args:
            path: the file.
            more: arrays that follow from the code and are not read back, as `arkit.arrays`.

        Raises:
            ValueError: the code is not a batch of one.
            OSError: the folder cannot be written.
        """
        content = self.npz_bytes(more)
        with replacing(Path(path)) as temporary:
            temporary.write_bytes(content)

    def npz_bytes(self, more: Mapping[str, np.ndarray] | None = None) -> bytes:
        """What `save` writes.

        Args:
            more: see `save`.

        Raises:
            ValueError: the code is not a batch of one.
        """
        if self.code.batch_size != 1:
            raise ValueError(
                f"FaceParameters.save: code holds {self.code.batch_size} faces, expected 1; "
                "save one file a face"
            )
        code = self.code.map(lambda part: part.detach().cpu())
        shift = code.translation + code.translation.new_tensor(self.camera.position)
        paper_rotation, paper_translation = to_paper_pose(
            axis_angle_to_matrix(code.rotation), shift
        )
        arrays = {name: getattr(code, name)[0].numpy() for name in _PARTS}
        arrays |= {name: np.array(getattr(self, name), np.float64) for name in _MEASURES}
        if self.landmarks68 is not None:
            arrays[_LANDMARKS] = np.asarray(self.landmarks68, np.float64)
        if self.frame is not None:
            arrays["photo_size"] = np.array(self.frame.size)
            arrays["intrinsics"] = np.asarray(self.frame.intrinsics, np.float64)
            arrays["extrinsics"] = np.asarray(self.frame.extrinsics, np.float64)
            arrays["camera_error"] = np.array(self.frame.error, np.float64)
            arrays[_FOCAL_FROM] = np.array(self.frame.focal_from)
        arrays |= more or {}
        buffer = io.BytesIO()
        np.savez(
            buffer,
            **arrays,
            T=paper_rotation[0].numpy(),
            t=paper_translation[0].numpy(),
            image_size=np.array(self.camera.size),
            focal=np.array(self.camera.focal_px, np.float64),
            near=np.array(self.camera.near, np.float64),
            far=np.array(self.camera.far, np.float64),
            position=np.array(self.camera.position, np.float64),
            crop=np.asarray(self.crop, np.float64),
            face_model=np.array(self.face_model[0]),
            face_model_hash=np.array(self.face_model[1]),
            face_model_file=np.array(self.face_model_file),
            source=np.array(self.source),
            source_hash=np.array(self.source_hash),
            source_file=np.array(self.source_file),
        )
        return buffer.getvalue()


def load_parameters(path: str | Path, layout: CodeLayout | None = None) -> FaceParameters:
    """Read a parameter file.

    Args:
        path: .npz of FaceParameters.save.
        layout: sizes that the code must have; None: any.

    Returns:
        The face, its code float32 on the CPU.

    Raises:
        ValueError: no such file, not an .npz, pickled objects in it, a missing key, a wrong shape
            or kind, or numbers that are not finite. The message is one line that names the file.
    """
    path = Path(path)
    arrays = _read_arrays(path)
    if CLIP_KEY in arrays:
        raise ValueError(
            f"{path}: the parameters of a clip; export, transfer, view and relight --parameters-only take "
            f"its frame 120 as {path.name}#120"
        )
    missing = [key for key in (*_PARTS, *_NUMBERS, *_TEXTS) if key not in arrays]
    if missing:
        raise ValueError(f"{path}: missing {', '.join(missing)}; expected a file of reconstruct")
    for key in (*_PARTS, *_NUMBERS):
        arrays[key] = _finite(path, key, arrays[key])
    for key, shape in _NUMBERS.items():
        if arrays[key].shape != shape:
            raise ValueError(f"{path}: {key} is {list(arrays[key].shape)}, expected {list(shape)}")
    for key in (*_TEXTS, *(key for key in _LATER_TEXTS if key in arrays)):
        if arrays[key].dtype.kind != "U" or arrays[key].ndim:
            raise ValueError(f"{path}: {key} is not a text")
    if arrays["crop"][2] <= 0:
        raise ValueError(
            f"{path}: the crop's side is {arrays['crop'][2]:g} px, expected more than 0"
        )
    code = FaceCode(
        **{key: torch.from_numpy(arrays[key].astype(np.float32))[None] for key in _PARTS}
    )
    height, width = (int(n) for n in arrays["image_size"])
    if max(height, width) > MOST_SIDE:
        raise ValueError(
            f"{path}: image_size is {height} x {width} px, expected at most {MOST_SIDE} px a side"
        )
    try:
        (layout or CodeLayout(*(arrays[key].size for key in _PARTS[:3]))).check(code)
        camera = Camera(
            image_size=height if height == width else (height, width),
            focal=float(arrays["focal"]),
            near=float(arrays["near"]),
            far=float(arrays["far"]),
            position=tuple(float(n) for n in arrays["position"]),  # type: ignore[arg-type]
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    name, content_hash, source = (printable(arrays[key]) for key in _TEXTS)
    file, source_hash, source_file = (printable(arrays.get(key, "")) for key in _LATER_TEXTS)
    return FaceParameters(
        code,
        camera,
        arrays["crop"],
        (name, content_hash),
        source,
        file,
        source_hash,
        source_file,
        **{name: _measure(path, arrays, name) for name in _MEASURES},
        landmarks68=_landmarks(path, arrays),
        frame=_frame(path, arrays),
    )


def load_face(path: str | Path, given: str, models: dict[str, FaceModel]) -> FaceParameters:
    """Read a parameter file together with its face model.

    Args:
        path: .npz of FaceParameters.save.
        given: the user's --face-model; empty: the one that the file names.
        models: models by their hash; the file's is added where it is missing.

    Raises:
        ValueError: as `load_parameters`; or the model is not there or is another one; the message names both.
    """
    face = load_parameters(path)
    reference = ModelReference(*face.face_model, face.face_model_file)
    if reference.hash not in models:
        who = f"{path}: parameters of"
        models[reference.hash], _ = reference.load(given, Path(path).parent, who)
    try:
        models[reference.hash].layout.check(face.code)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return face


def _measure(path: Path, arrays: dict[str, np.ndarray], name: str) -> float:
    """A number within its range; NaN where it was not measured."""
    low, high = _MEASURES[name]
    value = arrays.get(name, np.array(math.nan))
    if value.dtype.kind != "f" or value.ndim or not (np.isnan(value) or low <= value <= high):
        raise ValueError(f"{path}: {name} is not a number from {low:g} to {high:g}")
    return float(value)


def _landmarks(path: Path, arrays: dict[str, np.ndarray]) -> np.ndarray | None:
    if _LANDMARKS not in arrays:
        return None
    points = _finite(path, _LANDMARKS, arrays[_LANDMARKS])
    if points.shape != (NUM_LANDMARKS, 2):
        raise ValueError(
            f"{path}: {_LANDMARKS} is {list(points.shape)}, expected [{NUM_LANDMARKS}, 2]"
        )
    return points


def _frame(path: Path, arrays: dict[str, np.ndarray]) -> PhotoFrame | None:
    if not any(key in arrays for key in (*_FRAME, _FOCAL_FROM)):
        return None
    for key, shape in _FRAME.items():
        if key not in arrays:
            raise ValueError(f"{path}: missing {key}; expected a file of reconstruct")
        arrays[key] = _finite(path, key, arrays[key])
        if arrays[key].shape != shape:
            raise ValueError(f"{path}: {key} is {list(arrays[key].shape)}, expected {list(shape)}")
    focal_from = str(arrays.get(_FOCAL_FROM, ""))
    if focal_from not in FOCAL_SOURCES:
        raise ValueError(f"{path}: {_FOCAL_FROM} is none of {', '.join(FOCAL_SOURCES)}")
    height, width = (int(n) for n in arrays["photo_size"])
    if min(height, width) < 1 or min(arrays["intrinsics"][[0, 1], [0, 1]]) <= 0:
        raise ValueError(f"{path}: photo_size and intrinsics are no camera's")
    return PhotoFrame(
        (height, width), arrays["intrinsics"], arrays["extrinsics"], focal_from,
        float(arrays["camera_error"]),
    )  # fmt: skip


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        return read_npz(path)
    except NotArrays as error:
        reason = str(error)
    except OSError as error:
        reason = error.strerror or str(error)
    raise ValueError(
        f"{path}: not a readable .npz of parameters ({reason}); expected a file of reconstruct"
    )


def _finite(path: Path, key: str, array: np.ndarray) -> np.ndarray:
    """The array as float64; ValueError unless it holds real numbers that float32 can hold too."""
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{path}: {key} holds {array.dtype} values, expected numbers")
    array = array.astype(np.float64)
    if not (np.abs(array) < np.finfo(np.float32).max).all():
        raise ValueError(f"{path}: {key} holds values that are not finite numbers")
    return array
