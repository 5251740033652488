"""mofa-nvdr export."""

from __future__ import annotations

from typing import Annotated

import tyro

from mofa_nvdr.cli import parse


def run(args: list[str]) -> None:
    """Parse options and export."""
    parse("export", export, args)()


def export(
    faces: Annotated[tuple[str, ...], tyro.conf.Positional],
    out: str,
    face_model: str = "",
    texture: str = "albedo",
    photo: tuple[str, ...] = (),
    balanced: bool = True,
    texture_size: int = 1024,
    units: str = "",
    color: str = "",
    material: str = "unlit",
    lit: bool = False,
    posed: bool = False,
    neutral: bool = False,
    frontal: bool = False,
    targets: str = "named",
    person: int = 0,
    maps: str = "",
    overwrite: bool = False,
) -> object:
    """Write a face for other programs: a mesh (.obj with .mtl and texture, .ply, .glb), or a table (.csv).

    A .glb of a whole clip moves: its targets are ARKit's blendshapes. A .csv holds the weights of these.

    Args:
        faces: parameter file (.npz) of mofa-nvdr reconstruct or fit; a clip's, or CLIP.npz#120 for a frame of
            it; or a face model ('portraits', 'procedural', a .safetensors file): its average face. With
            --texture photo further files of the same person, made with --same-person: what their photographs
            show is merged
        out: file to write: .obj, .ply or .glb; .csv for the weights of ARKit's 52 blendshapes
        face_model: the face model that the parameters are for: 'portraits', 'procedural' or a .safetensors
            file; empty: the one that the file names
        texture: albedo, the face model's; or photo, the person's own skin from the photographs
        photo: with --texture photo, the photographs of the .npz, in their order; empty: those that they name
        balanced: the photographs are balanced for their light, as cameras do; --no-balanced takes out the
            colour of the light that was fitted too, which is a guess
        texture_size: side of the texture in texels
        units: mm or m; empty: m for .glb (its specification), else mm
        color: texture, vertex or none; empty: vertex for .ply, else texture
        material: of a .glb: unlit, the colours as they are; or matte, for lights of the program that shows it
        lit: colours under the face's light, in its pose; else unlit albedo
        posed: placed as the photograph's camera saw it, in camera space; else in model space
        neutral: without the face's expression
        frontal: the frontal region alone, without forehead above the hairline and sides before the ears
        targets: morph targets of a .glb: named (expressions), modes (of the basis) or none
        person: of a clip: 0: who fills most of it; 1: who fills the second most
        maps: png: also NAME_depth.png (tenths of mm) and NAME_normals.png, 16 bit, in the photograph's
            pixels; npz: both as NAME_maps.npz, in mm and as unit vectors
        overwrite: replace files that are there, whatever they were made from; else only earlier exports of
            the same face are replaced
    """

    def call() -> None:
        from mofa_nvdr.apply.export import ExportOptions
        from mofa_nvdr.apply.export_files import export_files

        options = ExportOptions(
            units=units, color=color, lit=lit, posed=posed, neutral=neutral, targets=targets,
            texture_size=texture_size, texture=texture, frontal=frontal, material=material,
            balanced=balanced, maps=maps,
        )  # fmt: skip
        export_files(faces, out, face_model, options, overwrite, photo, person)

    return call
