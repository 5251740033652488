"""Faces in the wild by person and by group: who is recognised, and how well whom is drawn.

`python -m tests.benchmarks.bm_groups people|wild|groups --models portraits encoder: refined: [--data FOLDER]
[--count N] [--split val] [--labelled]`; models as bm_model.py takes them. It needs `mofa-nvdr networks get
landmarks` and `identity`, and the photographs of $MOFA_NVDR_DATA or ../shared/data. Where a run was trained
on these, `--split val` takes those that it has not seen.

people: the tables of Genova et al. 2018: people with two photographs in LFW, of which the first is
reconstructed; its render is looked for among the first and among the second ones of all; distributions of
similarities, and the earth mover's distance to those of photographs of one and of two people. Tone: as below.
The network is dlib's, which `loss.identity` has too.
wild: people with two photographs in LFW; the first is reconstructed and rendered on grey, and its person is
looked for among the second ones of all. Tone: luminance of the albedo on the cheeks against the
photograph's.
groups: crops of UTKFace and LFW (`--labelled`: of the first alone) by the labels of the first (sex, age,
origin, in its own words), by thirds of the photographs' cheek luminance, and by the turn that the data set
gives: photometric error over the pixels of all models' masks; tone: correlation with the photographs', and
the rms of what a line through all faces leaves, in the photographs' luminance; landmarks (the paper's 46, px
at 240) and how far lids and mouths are open, against the landmark networks' points, which are in fits and
training too: agreement, not accuracy; recognition: the render on grey among the photographs of all faces.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mofa_nvdr.bench.operators import machine_facts
from mofa_nvdr.data.crops.framing import crop_from_landmarks
from mofa_nvdr.data.images import read_image
from mofa_nvdr.face.landmarks import PAPER_46
from mofa_nvdr.losses.landmark_terms import openings
from mofa_nvdr.networks.landmark_detector import LandmarkDetector
from mofa_nvdr.render.decoder import FaceDecoder, face_image
from tests.benchmarks.bm_identity import embed, likeness, recall, without_means
from tests.benchmarks.bm_model import (
    GREY,
    SIZE,
    Contender,
    cheek,
    contender,
    correlation,
    distances,
    joined,
    neutral_faces,
)

_Row = dict[str, str]
_ORIGINS = ("white", "black", "asian", "indian", "other")  # UTKFace's labels, by its numbers


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


@dataclass(frozen=True)
class TwoPhotographs:
    """People with two photographs each.

    Attributes:
        photo, points, marks: of the first ones: crops, their 478 and 68 points.
        fitted: embeddings of the first ones.
        other: of the second ones.
    """

    photo: Tensor
    points: Tensor
    marks: Tensor
    fitted: Tensor
    other: Tensor


def two_photographs(data: Path, count: int, split: str) -> TwoPhotographs:
    """People of LFW with two photographs of a split, or of any where it is empty."""
    people: dict[str, list[_Row]] = {}
    for row in rows_of(data):
        if row["dataset"] == "lfw" and row["split"].startswith(split):
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
    embeddings = embed(photo, marks)
    return TwoPhotographs(
        photo[first], points[first], marks[first], embeddings[first], embeddings[second]
    )


def people(models: dict[str, Contender], data: Path, count: int, split: str) -> None:
    """Genova et al.'s tables: recall, similarities and their distances, and the tone beside them."""
    who = two_photographs(data, count, split)
    number = len(who.photo)
    itself = likeness(who.other, who.fitted, who.other)
    tone, chance = cheek(who.photo, who.points), 1 / number
    print(
        f"{number} people; chance {chance:.3f}, {5 * chance:.3f}; two photographs of one person: similarity "
        f"{itself.mean:.2f}, distance to those of two people {itself.to_different:.2f}\n\n"
        "| model | picture | same photograph top-1 | top-5 | other photograph top-1 | top-5 | means removed "
        "top-1 | similarity | EMD same | EMD different | tone: correlation |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|"
    )
    for name, contender_ in models.items():
        fits = contender_.faces(who.photo, who.points)
        tones = correlation(tone_of(fits, who.points), tone)
        code = contender_.model.layout.unpack(torch.cat([f.code.pack() for f in fits]))
        decoder = FaceDecoder(contender_.model, SIZE)
        drawn = torch.cat([face_image(fit.face, GREY) for fit in fits]), who.marks
        for kind, (pictures, marks) in {
            "overlay": drawn,
            "neutral": neutral_faces(decoder, code, GREY),
        }.items():
            renders = embed(pictures, marks)
            same, other = (recall(renders, g, range(number)) for g in (who.fitted, who.other))
            removed = recall(*without_means(renders, who.other), range(number))
            alike = likeness(renders, who.fitted, who.other)
            print(
                f"| {name} | {kind} | {same[0]:.2f} | {same[1]:.2f} | {other[0]:.2f} | {other[1]:.2f} | "
                f"{removed[0]:.2f} | {alike.mean:.2f} | {alike.to_same:.2f} | {alike.to_different:.2f} | "
                f"{tones:.2f} |"
            )
    print(
        "\nGenova et al. 2018, by VGG-Face: similarity on MoFA-Test 0.403; top-1 and top-5 there .87, .96 "
        "(MoFA .19, .54; Tran et al. .25, .62), on LFW .16, .51 of 5,749 people."
    )


