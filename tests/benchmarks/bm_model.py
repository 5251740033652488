"""Face models beside one another: how well strangers are fitted, recognised, and how their tone comes out.

`python -m tests.benchmarks.bm_model people|strangers|renders|sheet --models procedural portraits
[--held FILE.csv] [--crops FILE.npz] [--data FOLDER] [--count N] [--out FILE.png]`; it needs `mofa-nvdr
networks get landmarks` and `identity`, and the photographs of $MOFA_NVDR_DATA or ../shared/data. `--held`
names two photographs of each person that no model was learned from (columns portrait and directory, as
`bm_identity.py pairs` writes them).

people: of each pair of photographs one is fitted and rendered on grey; its person is looked for in galleries
of the other photographs and of 140 other people's, and of the fitted photographs and those; on average over
who the others are. Tone: the luminance of albedo on both cheeks against the photograph's, and of one fit
against the other photograph's.
strangers: photometric error over the pixels of all models' masks, and landmarks against annotations that are
not MediaPipe's; lids and mouths: correlation of how far they are open with the annotations'.
renders: people of the procedural face with surroundings, whose shape, albedo and light are known, fitted with
each model: form after the similarity that brings both closest, over the frontal region.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mofa_nvdr import FaceModel
from mofa_nvdr.apply.color_solver import ColorSolver
from mofa_nvdr.apply.fit_prior import fit_prior
from mofa_nvdr.apply.fit_stages import REFINE_STAGES
from mofa_nvdr.apply.fitting import FaceFitter, FitOptions, FittedFaces, Observed
from mofa_nvdr.apply.learn_colors import strict_light, wide_tone
from mofa_nvdr.apply.learn_files import _PIGMENTS
from mofa_nvdr.apply.learning import _LANDMARKS, _WIDER, Faces, ModelLearner
from mofa_nvdr.bench.operators import machine_facts
from mofa_nvdr.data.synthetic.faces import SyntheticFaces
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.landmarks import PAPER_46
from mofa_nvdr.losses.landmark_terms import openings
from mofa_nvdr.networks.landmark_detector import LandmarkDetector
from mofa_nvdr.render.decoder import FaceDecoder, face_image
from mofa_nvdr.render.pictures import to_uint8
from mofa_nvdr.runs.trained import Reconstructor
from mofa_nvdr.scene.camera import Camera
from tests.benchmarks.bm_fit import BATCH, SIZE, fitted, form_error, photographs
from tests.benchmarks.bm_identity import embed, mean_recall, portraits, recall

GREY = 0.5
LUMINANCE = torch.tensor([0.2126, 0.7152, 0.0722])
GALLERY = 200
APART = 0.5  # distance of embeddings
# Points of the 478 about the middle of each cheek.
CHEEKS = (50, 101, 118, 205, 280, 330, 347, 425)


@dataclass(frozen=True)
class Contender:
    """What is measured: a face model, and how it comes to faces of crops and their 478 points."""

    model: FaceModel
    faces: Callable[[Tensor, Tensor], list[FittedFaces]]


def contender(name: str) -> Contender:
    """A face model that is fitted, or an encoder.

    `studio:MODEL` is fitted with the prior of light and tone of `model learn`, for portraits that share a
    light; `exposed:MODEL` after their highlights have been brought together, too, as it does.
    `encoder:RUN` predicts; `solved:RUN` takes light and albedo from the photograph, as `reconstruct` does;
    `refined:RUN` fits from there, as `--refine` does with the landmark networks.

    RUN is a run folder or a checkpoint; empty: the encoder that ships with the package.
    """
    how, _, run = name.partition(":")
    if how in ("studio", "exposed"):
        own = FaceModel.load(run)
        return Contender(own, partial(learner_fits, own, how == "exposed"))
    if how not in ("encoder", "solved", "refined"):
        fitter = FaceFitter(FaceModel.load(name))
        return Contender(fitter.model, lambda photo, points: fitted(fitter, photo, points))
    encoder = Reconstructor.load(run, device="cpu")
    model, size = encoder.decoder.model, encoder.decoder.camera.size
    fitter = FaceFitter(model, FitOptions(stages=REFINE_STAGES))
    decoder = fitter.decoder_of(SIZE)
    solver = ColorSolver(decoder)

    @torch.no_grad()
    def faces(photo: Tensor, points: Tensor) -> list[FittedFaces]:
        out = []
        for some, marks in zip(photo.nan_to_num(GREY).split(BATCH), points.split(BATCH)):
            small = F.interpolate(some, size, mode="bilinear", align_corners=False, antialias=True)
            code = encoder(small, both_ways=how != "encoder")
            if how != "encoder":
                code = solver(some, code)
            if how == "refined":
                out.append(fitter(Observed(some, marks), code))
                continue
            face = decoder.rasterize(decoder.geometry(code))
            away = ((face.image - some).square() * face.mask).flatten(1).sum(1)
            deviation = (away / (3 * face.mask.flatten(1).sum(1))).sqrt()
            out.append(
                FittedFaces(code, face, face.mask, deviation, torch.full_like(deviation, torch.nan))
            )
        return out

    return Contender(model, faces)


def learner_fits(
    model: FaceModel, exposed: bool, photo: Tensor, points: Tensor
) -> list[FittedFaces]:
    """Fits under the light that photographs share but for little, with a wide tone, as in learning."""
    known = photo.isfinite().all(1)
    pixels = (photo.nan_to_num(0.0) * 255).round().byte().permute(0, 2, 3, 1)
    given = Faces(pixels.numpy(), known.numpy(), points.numpy(), np.arange(len(photo)))
    learner = ModelLearner(model, given)
    if exposed:
        marked = FaceFitter(model, FitOptions(stages=_LANDMARKS), camera=learner.camera)
        learner.gain = learner._exposure(learner._fits("landmarks", marked, None)[0])
    prior = strict_light(fit_prior(model), model, learner._light(model))
    prior = wide_tone(prior, model, range(len(_PIGMENTS)), _WIDER[-1])
    gain = learner.gain[:, :, None, None]
    fits = fitted(FaceFitter(model, prior=prior), photo * gain, points)
    return [
        replace(fit, face=replace(fit.face, image=fit.face.image / own))
        for fit, own in zip(fits, gain.split(BATCH))
    ]


def joined(fits: list[FittedFaces], part: str) -> Tensor:
    """One part of the faces of fits, of all."""
    return torch.cat([getattr(fit.face, part) for fit in fits])


def distances(
    photo: Tensor, images: dict[str, Tensor], masks: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Mean RGB distance [B] of each model's images over the pixels that all models draw."""
    shared = torch.stack([mask[:, 0] > 0 for mask in masks.values()]).all(0) & photo.isfinite().all(
        1
    )
    out = {}
    for name, image in images.items():
        away = (photo.nan_to_num(0.0) - image).norm(dim=1) * shared
        out[name] = away.flatten(1).sum(1) / shared.flatten(1).sum(1)
    return out


