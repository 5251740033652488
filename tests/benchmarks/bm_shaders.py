"""Times of the shaders in the renderer: `python tests/benchmarks/bm_shaders.py [--threads 1] [--repeats 30]`.

Forward and backward of FaceRenderer on the built-in face, 240 px, a batch of five, gradients of vertices,
albedo and all of the light. The shaders take turns in one process; one thread is CPU time, several are wall
time. The ratio is of medians to that of sh_lambert; next to the median stand the quartiles and the best.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from mofa_nvdr.bench.operators import machine_facts, some_lamps
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.render.renderer import FaceRenderer
from mofa_nvdr.shaders.phong import Phong

BATCH, WARM_UP = 5, 3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    for name, value in machine_facts(torch.device("cpu")).items():
        print(f"{name}: {value}")
    decoder = FaceDecoder(FaceModel.load("procedural"))
    code = 0.1 * torch.randn(
        BATCH, decoder.model.layout.size, generator=torch.Generator().manual_seed(0)
    )
    geometry = decoder.geometry(code)
    vertices, albedo = (t.detach().requires_grad_() for t in (geometry.vertices, geometry.albedo))
    light = geometry.light.detach().requires_grad_()
    cases = {"sh_lambert": (FaceRenderer(), light, [light])}
    for count in (0, 1, 3):
        lamps = some_lamps(BATCH, count, vertices.device)
        cases[f"phong, {count} lights"] = (
            FaceRenderer(shader=Phong()), lamps, list(vars(lamps).values())
        )  # fmt: skip
    grad = torch.rand(BATCH, 3, 240, 240, generator=torch.Generator().manual_seed(1))
    there = {name: [] for name in cases}
    back = {name: [] for name in cases}
    for _ in range(WARM_UP + options.repeats):
        for name, (renderer, lit, leaves) in cases.items():
            start = clock()
            image = renderer(vertices, decoder.triangles, albedo, lit).image
            middle = clock()
            torch.autograd.grad(image, [vertices, albedo, *leaves], grad)
            back[name].append(1e3 * (clock() - middle))
            there[name].append(1e3 * (middle - start))
    unit = None
    print(
        f"{'ms':18} {'forward':>8} {'backward':>8} {'both':>8} {'quartiles':>15} {'best':>7} ratio"
    )
    for name in cases:
        forward, backward = there[name][WARM_UP:], back[name][WARM_UP:]
        both = [a + b for a, b in zip(forward, backward)]
        low, median, high = statistics.quantiles(both, n=4)
        unit = unit or median
        print(
            f"{name:18} {statistics.median(forward):8.1f} {statistics.median(backward):8.1f} "
            f"{median:8.1f} {low:7.1f}-{high:7.1f} {min(both):7.1f} {median / unit:5.2f}"
        )


if __name__ == "__main__":
    main()
