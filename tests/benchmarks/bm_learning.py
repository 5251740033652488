"""How a learned face model grows with people, modes and rounds.

`python tests/benchmarks/bm_learning.py OUT.learning [--people FILE.csv]`: the folder in which `mofa-nvdr
model learn` keeps its steps (copy it before the model is written and the folder removed), and its people.
Every tenth person is held apart; what was seen of them is written by modes that were learned from the others
(ridge regression by the modes' own deviations, at 1,500 vertices) and compared at 1,500 other vertices.
"""

from __future__ import annotations

import argparse
import csv
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


def main() -> None:
    """Parse the argument and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--people", type=Path)
    args = parser.parse_args()
    folder = args.folder
    facts = machine_facts(torch.device("cpu"))
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    read = steps(folder, "faces")
    names = [str(name) for name in read["name"]]
    of: dict[str, str] = {}
    if args.people is not None:
        with open(args.people, newline="", encoding="utf-8") as file:
            of = {row["file"]: row["person"] for row in csv.DictReader(file)}
    person = np.unique([of.get(name, name) for name in names], return_inverse=True)[1]
    faces = Faces(read["photo"], read["known"], read["points"], person)
    first = FaceModel.load("procedural")
    learner = ModelLearner(first, faces, keep=lambda name, make: kept(folder, name))
    model = learner._learned_form()
    index = first.frontal_mask.nonzero()[:, 0]
    held = person % 10 == 0
    for number in ROUNDS:
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
        for count in sorted({min(count, len(every)) for count in PEOPLE}):
            some = every[torch.linspace(0, len(every) - 1, count).round().long()]
            mean, modes, _ = learn_colors(
                Seen(seen.albedo[some], seen.weight[some]), first, _PIGMENTS, max(MODES)
            )
            apart = Seen(seen.albedo[held], seen.weight[held])
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
    return Seen(torch.cat([p.albedo for p in parts]), torch.cat([p.weight for p in parts]))


if __name__ == "__main__":
    main()
