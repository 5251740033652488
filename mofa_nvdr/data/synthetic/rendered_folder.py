"""A folder of rendered faces, written chunk by chunk: what `synthesize` and bootstrapped trainings share.

`images/`, `masks/`, `index.csv`, `landmarks68.npz` and `codes.npz`, as `data.photographs.Photographs` reads
them. `parts/` holds what is known of each chunk that is done, and says that it is: who goes on after a kill
renders the others. Faces are functions of their numbers alone, and a chunk is rendered by one thread: the
same bytes whoever renders it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mofa_nvdr.data.crop_tables import code_table, npz_bytes
from mofa_nvdr.data.photographs import split_by_name
from mofa_nvdr.data.synthetic.faces import TRAIN, SyntheticFaces
from mofa_nvdr.data.synthetic.resampling import Resampling
from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.render.pictures import png_bytes, to_uint8
from mofa_nvdr.system.files import remove_abandoned, write_files

CHUNK = 8  # faces rendered together: products of matrices of another size have other last bits
FOLDERS = ("images", "masks", "parts")
_QUALITY = 95
_HIDDEN = 128  # grey of the face's pixels behind something, in masks


def chunks_to_do(folder: Path, count: int) -> list[tuple[int, int]]:
    """Number and faces of each chunk of `count` faces that is not written yet."""
    chunks = range(-(-count // CHUNK))
    wanted = [(chunk, min(CHUNK, count - chunk * CHUNK)) for chunk in chunks]
    return [(chunk, faces) for chunk, faces in wanted if _num_done(folder, chunk) < faces]


def remove_unfinished(folder: Path) -> None:
    """Delete what a killed process, also one of an earlier version, left half written."""
    for part in (folder, *(path for path in folder.iterdir() if path.is_dir())):
        remove_abandoned(part)
    for left in folder.glob("*/[!.]*.tmp"):
        left.unlink()


@contextmanager
def one_thread() -> Iterator[None]:
    """Products by several threads have other last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def write_chunk(
    folder: Path,
    faces: SyntheticFaces,
    seed: int,
    chunk: int,
    count: int,
    stream: int = TRAIN,
    around: Resampling | None = None,
) -> int:
    """Render a chunk and write its first `count` faces; returns their number.

    Args:
        folder: with FOLDERS in it.
        faces: what renders.
        seed: of the faces.
        chunk: its number.
        count: CHUNK, or fewer in the last one.
        stream: of `SyntheticFaces.render`.
        around: as there.

    Raises:
        OSError: the folder can't be written.
    """
    first = chunk * CHUNK
    rendered = faces.render(seed, range(first, first + CHUNK), stream, around)
    images = to_uint8(rendered.picture.image)
    shown = rendered.frontal * rendered.picture.visible
    masks = (_HIDDEN * rendered.frontal + (255 - _HIDDEN) * shown).cpu()  # [B, 1, H, W]
    contents: dict[Path, bytes] = {}
    for k in range(count):
        name = face_name(first + k)
        mask = masks[k, 0].round().to(torch.uint8).numpy()
        contents[folder / f"images/{name}.jpg"] = _jpeg_bytes(images[k])
        contents[folder / f"masks/{name}.png"] = png_bytes(mask, kind="mask")
    codes, landmarks = rendered.code.pack()[:count].cpu(), rendered.landmarks[:count].cpu()
    contents[_part(folder, chunk)] = npz_bytes(  # last: it says that the chunk is done
        codes=codes.numpy(), lm68=landmarks.numpy()
    )
    write_files(contents)
    return count


def write_tables(
    folder: Path, count: int, layout: CodeLayout, face_model_hash: str, source: str
) -> None:
    """index.csv, landmarks68.npz and codes.npz of all faces; parts may hold more than are asked for.

    Args:
        folder: whose chunks are all written.
        count: number of faces.
        layout: of their codes.
        face_model_hash: whose codes they are.
        source: where they are from, for index.csv; the number of each face follows.
    """
    parts: dict[str, list[np.ndarray]] = {"codes": [], "lm68": []}
    for chunk in range(-(-count // CHUNK)):
        with np.load(_part(folder, chunk), allow_pickle=False) as arrays:
            for key, rows in parts.items():
                rows.append(arrays[key])
    tables = {key: np.concatenate(rows)[:count] for key, rows in parts.items()}
    names = [f"images/{face_name(k)}.jpg" for k in range(count)]
    splits = split_by_name(names)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "split", "source"))
    for k, name in enumerate(names):
        writer.writerow((name, splits[name], f"{source} face {k}"))
    codes = code_table(dict(zip(names, tables["codes"])), layout, face_model_hash)
    write_files(
        {
            folder / "codes.npz": npz_bytes(**codes),
            folder / "landmarks68.npz": npz_bytes(files=np.array(names), lm68=tables["lm68"]),
            folder / "index.csv": text.getvalue().encode(),
        }
    )


def face_name(number: int) -> str:
    """Name of a face's files, without folder and suffix."""
    return f"{number:07d}"


def _part(folder: Path, chunk: int) -> Path:
    return folder / "parts" / f"{chunk:06d}.npz"


def _num_done(folder: Path, chunk: int) -> int:
    """Faces of a chunk that are written."""
    try:
        with open(_part(folder, chunk), "rb") as file:
            return len(np.load(file, allow_pickle=False)["codes"])
    except Exception:  # missing, or damaged in any of the ways of zip and numpy: it is made again
        return 0


def _jpeg_bytes(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=_QUALITY, subsampling=0)
    return stream.getvalue()
