"""Faces a second of `mofa-nvdr reconstruct`, and of the network and the geometry alone.

    python tests/benchmarks/bm_reconstruct.py CROPS [--checkpoint RUN] [--count 100] [--threads 2]

Three numbers, each the median of the repeats after one that warms up, with its fastest and slowest: the whole
command on files (decoding, hashing, encoder, rendering, certainty, parameters written; no pictures), through
torch and through ONNX Runtime; and encoder and vertices alone, one face at a time and in batches. The stages
of the command are timed too (--stages).
"""

from __future__ import annotations

import argparse
import cProfile
import io
import pstats
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import torch

from mofa_nvdr import __version__
from mofa_nvdr.apply.onnx_export import export_encoder
from mofa_nvdr.apply.reconstruction import ReconstructOptions, reconstruct_files
from mofa_nvdr.data.listing import Inventory
from mofa_nvdr.runs.trained import Reconstructor


def timed(call: Callable[[], object], repeats: int) -> tuple[float, float, float]:
    """Seconds of a call: median, and the range."""
    call()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds), min(seconds), max(seconds)


def show(what: str, seconds: tuple[float, float, float], faces: int) -> None:
    """Print faces a second."""
    median, fastest, slowest = seconds
    print(
        f"{what:42} {faces / median:7.1f} faces/s ({faces / slowest:.1f} to {faces / fastest:.1f})",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("crops", help="folder of face crops")
    parser.add_argument(
        "--checkpoint", default="", help="run or checkpoint; empty: the package's encoder"
    )
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--stages", action="store_true", help="profile the command through ONNX Runtime"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    paths = Inventory().photographs(Path(options.crops))[: options.count]
    count = len(paths)
    print(
        f"mofa-nvdr {__version__}, torch {torch.__version__}, {options.threads} threads, {count} crops"
    )
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        onnx = export_encoder(
            options.checkpoint, Path(folder) / "encoder.onnx", photographs=paths[:2]
        )
        runs = {"torch": options.checkpoint, "onnx": onnx}
        work = ReconstructOptions(crops=True, pictures=False)

        def call(runtime: str) -> Callable[[], object]:
            out = Path(folder) / runtime
            return lambda: reconstruct_files(
                paths, runs[runtime], out, device="cpu", runtime=runtime, options=work
            )

        whole = {runtime: timed(call(runtime), options.repeats) for runtime in runs}
        profile = cProfile.Profile()
        if options.stages:
            profile.runcall(call("onnx"))
        trained = Reconstructor.load(onnx, device="cpu", runtime="onnx")
    for runtime, seconds in whole.items():
        show(f"files to parameters, {runtime}, with its start", seconds, count)
    size, decoder = trained.decoder.camera.size[0], trained.decoder
    for batch in (1, 16):
        images = torch.rand(batch, 3, size, size)

        def alone(images: torch.Tensor = images) -> None:
            with torch.no_grad():
                code = trained(images)
                decoder.place(code, decoder.model.vertices(code.shape, code.expression))

        show(f"encoder and vertices, batch {batch}", timed(alone, 20), batch)
    if options.stages:
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
