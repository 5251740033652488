"""mofa-nvdr model from-run."""

from __future__ import annotations

from typing import Annotated

import tyro

from mofa_nvdr.cli import parse


def run(args: list[str]) -> None:
    """Parse options and write."""
    parse("model from-run", from_run, args)()


def from_run(
    run: Annotated[str, tyro.conf.Positional],
    out: str,
    face_model: str = "",
    licence: str = "",
    name: str = "",
    overwrite: bool = False,
) -> object:
    """Make a face model of the corrective modes that a run has learned, and the encoder that fits it.

    The face model's own modes and the correctives behind them, as one .safetensors file for --face-model. The
    encoder, MODEL_encoder.safetensors next to it, is what the other commands take as --checkpoint. Runs with
    correctives: mofa-nvdr train --config multi_level.

    Args:
        run: run folder (its newest checkpoint), or a checkpoint file
        out: .safetensors file of the face model
        face_model: the face model that was corrected; empty: the one that the run names
        licence: of the photographs; a note in the file
        name: name of the model; empty: the file's
        overwrite: replace files that are there, whatever they were made from; else only those of the same
            checkpoint
    """

    def call() -> None:
        from mofa_nvdr.apply.learned_model import save_learned_model

        save_learned_model(run, out, face_model, licence, name, overwrite)

    return call
