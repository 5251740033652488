"""Print the table of docs/reports/training.md and draw its training.svg from run folders.

python docs/make_training_figures.py NAME=RUN [NAME=RUN ...] [--svg FILE] [--sheet FOLDER] [--parts]

The table has the last validation of each run. --sheet FOLDER draws, for each run, thirty validation
photographs with the fitted faces over them, evenly spaced over the split, with its newest checkpoint.
--parts says what that checkpoint knows of shapes and expressions, by the landmarks of the photographs.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.landmarks import PAPER_46
from mofa_nvdr.networks.encoder import Encoder
from mofa_nvdr.render import pictures
from mofa_nvdr.render.decoder import FaceDecoder, face_image
from mofa_nvdr.render.pictures import to_uint8, write_png
from mofa_nvdr.runs.config import load_config
from mofa_nvdr.runs.folder import read_log
from mofa_nvdr.runs.trained import Reconstructor
from mofa_nvdr.training.batches import TrainingData
from mofa_nvdr.training.charts import COLORS, line_chart

_WIDTH, _HEIGHT, _TITLE = 480, 260, 24
_STYLE = (
    "text { font: 12px sans-serif; fill: #444; } line { stroke: #ccc; } "
    "polyline { fill: none; stroke-width: 1.6; }"
)
_MEASURES = {"landmark_px": "landmark error, px at 240", "photometric": "photometric error"}


def validations(run: Path) -> list[dict[str, Any]]:
    """The validation lines of a run's log."""
    return [line for line in read_log(run / "log.jsonl") if line.get("split") == "val"]


