"""mofa-nvdr export-encoder."""

from __future__ import annotations

from typing import Annotated

import tyro

from mofa_nvdr.cli import parse


def run(args: list[str]) -> None:
    """Parse options and export."""
    parse("export-encoder", export_encoder, args)()


def export_encoder(
    run: Annotated[str, tyro.conf.Positional] = "",
    out: str = "",
    face_model: str = "",
    photographs: tuple[str, ...] = (),
    overwrite: bool = False,
) -> object:
    """Write a trained encoder as one ONNX file, compared with torch before it is kept.

    Args:
        run: run folder (its newest checkpoint), or a checkpoint file; none: the encoder that comes with the
            package
        out: .onnx file; empty: encoder.onnx next to the checkpoint, or in this folder for the package's own
        face_model: the face model that the run was trained with: 'portraits', 'procedural' or a .safetensors
            file; empty: the one that the run names
        photographs: face crops, or folders of them, to compare on, in addition to noise and rendered faces;
            empty: those that the run was trained on, if they are still there
        overwrite: replace a file that is there, whatever it was made from; else only an encoder of the same
            run
    """

    def call() -> None:
        from mofa_nvdr.apply.onnx_export import export_encoder as export

        export(run, out, face_model, photographs, overwrite)

    return call
