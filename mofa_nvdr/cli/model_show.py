"""mofa-nvdr model show."""

from __future__ import annotations

from typing import Annotated

import tyro

from mofa_nvdr.cli import parse


def run(args: list[str]) -> None:
    """Parse options and draw."""
    parse("model show", show, args)()


def show(
    out: str,
    model: Annotated[str, tyro.conf.Positional] = "default",
    size: int = 160,
    modes: int = 80,
    seed: int = 1,
    sheets: tuple[str, ...] = (),
    overwrite: bool = False,
) -> object:
    """Draw sheets of a face model: 36 random people, every mode, every named expression, tones, views.

    Args:
        out: folder for the sheets (.png)
        model: the face model: 'portraits', 'procedural' (which 'default' is too) or a .safetensors file
        size: height of a picture in pixels; modes are drawn at 0.7 of it, the average face at twice
        modes: most modes of each kind
        seed: of the random people
        sheets: which: people, shape, expression, albedo, named_expressions, tones, mean; empty: all
        overwrite: replace pictures that are there, whatever they show; else only earlier sheets of the same
            model are replaced
    """

    def call() -> None:
        from mofa_nvdr.apply.model_sheets import SHEETS, show_model

        show_model(model, out, size, modes, seed, sheets or SHEETS, overwrite)

    return call
