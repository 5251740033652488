"""Print the table of docs/outline_gradients.md: gradients of a whole picture against finite differences.

python docs/make_outline_table.py [front|side] (two minutes on one core)
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from mofa_nvdr import dr
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.camera import Camera

SIZE, SUPERSAMPLING, PLACEMENTS = 240, 6, 16
# Part of the code, entry, half-width of the finite difference (about half a pixel to two).
MOTIONS = {
    "translation x": ("translation", 0, 1.0),
    "translation y": ("translation", 1, 1.0),
    "translation z (scale)": ("translation", 2, 10.0),
    "pitch": ("rotation", 0, 0.02),
    "yaw": ("rotation", 1, 0.02),
    "roll": ("rotation", 2, 0.02),
    "shape 0": ("shape", 0, 0.25),
    "shape 1": ("shape", 1, 0.25),
    "shape 2": ("shape", 2, 0.25),
    "shape 5": ("shape", 5, 0.5),
    "expression 0": ("expression", 0, 0.25),
}
POSES = {"front": [0.1, -0.15, 0.05], "side": [0.1, 0.6, 0.05]}


def picture(size: int, flipped: bool = False) -> Tensor:
    """A smooth picture: the target, or turned over and darkened the background."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    x, y = (x + 0.5) / size, (y + 0.5) / size
    channels = [
        0.5 + 0.3 * torch.sin(5 * x + 2 * y + 1),
        0.4 + 0.3 * torch.sin(2 * x - 6 * y),
        0.5 + 0.25 * torch.cos(4 * x * y + 3 * x),
    ]
    image = torch.stack(channels)[None]
    return 0.5 * image.flip(1, 3) if flipped else image


def loss(composed: Tensor) -> Tensor:
    """Mean squared error of the whole picture."""
    return (composed - picture(composed.shape[-1])).square().sum(1).mean()


def start(model: FaceModel, pose: str) -> Tensor:
    """A face of random shape."""
    code = torch.zeros(1, model.layout.size)
    where = model.layout.slices
    generator = torch.Generator().manual_seed(4)
    code[:, where["shape"]] = 0.5 * torch.randn(1, 80, generator=generator)
    code[:, where["translation"]] = torch.tensor([3.0, -2.0, -60.0])
    code[:, where["rotation"]] = torch.tensor(POSES[pose])
    return code


@torch.no_grad()
def finite_differences(model: FaceModel, code: Tensor) -> dict[str, tuple[float, float]]:
    """Slope and the difference between two step sizes, of the supersampled render."""
    size = SIZE * SUPERSAMPLING
    decoder, background = FaceDecoder(model, size), picture(size, flipped=True)
    slopes = {}
    for name, (part, entry, step) in MOTIONS.items():
        values = {}
        for k in (-1.0, -0.5, 0.5, 1.0):
            moved = code.clone()
            moved[0, model.layout.slices[part].start + entry] += k * step
            values[k] = loss(decoder(moved).over(background)).item()
        wide = (values[1.0] - values[-1.0]) / (2 * step)
        narrow = (values[0.5] - values[-0.5]) / step
        slopes[name] = ((2 * wide + narrow) / 3, abs(wide - narrow))
    return slopes


def gradient(model: FaceModel, code: Tensor, kind: str) -> list[float]:
    """One backward pass at SIZE: plain, with dr.antialias, or with outline="edges"."""
    code = code.clone().requires_grad_()
    decoder = FaceDecoder(model, SIZE, outline="edges" if kind == "edges" else "none")
    geometry = decoder.geometry(code)
    composed = decoder.rasterize(geometry).over(picture(SIZE, flipped=True))
    if kind == "antialias":
        pos = decoder.camera.clip_space(geometry.vertices).contiguous()
        rast, _ = dr.rasterize(dr.RasterizeContext(), pos, decoder.triangles, (SIZE, SIZE))
        color = composed.permute(0, 2, 3, 1).flip(1).contiguous()
        color = dr.antialias(color, rast.detach(), pos, decoder.triangles)
        composed = color.flip(1).permute(0, 3, 1, 2)
    (slope,) = torch.autograd.grad(loss(composed), code)
    where = model.layout.slices
    return [slope[0, where[part].start + entry].item() for part, entry, _ in MOTIONS.values()]


def main(pose: str) -> None:
    """Print the table's rows."""
    model = FaceModel.load("procedural")
    code = start(model, pose)
    millimetres = -Camera(SIZE).position[2] / Camera(SIZE).focal_px  # a pixel
    shift = model.layout.slices["translation"]
    slopes: dict[str, Tensor] = {}
    for kind in ("plain", "antialias", "edges"):
        generator, rows = torch.Generator().manual_seed(1), []
        for _ in range(PLACEMENTS):  # the same face at random places within a pixel
            placed = code.clone()
            offset = torch.rand(2, generator=generator) - 0.5
            placed[0, shift.start : shift.start + 2] += offset * millimetres
            rows.append(gradient(model, placed, kind))
        slopes[kind] = torch.tensor(rows)
    for k, (name, (true, error)) in enumerate(finite_differences(model, code).items()):
        cells = [f"{true:.3e} ± {100 * abs(error / true):.1f} %"]
        for rows in slopes.values():
            mean, spread = rows[:, k].mean().item(), rows[:, k].std().item()
            cells.append(f"{100 * (mean - true) / abs(true):+.1f} ({100 * spread / abs(true):.0f})")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "front")
