"""mofa-nvdr export."""

from __future__ import annotations

from typing import Annotated

import tyro

from mofa_nvdr.cli import parse


def run(args: list[str]) -> None:
    """Parse options and export."""
    parse("export", export, args)()


def export(
    face: Annotated[str, tyro.conf.Positional],
    out: str,
    face_model: str = "",
    units: str = "",
    color: str = "",
    lit: bool = False,
    posed: bool = False,
    neutral: bool = False,
    targets: str = "named",
    texture_size: int = 1024,
    overwrite: bool = False,
) -> object:
    """Write a face as a mesh for other programs: .obj with .mtl and texture, .ply, or .glb.

    Args:
        face: parameter file (.npz) of mofa-nvdr reconstruct, CLIP.npz#120 for a frame of a clip; or a face
            model ('default' or a .safetensors file): its average face
        out: file to write: .obj, .ply or .glb
        face_model: the face model that the parameters are for: 'default' or a .safetensors file;
            empty: the one that the file names
        units: mm or m; empty: m for .glb (its specification), else mm
        color: texture, vertex or none; empty: vertex for .ply, else texture
        lit: colours under the face's light, in its pose; else unlit albedo
        posed: placed as the camera saw it, in camera space; else in model space
        neutral: without the face's expression
        targets: morph targets of a .glb: named (expressions), modes (of the basis) or none
        texture_size: side of the texture in texels
        overwrite: replace files that are there, whatever they were made from; else only earlier exports of
            the same face are replaced
    """

    def call() -> None:
        from mofa_nvdr.apply.export import ExportOptions, export_file

        options = ExportOptions(units, color, lit, posed, neutral, targets, texture_size)
        export_file(face, out, face_model, options, overwrite)

    return call
