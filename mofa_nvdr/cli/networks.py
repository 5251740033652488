"""mofa-nvdr networks: a command of sub-commands, one module each (mofa_nvdr.cli.networks_NAME)."""

from __future__ import annotations

from mofa_nvdr.cli import run_subcommand

SUBCOMMANDS = {
    "list": "say which networks are known, which are here, their sizes and licences",
    "get": "get networks through pip, or from a file, and keep them",
    "export": "write networks that are here as ONNX files",
}


def run(args: list[str]) -> None:
    """Hand the rest of the line to a sub-command."""
    run_subcommand("networks", SUBCOMMANDS, args)