def cheek(picture: Tensor, points: Tensor) -> Tensor:
    """Median luminance [B] about the cheeks' points."""
    out = []
    for image, marks in zip(picture, points):
        patches = []
        for x, y in marks[list(CHEEKS)].round().long().clamp(8, image.shape[-1] - 9).tolist():
            patches.append(image[:, y - 6 : y + 7, x - 6 : x + 7].flatten(1))
        out.append((LUMINANCE @ torch.cat(patches, 1)).nanmedian())
    return torch.stack(out)


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's."""
    return float(np.corrcoef(a.numpy(), b.numpy())[0, 1])


@torch.no_grad()
def neutral_faces(decoder: FaceDecoder, code: FaceCode, behind: float) -> tuple[Tensor, Tensor]:
    """Shape and albedo of faces alone, frontal, under one light: pictures and landmarks [B, 68, 2] px."""
    light = torch.zeros_like(code.light)
    light[:, 0], light[:, 1], light[:, 2] = 0.25, 0.15, 0.3
    zero = decoder.code_zero(code.batch_size)
    neutral = zero.replace(shape=code.shape, albedo=code.albedo, light=light)
    faces = [decoder(some) for some in neutral.pack().split(BATCH)]
    drawn = torch.cat([face_image(face, behind) for face in faces])
    return drawn, torch.cat([face.landmarks for face in faces])


