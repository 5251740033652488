"""mofa-nvdr model learn."""

from __future__ import annotations

from typing import Annotated

import tyro

from mofa_nvdr.cli import parse


def run(args: list[str]) -> None:
    """Parse options and learn."""
    parse("model learn", learn, args)()


def learn(
    input: Annotated[tuple[str, ...], tyro.conf.Positional],
    out: str,
    face_model: str = "default",
    people: str = "",
    rounds: int = 2,
    albedo_modes: int = 80,
    licence: str = "",
    name: str = "",
    smallest: int = 80,
    max_megapixels: float = 250.0,
    overwrite: bool = False,
) -> object:
    """Learn a face model from photographs: how people's faces differ in shape and in colour.

    The largest face of each photograph is fitted with the face model that there is, then shape and albedo are
    learned from what the photographs show, and fitted and learned again. It takes seconds a photograph and
    round, and keeps what is done in OUT.learning: stopped, the same command goes on. Photographs from the
    front in even light are the best; small, blurred and colourless ones are left out. The landmark networks
    must be here (mofa-nvdr networks get landmarks).

    Args:
        input: photographs, or folders of photographs
        out: .safetensors file to write; give it as --face-model to the other commands
        face_model: that is fitted first: 'procedural' (which 'default' is too), 'portraits' or a
            .safetensors file
        people: .csv file with the columns file (a path below the folder that is given) and person:
            photographs of one person share shape and albedo; those not named show another person each
        rounds: how often colours are fitted and learned
        albedo_modes: modes of albedo of the learned model
        licence: of the photographs; a note in the file
        name: name of the model; empty: the file's
        smallest: leave out faces whose crop is smaller, px
        max_megapixels: photographs with more megapixels are not read
        overwrite: replace a file that is there, whatever it was made from
    """

    def call() -> None:
        from mofa_nvdr.apply.learn_files import LearnFileOptions, learn_model

        options = LearnFileOptions(
            face_model, people, rounds, albedo_modes, licence, name, smallest, max_megapixels,
            overwrite,
        )  # fmt: skip
        learn_model(list(input), out, options)

    return call
