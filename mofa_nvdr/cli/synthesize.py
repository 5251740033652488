"""mofa-nvdr synthesize."""

from __future__ import annotations

from mofa_nvdr.cli import parse


def run(args: list[str]) -> None:
    """Parse options and synthesize."""
    parse("synthesize", synthesize, args)()


def synthesize(
    count: int,
    out: str,
    seed: int = 0,
    size: int = 256,
    face_model: str = "default",
    backgrounds: str = "",
    lights: str = "",
    plain: bool = False,
    workers: int = 1,
    shards: float = 0.0,
) -> object:
    """Render random faces that look like rough photographs, with their codes, landmarks and masks.

    Args:
        count: number of faces; a larger number adds to the folder
        out: folder for images/, masks/, index.csv, landmarks68.npz and codes.npz; the same command resumes
        seed: face n is a function of the seed and n, for any number of workers
        size: side of the images in pixels
        face_model: 'portraits', 'procedural' (which 'default' is too) or a .safetensors face model
        backgrounds: folder of pictures, parts of which are the backgrounds of the faces; empty: made-up rooms
        lights: folder of .hdr light probes for half of the faces; empty: only lights drawn from the prior
        plain: faces alone in front of backgrounds, without heads, hair, occluders and a camera's faults
        workers: processes that render
        shards: also pack the corpus into tar shards of about this many MB, in OUT/shards; 0: do not
    """

    def call() -> None:
        from mofa_nvdr.data.synthetic.synthesis import SynthesisOptions, synthesize_files

        options = SynthesisOptions(seed, size, face_model, backgrounds, lights, plain)
        synthesize_files(count, out, options, workers, shards)

    return call
