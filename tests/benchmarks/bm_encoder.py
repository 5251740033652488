"""Latency of the encoders on one photograph, in torch and in ONNX Runtime: a table in Markdown.

`GOMP_SPINCOUNT=10000 python tests/benchmarks/bm_encoder.py [options]`; docs/benchmarks.md says why.
Weights are random: they do not change the time. One image [1, 3, 240, 240] goes to its code, resizing
and normalisation included. One thread is process CPU time, several are wall time; each is the best of
as many repetitions as fit into --seconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch

from mofa_nvdr.apply import onnx_export
from mofa_nvdr.bench.operators import machine_facts
from mofa_nvdr.networks.encoder import build_encoder
from mofa_nvdr.networks.onnx_encoder import OnnxEncoder
from mofa_nvdr.networks.trunks import TRUNKS

RUNTIMES = ("torch", "onnx")
PAPER = {"alexnet": "4", "vgg_face": "14"}  # ms on a TitanX (Pascal), Tewari et al. 2017, section 7
WARM_UP, FEWEST = 3, 5


def measure(
    run: Callable[[torch.Tensor], torch.Tensor], threads: int, seconds: float, size: int
) -> tuple[float, float]:
    """Best and median time in ms of one image's code."""
    clock = time.process_time if threads == 1 else time.perf_counter
    image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    times: list[float] = []
    with torch.inference_mode():
        for _ in range(WARM_UP):
            run(image)
        end = time.monotonic() + seconds
        while len(times) < FEWEST or time.monotonic() < end:
            start = clock()
            run(image)
            times.append(1e3 * (clock() - start))
    return min(times), statistics.median(times)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoders", nargs="+", choices=list(TRUNKS), default=list(TRUNKS))
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES, default=list(RUNTIMES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--size", type=int, default=240, help="side of the image, px")
    options = parser.parse_args(arguments)

    facts = machine_facts(torch.device("cpu"))
    if "onnx" in options.runtimes:
        import onnxruntime

        facts["onnxruntime"] = onnxruntime.__version__
    print("; ".join(f"{name} {value}" for name, value in facts.items()), flush=True)
    cases = [(runtime, threads) for runtime in options.runtimes for threads in options.threads]
    names = [f"{runtime}, {n} thread{'s' if n > 1 else ''}" for runtime, n in cases]
    print(
        f"\n| best (median), ms | {' | '.join(names)} | paper |\n|---|{'---|' * (len(cases) + 1)}"
    )
    before = torch.get_num_threads()
    try:
        for name in options.encoders:
            torch.manual_seed(0)
            encoder = build_encoder(name).eval()
            model = b""
            if "onnx" in options.runtimes:
                unknown = {"face_model": {"name": "", "hash": ""}, "camera": {}, "step": 0}
                model = onnx_export.encoder_to_onnx(encoder, options.size, unknown)
            cells = []
            for runtime, threads in cases:
                torch.set_num_threads(threads)
                run = encoder if runtime == "torch" else OnnxEncoder(model)
                best, median = measure(run, threads, options.seconds, options.size)
                cells.append(f"{best:.1f} ({median:.1f})")
            print(f"| {name} | {' | '.join(cells)} | {PAPER.get(name, '')} |", flush=True)
    finally:
        torch.set_num_threads(before)


if __name__ == "__main__":
    main()
