"""Fits next to what is known of faces: tables in Markdown, and sheets of pictures.

`python -m tests.benchmarks.bm_fit renders|error|time|sheet [--count N] [--data FOLDER] [--out FILE.png]
[--face-model NAME]`; it needs `mofa-nvdr networks get landmarks`, and all but `renders` the photographs of
$MOFA_NVDR_DATA or ../shared/data. Times are of the fit alone, without reading and detecting.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
from torch import Tensor

from mofa_nvdr import FaceDecoder, FaceModel
from mofa_nvdr.apply.fitting import FaceFitter, FitOptions, FittedFaces, Observed
from mofa_nvdr.bench.operators import machine_facts
from mofa_nvdr.data.crops.framing import crop_from_landmarks
from mofa_nvdr.data.synthetic.faces import Rendered, SyntheticFaces
from mofa_nvdr.face.code import FaceCode
from mofa_nvdr.face.landmarks import OPENINGS, PAPER_46
from mofa_nvdr.networks.landmark_detector import LandmarkDetector
from mofa_nvdr.render.pictures import panels, to_uint8
from mofa_nvdr.scene.camera import Camera
from tests.benchmarks.bm_landmarks import pictures

SIZE = 240
BATCH = 24


def form_error(vertices: Tensor, truth: Tensor) -> float:
    """Mean distance [mm] of vertices [V, 3] after the similarity that brings them closest."""
    a, b = vertices.double(), truth.double()
    a, b = a - a.mean(0), b - b.mean(0)
    left, sizes, right = torch.linalg.svd(a.T @ b)
    signs = torch.ones(3, dtype=torch.float64)
    signs[2] = torch.sign(torch.det(left @ right))
    turn = (left * signs) @ right
    scale = (sizes * signs).sum() / a.square().sum()
    return float((scale * a @ turn - b).norm(dim=1).mean())


def photometric(photo: Tensor, fit: FittedFaces) -> Tensor:
    """Mean RGB distance over each mask, [B]."""
    distance = (photo - fit.face.image).square().sum(1).sqrt()
    mask = fit.face.mask[:, 0]
    return (distance * mask).flatten(1).sum(1) / mask.flatten(1).sum(1)


def fitted(fitter: FaceFitter, photo: Tensor, points: Tensor) -> list[FittedFaces]:
    """Fits of photographs in batches."""
    return [
        fitter(Observed(photo[k : k + BATCH], points[k : k + BATCH]))
        for k in range(0, len(photo), BATCH)
    ]


def renders(model: FaceModel, detector: LandmarkDetector, count: int) -> None:
    """Renders with surroundings and known codes: after landmarks, and after all stages."""
    decoder = FaceDecoder(model, camera=Camera(image_size=SIZE), frontal_only=False)
    faces, rendered, points, kept = SyntheticFaces(decoder), [], [], []
    for first in range(0, count, 8):
        some: Rendered = faces.render(1, range(first, min(first + 8, count)))
        rendered.append(some)
        for k, found in enumerate(detector.detect(list(to_uint8(some.picture.image)))):
            if found:
                kept.append(first + k)
                points.append(torch.from_numpy(found[0].points[:, :2]).float())
    photo = torch.cat([some.picture.image for some in rendered])[kept]
    shown = torch.cat([(some.frontal * some.picture.visible) for some in rendered])[kept]
    area = torch.cat([some.frontal for some in rendered])[kept]
    hidden = 1 - shown.flatten(1).sum(1) / area.flatten(1).sum(1)
    truth = model.layout.unpack(torch.cat([some.code.pack() for some in rendered])[kept])
    covered = hidden > 0.05
    print(f"{len(kept)} of {count} found; {int(covered.sum())} with more than 5 % hidden\n")
    print("| | form mm | identity mm | albedo | light | photometric |\n|---|---|---|---|---|---|")
    zero = truth.map(torch.zeros_like)
    for name, which in (("all", torch.ones_like(covered)), ("hidden", covered), ("free", ~covered)):
        _row(model, f"mean face, {name}", zero, truth, which, None)
    options = FitOptions()
    for name, stages in (("landmarks", options.stages[:2]), ("fit", options.stages)):
        fits = fitted(FaceFitter(model, FitOptions(stages=stages)), photo, torch.stack(points))
        code = model.layout.unpack(torch.cat([fit.code.pack() for fit in fits]))
        colors = torch.cat([photometric(photo[k * BATCH :][:BATCH], f) for k, f in enumerate(fits)])
        for kind, which in (
            ("all", torch.ones_like(covered)),
            ("hidden", covered),
            ("free", ~covered),
        ):
            _row(model, f"{name}, {kind}", code, truth, which, colors)
        if name == "fit":
            guess = torch.cat([fit.visible for fit in fits]) > 0.5
            mask = torch.cat([fit.face.mask for fit in fits]) > 0
            wrong, right = mask & (shown < 0.5) & (area > 0), mask & (shown > 0.5)
            print(
                f"\nof hidden pixels {float((wrong & ~guess).sum() / wrong.sum()):.2f} are found, "
                f"of shown ones {float((right & ~guess).sum() / right.sum()):.3f} are taken for hidden"
            )


def _row(
    model: FaceModel,
    name: str,
    code: FaceCode,
    truth: FaceCode,
    which: Tensor,
    colors: Tensor | None,
) -> None:
    index = model.frontal_mask.nonzero()[:, 0]
    code, truth = (part.map(lambda t: t[which]) for part in (code, truth))

    def errors(a: FaceCode, b: FaceCode) -> float:
        one, other = (model.vertices(c.shape, c.expression, index) for c in (a, b))
        return float(np.mean([form_error(x, y) for x, y in zip(one, other)]))

    still = [c.replace(expression=torch.zeros_like(c.expression)) for c in (code, truth)]
    albedo = model.albedo(code.albedo, index) - model.albedo(truth.albedo, index)
    light = (code.light - truth.light).square().mean().sqrt()
    print(
        f"| {name} | {errors(code, truth):.2f} | {errors(*still):.2f} | "
        f"{float(albedo.square().mean().sqrt()):.3f} | {float(light):.3f} | "
        + ("|" if colors is None else f"{float(colors[which].mean()):.3f} |")
    )


def photographs(
    detector: LandmarkDetector, data: Path, sets: Sequence[str], count: int
) -> list[tuple[str, Tensor, Tensor, Tensor | None, Tensor]]:
    """(set, crop [3, S, S], points, annotations or None, detector's 68) of each face that is found."""
    out = []
    for picture in pictures(data, sets, count):
        found = detector(picture.image)
        wanted = picture.faces if picture.faces is not None else [None]
        for known in wanted:
            best = found[0] if found and known is None else None
            for face in found if known is not None else []:
                size = (known.max(0) - known.min(0)).max()
                if np.linalg.norm((face.landmarks68 - known)[17:].mean(0)) < 0.4 * size:
                    best = face
            if best is None:
                continue
            crop = crop_from_landmarks(best.landmarks68)

            def at(points: np.ndarray, crop=crop) -> Tensor:  # noqa: ANN001
                return torch.from_numpy(crop.to_crop(points[:, :2], SIZE)).float()

            image = torch.from_numpy(crop.cut(picture.image, SIZE)).permute(2, 0, 1).float() / 255
            own = None if known is None else at(known)
            out.append((picture.set, image, at(best.points), own, at(best.landmarks68)))
    return out


def openings(landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """How far lids and lips are open, [B] each, of 68 landmarks: of the eyes' and the mouth's widths."""
    gaps = torch.stack([(landmarks[:, a] - landmarks[:, b]).norm(dim=1) for a, b in OPENINGS], 1)
    width = lambda a, b: (landmarks[:, a] - landmarks[:, b]).norm(dim=1)  # noqa: E731
    eyes = (width(36, 39) + width(42, 45)) / 2
    return gaps[:, :4].mean(1) / eyes, gaps[:, 4:].mean(1) / width(48, 54)


def error(model: FaceModel, detector: LandmarkDetector, data: Path, count: int) -> None:
    """Distances to annotations of another origin, px of 240, over the paper's 46.

    And the correlation of how far lids and lips are open in the annotations, and in the fits.
    """
    faces = photographs(detector, data, ("ffhq10", "dlib_faces", "eos", "ytf"), count)
    photo, points = torch.stack([f[1] for f in faces]), torch.stack([f[2] for f in faces])
    known, ibug = torch.stack([f[3] for f in faces]), torch.stack([f[4] for f in faces])
    fits = fitted(FaceFitter(model), photo, points)
    landmarks = torch.cat([fit.face.landmarks for fit in fits])
    colors = torch.cat([photometric(photo[k * BATCH :][:BATCH], f) for k, f in enumerate(fits)])
    fraction = torch.cat([fit.face.mask for fit in fits]).flatten(1).mean(1)
    index = list(PAPER_46)
    print(
        "| set | faces | detector px | fit px | worst fit | photometric | mask | lids | mouth |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    names = np.array([f[0] for f in faces])
    for name in dict.fromkeys(names):
        of = torch.from_numpy(names == name)
        same = [
            np.corrcoef(a[of], b[of])[0, 1] if int(of.sum()) > 2 else float("nan")
            for a, b in zip(openings(known), openings(landmarks))
        ]
        one, two = (((x - known).norm(dim=2)[:, index].mean(1))[of] for x in (ibug, landmarks))
        print(
            f"| {name} | {int(of.sum())} | {float(one.mean()):.2f} | {float(two.mean()):.2f} | "
            f"{float(two.max()):.1f} | {float(colors[of].mean()):.3f} | {float(fraction[of].mean()):.3f} | "
            f"{same[0]:.2f} | {same[1]:.2f} |",
            flush=True,
        )


def speed(model: FaceModel, detector: LandmarkDetector, data: Path) -> None:
    """Seconds a photograph in a batch, by threads."""
    faces = photographs(detector, data, ("val crops",), BATCH)
    observed = Observed(torch.stack([f[1] for f in faces]), torch.stack([f[2] for f in faces]))
    print("| threads | wall s a face | CPU s a face |\n|---|---|---|")
    for threads in (1, 2):
        torch.set_num_threads(threads)
        fitter = FaceFitter(model)
        fitter(observed)
        wall, cpu = time.perf_counter(), time.process_time()
        fitter(observed)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f"| {threads} | {wall / len(faces):.2f} | {cpu / len(faces):.2f} |")


def sheet(model: FaceModel, detector: LandmarkDetector, data: Path, count: int, out: Path) -> None:
    """Panels of strangers, one a row."""
    faces = photographs(detector, data, ("ffhq10",), count)
    faces += photographs(detector, data, ("val crops", "portraits"), (count - len(faces)) // 2)
    photo, points = torch.stack([f[1] for f in faces]), torch.stack([f[2] for f in faces])
    rows = [
        panels(photo[k * BATCH :][:BATCH], fit.face, fit.visible)
        for k, fit in enumerate(fitted(FaceFitter(model), photo, points))
    ]
    grid = np.concatenate(rows)[:, ::2, ::2]
    half = -(-len(grid) // 2)
    columns = [np.concatenate(list(part)) for part in (grid[:half], grid[half:])]
    columns[1] = np.pad(columns[1], ((0, len(columns[0]) - len(columns[1])), (0, 0), (0, 0)))
    iio.imwrite(out, np.concatenate(columns, 1))


def main() -> None:
    """Parse the arguments and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("renders", "error", "time", "sheet"))
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--data", default=os.environ.get("MOFA_NVDR_DATA", "../shared/data"))
    parser.add_argument("--out", default="fits.png")
    parser.add_argument("--face-model", default="portraits", help="as FaceModel.load takes it")
    args = parser.parse_args()
    model, detector = FaceModel.load(args.face_model), LandmarkDetector.load()
    data = Path(args.data)
    facts = machine_facts(torch.device("cpu"))
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    if args.what == "renders":
        renders(model, detector, args.count)
    elif args.what == "error":
        error(model, detector, data, args.count)
    elif args.what == "time":
        speed(model, detector, data)
    else:
        sheet(model, detector, data, args.count, Path(args.out))


if __name__ == "__main__":
    main()
