"""mofa-nvdr relight."""

from __future__ import annotations

from typing import Annotated

import tyro

from mofa_nvdr.cli import parse


def run(args: list[str]) -> None:
    """Parse options and relight."""
    parse("relight", relight, args)()


def relight(
    files: Annotated[tuple[str, ...], tyro.conf.Positional],
    light: str,
    out: str,
    photo: str = "",
    rotate: bool = False,
    frames: int = 48,
    turn: str = "auto",
    mirror: bool = False,
    exposure: str = "auto",
    shadows: bool = True,
    color: float = 0.2,
    fill: str = "auto",
    balanced: bool = True,
    parameters_only: bool = False,
    image_size: int = 0,
    face_model: str = "",
    device: str = "auto",
    overwrite: bool = False,
) -> object:
    """Show a photograph's person under another light, or render the predicted face alone.

    Args:
        files: a photograph, whose largest face is fitted on the way, or the .npz of mofa-nvdr fit or
            reconstruct; with --parameters-only several .npz, drawn side by side; CLIP.npz#120 is
            a frame of a clip there
        light: a light probe (.hdr, .exr), the name of a preset, another photograph, or the .npz whose light
            to take
        out: picture to write: .png; with --rotate .gif, or .mp4 where imageio-ffmpeg is installed
        photo: the photograph of an .npz; empty: the one that it names
        rotate: turn the light once around the face: from the camera to the picture's right, behind
            the face, and back from the left
        frames: pictures in one turn
        turn: degrees by which the light is turned that way; auto: a light probe whose light comes from
            behind or from the side of the face is turned before it, which a note says
        mirror: exchange left and right of the light
        exposure: auto: the face stays about as bright as it is; or stops brighter than that
        shadows: faces cast shadows on themselves
        color: share of the light's colour that shows, 0 to 1, where places differ; its square of the mean
            colour; the less, the warmer the shadows
        fill: share of light from everywhere alike, as from a reflector, 0 to 1: in the new light and in the
            old one; the more, the softer; auto: 0.3, and up to 0.6 for light from above or below
        balanced: the photograph is balanced for its own light, as cameras do; --no-balanced takes out the
            colour of the light that was fitted, which is a guess
        parameters_only: render the face of the .npz instead of changing the photograph
        image_size: with --parameters-only: height of the picture in pixels; 0: that of the reconstruction
        face_model: the face model to fit, or that the parameters are for: 'portraits', 'procedural' or a
            .safetensors file; empty: the one that each file names, of photographs 'portraits'
        device: with --parameters-only: auto, cpu, cuda or cuda:N
        overwrite: replace a file that is there, whatever it was made from; else only an earlier picture of
            the same faces is replaced
    """

    def call() -> None:
        if parameters_only:
            _only_for_photographs(photo, turn, mirror, exposure, shadows, color, fill, balanced)
            from mofa_nvdr.apply.relighting import relight_files

            relight_files(
                list(files), light, out, rotate, frames, image_size, face_model, device, overwrite
            )
            return
        if len(files) != 1:
            raise ValueError(
                f"relight: {len(files)} files; one photograph is relit at a time (--parameters-only renders "
                "several faces side by side)"
            )
        if image_size or device not in ("auto", "cpu"):
            flag = "--image-size" if image_size else f"--device {device}"
            raise ValueError(
                f"{flag}: photographs keep their size and are relit on the CPU; give --parameters-only "
                "with it"
            )
        from mofa_nvdr.apply.relight_photos import PhotoLightOptions, relight_photo

        options = PhotoLightOptions(
            photo,
            rotate,
            frames,
            turn,
            mirror,
            exposure,
            shadows,
            color,
            fill,
            balanced,
            face_model,
            overwrite,
        )
        relight_photo(files[0], light, out, options)

    return call


def _only_for_photographs(
    photo: str,
    turn: str,
    mirror: bool,
    exposure: str,
    shadows: bool,
    color: float,
    fill: str,
    balanced: bool,
) -> None:
    given = {
        "--photo": bool(photo),
        "--turn": turn != "auto",
        "--mirror": mirror,
        "--exposure": exposure != "auto",
        "--no-shadows": not shadows,
        "--color": color != 0.2,
        "--fill": fill != "auto",
        "--no-balanced": not balanced,
    }
    for flag, is_given in given.items():
        if is_given:
            raise ValueError(f"{flag} is for photographs; leave it or --parameters-only out")
