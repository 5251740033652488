"""mofa-nvdr evaluate."""

from __future__ import annotations

from typing import Annotated

import tyro

from mofa_nvdr.cli import parse


def run(args: list[str]) -> None:
    """Parse options and measure."""
    parse("evaluate", evaluate, args)()


def evaluate(
    checkpoint: Annotated[str, tyro.conf.Positional] = "",
    on: str = "synthetic",
    count: int = 200,
    face_model: str = "",
    device: str = "auto",
    out: str = "",
    overwrite: bool = False,
) -> object:
    """Measure an encoder as the MoFA paper does, next to its numbers; or reconstructions against scans.

    Args:
        checkpoint: run folder or checkpoint file; empty: the encoder that comes with the package
        on: 'synthetic': rendered people with known codes; a training folder: its validation pictures; a
            folder of scans (NAME.ply, .obj, .stl, .off) next to reconstructions (NAME.npz): distances in mm,
            and no encoder is needed (pip install 'mofa-nvdr[evaluate]')
        count: how many rendered faces, or at most how many pictures, evenly spaced; 0: all pictures
        face_model: the face model of the run or of the reconstructions; empty: the one that they name
        device: auto, cpu, cuda or cuda:N
        out: .json file for all digits, with the protocol
        overwrite: replace what is there
    """

    def call() -> None:
        from mofa_nvdr.apply.scan_error import has_scans, measure_scans
        from mofa_nvdr.runs.measured import check_json

        if out:
            check_json(out, overwrite)
        if on != "synthetic" and has_scans(on):
            measured = measure_scans(on, face_model)
        else:
            from mofa_nvdr.runs.trained import Reconstructor
            from mofa_nvdr.training.paper_tables import measure_photographs, measure_renders

            trained = Reconstructor.load(checkpoint, face_model, device)
            if on == "synthetic":
                measured = measure_renders(trained, count)
            else:
                measured = measure_photographs(trained, on, count)
        print(measured.text())
        if out:
            measured.save(out)

    return call
