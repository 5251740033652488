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
    same_person: bool = False,
    clip: bool = False,
    fps: float = 25.0,
) -> object:
    """Reconstruct the faces of photographs: NAME.npz for each, and pictures.

    NAME.npz is the largest face of NAME.jpg, NAME_face2.npz the next. Next to each lie NAME_crop.png, what
    the encoder saw, and NAME_panel.png; NAME_overlay.jpg is the photograph with its faces drawn into it,
    NAME_mask.png white where; sheet.jpg shows all faces. Of one folder the results lie in OUT as its pictures
    do: PEOPLE/alice/1.jpg gives OUT/alice/1.npz. With several inputs each folder keeps its name (alice and
    bob give OUT/alice/1.npz and OUT/bob/1.npz), and a file gives OUT/NAME.npz. Pictures that differ in their
    ending alone keep it (x.png.npz).

    A video (.mp4, .mov, .webm and others; pip install 'mofa-nvdr[video]') or, with --clip, a folder of frames
    gives OUT/NAME.npz, the parameters of everybody in all frames, and OUT/NAME_overlay.mp4, with its sound.
    Everybody keeps one shape and albedo; pose, expression and light are smoothed without lag.

    What is in OUT is replaced only by a result of the same file. Exit status: 0 all done, 2 a mistake, 3
    nothing reconstructed, 4 some pictures left out.

    Args:
        input: photographs, or folders of photographs; or clips
        checkpoint: run folder, or a checkpoint file; with --runtime onnx a run folder with encoder.onnx
            in it, or an .onnx file; empty: the encoder that comes with the package
        out: folder for the results; made if missing
        face: which faces of a photograph: all, largest, or a number (2: the second largest); of a clip: who
            fills most of it, or the second most
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
        face_model: the face model that the run was trained with: 'portraits', 'procedural' or a .safetensors
            file; empty: the one that the run names
        device: auto, cpu, cuda or cuda:N
        runtime: what the encoder runs in: torch, or onnx (ONNX Runtime, on the CPU; the package's encoder is
            exported at the first use)
        batch: faces that go through the encoder together
        max_megapixels: photographs with more megapixels are not read
        overwrite: replace what is in the place of a result, whatever it was made from
        least_certainty: leave out faces that are less certain, 0 to 1; with --crops a warning names those
            below 0.5 in any case
        same_person: all photographs show one person, the largest face or that of --face: shape and albedo are
            shared
        clip: the folders are clips, their pictures frames; videos are clips in any case
        fps: frames a second of folders with --clip
    """

    def call() -> int:
        from mofa_nvdr.data.video_files import clips_among

        if clips_among(input, clip):
            for_photographs = {
                "--crops": crops, "--refine": refine, "--principal-point": principal_point is not None,
                "--same-person": same_person,
            }  # fmt: skip
            for flag, given in for_photographs.items():
                if given:
                    raise ValueError(f"{flag} is for photographs; leave it out for clips")
            from mofa_nvdr.apply.clip_files import reconstruct_clips
            from mofa_nvdr.apply.clips import ClipOptions
            from mofa_nvdr.apply.color_solver import colors_of
            from mofa_nvdr.apply.onnx_export import load_run

            how = ClipOptions(
                face, fps, focal_px, colors_of(colors, checkpoint), overlay=pictures,
                max_megapixels=max_megapixels, overwrite=overwrite, least_certainty=least_certainty,
            )  # fmt: skip
            run = load_run(checkpoint, face_model, device, runtime)
            return SOME_LEFT_OUT if reconstruct_clips(list(input), run, out, how).left_out else 0
        from mofa_nvdr.apply.reconstruction import ReconstructOptions, reconstruct_files

        options = ReconstructOptions(
            face, crops, refine, colors, focal_px, principal_point, pictures, batch, max_megapixels,
            overwrite, least_certainty, same_person,
        )  # fmt: skip
        written = reconstruct_files(
            list(input), checkpoint, out, face_model, device, runtime, options
        )
        return SOME_LEFT_OUT if written.left_out else 0

    return call
