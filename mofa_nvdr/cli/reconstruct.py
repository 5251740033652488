"""mofa-nvdr reconstruct."""

from __future__ import annotations

from typing import Annotated

import tyro

from mofa_nvdr.cli import SOME_LEFT_OUT, parse


def run(args: list[str]) -> int:
    """Parse options and reconstruct; returns the exit status."""
    return parse("reconstruct", reconstruct, args)()


def reconstruct(
    input: Annotated[tuple[str, ...], tyro.conf.Positional],
    checkpoint: str,
    out: str,
    face_model: str = "",
    device: str = "auto",
    runtime: str = "torch",
    max_megapixels: float = 250.0,
    overwrite: bool = False,
    least_certainty: float = 0.0,
) -> object:
    """Predict the parameters of face crops: NAME.npz and NAME_panel.png for each.

    Of one folder the results lie in OUT as its pictures do: PEOPLE/alice/1.jpg gives OUT/alice/1.npz. With
    several inputs each folder keeps its name (alice and bob give OUT/alice/1.npz and OUT/bob/1.npz), and a
    file gives OUT/NAME.npz. Pictures that differ in their ending alone keep it (x.png.npz). What is in OUT is
    replaced only by a result of the same file. Exit status: 0 all done, 2 a mistake, 3 nothing
    reconstructed, 4 some pictures left out.

    Args:
        input: image files, or folders of images
        checkpoint: run folder, or a checkpoint file; with --runtime onnx a run folder with encoder.onnx
            in it, or an .onnx file
        out: folder for the results; made if missing
        face_model: the face model that the run was trained with, 'default' or a .safetensors file; empty: the
            one that the run names
        device: auto, cpu, cuda or cuda:N
        runtime: what the encoder runs in: torch, or onnx (ONNX Runtime, on the CPU)
        max_megapixels: images with more megapixels are not read
        overwrite: replace what is in the place of a result, whatever it was made from
        least_certainty: leave out pictures that are less certain to show a face, 0 to 1; below 0.5 a warning
            names them in any case
    """

    def call() -> int:
        from mofa_nvdr.apply.reconstruction import reconstruct_files

        written = reconstruct_files(
            list(input), checkpoint, out, face_model, device, runtime, max_megapixels, overwrite,
            least_certainty,
        )  # fmt: skip
        return SOME_LEFT_OUT if written.left_out else 0

    return call
