"""mofa-nvdr model: a command of sub-commands, one module each (mofa_nvdr.cli.model_NAME)."""

from __future__ import annotations

import importlib

SUBCOMMANDS = {
    "info": "say what a face model holds: sizes, units, variance, licence",
    "show": "draw sheets of random people, modes and expressions of a face model",
    "build": "make the built-in face again from its recipe",
    "import": "read a face model of another project into a .safetensors file",
}


def run(args: list[str]) -> None:
    """Hand the rest of the line to a sub-command."""
    if not args or args[0] in ("-h", "--help"):
        print(_overview())
        if args:
            raise SystemExit(0)
        return
    if args[0] not in SUBCOMMANDS:
        raise ValueError(
            f"model: unknown sub-command {args[0]!r}, expected one of {', '.join(SUBCOMMANDS)}"
        )
    importlib.import_module(f"mofa_nvdr.cli.model_{args[0]}").run(args[1:])


def _overview() -> str:
    lines = [
        "usage: mofa-nvdr model SUBCOMMAND [options]",
        "",
        *(f"  {name:12} {what}" for name, what in SUBCOMMANDS.items()),
        "",
        "mofa-nvdr model SUBCOMMAND --help lists its options.",
    ]
    return "\n".join(lines)
