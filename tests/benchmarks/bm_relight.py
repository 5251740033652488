"""Relit renders next to the truth: PSNR and SSIM by light, as tables in Markdown; and times.

`python tests/benchmarks/bm_relight.py truth|time [--count N] [--data FOLDER]`; it needs `mofa-nvdr networks
get landmarks`, and the light probes of $MOFA_NVDR_DATA or ../shared/data.

Protocol of `truth`: renders of data/synthetic at 240 px, with heads, hair, glasses, occluders and a camera's
faults, whose faces are found and fitted as `relight` fits photographs. The true picture under a new light is
the render times the true ratio of linear shadings, of the true mesh, from the true old light to the new one,
where the face's mesh is seen: this favours ratios, as renders are Lambertian. Once without cast shadows, and
once with shadows (of face, skull, neck) under both lights. All estimates are brought to the truth's mean
luminance, so that the shape and the colour of light count and not exposure. `--color 1 --fill 0`;
`--no-balanced`, as nobody balances renders for their light, but in the row "balanced". The last row has the
default options, which are chosen for belief and not for truth: less colour, softer light.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from kornia.metrics import psnr, ssim
from torch import Tensor

from mofa_nvdr import FaceDecoder, FaceModel
from mofa_nvdr.apply.fit_files import PhotographFitter
from mofa_nvdr.apply.fit_stages import QUICK_STAGES
from mofa_nvdr.apply.fitting import FaceFitter, FitOptions, Observed
from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.apply.photo_relighting import PhotoRelighter
from mofa_nvdr.bench.operators import machine_facts
from mofa_nvdr.data.images import read_image
from mofa_nvdr.data.synthetic.faces import SyntheticFaces
from mofa_nvdr.data.synthetic.head import bare_head
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.networks.landmark_detector import LandmarkDetector
from mofa_nvdr.render.decoder import Geometry
from mofa_nvdr.render.pictures import to_uint8
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.hdr import read_hdr
from mofa_nvdr.scene.illumination import (
    Illumination,
    preset_illumination,
    probe_illumination,
)
from mofa_nvdr.scene.light_sources import (
    LUMINANCE,
    decode_light,
    encode_light,
    normalize_exposure,
)
from mofa_nvdr.scene.lighting import (
    directional_light,
    linear_to_srgb,
    sh_basis,
    srgb_to_linear,
)
from mofa_nvdr.scene.visibility import (
    cone_directions,
    shadowed_transfer,
    sphere_directions,
    visible_directions,
)

SIZE = 240
PROBES = {
    "indoor": "st_fagans_interior",
    "outdoor": "potsdamer_platz",
    "noon": "noon_grass",
    "studio": "brown_photostudio_02",
}
PRESETS = ("side_left", "key_right")
WEIGHTS = torch.tensor(LUMINANCE)
_LEAST = 0.02  # of the mean irradiance


def lights(data: Path) -> dict[str, Illumination]:
    """Probes, turned before the face as `relight` does, and presets."""
    out = {}
    for name, file in PROBES.items():
        panorama = torch.from_numpy(read_hdr(data / "light_probes" / f"{file}_512.hdr"))
        probe = probe_illumination(panorama)
        out[name] = probe.turned(probe.turn_to_front())
    return {**out, **{name: preset_illumination(name) for name in PRESETS}}


class Truth:
    """Linear irradiance at the vertices of a known face, without smoothing."""

    def __init__(
        self, model: FaceModel, camera: Camera, code: FaceCode, geometry: Geometry
    ) -> None:
        self.normals, self.points = geometry.normals[0], geometry.vertices[0]
        self._casters = bare_head(model, camera, code, geometry)
        directions = sphere_directions(192)
        visible = self._visible(directions)
        self._transfer = shadowed_transfer(self.normals, directions, visible)

    def _visible(self, directions: Tensor) -> Tensor:
        return visible_directions(self.points, self.normals, directions, *self._casters)

    def __call__(self, light: Illumination, shadows: bool) -> Tensor:
        """[V, 3], at least 2 % of its mean."""
        out = (self._transfer if shadows else sh_basis(self.normals)) @ light.sh
        for towards, color in zip(light.directions, light.colors):
            cone = cone_directions(towards, np.radians(5), 16)
            cosine = (self.normals @ cone.T).clamp(min=0)
            cosine = cosine * self._visible(cone).T if shadows else cosine
            out = out + cosine.mean(1, keepdim=True) * color
        return torch.maximum(out, _LEAST * out.mean())


def as_code_light(light: Illumination) -> Tensor:
    """The same for gamma-encoded albedo, [9, 3], as `--parameters-only` has it."""
    sh = light.sh.clone()
    for towards, color in zip(light.directions, light.colors):
        sh += directional_light(towards) * color
    return normalize_exposure(encode_light(normalize_exposure(sh, 0.6)))


def brought(picture: Tensor, level: float, mask: Tensor) -> Tensor:
    """sRGB [3, H, W] with a mean linear luminance over a mask."""
    linear = srgb_to_linear(picture.clamp(0, 1))
    for _ in range(3):
        mean = float((linear.clamp(max=1) * WEIGHTS.view(3, 1, 1)).sum(0)[mask].mean())
        linear = linear * (level / max(mean, 1e-4))
    return linear_to_srgb(linear).clamp(0, 1)


def scores(picture: Tensor, truth: Tensor, mask: Tensor) -> tuple[float, float]:
    """PSNR, dB, and SSIM over a mask."""
    similar = ssim(picture[None], truth[None], 7)[0].mean(0)
    return float(psnr(picture[:, mask], truth[:, mask], 1.0)), float(similar[mask].mean())


@torch.no_grad()
def truth(model: FaceModel, count: int, data: Path) -> None:
    """Tables of the protocol above."""
    camera = Camera(image_size=SIZE)
    decoder = FaceDecoder(model, camera=camera, frontal_only=False)
    detector = LandmarkDetector.load()
    kept, start = [], 0
    while len(kept) < count:
        some = SyntheticFaces(decoder).render(5, range(start, start + 8))
        for k, found in enumerate(detector.detect(list(to_uint8(some.picture.image)))):
            marks = found[0].landmarks68 if found else np.full((68, 2), 1e9)
            away = np.linalg.norm(marks[17:] - some.landmarks[k, 17:].numpy(), axis=1).mean()
            if away < 8:  # a face in the background is none of ours
                points = torch.from_numpy(found[0].points[:, :2]).float()
                code = some.code.map(lambda part, k=k: part[k : k + 1])
                visible = some.picture.visible[k, 0]
                kept.append((some.picture.image[k], points, code, visible))
        start += 8
    kept = kept[:count]
    fitter = FaceFitter(model, FitOptions(stages=QUICK_STAGES))
    fits = fitter(Observed(torch.stack([k[0] for k in kept]), torch.stack([k[1] for k in kept])))
    table: dict[tuple[bool, str, str], list[tuple[float, float]]] = defaultdict(list)
    new_lights = lights(data)
    for number, (image, _, true_code, visible) in enumerate(kept):
        code = fits.code.map(lambda part, k=number: part[k : k + 1])
        crop = np.array([0.0, 0.0, SIZE])
        parameters = FaceParameters(code, camera, crop, (model.name, model.hash), "")
        geometry = decoder.geometry(true_code)
        shading = Truth(model, camera, true_code, geometry)
        face = decoder.rasterize(geometry)
        mask = (face.mask[0, 0] > 0) & (visible > 0.9)
        if mask.sum() < 500:
            continue
        old = Illumination.of_sh(decode_light(geometry.light[0]))
        rendered = srgb_to_linear((sh_basis(shading.normals) @ geometry.light[0]).clamp(min=0.02))
        for shadows in (False, True):
            base = shading(old, shadows) / shading(old, False) if shadows else torch.ones(1, 3)
            first = srgb_to_linear(image) * over(
                decoder, geometry, base.expand(len(rendered), 3), mask
            )
            photo = to_uint8(linear_to_srgb(first)[None])[0]
            seen = torch.from_numpy(photo).permute(2, 0, 1).float() / 255
            relighters = {
                "ratio": PhotoRelighter(photo, parameters, model, True, 1.0, 0.0, False),
                "ratio, --no-shadows": PhotoRelighter(
                    photo, parameters, model, False, 1.0, 0.0, False
                ),
                "ratio, balanced": PhotoRelighter(photo, parameters, model, True, 1.0, 0.0, True),
                "ratio, default options": PhotoRelighter(photo, parameters, model),
            }
            for name, light in new_lights.items():
                ratio = shading(light, shadows) / rendered
                after = srgb_to_linear(image) * over(decoder, geometry, ratio, mask)
                level = 0.9 * (first * WEIGHTS.view(3, 1, 1)).sum(0)[mask].mean()
                level /= (after * WEIGHTS.view(3, 1, 1)).sum(0)[mask].mean()
                want = linear_to_srgb(after * level).clamp(0, 1)
                goal = float((srgb_to_linear(want) * WEIGHTS.view(3, 1, 1)).sum(0)[mask].mean())
                gain = srgb_to_linear(want)[:, mask].mean(1) / first[:, mask].mean(1)
                drawn = decoder.geometry(code)
                drawn = Geometry(
                    drawn.vertices, drawn.normals, drawn.albedo, as_code_light(light)[None]
                )
                alone = decoder.rasterize(drawn)
                pictures = {
                    "unchanged": seen,
                    "naive gain": linear_to_srgb(srgb_to_linear(seen) * gain.view(3, 1, 1)),
                    "parameters only": torch.where(alone.mask[0] > 0, alone.image[0], seen),
                }
                for who, relighter in relighters.items():
                    relit = torch.from_numpy(relighter(light)).permute(2, 0, 1).float() / 255
                    pictures[who] = relit
                for who, picture in pictures.items():
                    result = scores(brought(picture, goal, mask), want, mask)
                    table[shadows, name, who].append(result)
    for shadows in (False, True):
        print(
            f"\nTruth {'with' if shadows else 'without'} cast shadows, {len(kept)} renders: PSNR dB (SSIM)\n"
        )
        names = list(new_lights)
        print("| |", " | ".join(names), "| mean |\n|", "---|" * (len(names) + 2))
        for who in pictures:
            each = [np.mean(table[shadows, name, who], 0) for name in names]
            each.append(np.mean(each, 0))
            print(f"| {who} |", " | ".join(f"{p:.1f} ({s:.3f})" for p, s in each), "|")


def over(decoder: FaceDecoder, geometry: Geometry, values: Tensor, mask: Tensor) -> Tensor:
    """Values at vertices [V, 3] over the picture, 1 outside of a mask, [3, H, W]."""
    ambient = torch.zeros(1, 9, 3)
    ambient[:, 0] = 1 / float(sh_basis(torch.tensor([0.0, 0, 1]))[0])
    drawn = Geometry(geometry.vertices, geometry.normals, values[None].contiguous(), ambient)
    return torch.where(mask, decoder.rasterize(drawn).image[0], 1.0)


def times(data: Path, count: int) -> None:
    """Seconds of each step for photographs; the first of all, which loads and compiles, is left out."""
    fitter = PhotographFitter("", "relight")
    light = lights(data)
    parts: dict[str, list[float]] = defaultdict(list)
    for number, path in enumerate(
        sorted((data / "portraits/images").glob("portrait_*"))[: count + 1]
    ):
        start = time.perf_counter()
        face = fitter(path)
        fit = time.perf_counter()
        relighter = PhotoRelighter(read_image(path), face, fitter.model)
        made = time.perf_counter()
        relighter(light["indoor"])
        probe = time.perf_counter()
        relighter(light["side_left"])
        lamp = time.perf_counter()
        if number:
            steps = (fit - start, made - fit, probe - made, lamp - probe, probe - start)
            for name, seconds in zip(
                ("fit", "prepare", "a probe", "a lamp", "first picture"), steps
            ):
                parts[name].append(seconds)
    for name, seconds in parts.items():
        low, middle, high = np.quantile(seconds, [0.25, 0.5, 0.75])
        print(f"| {name} | {middle:.2f} | {low:.2f} to {high:.2f} |")


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("truth", "time"))
    parser.add_argument("--count", type=int, default=40)
    default = os.environ.get("MOFA_NVDR_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default))
    options = parser.parse_args()
    print(machine_facts(torch.device("cpu")))
    if options.what == "truth":
        truth(FaceModel.load("default"), options.count, options.data)
    else:
        times(options.data, options.count)


if __name__ == "__main__":
    main()
