"""Times of `dr.texture`: 512 x 512 pixels of a mipmapped 2048 x 2048 texture. By hand:

OMP_NUM_THREADS=1 python -m tests.benchmarks.bm_texture

Prints the least and the median CPU time of ten calls after two, in ms, forward and backward, in one thread.
CPU time leaves out what other processes took, but not what they slow down.
"""

from __future__ import annotations

import statistics
import time

import torch

from mofa_nvdr import dr
from mofa_nvdr.dr import reference


def scene() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    tex = torch.rand(1, 2048, 2048, 3, generator=generator)
    y, x = torch.meshgrid(torch.linspace(0, 1, 512), torch.linspace(0, 1, 512), indexing="ij")
    uv = torch.stack([x + 0.1 * y * y, y + 0.05 * (6 * x).sin()], dim=-1)[None].contiguous()
    footprint = torch.tensor([1, 0.2, 0.3, 1]) / 512
    return tex, uv, footprint.expand(1, 512, 512, 4).contiguous()


def measure(module, repeats: int, all_gradients: bool, **options) -> str:
    tex, uv, uv_da = scene()
    leaves = [tex, uv, uv_da] if all_gradients else [tex]
    for leaf in leaves:
        leaf.requires_grad_()
    forward, backward = [], []
    for _ in range(repeats + 2):
        for leaf in leaves:
            leaf.grad = None
        start = time.process_time()
        out = module.texture(tex, uv, uv_da if "filter_mode" not in options else None, **options)
        middle = time.process_time()
        grad = torch.ones_like(out)
        again = time.process_time()
        out.backward(grad)
        forward.append(1e3 * (middle - start))
        backward.append(1e3 * (time.process_time() - again))
    return "  ".join(
        f"{min(t[2:]):6.1f} {statistics.median(t[2:]):6.1f}" for t in (forward, backward)
    )


def main() -> None:
    torch.set_num_threads(1)
    print("                                     forward        backward   (least, median; CPU ms)")
    for name, module, repeats, everything, options in (
        ("mipmaps, texture only", dr, 10, False, {}),
        ("mipmaps, and coordinates", dr, 10, True, {}),
        ("linear, texture only", dr, 10, False, {"filter_mode": "linear"}),
        ("mipmaps, plain torch", reference, 2, False, {}),
    ):
        print(f"{name:32s}  {measure(module, repeats, everything, **options)}")


if __name__ == "__main__":
    main()
