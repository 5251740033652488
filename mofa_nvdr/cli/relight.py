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
    rotate: bool = False,
    frames: int = 48,
    image_size: int = 0,
    face_model: str = "",
    device: str = "auto",
    overwrite: bool = False,
) -> object:
    """Render predicted faces under another light.

    Args:
        files: parameter files (.npz) of mofa-nvdr reconstruct; several are drawn side by side
        light: an .hdr light probe, the name of a preset, or the .npz whose light to take
        out: picture to write: .png, or .gif with --rotate
        rotate: turn the light once around the face: from the camera to the picture's right, behind
            the face, and back from the left
        frames: pictures in one turn
        image_size: height of the picture in pixels; 0: that of the reconstruction
        face_model: the face model that the parameters are for, 'default' or a .safetensors file; empty: the
            one that each file names
        device: auto, cpu, cuda or cuda:N
        overwrite: replace a file that is there, whatever it was made from; else only an earlier picture of
            the same faces is replaced
    """

    def call() -> None:
        from mofa_nvdr.apply.relighting import relight_files

        relight_files(
            list(files), light, out, rotate, frames, image_size, face_model, device, overwrite
        )

    return call