def wild(models: dict[str, Contender], data: Path, count: int, split: str) -> None:
    """Recognition among people of whom another photograph is known."""
    who = two_photographs(data, count, split)
    photo, points, marks, gallery = who.photo, who.points, who.marks, who.other
    own = recall(who.fitted, gallery, range(len(photo)))
    tone = cheek(photo, points)
    fits = {name: c.faces(photo, points) for name, c in models.items()}
    colors = _distances(photo, fits)
    print(f"{len(photo)} people; the photographs themselves: {own[0]:.3f}, {own[1]:.3f}\n")
    print(
        "| model | photometric | mask | other photograph top-1 | top-5 | tone: correlation | spread | "
        "photographs' |\n|---|---|---|---|---|---|---|---|"
    )
    for name, f in fits.items():
        pictures = torch.cat([face_image(fit.face, GREY) for fit in f])
        top = recall(embed(pictures, marks), gallery, range(len(photo)))
        skin, mask = tone_of(f, points), joined(f, "mask").flatten(1).mean()
        agree = correlation(skin, tone)
        print(
            f"| {name} | {float(colors[name].mean()):.4f} | {float(mask):.3f} | {top[0]:.2f} | "
            f"{top[1]:.2f} | {agree:.2f} | {float(skin.std()):.3f} | {float(tone.std()):.3f} |"
        )


def groups(
    models: dict[str, Contender], data: Path, count: int, split: str, labelled: bool
) -> None:
    """What is measured of fits, by group."""
    sets = ("utk",) if labelled else ("utk", "lfw")
    rows = [
        row for row in rows_of(data) if row["split"] == (split or "val") and row["dataset"] in sets
    ]
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
        "to 15 years": with_label(0, lambda x: x <= 15),
        "to 25 years": with_label(0, lambda x: x <= 25),
        "26 to 50": with_label(0, lambda x: 25 < x <= 50), "over 50": with_label(0, lambda x: x > 50),
        **{name: with_label(2, k.__eq__) for k, name in enumerate(_ORIGINS)},
        "darkest third": tone <= third[0], "middle third": (tone > third[0]) & (tone <= third[1]),
        "lightest third": tone > third[1], "turned 0 to 15 degrees": turned <= 15,
        "15 to 35": (turned > 15) & (turned <= 35), "over 35": turned > 35,
    }  # fmt: skip
    embeddings = embed(photo, marks)
    renders = {
        name: embed(torch.cat([face_image(fit.face, GREY) for fit in f]), marks)
        for name, f in fits.items()
    }
    missed = {name: _missed_tone(tone_of(f, points), tone) for name, f in fits.items()}
    columns = (
        "photometric", "mask", "tone", "tone error", "landmarks", "lids", "mouths", "top-1", "top-5",
    )  # fmt: skip
    print("| group | faces |" + "".join(f" {n}: {' | '.join(columns)} |" for n in models))
    print("|---|---|" + "---|" * len(columns) * len(models))
    for group, who in of.items():
        if who.sum() < 3:
            continue
        cells = ""
        for name, f in fits.items():
            mask = joined(f, "mask")[who].flatten(1).mean()
            agree = correlation(tone_of(f, points)[who], tone[who])
            off = float(missed[name][who].square().mean().sqrt())
            cells += f" {float(colors[name][who].mean()):.4f} | {float(mask):.3f} | {agree:.2f} | {off:.3f} |"
            drawn, there = joined(f, "landmarks")[who], marks[who]
            away = (drawn - there).norm(dim=2)[:, list(PAPER_46)].mean()
            own, known = (openings(x).norm(dim=2) for x in (drawn, there))
            lids, mouths = (
                correlation(own[:, part].mean(1), known[:, part].mean(1))
                for part in (slice(4), slice(4, None))
            )
            top = recall(renders[name][who], embeddings, who.nonzero()[:, 0])
            cells += (
                f" {float(away):.2f} | {lids:.2f} | {mouths:.2f} | {top[0]:.2f} | {top[1]:.2f} |"
            )
        print(f"| {group} | {int(who.sum())} |{cells}")


def _missed_tone(albedo: Tensor, photograph: Tensor) -> Tensor:
    """What the line of photographs' luminance [B] over the albedos' [B] leaves of it, [B]."""
    x, y = albedo - albedo.mean(), photograph - photograph.mean()
    return y - x * (x @ y) / (x @ x)


def _labels(row: _Row) -> tuple[int, int, int] | None:
    """Age, sex (0 male, 1 female) and origin of UTKFace, which are in its files' names."""
    parts = Path(row["source_path"]).name.split("_")
    if row["dataset"] != "utk" or not all(part.isdigit() for part in parts[:3]):
        return None
    return int(parts[0]), int(parts[1]), int(parts[2])


def _distances(photo: Tensor, fits: dict[str, list]) -> dict[str, Tensor]:
    images = {name: joined(f, "image") for name, f in fits.items()}
    return distances(photo, images, {name: joined(f, "mask") for name, f in fits.items()})


def main() -> None:
    """Parse the arguments and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("people", "wild", "groups"))
    parser.add_argument("--models", nargs="+", default=["portraits", "encoder:", "refined:"])
    parser.add_argument("--data", default=os.environ.get("MOFA_NVDR_DATA", "../shared/data"))
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument(
        "--split", default="", help="val: those that a run on this data has not seen"
    )
    parser.add_argument("--labelled", action="store_true", help="groups: those with labels alone")
    args = parser.parse_args()
    facts = machine_facts(torch.device("cpu"))
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    models = {name: contender(name) for name in args.models}
    given = models, Path(args.data), args.count, args.split
    if args.what == "groups":
        groups(*given, args.labelled)
    else:
        {"people": people, "wild": wild}[args.what](*given)


if __name__ == "__main__":
    main()
