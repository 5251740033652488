"""mofa-nvdr networks list."""

from __future__ import annotations

from mofa_nvdr.cli import parse


def run(args: list[str]) -> None:
    """Parse options and list."""
    parse("networks list", list_networks, args)()


def list_networks() -> object:
    """Say which networks are known, which are here, their sizes and licences."""

    def call() -> None:
        from mofa_nvdr.networks.on_request import describe_sets

        print(describe_sets())

    return call
