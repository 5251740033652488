"""How a learned face model grows with people, modes and rounds.

`python tests/benchmarks/bm_learning.py OUT.learning [--people FILE.csv]`: the folder in which `mofa-nvdr
model learn` keeps its steps (copy it before the model is written and the folder removed), and its people.
Every tenth person is held apart; what was seen of them is written by modes that were learned from the others
(ridge regression by the modes' own deviations, at 1,500 vertices) and compared at 1,500 other vertices.
`--rounds 2 3` and `--counts 240 10000` are of some rounds and numbers of people alone.

`python -m tests.benchmarks.bm_learning --compare MODEL [--with portraits]`: how far a learned model is from
another one of its mesh: means, and which share of the variance of the other's modes lies in the span of its
own; over the frontal region without mouth and teeth, which are set by hand.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr import FaceModel
from mofa_nvdr.apply.kept_steps import _CHECKSUM
from mofa_nvdr.apply.learn_colors import ColorObserver, Seen, learn_colors
from mofa_nvdr.apply.learn_files import _PIGMENTS
from mofa_nvdr.apply.learning import Faces, ModelLearner
from mofa_nvdr.bench.operators import machine_facts

PEOPLE, MODES, ROUNDS = (60, 120, 240, 10_000), (20, 40, 80), (1, 2, 3)
POINTS = 1500
NOISE = 0.05  # of a number of albedo about what the modes can say


def steps(folder: Path, name: str) -> dict[str, np.ndarray]:
    """Arrays of all batches of a step."""
    files = sorted(folder.glob(f"{name}-*.npz"), key=lambda p: int(p.stem.rpartition("-")[2]))
    parts = [_arrays(file) for file in files]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]} if parts else {}


def kept(folder: Path, name: str) -> dict[str, np.ndarray]:
    """The arrays of one batch of a step."""
    return _arrays(folder / f"{name.replace(' ', '-')}.npz")


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files if name != _CHECKSUM}


def held_error(mean: Tensor, modes: Tensor, seen: Seen, count: int) -> float:
    """Rms of albedo at points that coefficients were not found at, over people."""
    order = torch.randperm(seen.weight.shape[1], generator=torch.Generator().manual_seed(0))
    known, other = order[:POINTS], order[POINTS : 2 * POINTS]
    squares = weights = 0.0
    basis = modes[:count]
    for albedo, weight in zip(seen.albedo, seen.weight):
        rows = (basis[:, known] * weight[known, None]).flatten(1) / NOISE
        right = ((albedo - mean)[known] * weight[known, None]).flatten() / NOISE
        # 1,500 neighbouring vertices say as much as about 300 independent ones.
        matrix = rows @ rows.T / 5 + torch.eye(count)
        found = torch.linalg.solve(matrix, rows @ right / 5)
        left = (albedo - mean - torch.einsum("k,kvc->vc", found, basis))[other]
        squares += float((left.square().mean(1) * weight[other]).sum())
        weights += float(weight[other].sum())
    return (squares / weights) ** 0.5


def held_share(modes: Tensor, others: Tensor) -> float:
    """The share of the variance of modes [K, N] that lies in the span of other modes [M, N]."""
    basis, sizes, _ = torch.linalg.svd(others.double().T, full_matrices=False)
    basis = basis[:, sizes > 1e-6 * sizes[0]]
    flat = modes.double()
    return float((flat @ basis).square().sum() / flat.square().sum())


def compare(model: FaceModel, other: FaceModel) -> None:
    """Print how far a model is from another one of its mesh."""
    if model.num_vertices != other.num_vertices:
        raise ValueError(f"{model.num_vertices} and {other.num_vertices} vertices: other meshes")
    where = model.frontal_mask & ~model.in_regions("mouth", "teeth")
    print(
        f"{model.name} {model.hash} and {other.name} {other.hash}\n\n"
        "| part | means apart, rms | at most | of the other's variance in its modes | of its variance in the "
        "other's |\n|---|---|---|---|---|"
    )
    for part, unit in (("shape", " mm"), ("albedo", "")):
        mean, basis = f"mean_{part}", f"{part}_basis"
        away = (getattr(model, mean) - getattr(other, mean))[where].norm(dim=1)
        own, its = (getattr(m, basis)[:, where].flatten(1) for m in (model, other))
        print(
            f"| {part} | {float(away.square().mean().sqrt()):.3f}{unit} | {float(away.max()):.3f}{unit} | "
            f"{held_share(its, own):.4f} | {held_share(own, its):.4f} |"
        )


def main() -> None:
    """Parse the arguments and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--people", type=Path)
    parser.add_argument("--rounds", type=int, nargs="+", default=ROUNDS)
    parser.add_argument("--counts", type=int, nargs="+", default=PEOPLE)
    parser.add_argument("--compare", metavar="MODEL")
    parser.add_argument("--with", dest="other", metavar="MODEL", default="portraits")
    args = parser.parse_args()
    facts = machine_facts(torch.device("cpu"))
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    if args.compare:
        compare(FaceModel.load(args.compare), FaceModel.load(args.other))
        return
    if args.folder is None:
        parser.error("needs a folder, or --compare")
    growth(args.folder, args.people, args.rounds, args.counts)


def growth(folder: Path, people: Path | None, rounds: Sequence[int], counts: Sequence[int]) -> None:
    """Print what modes learned of some people say of others, by round."""
    read = steps(folder, "faces")
    names = [str(name) for name in read["name"]]
    of: dict[str, str] = {}
    if people is not None:
        with open(people, newline="", encoding="utf-8") as file:
            of = {row["file"]: row["person"] for row in csv.DictReader(file)}
    person = np.unique([of.get(name, name) for name in names], return_inverse=True)[1]
    faces = Faces(read["photo"], read["known"], read["points"], person)
    first = FaceModel.load("procedural")
    learner = ModelLearner(first, faces, keep=lambda name, make: kept(folder, name))
    model = learner._learned_form()
    index = first.frontal_mask.nonzero()[:, 0]
    held = person % 10 == 0
    for number in rounds:
        fits = steps(folder, f"colors-{number}")
        if len(fits.get("code", ())) != len(names):
            continue
        print(f"\nround {number}: photometric error {fits['error'].mean():.4f}\n")
        seen = observed(model, learner, fits)
        rest = torch.from_numpy(~held & (fits["error"] < np.quantile(fits["error"], 0.97)))
        print(
            "| people | "
            + " | ".join(f"{m} modes" for m in MODES)
            + " |\n|---"
            + "|---" * len(MODES)
            + "|"
        )
        every = rest.nonzero()[:, 0]
        for count in sorted({min(count, len(every)) for count in counts}):
            some = every[torch.linspace(0, len(every) - 1, count).round().long()]
            mean, modes, _ = learn_colors(seen[some], first, _PIGMENTS, max(MODES))
            apart = seen[torch.from_numpy(held)]
            row = [f"{held_error(mean[index], modes[:, index], apart, m):.4f}" for m in MODES]
            print(f"| {len(some)} | " + " | ".join(row) + " |")


def observed(model: FaceModel, learner: ModelLearner, fits: dict[str, np.ndarray]) -> Seen:
    """What the photographs show, by the fits of a round: by their shape and their light."""
    observer = ColorObserver(model, learner.camera)
    parts = []
    for batch in learner._batches(np.arange(len(learner.faces))):
        visible = torch.from_numpy(fits["visible"][batch])[:, None].float() / 255
        parts.append(
            observer(learner._photo(batch), torch.from_numpy(fits["code"][batch]), visible)
        )
    return Seen.joined(parts)


if __name__ == "__main__":
    main()
