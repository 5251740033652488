"""mofa-nvdr networks export."""

from __future__ import annotations

from typing import Annotated

import tyro

from mofa_nvdr.cli import parse


def run(args: list[str]) -> None:
    """Parse options and export."""
    parse("networks export", export, args)()


def export(name: Annotated[str, tyro.conf.Positional], out: str, overwrite: bool = False) -> object:
    """Write networks that are here as ONNX files, each compared with torch before it is kept.

    Args:
        name: landmarks or identity
        out: folder for the files (.onnx)
        overwrite: replace files that are there, whatever they were made from; else only exports of the same
            networks
    """

    def call() -> None:
        from mofa_nvdr.apply.network_export import export_networks

        export_networks(name, out, overwrite)

    return call
