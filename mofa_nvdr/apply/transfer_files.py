"""Expressions of one face for another, from files: `mofa-nvdr transfer --expression A --to B`."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.apply.clip_parameters import load_named_face, names_face
from mofa_nvdr.apply.expression_warp import ExpressionWarper, MouthPhoto, mouth_photo
from mofa_nvdr.apply.landmark_alignment import detected_points
from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.apply.photo_faces import PhotoFaces, is_parameters
from mofa_nvdr.apply.provenance import origin_of
from mofa_nvdr.apply.relighting import BACKGROUND, MOST_HEIGHT, resized, write_pictures
from mofa_nvdr.apply.source_photo import named_photograph
from mofa_nvdr.data.decoding import ImageError
from mofa_nvdr.data.images import read_image
from mofa_nvdr.data.video_files import find_ffmpeg, is_video
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder, face_image
from mofa_nvdr.render.pictures import FINER, to_uint8
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.system.files import check_folder_of
from mofa_nvdr.system.notes import say
from mofa_nvdr.system.origins import check_free, content_hash

_KIND = "transferred face"
_MOST_FRAMES, _MOST_STRENGTH = 10_000, 1.5
_SWING = math.radians(50)  # to each side of a turntable: behind, there is no head


@dataclass(frozen=True)
class TransferOptions:
    """Options of the command.

    Attributes:
        neutral: no expression, in the place of another face's.
        strength: share of the way from the face's own expression to the other one; above 1: beyond it.
        turntable: a film of the face that turns, in the place of a picture.
        frames: pictures of the turntable.
        photo: the photograph of `to`, where that is an .npz; empty: the one that it names.
        parameters_only: render the face instead of changing its photograph.
        image_size: of renderings: height in px; 0: that of the reconstruction.
        face_model: as FaceModel.load takes it; empty: that of a parameter file, or "portraits".
        overwrite: also replace files made from something else.
    """

    neutral: bool = False
    strength: float = 1.0
    turntable: bool = False
    frames: int = 60
    photo: str = ""
    parameters_only: bool = False
    image_size: int = 0
    face_model: str = ""
    overwrite: bool = False


@dataclass(frozen=True)
class _Known:
    """A face, its photograph where that is here, and what an expression is taken of."""

    parameters: FaceParameters
    model: FaceModel
    path: Path | None


def transfer(
    expression: str, to: str, out: str | Path, options: TransferOptions | None = None
) -> list[Path]:
    """Give a face the expression of another one, or none: a picture or a turntable, and the new face's .npz.

    Args:
        expression: a photograph, whose largest face is fitted; the .npz of a face, CLIP.npz#120 for a frame
            of a clip; or names of expressions of the face model with weights, "jawOpen=0.4,mouthSmileLeft".
            Empty with `neutral`.
        to: a photograph or the .npz of its face; with `parameters_only` or `turntable` of a clip's frame too.
        out: .png, or .gif or .mp4 with `turntable`; its .npz lies next to it.
        options: None: the defaults.

    Returns:
        The files, `out` first.

    Raises:
        NetworkMissingError: a photograph is to be fitted, and the landmark networks are not here.
        ValueError: a mistake in the options, the files or the folder; the message is one line.
    """
    o, out = options or TransferOptions(), Path(out)
    _check(expression, to, out, o)
    check_folder_of(out)
    rendered = o.parameters_only or o.turntable
    face, other = _faces(expression, to, rendered, o)
    known = [face.parameters] + ([other.parameters] if other else [])
    origin, npz = origin_of(*known), out.with_suffix(".npz")
    check_free(out, [out], origin, o.overwrite)
    _check_parameters(npz, out, (to, expression), o.overwrite)
    target = _target(expression, face, other, o)
    code = face.parameters.code
    code = code.replace(expression=torch.lerp(code.expression, target, o.strength))
    new = dataclasses.replace(
        face.parameters, code=code, certainty=math.nan, photometric=math.nan, mask_fraction=math.nan
    )
    if rendered:
        new = _in_rendering(to, new, o.image_size)
    try:
        if o.turntable:
            write_pictures(out, turntable(face.model, new, o.frames), _KIND, origin)
        elif o.parameters_only:
            write_pictures(out, [_rendering(face.model, new, new.code)], _KIND, origin)
        else:
            mouth = _mouth(other, face.model)
            write_pictures(out, [_warped(to, face, code, mouth)], _KIND, origin)
        picture = "" if o.turntable else out.name
        file_hash = content_hash(out) if picture else ""
        decoder = FaceDecoder(face.model, camera=new.camera)
        marks = decoder.landmarks(decoder.geometry(code))[0].double().numpy()
        marks = new.crop[:2] + marks * (new.crop[2] / new.camera.size[0])
        new = dataclasses.replace(new, source=picture, source_hash=file_hash, landmarks68=marks)
        new.save(npz)
    except OSError as error:
        raise ValueError(f"--out {out}: cannot write there ({error.strerror or error})") from None
    say(f"{to} {f'with the expression of {expression}' if expression else 'neutral'}: {out}, {npz}")
    return [out, npz]


@torch.no_grad()
def turntable(model: FaceModel, face: FaceParameters, frames: int) -> list[np.ndarray]:
    """Pictures of a face that turns from the front to 50 degrees on either side and back, in a loop.

    Args:
        model: of the face.
        face: its camera and light are kept; it stands upright in the middle.
        frames: how many.

    Returns:
        uint8 [H, W, 3] each.
    """
    pictures = []
    for k in range(frames):
        rotation = torch.zeros(1, 3)
        rotation[0, 1] = _SWING * math.sin(2 * math.pi * k / frames)
        code = face.code.replace(rotation=rotation, translation=torch.zeros(1, 3))
        pictures.append(_rendering(model, face, code))
    return pictures


@torch.no_grad()
def _rendering(model: FaceModel, face: FaceParameters, code: FaceCode) -> np.ndarray:
    decoder = FaceDecoder(model, camera=face.camera, frontal_only=False).finer(FINER)
    picture = face_image(decoder(code), BACKGROUND)
    return to_uint8(torch.nn.functional.avg_pool2d(picture, FINER))[0]


def _warped(name: str, face: _Known, code: FaceCode, mouth: MouthPhoto | None) -> np.ndarray:
    assert face.path is not None
    photo = read_image(face.path)
    try:
        points = detected_points(photo, face.parameters)
        return ExpressionWarper(photo, face.parameters, face.model, points)(code, mouth)
    except ValueError as error:
        by = "" if Path(name) == face.path else f" (the face is that of {name})"
        raise ValueError(f"{face.path}: {error}{by}") from None


def _mouth(other: _Known | None, model: FaceModel) -> MouthPhoto | None:
    """The mouth in the photograph of the other face, where that is here."""
    if other is None or other.path is None:
        return None
    photo = read_image(other.path)
    return mouth_photo(photo, other.parameters, model, detected_points(photo, other.parameters))


def _faces(
    expression: str, to: str, rendered: bool, o: TransferOptions
) -> tuple[_Known, _Known | None]:
    """The face that changes, and the one whose expression is taken; both of one face model."""
    given = o.face_model
    has_other = bool(expression) and _weights(expression) is None
    # A parameter file says which face model: what must be fitted is fitted to that one.
    if not given and not names_face(to) and has_other and names_face(expression):
        other = _known(expression, given, True, "")
        given = _place_of(other)
        face = _known(to, given, rendered, o.photo)
        return face, other
    face = _known(to, given, rendered, o.photo)
    if not has_other:
        return face, None
    if not names_face(expression):
        given = given or _place_of(face)
    other = _known(expression, given, True, "")
    if other.model.hash != face.model.hash and not face.model.has_codes_of(other.model.hash):
        raise ValueError(
            f"--expression {expression}: of the face model {other.model.name} ({other.model.hash}), but --to "
            f"{to} of {face.model.name} ({face.model.hash}); fit both with one --face-model"
        )
    return face, other


def _known(source: str, face_model: str, any_photo: bool, photo: str) -> _Known:
    """A face of a file; `any_photo`: it may be without its photograph."""
    if not any_photo or not names_face(source):
        found = PhotoFaces(face_model, "transfer")(source, photo)
        return _Known(found.parameters, found.model, found.path)
    models: dict[str, FaceModel] = {}
    face = load_named_face(source, face_model, models)
    path = None
    if is_parameters(source):
        path = named_photograph(Path(source), face)
    return _Known(face, models[face.face_model[1]], path)


def _place_of(face: _Known) -> str:
    """Where the face's model is, as FaceModel.load takes it."""
    return face.parameters.face_model_file or face.model.name


