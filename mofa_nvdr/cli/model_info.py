"""mofa-nvdr model info."""

from __future__ import annotations

from typing import Annotated

import tyro

from mofa_nvdr.cli import parse


def run(args: list[str]) -> None:
    """Parse options and describe."""
    parse("model info", info, args)()


def info(model: Annotated[str, tyro.conf.Positional] = "default", json: bool = False) -> object:
    """Say what a face model holds: sizes, units, variance, licence.

    Args:
        model: the face model: 'portraits', 'procedural' (which 'default' is too) or a .safetensors file
        json: print it as JSON
    """

    def call() -> None:
        from mofa_nvdr.face.info import as_json, describe, table
        from mofa_nvdr.face.model import FaceModel

        facts = describe(FaceModel.load(model))
        print(as_json(facts) if json else table(facts))

    return call
