"""mofa-nvdr view."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import tyro

from mofa_nvdr.cli import parse


def run(args: list[str]) -> None:
    """Parse options and serve."""
    parse("view", view, args)()


def view(
    source: Annotated[str, tyro.conf.Positional],
    photo: str = "",
    port: int = 0,
    host: str = "127.0.0.1",
    size: int = 240,
    face_model: str = "",
) -> object:
    """Show a face in a browser, with sliders for light, pose and expression. Needs viser (extra `view`).

    Args:
        source: an .npz of mofa-nvdr fit or reconstruct, CLIP.npz#120 for a frame of a clip, a photograph,
            whose largest face is fitted first, or a folder of both
        photo: the photograph of an .npz; empty: the one that it names
        port: port to listen at; 0: 8080, or the next that is free
        host: address to listen at; the default is reached from this machine alone
        size: side of a picture in pixels
        face_model: the face model to fit, or that the parameters are for: 'portraits', 'procedural' or a
            .safetensors file; empty: the one that each file names, of photographs 'portraits'
    """

    def call() -> None:
        if find_spec("viser") is None:
            raise RuntimeError("view needs viser: pip install 'mofa-nvdr[view]'")
        from mofa_nvdr.apply.view_server import serve

        serve(source, photo, host, port, size, face_model)

    return call
