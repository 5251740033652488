"""A folder of small faces for the viewer, and a server of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import imageio.v3 as iio
import numpy as np

from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.system.origins import content_hash
from tests.helpers.portraits import mirrored_cap, portrait

SIZE = 64


def viewed_folder(folder: Path) -> Path:
    """Write a.npz and b.npz, a.png and b.png and their model into faces/ of a folder; returns that."""
    arrays = {name: value.numpy() for name, value in mirrored_cap().named_buffers()}
    model = FaceModel(arrays, {"name": "cap"}, {"jawOpen": np.array([2.0, 1, -1])})
    faces = folder / "faces"
    faces.mkdir()
    model.save(faces / "m.safetensors")
    for name in "ab":
        photo, face = portrait(model)
        photo[0, 0] = ord(name)
        iio.imwrite(faces / f"{name}.png", photo)
        known = {"source": f"{name}.png", "source_hash": content_hash(faces / f"{name}.png")}
        where = str(faces / "m.safetensors")
        dataclasses.replace(face, face_model_file=where, **known).save(faces / f"{name}.npz")
    (folder / "secret.txt").write_text("nobody may read this")
    return faces