def _target(expression: str, face: _Known, other: _Known | None, o: TransferOptions) -> Tensor:
    """The expression [1, E] that is asked for."""
    own = face.parameters.code.expression
    if o.neutral:
        return torch.zeros_like(own)
    if other is not None:
        return other.parameters.code.expression
    target = torch.zeros_like(own)
    names = face.model.named_expressions
    for name, weight in (_weights(expression) or {}).items():
        if name not in names:
            some = f"expressions are {', '.join(names)}" if names else "it has no named expressions"
            raise ValueError(
                f"--expression {expression}: no such file, nor an expression of the face model "
                f"{face.model.name}; {some}"
            )
        target = target + weight * names[name]
    return target


def _weights(expression: str) -> dict[str, float] | None:
    """Weights by the names of expressions; None: it names a file."""
    is_name = "=" in expression or not Path(expression).suffix
    if names_face(expression) or Path(expression).exists() or not is_name:
        return None
    weights: dict[str, float] = {}
    for part in expression.split(","):
        name, _, weight = part.partition("=")
        weights[name.strip()] = 1.0
        if weight:
            try:
                weights[name.strip()] = float(weight)
            except ValueError:
                raise ValueError(
                    f"--expression {expression}: {weight!r} is no number; expected NAME=WEIGHT"
                ) from None
    return weights


