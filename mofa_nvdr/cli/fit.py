"""mofa-nvdr fit."""

from __future__ import annotations

from typing import Annotated

import tyro

from mofa_nvdr.cli import SOME_LEFT_OUT, parse


def run(args: list[str]) -> int:
    """Parse options and fit; returns the exit status."""
    return parse("fit", fit, args)()


def fit(
    input: Annotated[tuple[str, ...], tyro.conf.Positional],
    out: str = "",
    checkpoint: str = "",
    face_model: str = "",
    render_mode: str = "raster",
    same_person: bool = False,
    same_light: bool = False,
    batch: int = 24,
    max_megapixels: float = 250.0,
    overwrite: bool = False,
    codes: bool = False,
) -> object:
    """Fit the face model to photographs: NAME.npz, NAME_panel.png and NAME_occluders.png for each.

    Analysis by synthesis: the largest face of each photograph is found, or landmarks next to it are read, and
    its code is changed until the rendering looks like the photograph. It takes a second or two a face, and is
    closer than `reconstruct`. The results are the same files, and lie in OUT in the same way;
    NAME_occluders.png is white where something was taken to be in front of the face. Exit status: 0 all done,
    2 a mistake, 3 nothing fitted, 4 some photographs left out.

    Args:
        input: photographs, or folders of photographs
        out: folder for the results; made if missing; with --codes there is none
        checkpoint: start from the predictions of this run; empty: from the face model's average, or without
            the landmark networks from the predictions of the encoder that comes with the package
        face_model: 'portraits', 'procedural' or a .safetensors file; empty: that of the checkpoint, or
            'portraits'
        render_mode: where colours are compared: raster, at the pixels of the rendered face; or vertex, at its
            front-facing vertices
        same_person: all photographs show one person, whose shape and albedo they share
        same_light: with --same-person: they share the light too, as the frames of a clip do
        batch: photographs that are fitted together
        max_megapixels: photographs with more megapixels are not read
        overwrite: replace what is in the place of a result, whatever it came of
        codes: instead, fit the face crops of one folder that `preprocess` made, as they are, and write
            codes.npz into it: known codes, from which `train --loss.fitted` learns. The same command
            goes on with a file that is not complete
    """

    def call() -> int:
        if codes:
            return _fit_codes(input, out, face_model, batch)
        if not out:
            raise ValueError("fit: no --out; give a folder for the results")
        from mofa_nvdr.apply.fit_files import FitFileOptions, fit_files

        options = FitFileOptions(
            checkpoint, face_model, render_mode, same_person, same_light, batch, max_megapixels,
            overwrite,
        )  # fmt: skip
        return SOME_LEFT_OUT if fit_files(list(input), out, options).left_out else 0

    return call


def _fit_codes(input: tuple[str, ...], out: str, face_model: str, batch: int) -> int:
    from mofa_nvdr.apply.fit_corpus import fit_corpus

    if len(input) != 1 or out:
        raise ValueError(
            "fit --codes: give one folder of face crops, and no --out: codes.npz goes into it"
        )
    return SOME_LEFT_OUT if fit_corpus(input[0], face_model or "portraits", batch).without else 0
