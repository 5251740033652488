"""The landmark networks beside OpenCV's cascade: faces found, errors, times: tables in Markdown.

`python -m tests.benchmarks.bm_landmarks recall|rolled|turned|small|error|time [--data FOLDER] [--count N]`;
it needs `mofa-nvdr networks get landmarks` and the photographs of $MOFA_NVDR_DATA or ../shared/data.
docs/networks.md has its figures and what the sets are. Times are process CPU times on one thread.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mofa_nvdr import FaceDecoder, FaceModel
from mofa_nvdr.bench.operators import machine_facts
from mofa_nvdr.data.crops.detection import FaceDetector
from mofa_nvdr.data.crops.framing import Crop, crop_from_landmarks, turned_away
from mofa_nvdr.data.crops.preprocess import PreprocessOptions, preprocess_files
from mofa_nvdr.data.crops.records import LOG_FILE
from mofa_nvdr.data.images import read_image
from mofa_nvdr.data.synthetic.codes import CodePrior, random_codes
from mofa_nvdr.data.synthetic.faces import SyntheticFaces
from mofa_nvdr.data.synthetic.resampling import Resampling
from mofa_nvdr.face.landmarks import (
    BROWS,
    EYES,
    INNER_FACE,
    INNER_LIPS,
    JAW,
    NOSE,
    OUTER_LIPS,
    PAPER_46,
)
from mofa_nvdr.networks.landmark_detector import LandmarkDetector
from mofa_nvdr.render.pictures import to_uint8
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.hdr import read_hdr

GROUPS = {
    "46": PAPER_46, "51": INNER_FACE, "chin": (7, 8, 9), "jaw": JAW, "brows": BROWS, "nose": NOSE,
    "eyes": EYES, "outer lips": OUTER_LIPS, "inner lips": INNER_LIPS,
}  # fmt: skip
FACE = 240 / 1.35  # px of the larger side of a face's 68 landmarks in a crop of 240 px


@dataclass(frozen=True)
class Picture:
    """A picture and what is known of it.

    Attributes:
        set: what it belongs to.
        image: bytes [H, W, 3].
        faces: landmarks of the faces in it, [68, 2] or [5, 2]; None: one face, who knows where.
    """

    set: str
    image: np.ndarray
    faces: list[np.ndarray] | None


def pictures(data: Path, sets: Sequence[str], count: int) -> Iterator[Picture]:
    """The pictures of some sets, at most `count` of each large one, the same in each run."""
    draw = lambda items: np.random.default_rng(0).permutation(np.array(items, object))[:count]  # noqa: E731
    if "val crops" in sets:
        with open(data / "faces/index.csv", encoding="utf-8") as file:
            names = [row["file"] for row in csv.DictReader(file) if row["split"] == "val"]
        table = np.load(data / "faces/landmarks68.npz")
        known = {str(name): points for name, points in zip(table["files"], table["lm68"])}
        for name in draw(names):
            yield Picture("val crops", read_image(data / "faces" / name), [known[name]])
    if "ytf" in sets:
        table = np.load(data / "faces/landmarks68.npz")
        annotated = np.isfinite(table["lm68_annotated"]).all((1, 2))
        for row in draw(np.flatnonzero(annotated).tolist()):
            image = read_image(data / "faces" / str(table["files"][row]))
            yield Picture("ytf", image, [table["lm68_annotated"][row]])
    for name, key in (("deep3d_examples", "lm5"), ("ffhq10", "lm68"), ("dlib_faces", "lm68")):
        if name in sets:
            table = np.load(data / "photos" / name / f"landmarks{key[2:]}.npz")
            faces: dict[str, list[np.ndarray]] = {}
            # dlib counts pixels; FFHQ's were found in pictures four times as large, deep3d's are not rounded.
            first = 0.5 if name == "dlib_faces" else 0.0
            for file, points in zip(table["files"], table[key] + first):
                faces.setdefault(str(file), []).append(points)
            for file, known_faces in faces.items():
                yield Picture(name, read_image(data / "photos" / name / file), known_faces)
    if "eos" in sets:
        folder = data / "photos/eos_sample"
        lines = (folder / "image_0010.pts").read_text().splitlines()
        points = np.array([line.split() for line in lines if line[:1].isdigit()], float) - 0.5
        yield Picture("eos", read_image(folder / "image_0010.png"), [points])
    if "portraits" in sets:
        for path in draw(sorted((data / "portraits/images").glob("*.jpg"))):
            yield Picture("portraits", read_image(path), None)
    if "scenes" in sets:
        for path in sorted((data / "light_probes").glob("*.hdr")):
            for tile in _tiles(read_hdr(path)):
                yield Picture("scenes", tile, [])


def _tiles(radiance: np.ndarray) -> Iterator[np.ndarray]:
    """Scenes without people: a panorama whole, in 6 overlapping halves and in 12 smaller squares."""
    radiance = np.asarray(radiance, np.float64)
    radiance = 0.2 * radiance / np.median(radiance.mean(2))
    image = (np.clip(1.2 * radiance / (1 + radiance), 0, 1) ** (1 / 2.2) * 255).astype(np.uint8)
    places = [(0, 0, *image.shape[:2])]
    places += [(y, x, 256, 256) for y in (0, 128) for x in (0, 128, 256)]
    places += [(y, x, 128, 128) for y in (0, 64, 128) for x in range(0, 512, 128)]
    for y, x, height, width in places:
        tile = Image.fromarray(image[y : y + height, x : x + width])
        yield np.array(tile.resize((2 * tile.width, 2 * tile.height), Image.Resampling.BICUBIC))


Box = tuple[float, float, float]  # middle x, middle y, side


def by_networks(detector: LandmarkDetector) -> Callable[[np.ndarray], list[Box]]:
    """Boxes of the faces that the networks find."""

    def find(image: np.ndarray) -> list[Box]:
        boxes = [np.array(face.box) for face in detector(image)]
        return [(*((b[:2] + b[2:]) / 2), (b[2:] - b[:2]).max()) for b in boxes]

    return find


def by_haar() -> Callable[[np.ndarray], list[Box]]:
    """Boxes of today's detector of preprocess."""
    cascade = FaceDetector()
    return lambda image: [(x + s / 2, y + s / 2, s) for x, y, s, _ in cascade.boxes(image)]


