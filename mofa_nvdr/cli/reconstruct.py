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
    checkpoint: str = "",
    out: str = "faces",
    face: str = "all",
    crops: bool = False,
    refine: bool = False,
    colors: str = "",
    focal_px: float = 0.0,
    principal_point: tuple[float, float] | None = None,
    pictures: bool = True,
    face_model: str = "",
    device: str = "auto",
    runtime: str = "torch",
    batch: int = 16,
    max_megapixels: float = 250.0,
    overwrite: bool = False,
    least_certainty: float = 0.0,
) -> object:
    """Reconstruct the faces of photographs: NAME.npz for each, and pictures.

    NAME.npz is the largest face of NAME.jpg, NAME_face2.npz the next. Next to each lie NAME_crop.png, what
    the encoder saw, and NAME_panel.png; NAME_overlay.jpg is the photograph with its faces drawn into it,
    NAME_mask.png white where; sheet.jpg shows all faces. Of one folder the results lie in OUT as its pictures
    do: PEOPLE/alice/1.jpg gives OUT/alice/1.npz. With several inputs each folder keeps its name (alice and
    bob give OUT/alice/1.npz and OUT/bob/1.npz), and a file gives OUT/NAME.npz. Pictures that differ in their
    ending alone keep it (x.png.npz). What is in OUT is replaced only by a result of the same file. Exit
    status: 0 all done, 2 a mistake, 3 nothing reconstructed, 4 some pictures left out.

    Args:
        input: photographs, or folders of photographs
        checkpoint: run folder, or a checkpoint file; with --runtime onnx a run folder with encoder.onnx
            in it, or an .onnx file; empty: the encoder that comes with the package
        out: folder for the results; made if missing
        face: which faces of a photograph: all, largest, or a number (2: the second largest)
        crops: the pictures are face crops, as preprocess makes them: they are taken whole, and no face is
            looked for
        refine: fit each face further from the prediction, some 12 steps
        colors: where light and albedo are from: encoder, or photograph (solved for in closed form, where the
            encoder says the face is); empty: photograph with the encoder that comes with the package,
            encoder with a checkpoint
        focal_px: focal length of the photographs in pixels; 0: from EXIF, or else the one at which the
            largest face is as far away as in training
        principal_point: where the camera's axis meets the photographs, x y in pixels from the top left
            corner; by default their centre
        pictures: write pictures; --no-pictures writes parameters alone
        face_model: the face model that the run was trained with, 'default' or a .safetensors file; empty: the
            one that the run names
        device: auto, cpu, cuda or cuda:N
        runtime: what the encoder runs in: torch, or onnx (ONNX Runtime, on the CPU)
        batch: faces that go through the encoder together
        max_megapixels: photographs with more megapixels are not read
        overwrite: replace what is in the place of a result, whatever it was made from
        least_certainty: leave out faces that are less certain, 0 to 1; with --crops a warning names those
            below 0.5 in any case
    """

    def call() -> int:
        from mofa_nvdr.apply.reconstruction import ReconstructOptions, reconstruct_files

        options = ReconstructOptions(
            face, crops, refine, colors, focal_px, principal_point, pictures, batch, max_megapixels,
            overwrite, least_certainty,
        )  # fmt: skip
        written = reconstruct_files(
            list(input), checkpoint, out, face_model, device, runtime, options
        )
        return SOME_LEFT_OUT if written.left_out else 0

    return call
