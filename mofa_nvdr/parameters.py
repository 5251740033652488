"""Parameter files: what is known of one reconstructed face, as .npz without pickles."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mofa_nvdr.camera import Camera, axis_angle_to_matrix, to_paper_pose
from mofa_nvdr.face_code import CodeLayout, FaceCode

_PARTS = ("shape", "expression", "albedo", "rotation", "translation", "light")
_CAMERA = ("image_size", "focal", "position")
_FACTS = ("crop", "face_model", "face_model_hash", "source")


@dataclass(frozen=True)
class FaceParameters:
    """One reconstructed face.

    Attributes:
        code: a batch of one, on the CPU.
        camera: the camera that the code belongs to.
        crop: [3] x0, y0 and side in pixels of the source picture: a point of the crop with side S is
            crop[:2] + point * crop[2] / S in the source.
        face_model: name and content hash of the face model.
        source: the picture's file name.
    """

    code: FaceCode
    camera: Camera
    crop: np.ndarray
    face_model: tuple[str, str]
    source: str

    def save(self, path: str | Path) -> None:
        """Write the .npz atomically. Beside the six parts it holds the paper's camera pose T and t."""
        rotation = axis_angle_to_matrix(self.code.rotation)
        home = self.code.translation + torch.tensor(self.camera.position).to(self.code.translation)
        paper_rotation, paper_translation = to_paper_pose(rotation, home)
        arrays = {name: getattr(self.code, name)[0].numpy() for name in _PARTS}
        height, width = self.camera.size
        path = Path(path)
        temporary = path.with_name(path.name + ".tmp")
        with open(temporary, "wb") as file:
            np.savez(
                file,
                **arrays,
                T=paper_rotation[0].numpy(),
                t=paper_translation[0].numpy(),
                image_size=np.array([height, width]),
                focal=np.array(self.camera.focal_px),
                position=np.array(self.camera.position),
                crop=np.asarray(self.crop, np.float64),
                face_model=np.array(self.face_model[0]),
                face_model_hash=np.array(self.face_model[1]),
                source=np.array(self.source),
            )
        os.replace(temporary, path)


def load_parameters(path: str | Path, layout: CodeLayout | None = None) -> FaceParameters:
    """Read a parameter file.

    Args:
        path: .npz of FaceParameters.save.
        layout: sizes that the code must have; None: any.

    Raises:
        ValueError: no such file, not an .npz, a missing key, a wrong shape, or numbers that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not a readable .npz of parameters ({error})") from None
    missing = [key for key in (*_PARTS, *_CAMERA, *_FACTS) if key not in arrays]
    if missing:
        raise ValueError(f"{path}: missing {', '.join(missing)}; expected a file of reconstruct")
    for key in (*_PARTS, *_CAMERA, "crop"):
        array = arrays[key]
        if not np.issubdtype(array.dtype, np.number) or not np.isfinite(array).all():
            raise ValueError(f"{path}: {key} holds values that are not finite numbers")
    parts = {key: torch.from_numpy(arrays[key].astype(np.float32))[None] for key in _PARTS}
    code = FaceCode(**parts)
    try:
        (layout or CodeLayout(*(arrays[key].size for key in _PARTS[:3]))).check(code)
        camera = Camera(
            image_size=tuple(int(n) for n in arrays["image_size"]),
            focal=float(arrays["focal"]),
            position=tuple(float(n) for n in arrays["position"]),
        )
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None
    return FaceParameters(
        code,
        camera,
        arrays["crop"],
        (str(arrays["face_model"]), str(arrays["face_model_hash"])),
        str(arrays["source"]),
    )
