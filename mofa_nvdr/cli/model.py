"""mofa-nvdr model: a command of sub-commands, one module each (mofa_nvdr.cli.model_NAME)."""

from __future__ import annotations

from mofa_nvdr.cli import run_subcommand

SUBCOMMANDS = {
    "info": "say what a face model holds: sizes, units, variance, licence",
    "show": "draw sheets of random people, modes and expressions of a face model",
    "build": "make the built-in face again from its recipe",
    "learn": "learn a face model from photographs of people",
    "encoder": "make a trained encoder say the codes of another face model",
    "from-run": "make a face model of the correctives that a run has learned",
    "import": "read a face model of another project into a .safetensors file",
}


def run(args: list[str]) -> None:
    """Hand the rest of the line to a sub-command."""
    run_subcommand("model", SUBCOMMANDS, args)
