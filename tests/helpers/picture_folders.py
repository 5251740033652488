"""Small folders of pictures for the tests of data: plain colours by number, and noise with everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.helpers.landmarked_photographs import frontal_68

SIDE = 32


def color(number: int) -> tuple[int, int, int]:
    """A colour of its own for every picture, by which a test knows it again."""
    return (number * 7 % 256, number // 36 * 7 % 256, 128)


def write_pictures(folder: Path, num: int) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"face_{i:03d}.png" for i in range(num)]
    for i, name in enumerate(names):
        Image.new("RGB", (SIDE, SIDE), color(i)).save(folder / name)
    return names


def write_index(path: Path, rows: list[tuple[str, str]], header: str = "file,dataset,split"):
    path.write_text("\n".join([header, *(f"{file},x,{split}" for file, split in rows)]) + "\n")


def landmarks_of(num: int) -> np.ndarray:
    """Faces within the pictures: of different places, sizes and turns, points off by some of a pixel."""
    rng = np.random.default_rng(0)
    size, turn = rng.uniform(8, 12, (num, 1)), rng.uniform(-0.3, 0.3, (num, 1))
    place = SIDE / 2 + rng.uniform(-3, 3, (num, 1, 2))
    face = frontal_68() @ [1, 1j] * size * np.exp(1j * turn)  # [num, 68]
    points = np.stack([face.real, face.imag], -1) + place + rng.uniform(-0.3, 0.3, (num, 68, 2))
    return points.astype(np.float32)


def corpus_of(folder: Path, num: int = 12, codes: bool = True) -> Path:
    """Noise, so that files have a size, with landmarks, codes, masks and a split."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    names = [f"images/f.{i:02d}.png" for i in range(num)]
    for i, name in enumerate(names):
        picture = rng.integers(0, 255, (SIDE, SIDE, 3)).astype(np.uint8)
        Image.fromarray(picture).save(folder / name)
        Image.new("L", (SIDE, SIDE), i).save(folder / "masks" / Path(name).name)
    rows = [f"{name},{'val' if i % 4 == 3 else 'train'},{i}.jpg" for i, name in enumerate(names)]
    (folder / "index.csv").write_text("\n".join(["file,split,source", *rows]) + "\n")
    points = landmarks_of(num - 1)  # the last one has none
    points[2, 5] = np.nan
    np.savez(folder / "landmarks68.npz", files=np.array(names[:-1]), lm68=points)
    if codes:
        np.savez(folder / "codes.npz", files=np.array(names), codes=rng.normal(size=(num, 7)))
    return folder
