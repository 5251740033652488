"""Faces in the wild by person and by group: who is recognised, and how well whom is drawn.

`python -m tests.benchmarks.bm_groups wild|groups --models portraits encoder: refined: [--data FOLDER]
[--count N]`; models as bm_model.py takes them. It needs `mofa-nvdr networks get landmarks` and `identity`,
and the photographs of $MOFA_NVDR_DATA or ../shared/data, on which nothing was trained.

wild: people with two photographs in LFW; the first is reconstructed and rendered on grey, and its person is
looked for among the second ones of all. Tone: luminance of the albedo on the cheeks against the
photograph's.
groups: crops of UTKFace and LFW by the labels of the first (sex, age), by thirds of the photographs' cheek
luminance, and by the turn that the data set gives: photometric error over the pixels of all models' masks,
tone, landmarks (the paper's 46, px at 240) and how far lids and mouths are open, against the landmark
networks' points, which are in the training too: agreement, not accuracy.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mofa_nvdr.bench.operators import machine_facts
from mofa_nvdr.data.crops.framing import crop_from_landmarks
from mofa_nvdr.data.images import read_image
from mofa_nvdr.face.landmarks import PAPER_46
from mofa_nvdr.losses.landmark_terms import openings
from mofa_nvdr.networks.landmark_detector import LandmarkDetector
from mofa_nvdr.render.decoder import face_image
from tests.benchmarks.bm_identity import embed, recall
from tests.benchmarks.bm_model import (
    GREY,
    SIZE,
    Contender,
    cheek,
    contender,
    correlation,
    distances,
    joined,
)

_Row = dict[str, str]


def rows_of(data: Path) -> list[_Row]:
    """The data set's table."""
    with open(data / "faces/index.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def crops(data: Path, rows: Sequence[_Row]) -> tuple[list[int], Tensor, Tensor, Tensor]:
    """Which rows have a face, their crops, 478 and 68 points, px of the crops."""
    detector, kept = LandmarkDetector.load(), []
    photo, points, marks = [], [], []
    for k, row in enumerate(rows):
        image = read_image(data / "faces" / row["file"])
        found = detector(image)
        if not found:
            continue
        crop = crop_from_landmarks(found[0].landmarks68)
        kept.append(k)
        photo.append(torch.from_numpy(crop.cut(image, SIZE)).permute(2, 0, 1).float() / 255)
        points.append(torch.from_numpy(crop.to_crop(found[0].points[:, :2], SIZE)).float())
        marks.append(torch.from_numpy(crop.to_crop(found[0].landmarks68, SIZE)).float())
    return kept, torch.stack(photo), torch.stack(points), torch.stack(marks)


def tone_of(fits: list, points: Tensor) -> Tensor:
    """Luminance of the albedo on the cheeks, [B]."""
    mask = joined(fits, "mask") > 0
    return cheek(torch.where(mask, joined(fits, "albedo"), torch.nan), points)


def wild(models: dict[str, Contender], data: Path, count: int) -> None:
    """Recognition among people of whom another photograph is known."""
    people: dict[str, list[_Row]] = {}
    for row in rows_of(data):
        if row["dataset"] == "lfw":
            people.setdefault(row["group"], []).append(row)
    pairs = [rows[:2] for _, rows in sorted(people.items()) if len(rows) > 1]
    pairs = pairs[:: max(1, len(pairs) // count)][:count]
    kept, photo, points, marks = crops(data, [row for pair in pairs for row in pair])
    place = {k: n for n, k in enumerate(kept)}
    both = [
        (place[2 * k], place[2 * k + 1])
        for k in range(len(pairs))
        if {2 * k, 2 * k + 1} <= place.keys()
    ]
    first, second = (torch.tensor(side) for side in zip(*both))
    gallery = embed(photo[second], marks[second])
    photo, points, marks = photo[first], points[first], marks[first]
    own = recall(embed(photo, marks), gallery, range(len(first)))
    tone = cheek(photo, points)
    fits = {name: c.faces(photo, points) for name, c in models.items()}
    colors = _distances(photo, fits)
    print(f"{len(first)} people; the photographs themselves: {own[0]:.3f}, {own[1]:.3f}\n")
    print(
        "| model | photometric | mask | other photograph top-1 | top-5 | tone: correlation | spread | "
        "photographs' |\n|---|---|---|---|---|---|---|---|"
    )
    for name, f in fits.items():
        pictures = torch.cat([face_image(fit.face, GREY) for fit in f])
        top = recall(embed(pictures, marks), gallery, range(len(first)))
        skin, mask = tone_of(f, points), joined(f, "mask").flatten(1).mean()
        agree = correlation(skin, tone)
        print(
            f"| {name} | {float(colors[name].mean()):.4f} | {float(mask):.3f} | {top[0]:.2f} | "
            f"{top[1]:.2f} | {agree:.2f} | {float(skin.std()):.3f} | {float(tone.std()):.3f} |"
        )


def groups(models: dict[str, Contender], data: Path, count: int) -> None:
    """Photometric error and tone by group."""
    rows = [row for row in rows_of(data) if row["split"] == "val" and row["dataset"] != "ytf"]
    rows = rows[:: max(1, len(rows) // count)][:count]
    kept, photo, points, marks = crops(data, rows)
    rows = [rows[k] for k in kept]
    tone = cheek(photo, points)
    fits = {name: c.faces(photo, points) for name, c in models.items()}
    colors = _distances(photo, fits)
    turned = torch.tensor([abs(float(row["yaw_deg"])) for row in rows])
    third = tone.quantile(torch.tensor([1 / 3, 2 / 3]))
    labels = [_labels(row) for row in rows]

    def with_label(at: int, test: Callable[[int], bool]) -> Tensor:
        return torch.tensor([label is not None and test(label[at]) for label in labels])

    of = {
        "all": torch.ones(len(rows), dtype=torch.bool),
        "women": with_label(1, lambda x: x == 1), "men": with_label(1, lambda x: x == 0),
        "to 25 years": with_label(0, lambda x: x <= 25),
        "26 to 50": with_label(0, lambda x: 25 < x <= 50), "over 50": with_label(0, lambda x: x > 50),
        "darkest third": tone <= third[0], "middle third": (tone > third[0]) & (tone <= third[1]),
        "lightest third": tone > third[1], "turned 0 to 15 degrees": turned <= 15,
        "15 to 35": (turned > 15) & (turned <= 35), "over 35": turned > 35,
    }  # fmt: skip
    columns = ("photometric", "mask", "tone", "landmarks", "lids", "mouths")
    print("| group | faces |" + "".join(f" {n}: {' | '.join(columns)} |" for n in models))
    print("|---|---|" + "---|" * len(columns) * len(models))
    for group, who in of.items():
        if who.sum() < 3:
            continue
        cells = ""
        for name, f in fits.items():
            mask = joined(f, "mask")[who].flatten(1).mean()
            agree = correlation(tone_of(f, points)[who], tone[who])
            cells += f" {float(colors[name][who].mean()):.4f} | {float(mask):.3f} | {agree:.2f} |"
            drawn, there = joined(f, "landmarks")[who], marks[who]
            away = (drawn - there).norm(dim=2)[:, list(PAPER_46)].mean()
            own, known = (openings(x).norm(dim=2) for x in (drawn, there))
            lids, mouths = (
                correlation(own[:, part].mean(1), known[:, part].mean(1))
                for part in (slice(4), slice(4, None))
            )
            cells += f" {float(away):.2f} | {lids:.2f} | {mouths:.2f} |"
        print(f"| {group} | {int(who.sum())} |{cells}")


def _labels(row: _Row) -> tuple[int, int] | None:
    """Age and sex (0 male, 1 female) of UTKFace, which are in its files' names."""
    parts = Path(row["source_path"]).name.split("_")
    if row["dataset"] != "utk" or not (parts[0].isdigit() and parts[1] in ("0", "1")):
        return None
    return int(parts[0]), int(parts[1])


def _distances(photo: Tensor, fits: dict[str, list]) -> dict[str, Tensor]:
    images = {name: joined(f, "image") for name, f in fits.items()}
    return distances(photo, images, {name: joined(f, "mask") for name, f in fits.items()})


def main() -> None:
    """Parse the arguments and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("wild", "groups"))
    parser.add_argument("--models", nargs="+", default=["portraits", "encoder:", "refined:"])
    parser.add_argument("--data", default=os.environ.get("MOFA_NVDR_DATA", "../shared/data"))
    parser.add_argument("--count", type=int, default=200)
    args = parser.parse_args()
    facts = machine_facts(torch.device("cpu"))
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    models = {name: contender(name) for name in args.models}
    {"wild": wild, "groups": groups}[args.what](models, Path(args.data), args.count)


if __name__ == "__main__":
    main()
