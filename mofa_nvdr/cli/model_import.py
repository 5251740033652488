"""mofa-nvdr model import."""

from __future__ import annotations

from typing import Annotated, Literal

import tyro

from mofa_nvdr.cli import parse


def run(args: list[str]) -> None:
    """Parse options and import."""
    parse("model import", import_, args)()


def import_(
    format: Annotated[
        Literal[
            "ict",
            "bfm2009",
            "bfm2017",
            "bfm2019",
            "deep3d",
            "flame",
            "flame2020",
            "flame2023",
            "gnm",
            "lyhm",
            "eos",
            "sfm",
        ],
        tyro.conf.Positional,
    ],
    path: Annotated[str, tyro.conf.Positional],
    out: str,
    shape_modes: int = 80,
    expression_modes: int = 64,
    albedo_modes: int = 80,
    vertices: int = 0,
    albedo: str = "",
    albedo_of: str = "procedural",
    expressions: str = "",
    landmarks: str = "",
    name: str = "",
    overwrite: bool = False,
) -> object:
    """Read a face model of another project, in millimetres and our axes, into one .safetensors file.

    With the landmark networks here (mofa-nvdr networks get landmarks) it is then measured where a detector's
    478 points lie on the model, to which `fit` fits it.

    Args:
        format: whose model
        path: the model's file; for ict the folder of .obj files
        out: .safetensors file to write; give it as --face-model to the other commands
        shape_modes: keep at most this many identity modes
        expression_modes: keep at most this many expression modes
        albedo_modes: keep at most this many albedo modes
        vertices: subdivide to about this many vertices; 0: as the format has it (ict: subdivided once)
        albedo: file with the albedo (flame: .npz texture space; bfm: AlbedoMM .h5)
        albedo_of: face whose albedo a model without its own gets: 'procedural', 'portraits' or a .safetensors
            file
        expressions: file with the blendshapes (eos: .bin)
        landmarks: file with the 68 landmarks' vertices from 0 (.json, .txt, .npy)
        name: name of the model; empty: the format's
        overwrite: replace a file that is there, whatever it was made from; else only what was imported from
            the same file or folder
    """

    def call() -> None:
        from pathlib import Path

        from mofa_nvdr.apply.landmark_places import place_in_file
        from mofa_nvdr.importers.foreign import ImportOptions
        from mofa_nvdr.importers.formats import import_file

        options = ImportOptions(
            shape_modes=shape_modes,
            expression_modes=expression_modes,
            albedo_modes=albedo_modes,
            vertices=vertices,
            albedo=Path(albedo) if albedo else None,
            albedo_of=albedo_of,
            expressions=Path(expressions) if expressions else None,
            landmarks=Path(landmarks) if landmarks else None,
            name=name,
        )
        import_file(format, path, out, options, overwrite)
        place_in_file(out)

    return call