def table(runs: dict[str, Path]) -> str:
    """Markdown: what each run ended with."""
    rows = [
        "| run | steps | CPU minutes | photometric | photometric, vertices | landmarks, px | mask | scale "
        "| pitch, mean | yaw, sd |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, run in runs.items():
        first, *_, last = validations(run)
        change = 100 * (last["landmark_px"] / first["landmark_px"] - 1)
        rows.append(
            f"| {name} | {last['step']:,} | {last['cpu_seconds'] / 60:.0f} | {last['photometric']:.3f} | "
            f"{last['photometric_vertex']:.3f} | {last['landmark_px']:.2f} ({change:+.0f} %) | "
            f"{last['mask_fraction'] / first['mask_fraction']:.0%} | {last['scale']:.2f} | "
            f"{last['pitch_mean_deg']:+.1f}° | {last['yaw_std_deg']:.1f}° |"
        )
    return "\n".join(rows)


def plot(runs: dict[str, Path]) -> str:
    """An SVG of four charts: both measures against steps and against CPU minutes."""
    log = {name: validations(run) for name, run in runs.items()}
    parts = []
    for row, (measure, words) in enumerate(_MEASURES.items()):
        for column, (key, scale, unit) in enumerate(
            [("step", 1, "steps"), ("cpu_seconds", 60, "CPU minutes")]
        ):
            series = {
                name: [(line[key] / scale, line[measure]) for line in lines]
                for name, lines in log.items()
            }
            (chart,) = re.findall(r"<svg[^>]*>(.*)</svg>", line_chart("", series, log=True))
            x, y = column * (_WIDTH + 20), row * (_HEIGHT + _TITLE + 10)
            parts.append(
                f'<g transform="translate({x} {y})"><text x="58" y="16" font-weight="bold">{words}, '
                f'against {unit}</text><g transform="translate(0 {_TITLE})">{chart}</g></g>'
            )
    bottom = 2 * (_HEIGHT + _TITLE + 10)
    for k, name in enumerate(log):
        x, y = 58 + (k % 3) * 310, bottom + 14 + (k // 3) * 20
        color = COLORS[k % len(COLORS)]
        parts.append(f'<rect x="{x}" y="{y - 10}" width="12" height="12" fill="{color}"/>')
        parts.append(f'<text x="{x + 18}" y="{y}">{name}</text>')
    height = bottom + 20 * (1 + (len(log) + 2) // 3)
    width = 2 * _WIDTH + 20
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">'
        f'<style>{_STYLE}</style><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def load(run: Path) -> tuple[TrainingData, FaceDecoder, Encoder]:
    """The data of a run, its decoder, and the encoder of its newest checkpoint."""
    trained = Reconstructor.load(run, "", "cpu")
    assert isinstance(trained.encoder, Encoder)
    corpus = TrainingData(load_config(str(run / "config.yaml")), trained.decoder)
    return corpus, trained.decoder, trained.encoder


@torch.no_grad()
def sheet(run: Path, file: Path, columns: int = 10) -> None:
    """Thirty validation photographs above the faces that the run's newest checkpoint fits to them."""
    corpus, decoder, encoder = load(run)
    rows: list[np.ndarray] = []
    images = torch.cat([batch.images for batch in corpus.val(limit=30)])
    for few in images.split(columns):
        face = decoder.rasterize(decoder.geometry(encoder(few)))
        rows += [to_uint8(few), to_uint8(face_image(face, few))]
    write_png(file, pictures.sheet(np.concatenate(rows), columns))


# Of 68 landmarks: pairs of points whose distance is measured, over that of the eyes' outer corners.
_LENGTHS = {
    "mouth's opening": [(62, 66)],
    "mouth's width": [(48, 54)],
    "lids' opening": [(37, 41), (43, 47)],
    "brows over eyes": [(19, 37), (24, 44)],
}


def similarity_error(points: Tensor, true: Tensor) -> float:
    """Mean distance of points [B, L, 2] to the true ones after the similarity that fits best."""
    a, b = (
        torch.view_as_complex((p - p.mean(1, keepdim=True)).contiguous()) for p in (points, true)
    )
    factor = (a.conj() * b).sum(1, keepdim=True) / a.abs().square().sum(1, keepdim=True)
    return (a * factor - b).abs().mean().item()


@torch.no_grad()
def parts_table(runs: dict[str, Path], limit: int = 256) -> str:
    """Markdown: landmark errors after a similarity, with parts of the code set to zero, and correlations."""
    rows = [
        "| run | landmarks after a similarity, px | shape 0 | expression 0 | both 0 | "
        + " | ".join(f"{name}: correlation, mean (true)" for name in _LENGTHS)
        + " |",
        "|---" * (5 + len(_LENGTHS)) + "|",
    ]
    for name, run in runs.items():
        corpus, decoder, encoder = load(run)
        codes, truth = [], []
        for batch in corpus.val(limit=limit):
            codes.append(encoder(batch.images))
            truth.append(batch.landmarks)
        code, true = decoder.model.layout.unpack(torch.cat(codes)), torch.cat(truth)

        def landmarks(code: FaceCode, decoder: FaceDecoder = decoder) -> Tensor:
            return decoder.camera.project(decoder.points(code, decoder.model.landmarks.long()))

        errors = []
        for zero in [(), ("shape",), ("expression",), ("shape", "expression")]:
            less = dataclasses.replace(
                code, **{part: torch.zeros_like(getattr(code, part)) for part in zero}
            )
            errors.append(similarity_error(landmarks(less)[:, PAPER_46], true[:, PAPER_46]))
        cells = [f"{error:.2f}" for error in errors]
        for pairs in _LENGTHS.values():
            own, there = (_relative_length(points, pairs) for points in (landmarks(code), true))
            correlation = torch.corrcoef(torch.stack([own, there]))[0, 1]
            cells.append(f"{correlation:.2f}, {own.mean():.3f} ({there.mean():.3f})")
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _relative_length(points: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
    def length(a: int, b: int) -> Tensor:
        return (points[:, a] - points[:, b]).norm(dim=1)

    return torch.stack([length(a, b) for a, b in pairs]).mean(0) / length(36, 45)


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN")
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--parts", action="store_true")
    options = parser.parse_args()
    runs = {name: Path(run) for name, run in (text.split("=", 1) for text in options.runs)}
    print(table(runs))
    if options.svg:
        options.svg.write_text(plot(runs))
    if options.sheet:
        for name, run in runs.items():
            sheet(run, options.sheet / f"{name.replace(' ', '_').replace(',', '')}.png")
    if options.parts:
        print("\n" + parts_table(runs))


if __name__ == "__main__":
    main()
