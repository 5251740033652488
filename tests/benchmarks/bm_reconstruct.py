"""Faces a second of `mofa-nvdr reconstruct`, and of the network and the geometry alone.

    python tests/benchmarks/bm_reconstruct.py CROPS [--checkpoint RUN] [--count 100] [--threads 2]

The whole command on files (decoding, hashing, encoder, colours, rendering, certainty, parameters written; no
pictures), its start included, through torch and through ONNX Runtime; and encoder and vertices alone, one
face at a time and in batches; and each face that comes after a fifth of them. Each is the median of the
repeats after one that warms up, with its slowest and fastest, and the least CPU time of a face, which other
programs disturb less. `--stages` profiles the command.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import pstats
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import torch

from mofa_nvdr import __version__
from mofa_nvdr.apply.onnx_export import export_encoder, load_run
from mofa_nvdr.apply.reconstruction import ReconstructOptions, reconstruct_files
from mofa_nvdr.data.listing import Inventory


def show(what: str, call: Callable[[], object], faces: int, repeats: int) -> float:
    """Print faces a second and milliseconds of CPU a face; the median of the seconds."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        call()
        times = []
        for _ in range(repeats):
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            times.append((time.perf_counter() - wall, time.process_time() - cpu))
    seconds = [wall for wall, _ in times]
    median, slowest, fastest = statistics.median(seconds), max(seconds), min(seconds)
    print(
        f"{what:42} {faces / median:7.1f} faces/s ({faces / slowest:.1f} to {faces / fastest:.1f}), "
        f"{1e3 * min(cpu for _, cpu in times) / faces:.1f} ms of CPU a face",
        flush=True,
    )
    return median


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
    print(
        f"mofa-nvdr {__version__}, torch {torch.__version__}, {options.threads} threads, "
        f"{len(paths)} crops"
    )
    with tempfile.TemporaryDirectory() as folder:
        runs = dict.fromkeys(("torch", "onnx"), options.checkpoint)
        if options.checkpoint:
            runs["onnx"] = str(
                export_encoder(options.checkpoint, Path(folder) / "e.onnx", photographs=paths[:2])
            )
        # As the package's encoder is used, whichever is given.
        work = ReconstructOptions(crops=True, pictures=False, colors="photograph")

        def call(runtime: str, paths: Sequence[Path] = paths) -> Callable[[], object]:
            # A place of its own each time: what is there already would be read first.
            return lambda: reconstruct_files(
                paths,
                runs[runtime],
                tempfile.mkdtemp(dir=folder),
                device="cpu",
                runtime=runtime,
                options=work,
            )

        for runtime in runs:
            what, few = f"files to parameters, {runtime}", paths[: len(paths) // 5]
            whole = show(f"{what}, with its start", call(runtime), len(paths), options.repeats)
            part = show(f"{what}, {len(few)} alone", call(runtime, few), len(few), options.repeats)
            further = len(paths) - len(few)
            print(
                f"{'each further face, of the medians':42} {further / (whole - part):7.1f} faces/s"
            )
        trained = load_run(runs["onnx"], "", "cpu", "onnx")
        size, decoder = trained.decoder.camera.size[0], trained.decoder
        for batch in (1, 16):
            images = torch.rand(batch, 3, size, size)

            def alone(images: torch.Tensor = images) -> None:
                with torch.no_grad():
                    code = trained(images)
                    decoder.place(code, decoder.model.vertices(code.shape, code.expression))

            show(f"encoder and vertices, batch {batch}", alone, batch, 20)
        if options.stages:
            profile = cProfile.Profile()
            profile.runcall(call("onnx"))
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
