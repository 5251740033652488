"""Relighting photographs from files: `mofa-nvdr relight PHOTO|FILE.npz --light LIGHT`."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from mofa_nvdr.apply.parameters import FaceParameters, load_parameters
from mofa_nvdr.apply.photo_faces import PhotoFaces, is_parameters
from mofa_nvdr.apply.photo_relighting import PhotoRelighter
from mofa_nvdr.apply.provenance import origin_of
from mofa_nvdr.apply.relighting import write_pictures
from mofa_nvdr.data.decoding import ImageError, Picture
from mofa_nvdr.scene.illumination import (
    Illumination,
    code_illumination,
    preset_illumination,
    probe_illumination,
)
from mofa_nvdr.scene.light_sources import PRESETS
from mofa_nvdr.scene.lighting import total_light
from mofa_nvdr.scene.probe_files import is_probe, read_probe
from mofa_nvdr.system.files import check_folder_of
from mofa_nvdr.system.notes import say
from mofa_nvdr.system.origins import check_free

_KIND = "relit photograph"
_MOST_FRAMES = 10_000
_MOST_STOPS = 5.0


@dataclass(frozen=True)
class PhotoLightOptions:
    """Options of the command for photographs.

    Attributes:
        photo: the photograph of a parameter file; empty: the one that it names.
        rotate: turn the light once around the face.
        frames: pictures in one turn.
        turn: "auto": light probes from behind are turned before the face; or degrees, to the right.
        mirror: exchange left and right of the light.
        exposure: "auto": as bright as the photograph; or stops brighter than that.
        shadows: the face casts shadows on itself.
        color: share of the light's colour that shows, 0 to 1; the less, the warmer the shadows.
        fill: share of light from everywhere alike in the old and the new light, 0 to 1; or "auto":
            `PhotoRelighter`.
        balanced: the photograph is balanced for its light; else the fitted light's colour is taken out.
        face_model: as FaceModel.load takes it; empty: that of the parameter file, or "portraits".
        overwrite: also replace a file made from something else.
    """

    photo: str = ""
    rotate: bool = False
    frames: int = 48
    turn: str = "auto"
    mirror: bool = False
    exposure: str = "auto"
    shadows: bool = True
    color: float = 0.2
    fill: str = "auto"
    balanced: bool = True
    face_model: str = ""
    overwrite: bool = False


def relight_photo(
    source: str | Path, light: str, out: str | Path, options: PhotoLightOptions | None = None
) -> Path:
    """Relight a photograph, in its own frame and size.

    Args:
        source: a photograph, whose largest face is fitted; or the .npz of its face.
        light: a preset's name, a light probe (.hdr, .exr), another photograph, or the .npz of its face.
        out: .png; with `rotate` .gif or .mp4.
        options: None: the defaults.

    Returns:
        `out`.

    Raises:
        NetworkMissingError: a photograph is to be fitted, and the landmark networks are not here.
        ValueError: a mistake in the options, the files or the folder; the message is one line.
    """
    o, out = options or PhotoLightOptions(), Path(out)
    degrees, stops, fill = _checked(o, out)
    check_folder_of(out)
    faces = PhotoFaces(o.face_model, "relight")
    found = faces(source, o.photo)
    path, face, model = found.path, found.parameters, found.model
    origin = origin_of(face)
    check_free(out, [out], origin, o.overwrite)
    illumination = _illumination(light, source, face, faces)
    if o.mirror:
        illumination = illumination.mirrored()
    if degrees is not None:
        illumination = illumination.turned(math.radians(degrees))
    elif is_probe(light) and (angle := illumination.turn_to_front()):
        say(
            f"note: {light}: most of its light comes from behind or from the side of the face; turned by "
            f"{math.degrees(angle):.0f} degrees (--turn 0 keeps it)",
            sys.stderr,
        )
        illumination = illumination.turned(angle)
    with Picture(path) as picture:
        pixels = picture.read().pixels
    try:
        relighter = PhotoRelighter(pixels, face, model, o.shadows, o.color, fill, o.balanced)
    except ValueError as error:
        by = "" if Path(source) == path else f" (the face is that of {source})"
        raise ValueError(f"{path}: {error}{by}") from None
    if o.rotate:
        angles = [2 * math.pi * k / o.frames for k in range(o.frames)]
        pictures = list(relighter.turn(illumination, angles, stops))
    else:
        pictures = [relighter(illumination, stops)]
    try:
        write_pictures(out, pictures, _KIND, origin)
    except OSError as error:
        raise ValueError(f"--out {out}: cannot write there ({error.strerror or error})") from None
    say(f"{path} under {light}: {out}")
    return out


def _illumination(
    light: str, source: str | Path, own: FaceParameters, faces: PhotoFaces
) -> Illumination:
    """What --light names; the photograph that is relit may be its own light."""
    if light in PRESETS:
        return preset_illumination(light)
    if is_probe(light):
        try:
            return probe_illumination(torch.from_numpy(read_probe(light)))
        except ValueError as error:
            text = str(error)
            raise ValueError(text if text.startswith(light) else f"{light}: {text}") from None
    if is_parameters(light):
        return code_illumination(total_light(load_parameters(light).code.light)[0])
    if Path(light) == Path(source):
        return code_illumination(total_light(own.code.light)[0])
    if not Path(light).exists():
        raise ValueError(
            f"--light {light}: no such file, nor a preset; presets are {', '.join(PRESETS)}"
        )
    try:
        other = faces.fitted(light)
    except ImageError as error:
        if "no face found" not in str(error):
            raise
        raise ImageError(
            f"--light {error}, from which its light could be taken; light probes must be .hdr or .exr: "
            "pictures like this one do not hold how bright lights are"
        ) from None
    return code_illumination(total_light(other.code.light)[0])


def _checked(o: PhotoLightOptions, out: Path) -> tuple[float | None, float, float | None]:
    """Degrees to turn by (None: as the light needs it), stops, and the filling share (None: the same)."""
    endings = (".gif", ".mp4") if o.rotate else (".png",)
    if out.suffix.lower() not in endings:
        expected = " or ".join(endings)
        raise ValueError(
            f"--out {out}: expected a {expected} file{' with --rotate' if o.rotate else ''}"
        )
    if out.suffix.lower() == ".mp4" and find_spec("imageio_ffmpeg") is None:
        raise ValueError(
            f"--out {out}: .mp4 needs ffmpeg: pip install imageio-ffmpeg; or give a .gif"
        )
    if o.rotate and not 2 <= o.frames <= _MOST_FRAMES:
        raise ValueError(f"--frames is {o.frames}, expected 2 to {_MOST_FRAMES}")
    if not 0 <= o.color <= 1:
        raise ValueError(f"--color is {o.color:g}, expected 0 to 1")
    degrees = None if o.turn == "auto" else _number("--turn", o.turn, -360, 360)
    stops = (
        0.0
        if o.exposure == "auto"
        else _number("--exposure", o.exposure, -_MOST_STOPS, _MOST_STOPS)
    )
    fill = None if o.fill == "auto" else _number("--fill", o.fill, 0, 1)
    return degrees, stops, fill


def _number(flag: str, text: str, least: float, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise ValueError(
            f"{flag} is {text!r}, expected auto or a number from {least:g} to {most:g}"
        )
    return value