def matched(boxes: Sequence[Box], faces: Sequence[np.ndarray]) -> int:
    """How many faces have a box of their own, about where and about as large as they are."""
    free, found = list(boxes), 0
    for points in faces:
        if len(points) == 5:
            middle, size = points.mean(0), 2.2 * np.linalg.norm(points[0] - points[1])
        else:
            middle, size = points[17:].mean(0), (points.max(0) - points.min(0)).max()
        for box in free:
            if np.hypot(*(middle - box[:2])) < 0.4 * size and 0.5 < box[2] / size < 1.8:
                free.remove(box)
                found += 1
                break
    return found


def recall(data: Path, detector: LandmarkDetector, count: int, sets: Sequence[str]) -> None:
    """Faces found, other boxes and ms a picture, set by set."""
    finders = {"networks": by_networks(detector), "Haar": by_haar()}
    rows: dict[str, dict[str, list[float]]] = {}
    for picture in pictures(data, sets, count):
        for name, find in finders.items():
            start = time.process_time()
            boxes = find(picture.image)
            spent = 1e3 * (time.process_time() - start)
            known = picture.faces
            hit = min(1, len(boxes)) if known is None else matched(boxes, known)
            wanted = 1 if known is None else len(known)
            row = rows.setdefault(picture.set, {}).setdefault(name, [0, 0, 0, 0, 0])
            for k, value in enumerate((1, wanted, hit, len(boxes) - hit, spent)):
                row[k] += value
    print(
        "| set | pictures | faces | "
        + " | ".join(f"{n}: found | extra | ms" for n in finders)
        + " |"
    )
    print("|---|---|---|" + "---|---|---|" * len(finders))
    for name, row in rows.items():
        n, wanted = row["networks"][:2]
        cells = [f"{r[2]:.0f} | {r[3]:.0f} | {r[4] / n:.0f}" for r in row.values()]
        print(f"| {name} | {n:.0f} | {wanted:.0f} | {' | '.join(cells)} |")


def error(data: Path, detector: LandmarkDetector, count: int) -> None:
    """Mean distance of the 68 landmarks from annotations, px in a crop of 240 px, by part of the face."""
    sums: dict[str, list[np.ndarray]] = {}
    for picture in pictures(data, ("ffhq10", "dlib_faces", "eos", "ytf"), count):
        found = detector(picture.image)
        for points in picture.faces or ():
            middle, size = points[17:].mean(0), (points.max(0) - points.min(0)).max()
            middles = [np.hypot(*(f.points[:, :2].mean(0) - middle)) for f in found]
            if middles and min(middles) < 0.4 * size:
                marks = found[int(np.argmin(middles))].landmarks68
                off = (marks - points) * FACE / size
                sums.setdefault(picture.set, []).append(off)
    print(
        f"| set | faces | {' | '.join(GROUPS)} | chin, down |\n|---|---|{'---|' * (len(GROUPS) + 1)}"
    )
    for name, offs in sums.items():
        off = np.stack(offs)
        distance = np.linalg.norm(off, axis=2)
        cells = [f"{distance[:, list(group)].mean():.2f}" for group in GROUPS.values()]
        print(f"| {name} | {len(offs)} | {' | '.join(cells)} | {off[:, 7:10, 1].mean():+.1f} |")


