"""From a crop to geometry and colours of both levels of a face model: faces in a second.

`python -m tests.benchmarks.bm_levels [--encoder compact] [--batches 1 16] [--threads 1 2]`.
Weights and modes are random: they do not change the time. A batch of crops at the encoder's size goes to
codes, then to vertices and reflectance of the base level and of both, and to the colours of all vertices of
both under the predicted light. One thread is process CPU time, several are wall time; each is the best and
the median of as many repetitions as fit into --seconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch

from mofa_nvdr.apply import onnx_export
from mofa_nvdr.bench.operators import machine_facts
from mofa_nvdr.face.correctives import CorrectedFaceModel
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.networks.encoder import NETWORKS, build_encoder
from mofa_nvdr.networks.onnx_encoder import OnnxEncoder
from mofa_nvdr.scene.lighting import total_light
from mofa_nvdr.scene.normals import vertex_normals
from mofa_nvdr.shaders.sh_lambert import sh_lambert

WARM_UP, FEWEST = 3, 5
PAPER = "over 250 Hz on a GPU (Tewari et al. 2018)"


def measure(run: Callable[[], object], threads: int, seconds: float) -> tuple[float, float]:
    """Best and median time of a call in ms."""
    clock = time.process_time if threads == 1 else time.perf_counter
    times: list[float] = []
    with torch.inference_mode():
        for _ in range(WARM_UP):
            run()
        end = time.monotonic() + seconds
        while len(times) < FEWEST or time.monotonic() < end:
            start = clock()
            run()
            times.append(1e3 * (clock() - start))
    return min(times), statistics.median(times)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", choices=NETWORKS, default="compact")
    parser.add_argument("--runtime", choices=("torch", "onnx"), default="onnx")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--correctives", type=int, default=48, help="of each kind")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    options = parser.parse_args(arguments)

    facts = machine_facts(torch.device("cpu"))
    print("; ".join(f"{name} {value}" for name, value in facts.items()), flush=True)
    model = CorrectedFaceModel(
        FaceModel.load("portraits"), options.correctives, options.correctives
    )
    torch.manual_seed(0)
    torch_encoder = build_encoder(options.encoder, model.layout).eval()
    size = torch_encoder.input_size or 240
    encoder: Callable[[torch.Tensor], torch.Tensor] = torch_encoder
    if options.runtime == "onnx":
        unknown = {"face_model": {"name": "", "hash": ""}, "camera": {}, "step": 0}
        encoder = OnnxEncoder(onnx_export.encoder_to_onnx(torch_encoder, size, unknown))

    def shade(vertices: torch.Tensor, albedo: torch.Tensor, light: torch.Tensor) -> torch.Tensor:
        normals = vertex_normals(vertices, model.triangles)
        return sh_lambert(normals[:, None], albedo[:, None], light)

    print(
        "\n| faces at once | threads | code | vertices, albedo | colours of all vertices | Hz without, with "
        "colours |\n|---|---|---|---|---|---|"
    )
    before = torch.get_num_threads()
    try:
        for batch in options.batches:
            for threads in options.threads:
                torch.set_num_threads(threads)
                generator = torch.Generator().manual_seed(0)
                images = torch.rand(batch, 3, size, size, generator=generator)
                code = 0.1 * torch.randn(batch, model.layout.size, generator=generator)
                parts = model.layout.unpack(code)
                levels = model.both_levels(parts)
                light = total_light(parts.light)
                steps = (
                    lambda images=images: encoder(images),
                    lambda parts=parts: model.both_levels(parts),
                    lambda levels=levels, light=light: [
                        shade(*face, light) for face in levels.values()
                    ],
                )
                found = [measure(step, threads, options.seconds) for step in steps]
                cells = [f"{best / batch:.2f} ({mid / batch:.2f})" for best, mid in found]
                own, more = (
                    f"{1e3 * batch / sum(best for best, _ in some):.0f}"
                    for some in (found[:2], found)
                )
                print(f"| {batch} | {threads} | {' | '.join(cells)} | {own}, {more} |", flush=True)
    finally:
        torch.set_num_threads(before)
    print(f"\nms a face, best (median). The paper: {PAPER}.")


if __name__ == "__main__":
    main()