def people(models: dict[str, Contender], data: Path, crops: Path | None, held: Path) -> None:
    """Recognition and tone on pairs of photographs."""
    every = portraits(data, crops)
    with open(held, newline="", encoding="utf-8") as file:
        rows = [(row["portrait"], row["directory"]) for row in csv.DictReader(file)]
    first, second = (every.rows([row[k] for row in rows]) for k in (0, 1))
    embeddings = embed(every.photos, every.landmarks68)
    known = torch.cdist(embeddings, embeddings[first + second]).amin(1)
    # Those that are nearer may show one of these people; strangers hardly ever are.
    others = embeddings[
        [
            k
            for k in range(len(every.names))
            if known[k] > APART and every.names[k].startswith("dir")
        ]
    ]
    photo = torch.from_numpy(every.photos[first + second]).permute(0, 3, 1, 2).float() / 255
    points = torch.from_numpy(every.points[first + second]).float()
    marks = torch.from_numpy(every.landmarks68[first + second])
    count, size = len(rows), min(GALLERY, len(rows) + len(others))
    print(
        f"{count} people, galleries of {size} with some of {len(others)} others; chance {1 / size:.3f}, "
        f"{5 / size:.3f}\n"
    )
    fits = {name: c.faces(photo, points) for name, c in models.items()}
    colors = distances(
        photo,
        {name: joined(f, "image") for name, f in fits.items()},
        {name: joined(f, "mask") for name, f in fits.items()},
    )
    print(
        "| model | photometric | mask | other photograph top-1 | top-5 | same photograph top-1 | top-5 |\n"
        "|---|---|---|---|---|---|---|"
    )
    for name, f in fits.items():
        pictures = torch.cat([face_image(fit.face, GREY) for fit in f])
        queries = embed(pictures[:count], marks[:count])
        other, same = (
            mean_recall(queries, embeddings[some], others, size) for some in (second, first)
        )
        mask = joined(f, "mask").flatten(1).mean()
        print(
            f"| {name} | {float(colors[name].mean()):.4f} | {float(mask):.3f} | {other[0]:.2f} | "
            f"{other[1]:.2f} | {same[0]:.2f} | {same[1]:.2f} |"
        )
    tone = cheek(photo, points)
    print(
        "\n| model | albedo and photograph: correlation | spread | photograph's | two photographs agree | "
        "photographs' own |\n|---|---|---|---|---|---|"
    )
    for name, f in fits.items():
        mask = joined(f, "mask") > 0
        skin = cheek(torch.where(mask, joined(f, "albedo"), torch.nan), points)
        print(
            f"| {name} | {correlation(skin[:count], tone[:count]):.2f} | {float(skin[:count].std()):.3f} | "
            f"{float(tone[:count].std()):.3f} | {correlation(skin[:count], skin[count:]):.2f} | "
            f"{correlation(tone[:count], tone[count:]):.2f} |"
        )