def rolled(data: Path, detector: LandmarkDetector, count: int) -> None:
    """Portraits turned about the line of sight: how many are found, and the error of the roll."""
    print("| turned by, degrees | found | others | largest error of the roll, degrees | ms |")
    print("|---|---|---|---|---|")
    sources = [p.image for p in pictures(data, ("portraits",), count)]
    upright = [detector(image)[0].roll for image in sources]
    for degrees in (0, 30, 45, 90, 135, 180, 270):
        right, others, errors, start = 0, 0, [0.0], time.process_time()
        for image, before in zip(sources, upright):
            turned = Image.fromarray(image).rotate(-degrees, Image.Resampling.BICUBIC, expand=True)
            faces = detector(np.array(turned))
            offs = [abs((np.degrees(f.roll - before) - degrees + 180) % 360 - 180) for f in faces]
            good = [off for off in offs if off < 15]
            right, others = right + bool(good), others + len(faces) - bool(good)
            errors += good[:1]
        spent = 1e3 * (time.process_time() - start) / len(sources)
        print(
            f"| {degrees} | {right} of {len(sources)} | {others} | {max(errors):.1f} | {spent:.0f} |"
        )


def small(data: Path, detector: LandmarkDetector, count: int) -> None:
    """Portraits in a grid of 1,280 px: how small a face may be."""
    find = by_haar()
    print(
        "| faces | size, px | networks: found | extra | s | Haar: found | extra | s |\n"
        + "|---|" * 8
    )
    sources = [p.image for p in pictures(data, ("portraits",), 400)]
    for across in (4, 6, 8, 11, 16)[: max(1, count)]:
        side = 1280 // across
        grid = np.zeros((1280, 1280, 3), np.uint8)
        for k in range(across**2):
            y, x = k // across * side, k % across * side
            tile = Image.fromarray(sources[k % len(sources)])
            tile.thumbnail((side, side))
            grid[y : y + tile.height, x : x + tile.width] = np.array(tile)
        cells = []
        for finder in (by_networks(detector), find):
            start = time.process_time()
            boxes = finder(grid)
            spent = time.process_time() - start
            hit = len({(int(y // side), int(x // side)) for x, y, _ in boxes})
            cells.append(f"{hit} | {len(boxes) - hit} | {spent:.1f}")
        print(f"| {across**2} | about {0.4 * side:.0f} | {' | '.join(cells)} |", flush=True)


_ACROSS = 0.7  # of the training framing: heads with their hair and neck, as in photographs
_BEHIND = 6.0  # mm behind what is drawn at its pixel, from which a landmark is hidden
_SIDE = 320  # px of the pictures
_YAWS = (15, 30, 35, 40, 45, 60, 75, 90)  # degrees to either side


@torch.no_grad()
def _heads(yaw: float, count: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Pictures of people who look aside, their landmarks [N, 68, 2] px, and which are seen [N, 68]."""
    model = FaceModel.load("portraits")
    camera = Camera(_SIDE, focal=_ACROSS * Camera(_SIDE).focal_px)
    decoder = FaceDecoder(model, camera=camera, frontal_only=False)
    people = random_codes(
        model.layout, 4 * count, np.random.default_rng(7), CodePrior().with_pose(0.5)
    )
    people.rotation[:, 1] = yaw
    codes = Resampling(people.pack(), torch.zeros(model.layout.size))
    faces, images, landmarks, seen = SyntheticFaces(decoder), [], [], []
    for first in range(0, count, 8):
        some = faces.render(7, range(first, min(first + 8, count)), around=codes)
        images += list(to_uint8(some.picture.image))
        geometry = decoder.geometry(some.code)
        drawn = decoder.rasterize(geometry).triangle_ids
        marks = some.landmarks.numpy()
        for k, place in enumerate(marks):
            column, row = np.clip(place.astype(int), 0, _SIDE - 1).T
            depth = geometry.vertices[k, :, 2]
            front = depth[decoder.triangles[drawn[k, row, column]].long()].mean(1)
            seen.append((front - depth[model.landmarks.long()] < _BEHIND).numpy())
        landmarks.append(marks)
    return images, np.concatenate(landmarks), np.stack(seen)


def turned(data: Path, detector: LandmarkDetector, count: int) -> None:
    """Rendered heads by their yaw: what `preprocess` keeps of them, and how far off what is seen of 51 is.

    Errors are of all that are found, also of those that it leaves out for their turn by default.
    """
    print("| yaw, degrees | found | kept | turned away | 51, px of 240 | worst | framing, px |")
    print("|---|---|---|---|---|---|---|")
    for degrees in (*(-yaw for yaw in reversed(_YAWS)), 0, *_YAWS):
        images, landmarks, seen = _heads(math.radians(degrees), count)
        with tempfile.TemporaryDirectory() as folder:
            for k, image in enumerate(images):
                Image.fromarray(image).save(Path(folder, f"{k}.png"))
            out = Path(folder, "out")
            with contextlib.redirect_stdout(io.StringIO()):
                every = PreprocessOptions(turned=1000)
                preprocess_files([folder], str(out), every, workers=1, networks=detector.points)
            _, *lines = (out / LOG_FILE).read_text().splitlines()  # the first has the options
        found, kept, away, errors, frames = 0, 0, 0, [], []
        for record in map(json.loads, lines):
            k = int(Path(record["source"]).stem)
            found += bool(record["faces"] or record["pruned"])
            if not record["faces"]:
                continue
            row = record["faces"][0]
            marks = Crop(row["left"], row["top"], row["side"]).to_source(
                np.array(row["lm68"]), PreprocessOptions().size
            )
            aside = turned_away(marks) > PreprocessOptions().turned
            away, kept = away + aside, kept + (not aside)
            truth = crop_from_landmarks(landmarks[k])
            inner = [n for n in INNER_FACE if seen[k, n]]
            off = np.linalg.norm(marks - landmarks[k], axis=1)[inner].mean()
            errors.append(240 / truth.side * off)
            middle = np.array([row["left"] - truth.left, row["top"] - truth.top])
            middle += (row["side"] - truth.side) / 2
            frames.append(240 / truth.side * float(np.hypot(*middle)))
        cells = [f"{np.mean(v):.1f}" if v else "" for v in (errors, frames)]
        worst = f"{max(errors):.1f}" if errors else ""
        print(
            f"| {degrees:+d} | {found} of {count} | {kept} | {away} | {cells[0]} | {worst} | {cells[1]} |",
            flush=True,
        )


def times(data: Path, detector: LandmarkDetector, count: int) -> None:
    """ms of whole pictures by size, one by one and 16 at once, each with one face."""
    (source,) = [p.image for p in pictures(data, ("portraits",), 1)]
    print("| picture, px | ms alone | ms each of 16 |\n|---|---|---|")
    for side in (240, 480, 1280, 4000):
        image = np.array(Image.fromarray(source).resize((side * 4 // 5, side)))
        best = []
        for many in (1, 16):
            spent = []
            for _ in range(2):
                start = time.process_time()
                detector.detect([image] * many)
                spent.append(1e3 * (time.process_time() - start) / many)
            best.append(min(spent))
        print(f"| {side * 4 // 5} x {side} | {best[0]:.0f} | {best[1]:.0f} |", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("recall", "error", "rolled", "turned", "small", "time"))
    parser.add_argument("--data", default=os.environ.get("MOFA_NVDR_DATA", "../shared/data"))
    parser.add_argument("--count", type=int, default=300, help="most pictures of a set")
    parser.add_argument("--sets", nargs="+", default=["val crops", "deep3d_examples", "ffhq10",
        "dlib_faces", "eos", "portraits", "scenes"])  # fmt: skip
    parser.add_argument("--dtype", default="float32", help="float32, bfloat16 or float16")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    detector = LandmarkDetector.load(dtype=getattr(torch, options.dtype))
    facts = machine_facts(torch.device("cpu"))
    print("; ".join(f"{name} {value}" for name, value in facts.items()) + f"; {options.dtype}\n")
    if options.what == "recall":
        recall(Path(options.data), detector, options.count, options.sets)
    else:
        run = {"error": error, "rolled": rolled, "turned": turned, "small": small, "time": times}[
            options.what
        ]
        run(Path(options.data), detector, options.count)


if __name__ == "__main__":
    main()
