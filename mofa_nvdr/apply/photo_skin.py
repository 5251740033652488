"""The texture of a person's skin from parameter files and the photographs that they were made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.apply.photo_texture import Shot, TextureMaker
from mofa_nvdr.apply.source_photo import source_photo
from mofa_nvdr.data.decoding import ImageError, Picture
from mofa_nvdr.face.model import FaceModel

_REACH = 1.3  # sides of a crop around its middle that are read
_TEXELS = 1.6  # px of a crop's side for a texel of the texture's: finer ones change nothing


def photo_skin(
    faces: Sequence[tuple[Path, FaceParameters]],
    model: FaceModel,
    size: int,
    photos: Sequence[str | Path] = (),
    balanced: bool = True,
) -> np.ndarray:
    """A texture, uint8 [S, S, 3], of one person.

    Args:
        faces: parameter files and what is in them.
        model: their face model.
        size: side of the texture, texels.
        photos: their photographs, in their order; empty: those that the files name.
        balanced: as `TextureMaker` takes it.

    Raises:
        ImageError: a photograph cannot be read.
        ValueError: one is not here or has changed, the faces are of several people or models, or a face lies
            outside of its photograph. The message is one line that names the file.
    """
    if photos and len(photos) != len(faces):
        raise ValueError(
            f"--photo: {len(photos)} photographs, expected one for each of {len(faces)} faces"
        )
    first, one = faces[0]
    for path, face in faces[1:]:
        if face.face_model[1] != one.face_model[1]:
            raise ValueError(
                f"{path}: its face model is {face.face_model[0]}, that of {first} another"
            )
        same = face.code.shape.equal(one.code.shape) and face.code.albedo.equal(one.code.albedo)
        if not same:
            raise ValueError(
                f"{path}: not the shape and albedo of {first}; make both of one person with --same-person"
            )
    try:
        maker = TextureMaker(model, one.code.albedo, size)
    except ValueError as error:
        raise ValueError(f"--texture-size: {error}") from None
    layers = []
    for k, (path, face) in enumerate(faces):
        if "#" in path.name and not photos:
            raise ValueError(
                f"{path}: --texture photo needs a photograph, and this is a frame of a clip; give its "
                "picture as --photo"
            )
        photo = source_photo(
            path, face, str(photos[k]) if photos else "", "leave out --texture photo"
        )
        try:
            layers.append(maker.layer(_shot(photo, face, size), balanced))
        except ImageError:
            raise
        except ValueError as error:
            raise ValueError(f"{photo}: {error} (the face is that of {path})") from None
    return maker(layers).image


def _shot(path: Path, face: FaceParameters, size: int) -> Shot:
    """The part of a photograph around a face, as fine as the texture needs it."""
    x, y, side = (float(n) for n in face.crop)
    middle_x, middle_y, reach = x + side / 2, y + side / 2, _REACH * side
    shrink = max(1.0, side / (_TEXELS * size))
    with Picture(path) as picture:
        box = (
            max(0.0, middle_x - reach), max(0.0, middle_y - reach),
            min(float(picture.width), middle_x + reach), min(float(picture.height), middle_y + reach),
        )  # fmt: skip
        if box[0] >= box[2] or box[1] >= box[3]:
            raise ValueError("the face's crop lies outside of the photograph")
        part = picture.read(max(1, int(shrink / 2)), box)
    longest = max(part.pixels.shape[:2]) * part.factor / shrink
    part = part.resized(max(1, round(longest)))
    crop = np.array([x - part.left, y - part.top, side]) / part.factor
    return Shot(part.pixels, dataclasses.replace(face, crop=crop))
