"""Render predicted faces under another light: a preset, a light probe, or another face's light."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.apply.clip_parameters import load_named_face
from mofa_nvdr.apply.parameters import FaceParameters, load_parameters
from mofa_nvdr.apply.provenance import origin_of
from mofa_nvdr.data.video_writing import VideoWriter
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder, face_image
from mofa_nvdr.render.pictures import to_uint8, write_png
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.light_sources import load_light
from mofa_nvdr.scene.lighting import rotate_sh, total_light
from mofa_nvdr.scene.pose import axis_angle_to_matrix
from mofa_nvdr.system.device import resolve_device
from mofa_nvdr.system.files import check_folder_of, replacing
from mofa_nvdr.system.marks import mark
from mofa_nvdr.system.notes import say
from mofa_nvdr.system.origins import check_free

BACKGROUND = 0.13
_FRAME_MS = 60
MOST_HEIGHT, _MOST_FRAMES = 8192, 10_000
_WIDEST = 16  # times its height: a picture; what is beyond is a damaged file
_KIND = "relit picture"


@torch.no_grad()
def relight(
    decoder: FaceDecoder,
    parameters: FaceParameters,
    light: Tensor,
    turns: Tensor | None = None,
) -> np.ndarray:
    """Pictures of one face under a light.

    Args:
        decoder: raster decoder for the parameters' face model and camera.
        parameters: one face.
        light: [9, 3] complete light in camera space (no ambient offset is added).
        turns: [F] angles in radians by which the light turns about the vertical axis, from in front
            of the face to the picture's right, and on behind it; None: one picture of the light as
            it is.

    Returns:
        uint8 [F, H, W, 3].
    """
    device = decoder.triangles.device
    code = parameters.code.map(lambda part: part.to(device))
    geometry = decoder.geometry(code)
    turns = torch.zeros(1) if turns is None else turns
    axis = torch.stack([torch.zeros_like(turns), turns, torch.zeros_like(turns)], dim=1)
    lights = rotate_sh(light.expand(len(turns), 9, 3), axis_angle_to_matrix(axis)).to(device)
    pictures = []
    for one in lights:
        face = decoder.rasterize(dataclasses.replace(geometry, light=one[None].float()))
        pictures.append(to_uint8(face_image(face, BACKGROUND))[0])
    return np.stack(pictures)


def relight_files(
    files: Sequence[str | Path],
    light: str,
    out: str | Path,
    rotate: bool = False,
    frames: int = 48,
    image_size: int = 0,
    face_model: str = "",
    device: str = "auto",
    overwrite: bool = False,
) -> Path:
    """Relight parameter files, side by side, into one PNG, or one GIF with `rotate`.

    Args:
        files: .npz files of reconstruct; CLIP.npz#120 for a frame of a clip.
        light: a preset's name, a light probe (.hdr, .exr), or a parameter file whose light to take.
        out: .png, or .gif with `rotate`.
        rotate: turn the light once around the face (`relight` says which way).
        frames: pictures in one turn.
        image_size: height of the picture in pixels; 0: that of the reconstructions, the largest.
        face_model: the model that the parameters are for; empty: the one that each file names.
        device: of system.device.resolve_device.
        overwrite: also replace a file made from something else (provenance.py).

    Raises:
        ValueError: a file cannot be read, is another face model's, or `out` has the wrong ending, is
            there and no earlier picture of the same faces, or cannot be written.
        RuntimeError: CUDA asked for where there is none.
    """
    out = Path(out)
    _check_options(files, out, rotate, frames, image_size)
    check_folder_of(out)
    where = resolve_device(device)
    models: dict[str, FaceModel] = {}
    faces = [load_named_face(name, face_model, models) for name in files]
    origin = origin_of(*faces)
    check_free(out, [out], origin, overwrite)
    coefficients = _light(light)
    turns = torch.arange(frames) * (2 * math.pi / frames) if rotate else None
    height = image_size or max(face.camera.size[0] for face in faces)
    strips = []
    for name, face in zip(files, faces):
        model = models[face.face_model[1]]
        decoder = FaceDecoder(model, camera=resized(name, face.camera, height), frontal_only=False)
        strips.append(relight(decoder.to(where), face, coefficients, turns))
    try:
        write_pictures(out, list(np.concatenate(strips, axis=2)), _KIND, origin)
    except OSError as error:
        raise ValueError(f"--out {out}: cannot write there ({error.strerror or error})") from None
    say(f"{len(faces)} {'face' if len(faces) == 1 else 'faces'} under {light}: {out}")
    return out


def _check_options(
    files: Sequence[str | Path], out: Path, rotate: bool, frames: int, image_size: int
) -> None:
    if not files:
        raise ValueError("relight: no parameter files; give .npz files of mofa-nvdr reconstruct")
    ending = ".gif" if rotate else ".png"
    if out.suffix.lower() != ending:
        raise ValueError(
            f"--out {out}: expected a {ending} file{' with --rotate' if rotate else ''}"
        )
    if rotate and frames < 2:
        raise ValueError(f"--frames is {frames}, expected 2 or more")
    if not 0 <= image_size <= MOST_HEIGHT:
        raise ValueError(f"--image-size is {image_size}, expected 0 to {MOST_HEIGHT} pixels")
    if frames > _MOST_FRAMES:
        raise ValueError(f"--frames is {frames}, expected at most {_MOST_FRAMES}")


def _light(name: str) -> Tensor:
    """Complete light [9, 3] of a preset, a light probe, or a parameter file (of any face model)."""
    if name.lower().endswith(".npz"):
        return total_light(load_parameters(name).code.light)[0]
    return load_light(name).float()


def resized(source: str | Path, camera: Camera, height: int) -> Camera:
    """The same view, `height` pixels high."""
    old_height, old_width = camera.size
    scale = height / old_height
    if old_width > _WIDEST * old_height:
        raise ValueError(
            f"relight: the picture of {source} is {old_height} x {old_width} px, expected at most "
            f"{_WIDEST} times as wide as high"
        )
    width = max(1, round(old_width * scale))
    return dataclasses.replace(
        camera,
        image_size=height if height == width else (height, width),
        focal=camera.focal_px * scale,
    )


def write_pictures(out: Path, pictures: Sequence[np.ndarray], kind: str, origin: str) -> None:
    """A PNG of the first picture, or all of them as GIF, in a loop, or as MP4, by the name's ending; atomic.

    Args:
        out: the file.
        pictures: [H, W, 3] uint8 each, of one size.
        kind: of picture, for the mark in it.
        origin: what it was made of, kept in it.
    """
    comment = f"{mark(kind)} {origin}"
    if out.suffix.lower() == ".mp4":
        with VideoWriter(out, Fraction(1000, _FRAME_MS), comment=comment) as video:
            for picture in pictures:
                video.add(picture)
        return
    with replacing(out) as temporary:
        if out.suffix.lower() == ".png":
            write_png(temporary, pictures[0], kind=kind, comment=origin)
            return
        more: dict[str, Any] = {"duration": _FRAME_MS, "loop": 0, "comment": comment}
        iio.imwrite(temporary, np.stack(pictures), extension=".gif", **more)
