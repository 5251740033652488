"""mofa-nvdr transfer."""

from __future__ import annotations

from mofa_nvdr.cli import parse


def run(args: list[str]) -> None:
    """Parse options and transfer."""
    parse("transfer", transfer, args)()


def transfer(
    to: str,
    out: str,
    expression: str = "",
    neutral: bool = False,
    strength: float = 1.0,
    turntable: bool = False,
    frames: int = 60,
    photo: str = "",
    parameters_only: bool = False,
    image_size: int = 0,
    face_model: str = "",
    overwrite: bool = False,
) -> object:
    """Give the person in a photograph another one's expression; writes the picture and the new face's .npz.

    Args:
        to: whose face: a photograph, whose largest face is fitted on the way, or the .npz of mofa-nvdr fit or
            reconstruct
        out: picture to write: .png; with --turntable .gif, or .mp4 where imageio-ffmpeg is installed; the
            .npz of the new face lies next to it
        expression: whose expression: a photograph, an .npz, CLIP.npz#120 for a frame of a clip; or named
            expressions with weights, jawOpen=0.4,mouthSmileLeft=1
        neutral: no expression
        strength: share of the way from the face's own expression to the other one, 0 to 1.5
        turntable: render the new face turning to both sides
        frames: pictures of the turntable
        photo: the photograph of an .npz; empty: the one that it names
        parameters_only: render the new face instead of changing the photograph
        image_size: with --parameters-only or --turntable: height in pixels; 0: that of the reconstruction
        face_model: the face model to fit, or that the parameters are for: 'portraits', 'procedural' or a
            .safetensors file; empty: the one that each file names, of photographs 'portraits'
        overwrite: replace files that are there, whatever they were made from; else only earlier results of
            the same faces are replaced
    """

    def call() -> None:
        from mofa_nvdr.apply import transfer_files

        options = transfer_files.TransferOptions(
            neutral,
            strength,
            turntable,
            frames,
            photo,
            parameters_only,
            image_size,
            face_model,
            overwrite,
        )
        transfer_files.transfer(expression, to, out, options)

    return call
