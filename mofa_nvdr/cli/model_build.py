"""mofa-nvdr model build."""

from __future__ import annotations

from mofa_nvdr.cli import parse


def run(args: list[str]) -> None:
    """Parse options and build."""
    parse("model build", build, args)()


def build(out: str, overwrite: bool = False) -> object:
    """Make the built-in face again from its recipe and compare it with the shipped one.

    It takes about half a minute and needs scipy.

    Args:
        out: file to write: .safetensors for --face-model, or .npz, the compact file of assets/
        overwrite: replace a file that is there, whatever it was made from; else only one that was built here
    """

    def call() -> None:
        from mofa_nvdr.face.rebuild import build_model

        build_model(out, overwrite)

    return call
