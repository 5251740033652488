"""mofa-nvdr model: commands about face models, one module each."""

from __future__ import annotations

import importlib

SUBCOMMANDS = {
    "info": "say what a face model holds: sizes, units, variance, licence",
    "show": "draw sheets of random people, modes and expressions of a face model",
    "build": "make the built-in face again from its recipe",
}


def run(args: list[str]) -> None:
    """Hand over to the subcommand's module."""
    if not args or args[0] in ("-h", "--help"):
        lines = (f"  {name:8} {what}" for name, what in SUBCOMMANDS.items())
        print("\n".join(["usage: mofa-nvdr model SUBCOMMAND [options]", "", *lines]))
        raise SystemExit(0)
    if args[0] not in SUBCOMMANDS:
        raise ValueError(
            f"model: unknown subcommand {args[0]!r}, expected one of {', '.join(SUBCOMMANDS)}"
        )
    importlib.import_module(f"mofa_nvdr.cli.model_{args[0]}").run(args[1:])
