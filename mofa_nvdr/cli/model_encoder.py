"""mofa-nvdr model encoder."""

from __future__ import annotations

from typing import Annotated

import tyro

from mofa_nvdr.cli import parse


def run(args: list[str]) -> None:
    """Parse options and write."""
    parse("model encoder", encoder, args)()


def encoder(
    face_model: Annotated[str, tyro.conf.Positional],
    out: str,
    checkpoint: str = "",
    own_face_model: str = "",
    overwrite: bool = False,
) -> object:
    """Make a trained encoder say the codes of another face model of the same mesh.

    For a face model of `mofa-nvdr model learn` this gives an encoder without a training: the one that comes
    with the package, whose last layer is changed. It says the nearest face that the model has, and no more of
    people than it knew before.

    Args:
        face_model: 'procedural', 'portraits' or a .safetensors file
        out: .safetensors file of the encoder, which the other commands take as --checkpoint
        checkpoint: run folder or checkpoint file; empty: the encoder that comes with the package
        own_face_model: the face model that it was trained with; empty: the one that it names
        overwrite: replace a file that is there, whatever it was made from
    """

    def call() -> None:
        from mofa_nvdr.apply.translated_encoder import save_translated_encoder

        save_translated_encoder(face_model, out, checkpoint, own_face_model, overwrite)

    return call