def strangers(models: dict[str, Contender], data: Path, count: int) -> None:
    """Photometric error and landmarks by set."""
    faces = photographs(LandmarkDetector.load(), data, ("ffhq10", "dlib_faces", "val crops"), count)
    photo, points = torch.stack([f[1] for f in faces]), torch.stack([f[2] for f in faces])
    marks = torch.stack([f[4] for f in faces])
    names, index = np.array([f[0] for f in faces]), list(PAPER_46)
    fits = {name: c.faces(photo, points) for name, c in models.items()}
    colors = distances(
        photo,
        {name: joined(f, "image") for name, f in fits.items()},
        {name: joined(f, "mask") for name, f in fits.items()},
    )
    embeddings = embed(photo, marks)
    print(
        "| set | model | faces | photometric | mask | landmarks px | lids | mouths | same photograph top-1 | "
        "top-5 |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    for kind in dict.fromkeys(names):
        of = torch.from_numpy(names == kind)
        known = [f[3] for f, own in zip(faces, of) if own]
        for name, f in fits.items():
            away = lids = mouths = ""
            if known[0] is not None:
                marks68, there = joined(f, "landmarks")[of], torch.stack(known)
                away = f"{float((marks68 - there).norm(dim=2)[:, index].mean()):.2f}"
                open_, wide = (openings(x).norm(dim=2) for x in (marks68, there))
                lids = f"{correlation(open_[:, :4].mean(1), wide[:, :4].mean(1)):.2f}"
                mouths = f"{correlation(open_[:, 4:].mean(1), wide[:, 4:].mean(1)):.2f}"
            pictures = torch.cat([face_image(fit.face, GREY) for fit in f])[of]
            top = recall(embed(pictures, marks[of]), embeddings[of], range(int(of.sum())))
            mask = joined(f, "mask")[of].flatten(1).mean()
            print(
                f"| {kind} | {name} | {int(of.sum())} | {float(colors[name][of].mean()):.4f} | "
                f"{float(mask):.3f} | {away} | {lids} | {mouths} | {top[0]:.2f} | {top[1]:.2f} |"
            )


def renders(models: dict[str, Contender], count: int) -> None:
    """What comes back of people who were drawn from the procedural face."""
    truth, detector = FaceModel.load("procedural"), LandmarkDetector.load()
    decoder = FaceDecoder(truth, camera=Camera(image_size=SIZE), frontal_only=False)
    faces, pictures, points, codes = SyntheticFaces(decoder), [], [], []
    for first in range(0, count, 8):
        some = faces.render(1, range(first, min(first + 8, count)))
        found = detector.detect(list(to_uint8(some.picture.image)))
        for k, own in enumerate(found):
            if own:
                pictures.append(some.picture.image[k])
                points.append(torch.from_numpy(own[0].points[:, :2]).float())
                codes.append(some.code.pack()[k])
    code = truth.layout.unpack(torch.stack(codes))
    index = truth.frontal_mask.nonzero()[:, 0]
    shape = truth.vertices(code.shape, code.expression, index)
    albedo = truth.albedo(code.albedo, index)
    print(
        f"{len(codes)} of {count} found\n\n"
        "| model | form mm | albedo rms | its brightness: correlation | spread | light rms |\n"
        "|---|---|---|---|---|---|"
    )
    bright = (albedo @ LUMINANCE).mean(1)
    for name, contender in models.items():
        model = contender.model
        fits = contender.faces(torch.stack(pictures), torch.stack(points))
        own = model.layout.unpack(torch.cat([fit.code.pack() for fit in fits]))
        forms = model.vertices(own.shape, own.expression, index)
        form = np.mean([form_error(a, b) for a, b in zip(forms, shape)])
        colors = model.albedo(own.albedo, index)
        tone = (colors @ LUMINANCE).mean(1)
        light = (own.light - code.light).square().mean().sqrt()
        print(
            f"| {name} | {form:.2f} | {float((colors - albedo).square().mean().sqrt()):.3f} | "
            f"{correlation(tone, bright):.2f} | {float(tone.std() / bright.std()):.2f} | {float(light):.3f} |"
        )


def sheet(
    models: dict[str, Contender], data: Path, crops: Path | None, held: Path, out: Path
) -> None:
    """Strangers: photograph; and of each model overlay, albedo, neutral under one light, geometry."""
    every = portraits(data, crops)
    with open(held, newline="", encoding="utf-8") as file:
        names = [row["portrait"] for row in csv.DictReader(file)][:BATCH]
    index = every.rows(names)
    faces = [(p, q) for p, q in zip(every.photos[index], every.points[index])]
    wild = photographs(LandmarkDetector.load(), data, ("ffhq10", "val crops"), 14)
    photo = torch.cat(
        [
            torch.stack([torch.from_numpy(p).permute(2, 0, 1).float() / 255 for p, _ in faces]),
            torch.stack([f[1] for f in wild]),
        ]
    )
    points = torch.cat(
        [
            torch.stack([torch.from_numpy(q).float() for _, q in faces]),
            torch.stack([f[2] for f in wild]),
        ]
    )
    columns = [photo]
    for contender in models.values():
        model = contender.model
        fits = contender.faces(photo, points)
        decoder = FaceFitter(model).decoder_of(photo.shape[-1])
        columns.append(torch.cat([face_image(f.face, p) for f, p in zip(fits, photo.split(BATCH))]))
        columns.append(
            torch.where(joined(fits, "mask") > 0, joined(fits, "albedo"), 1.0).clamp(0, 1)
        )
        code = model.layout.unpack(torch.cat([f.code.pack() for f in fits]))
        columns.append(neutral_faces(decoder, code, 1.0)[0])
        normals = joined(fits, "normal")
        shade = (normals * torch.tensor([0.3, 0.4, 0.87]).view(1, 3, 1, 1)).sum(1, keepdim=True)
        columns.append(
            torch.where(joined(fits, "mask") > 0, shade.clamp(0, 1), 1.0).expand(-1, 3, -1, -1)
        )
    rows = torch.cat(columns, 3)[:, :, ::2, ::2]
    pad = -len(rows) % 3
    rows = torch.cat([rows, torch.ones(pad, *rows.shape[1:])])
    grid = torch.cat([torch.cat(list(part), 1) for part in rows.chunk(3)], 2)
    iio.imwrite(out, (grid.permute(1, 2, 0).clamp(0, 1).numpy() * 255).astype(np.uint8))


def main() -> None:
    """Parse the arguments and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("people", "strangers", "renders", "sheet"))
    parser.add_argument("--models", nargs="+", default=["procedural", "portraits"])
    parser.add_argument("--held", type=Path)
    parser.add_argument("--crops", type=Path)
    parser.add_argument("--data", default=os.environ.get("MOFA_NVDR_DATA", "../shared/data"))
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--out", type=Path, default=Path("models.png"))
    args = parser.parse_args()
    facts = machine_facts(torch.device("cpu"))
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    models, data = {name: contender(name) for name in args.models}, Path(args.data)
    if args.what in ("people", "sheet") and args.held is None:
        parser.error(f"{args.what} needs --held")
    if args.what == "people":
        people(models, data, args.crops, args.held)
    elif args.what == "strangers":
        strangers(models, data, args.count)
    elif args.what == "renders":
        renders(models, args.count)
    else:
        sheet(models, data, args.crops, args.held, args.out)


if __name__ == "__main__":
    main()