def _in_rendering(name: str, face: FaceParameters, height: int) -> FaceParameters:
    """The face in its own picture, which may be of another size."""
    camera: Camera = resized(name, face.camera, height or face.camera.size[0])
    crop = np.array([0.0, 0.0, camera.size[0]])
    return dataclasses.replace(face, camera=camera, crop=crop, frame=None)


def _check_parameters(npz: Path, out: Path, inputs: tuple[str, ...], overwrite: bool) -> None:
    """Refuse to replace a parameter file that is none of an earlier call."""
    if any(name and Path(name).resolve() == npz.resolve() for name in inputs):
        raise ValueError(
            f"--out {out}: {npz} would replace the face that is read; give another --out"
        )
    earlier = out.is_file() and out.stat().st_size  # `check_free` says that it is of the same faces
    if npz.exists() and not earlier and not overwrite:
        raise ValueError(
            f"--out {out}: {npz} is there, and is no result of the same source; give another --out, or "
            "--overwrite"
        )


def _check(expression: str, to: str, out: Path, o: TransferOptions) -> None:
    if bool(expression) == o.neutral:
        raise ValueError(
            "transfer: give --expression A, whose expression is taken, or --neutral for none, not both"
            if expression
            else "transfer: no expression; give --expression A, whose expression is taken, or --neutral"
        )
    endings = (".gif", ".mp4") if o.turntable else (".png",)
    if out.suffix.lower() not in endings:
        raise ValueError(
            f"--out {out}: expected a {' or '.join(endings)} file"
            + (" with --turntable" if o.turntable else "")
        )
    if out.suffix.lower() == ".mp4":
        find_ffmpeg(f"--out {out}: writing a video")
    if not out.parent.is_dir():
        raise ValueError(f"--out {out}: no such folder {out.parent}")
    if o.turntable and not 2 <= o.frames <= _MOST_FRAMES:
        raise ValueError(f"--frames is {o.frames}, expected 2 to {_MOST_FRAMES}")
    if not 0 <= o.strength <= _MOST_STRENGTH:
        raise ValueError(f"--strength is {o.strength:g}, expected 0 to {_MOST_STRENGTH:g}")
    if not 0 <= o.image_size <= MOST_HEIGHT:
        raise ValueError(f"--image-size is {o.image_size}, expected 0 to {MOST_HEIGHT} pixels")
    if o.image_size and not (o.parameters_only or o.turntable):
        raise ValueError(
            "--image-size: photographs keep their size; give --parameters-only or --turntable with it"
        )
    for flag, name in (("--expression", expression), ("--to", to)):
        if is_video(name):
            raise ImageError(
                f"{flag} {name}: a video; mofa-nvdr reconstruct makes CLIP.npz of it, whose frame 120 is "
                "CLIP.npz#120"
            )
    if names_face(to) and not is_parameters(to) and not (o.parameters_only or o.turntable):
        raise ValueError(
            f"--to {to}: a clip's frame has no photograph; give --parameters-only or --turntable"
        )
