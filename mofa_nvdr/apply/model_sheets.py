"""Sheets of pictures that show what a face model can do: people, modes, expressions, tones, views."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from mofa_nvdr.apply.provenance import origin_of
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.render.pictures import captioned, geometry_picture, png_bytes, sheet, to_uint8
from mofa_nvdr.scene.camera import FOCAL_PER_HEIGHT, Camera
from mofa_nvdr.scene.light_sources import light_presets
from mofa_nvdr.scene.lighting import ambient_light, directional_light
from mofa_nvdr.scene.pose import axis_angle_to_matrix
from mofa_nvdr.system.files import write_files
from mofa_nvdr.system.notes import say
from mofa_nvdr.system.origins import check_free

SHEETS = ("people", "shape", "expression", "albedo", "named_expressions", "tones", "mean")
STEPS = (-2.0, 0.0, 2.0)
TONES = 2.5  # standard deviations to either side
# The people's light and pose: uniform distributions, stated under the sheet.
AMBIENT, KEY, KEY_ANGLE, POSE_ANGLE = (0.35, 0.75), (0.2, 0.8), 70.0, 15.0
PEOPLE_CAPTION = (
    f"coefficients N(0, 1), neutral expression; poses uniform within {POSE_ANGLE:.0f} degrees of frontal; "
    f"ambient irradiance {AMBIENT[0]} to {AMBIENT[1]}, one key light {KEY[0]} to {KEY[1]} within "
    f"{KEY_ANGLE:.0f} degrees of the camera"
)
_FILLED = 0.88  # share of a picture's height that the average face takes
_ROOM = 0.12  # of its height, next to the average face
_BACKGROUND = 0.3
_BATCH = 12


def framing(model: FaceModel, size: int) -> Camera:
    """A camera that sees the whole average face, whatever the model's size and origin.

    Args:
        model: the face model.
        size: height of the picture in pixels, even; the width follows the face, and is even too.
    """
    low, high = model.mean_shape.amin(0), model.mean_shape.amax(0)
    middle = ((low + high) / 2).tolist()
    width, height, depth = (high - low).tolist()
    # Room for heads that are turned or larger than the average one.
    ratio = min(1.0, max(0.5, max(width, depth) / max(height, 1e-6) + _ROOM))
    columns = 2 * round(size * ratio / 2)
    extent = max(height, max(width, depth) / (ratio - _ROOM))
    # The nearest point is the one that must fit: half the depth in front of the middle.
    distance = extent * FOCAL_PER_HEIGHT / _FILLED + depth / 2
    place = (-middle[0], -middle[1], -middle[2] - distance)
    return Camera((size, columns), near=distance / 10, far=distance * 10, position=place)


class Painter:
    """Renders codes of a model as small pictures, at twice their size and then averaged.

    Args:
        model: the face model.
        size: height of a picture in pixels.
        progress: called with the number of pictures after each batch.
    """

    def __init__(
        self, model: FaceModel, size: int, progress: Callable[[int], object] = lambda _: None
    ) -> None:
        self.model = model
        self._middle = (model.mean_shape.amin(0) + model.mean_shape.amax(0)) / 2
        self._decoder = FaceDecoder(model, camera=framing(model, 2 * size), frontal_only=False)
        self._progress = progress

    @torch.no_grad()
    def __call__(self, code: FaceCode, light: Tensor, clay: bool = False) -> np.ndarray:
        """Pictures uint8 [B, S, W, 3] of codes under complete lights [9, 3] or [B, 9, 3].

        Args:
            code: B faces.
            light: their lights.
            clay: the bare surface instead of the lit face.
        """
        lights = light.expand(code.batch_size, 9, 3)
        # Heads turn about the model's origin, wherever that is; here they stay in the picture's middle.
        turned = axis_angle_to_matrix(code.rotation) @ self._middle
        code = code.replace(translation=code.translation + self._middle - turned)
        pictures = []
        for start in range(0, code.batch_size, _BATCH):
            part = code.map(lambda values, at=start: values[at : at + _BATCH])  # type: ignore[misc]
            geometry = self._decoder.geometry(part)
            geometry = dataclasses.replace(geometry, light=lights[start : start + _BATCH])
            face = self._decoder.rasterize(geometry)
            picture = geometry_picture(face) if clay else face.image.clamp(0, 1)
            picture = torch.where(face.mask > 0, picture, torch.full_like(picture, _BACKGROUND))
            pictures.append(to_uint8(F.avg_pool2d(picture, 2)))
            self._progress(len(pictures[-1]))
        return np.concatenate(pictures)


def random_people(model: FaceModel, count: int, seed: int) -> tuple[FaceCode, Tensor]:
    """Codes of random people and their lights [B, 9, 3], as PEOPLE_CAPTION says; a function of the seed."""
    generator = torch.Generator().manual_seed(seed)
    layout = model.layout

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    shape = torch.randn(count, layout.num_shape, generator=generator)
    albedo = torch.randn(count, layout.num_albedo, generator=generator)
    # Axis-angle, uniform in a ball: no turn of the head exceeds the angle.
    axis = F.normalize(torch.randn(count, 3, generator=generator), dim=1)
    rotation = axis * uniform(0, 1, count, 1) ** (1 / 3) * math.radians(POSE_ANGLE)
    cosine = uniform(math.cos(math.radians(KEY_ANGLE)), 1, count)  # uniform on the cap
    azimuth = uniform(0, 2 * math.pi, count)
    sine = (1 - cosine**2).sqrt()
    towards = torch.stack([sine * azimuth.cos(), sine * azimuth.sin(), cosine], 1)
    light = uniform(*AMBIENT, count, 1, 1) * ambient_light(1.0)
    light = light + uniform(*KEY, count, 1, 1) * directional_light(towards)
    code = layout.zeros(count).replace(shape=shape, albedo=albedo, rotation=rotation)
    return code, light


def people_sheet(painter: Painter, seed: int, count: int = 36, columns: int = 6) -> np.ndarray:
    """Random people under varied light."""
    code, light = random_people(painter.model, count, seed)
    return captioned(sheet(painter(code, light), columns), f"seed {seed}: {PEOPLE_CAPTION}")


def modes_sheet(painter: Painter, part: str, limit: int, columns: int = 4) -> np.ndarray:
    """Each mode of "shape" (as clay), "expression" or "albedo" at -2, 0 and +2 standard deviations."""
    model = painter.model
    basis = getattr(model, f"{part}_basis")
    count = min(len(basis), limit)
    coefficients = torch.zeros(count, len(STEPS), len(basis))
    for k in range(count):
        coefficients[k, :, k] = torch.tensor(STEPS)
    code = model.layout.zeros(count * len(STEPS)).replace(**{part: coefficients.flatten(0, 1)})
    pictures = painter(code, light_presets()["front"], clay=part == "shape")
    variance = basis.square().sum((1, 2))
    cells = []
    for k in range(count):
        strip = np.concatenate(list(pictures[k * len(STEPS) : (k + 1) * len(STEPS)]), axis=1)
        share = 100 * float(variance[k] / variance.sum().clamp(min=1e-30))
        steps = ", ".join(f"{step:+g}" if step else "0" for step in STEPS)
        cell = captioned(strip, f"{part} {k + 1}: {steps} ({share:.2g} % of variance)")
        cells.append(np.pad(cell, ((0, 4), (0, 6), (0, 0))))
    return _laid_out(cells, columns)


def expressions_sheet(painter: Painter, columns: int = 9) -> np.ndarray:
    """Every named expression at full weight, the neutral face first.

    mouthClose is shown on an open jaw: ARKit defines it as the lips closing over jawOpen, and alone it pushes
    them through each other.
    """
    model = painter.model
    shown = {"neutral": torch.zeros(model.layout.num_expression)}
    for name, coefficients in model.named_expressions.items():
        if name == "mouthClose" and "jawOpen" in model.named_expressions:
            shown["jawOpen + mouthClose"] = model.named_expressions["jawOpen"] + coefficients
        else:
            shown[name] = coefficients
    code = model.layout.zeros(len(shown)).replace(expression=torch.stack(list(shown.values())))
    pictures = painter(code, light_presets()["front"])
    return _labelled(pictures, list(shown), columns)


def tones_sheet(painter: Painter, count: int = 11) -> np.ndarray:
    """The first albedo mode from -2.5 to 2.5 standard deviations."""
    steps = torch.linspace(-TONES, TONES, count)
    albedo = torch.zeros(count, painter.model.layout.num_albedo)
    albedo[:, 0] = steps
    code = painter.model.layout.zeros(count).replace(albedo=albedo)
    pictures = painter(code, light_presets()["front"])
    return _labelled(pictures, [f"{step:+.1f}" for step in steps.tolist()], count)


def mean_sheet(painter: Painter) -> np.ndarray:
    """The average face from the front, from half way and from the side; below, as clay."""
    angles = (0.0, 40.0, 80.0)
    rotation = torch.zeros(len(angles), 3)
    rotation[:, 1] = -torch.deg2rad(torch.tensor(angles))
    code = painter.model.layout.zeros(len(angles)).replace(rotation=rotation)
    light = light_presets()["front"]
    pictures = np.concatenate([painter(code, light), painter(code, light, clay=True)])
    return _labelled(pictures, [f"{a:.0f} degrees" for a in angles] * 2, len(angles))


def _labelled(pictures: np.ndarray, labels: Sequence[str], columns: int) -> np.ndarray:
    cells = [captioned(picture, label) for picture, label in zip(pictures, labels)]
    return _laid_out(cells, columns)


def _laid_out(cells: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """A sheet of cells of one width; captions may have taken different numbers of lines."""
    height = max(len(cell) for cell in cells)
    even = [np.pad(cell, ((0, height - len(cell)), (0, 0), (0, 0))) for cell in cells]
    return sheet(np.stack(even), min(columns, len(cells)))


def show_model(
    model_name: str,
    out: str | Path,
    size: int = 160,
    modes: int = 80,
    seed: int = 1,
    sheets: Sequence[str] = SHEETS,
    overwrite: bool = False,
) -> list[Path]:
    """Write the sheets of a model into a folder, one PNG each.

    Sheets that a model has nothing for (no such mode, no named expression) are left out and named.

    Args:
        model_name: as FaceModel.load takes it.
        out: folder, made if missing.
        size: height of a picture in pixels; modes are drawn at 0.7 of it, the average face at twice.
        modes: most modes of each kind.
        seed: of the random people.
        sheets: which, of SHEETS.
        overwrite: replace files that show something else too (provenance.py).

    Returns:
        The files written.

    Raises:
        ValueError: an option out of range, no such model, or the folder can't be written; or a file of
            a sheet's name is there and no earlier sheet of the same model.
    """
    if not 32 <= size <= 2048:
        raise ValueError(f"--size is {size}, expected 32 to 2048 pixels")
    if modes < 1:
        raise ValueError(f"--modes is {modes}, expected 1 or more")
    unknown = [name for name in sheets if name not in SHEETS]
    if unknown or not sheets:
        raise ValueError(
            f"--sheets: {repr(unknown[0]) if unknown else 'none'}, expected some of {', '.join(SHEETS)}"
        )
    model = FaceModel.load(model_name)
    folder, origin = Path(out), origin_of(model)
    check_free(out, [folder / f"{name}.png" for name in sheets], origin, overwrite)
    counts = _counts(model, modes)
    written = []
    bar = tqdm(
        total=sum(counts[name] for name in sheets), unit="picture", disable=not sys.stderr.isatty()
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in sheets:
            if not counts[name]:
                say(f"{name}: left out, {model.name} has nothing to show there")
                continue
            path = folder / f"{name}.png"
            picture = _draw(model, name, size, modes, seed, bar.update)
            write_files({path: png_bytes(picture, kind="sheet", comment=origin)})
            written.append(path)
    except OSError as error:
        raise ValueError(f"--out {out}: cannot write there ({error.strerror or error})") from None
    finally:
        bar.close()
    say(f"{len(written)} sheets of {model.name}: {folder}")
    return written


def _counts(model: FaceModel, modes: int) -> dict[str, int]:
    """Pictures of each sheet."""
    layout = model.layout
    steps = len(STEPS)
    return {
        "people": 36,
        "shape": steps * min(modes, layout.num_shape),
        "expression": steps * min(modes, layout.num_expression),
        "albedo": steps * min(modes, layout.num_albedo),
        "named_expressions": len(model.named_expressions) and len(model.named_expressions) + 1,
        "tones": 11 if layout.num_albedo else 0,
        "mean": 6,
    }


def _draw(
    model: FaceModel, name: str, size: int, modes: int, seed: int, progress: Callable[[int], object]
) -> np.ndarray:
    if name in ("shape", "expression", "albedo"):
        return modes_sheet(Painter(model, round(0.7 * size), progress), name, modes)
    if name == "mean":
        return mean_sheet(Painter(model, 2 * size, progress))
    painter = Painter(model, size, progress)
    if name == "people":
        return people_sheet(painter, seed)
    return expressions_sheet(painter) if name == "named_expressions" else tones_sheet(painter)
