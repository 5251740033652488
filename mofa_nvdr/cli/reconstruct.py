"""mofa-nvdr reconstruct."""

from __future__ import annotations

from typing import Annotated

import tyro

from mofa_nvdr.cli import parse


def run(args: list[str]) -> None:
    """Parse options and reconstruct."""
    parse("reconstruct", reconstruct, args)()


def reconstruct(
    input: Annotated[tuple[str, ...], tyro.conf.Positional],
    checkpoint: str,
    out: str,
    face_model: str = "",
    device: str = "auto",
    runtime: str = "torch",
    max_megapixels: float = 250.0,
) -> object:
    """Predict the parameters of face crops: NAME.npz and NAME_panel.png for each.

    Args:
        input: image files, or folders of images
        checkpoint: run folder, or a checkpoint file; with --runtime onnx a run folder with encoder.onnx
            in it, or an .onnx file
        out: folder for the results
        face_model: the face model that the run was trained with, 'default' or a .safetensors file; empty: the
            one that the run names
        device: auto, cpu or cuda
        runtime: what the encoder runs in: torch, or onnx (ONNX Runtime, on the CPU)
        max_megapixels: images with more megapixels are not read
    """

    def call() -> None:
        from mofa_nvdr.apply.reconstruction import reconstruct_files

        reconstruct_files(list(input), checkpoint, out, face_model, device, runtime, max_megapixels)

    return call
