"""Corpora of rendered faces with their truth: images, codes, landmarks and masks; `mofa-nvdr synthesize`.

The output folder is a data set as `data.photographs.Photographs` reads it: `images/`, `index.csv`,
`landmarks68.npz` and `codes.npz`, and `masks/` next to them. Faces are rendered in chunks of a fixed size,
each by one thread: the same bytes for any number of workers. `parts/` holds what is known of each chunk
that is done; the same command again goes on after the last one.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from mofa_nvdr.data.crop_tables import code_table, npz_bytes
from mofa_nvdr.data.packing import write_shards
from mofa_nvdr.data.photographs import Photographs, split_by_name
from mofa_nvdr.data.synthetic.codes import load_lights
from mofa_nvdr.data.synthetic.faces import SyntheticFaces
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.render.pictures import png_bytes, to_uint8
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.system.files import (
    check_out,
    make_folders,
    named_errors,
    remove_abandoned,
    write_files,
    write_text,
)
from mofa_nvdr.system.locks import locked
from mofa_nvdr.system.notes import plain_warnings, say
from mofa_nvdr.system.workers import end_with_parent

logger = logging.getLogger(__name__)

CHUNK = 8  # faces rendered together: products of matrices of another size have other last bits
OPTIONS_FILE = "synthesize.json"
_OWN = ("images", "masks", "index.csv", "landmarks68.npz", "codes.npz")
_QUALITY = 95
_HIDDEN = 128  # grey of the face's pixels behind something, in masks


@dataclass(frozen=True)
class SynthesisOptions:
    """What the faces depend on.

    Attributes:
        seed: face n is a function of the seed and n.
        size: side of the images, px.
        face_model: "default" or a .safetensors file.
        backgrounds: folder of pictures behind the faces; empty: made-up rooms.
        lights: folder of .hdr light probes for half of the faces; empty: only lights drawn from the prior.
        plain: faces alone in front of their backgrounds.
    """

    seed: int = 0
    size: int = 256
    face_model: str = "default"
    backgrounds: str = ""
    lights: str = ""
    plain: bool = False


def synthesize_files(
    count: int,
    out: str,
    options: SynthesisOptions | None = None,
    workers: int = 1,
    shards: float = 0.0,
) -> Path:
    """Write a corpus of rendered faces; the command `mofa-nvdr synthesize`.

    Args:
        count: number of faces; a larger number adds to a folder.
        out: the folder to make, or to go on with.
        options: None: the defaults.
        workers: processes that render, each with one thread.
        shards: MB of the tar shards into which the corpus is packed, in out/shards; 0: none.

    Returns:
        The folder.

    Raises:
        ValueError: a number out of its range, a folder that cannot be used, or other options than before.
        RuntimeError: a worker died.
        FolderInUse: another command writes the folder.
        OSError: the folder cannot be written any more; the faces that are done are whole.
    """
    o = options or SynthesisOptions()
    for name, value, least in (("count", count, 1), ("size", o.size, 16), ("workers", workers, 1)):
        if value < least:
            raise ValueError(f"synthesize: {name} is {value}, expected at least {least}")
    for name, number in (("seed", float(o.seed)), ("shards", shards)):
        if not number >= 0:
            raise ValueError(f"synthesize: {name} is {number:g}, expected 0 or more")
    check_out(out)
    _check_folder(Path(out))
    facts = _check_inputs(o)
    folder = make_folders(out, "images", "masks", "parts")
    with (
        locked(folder, "mofa-nvdr synthesize"),
        named_errors(folder, lambda: "the faces that are done are whole"),
    ):
        _synthesize(folder, count, o, facts, workers, shards)
    return folder


def _synthesize(
    folder: Path,
    count: int,
    o: SynthesisOptions,
    facts: dict[str, Any],
    workers: int,
    shards: float,
) -> None:
    _check_options(folder, o, facts)
    for part in (folder, *(path for path in folder.iterdir() if path.is_dir())):
        remove_abandoned(part)  # of a process that was killed while it wrote
    for left in folder.glob("*/[!.]*.tmp"):  # and of one of an earlier version
        left.unlink()
    chunks = range(-(-count // CHUNK))
    todo = [(chunk, min(CHUNK, count - chunk * CHUNK)) for chunk in chunks]
    todo = [(chunk, faces) for chunk, faces in todo if _num_done(folder, chunk) < faces]
    total = sum(faces for _, faces in todo)
    with ExitStack() as stack:
        bar = stack.enter_context(tqdm(total=total, unit="face", disable=not sys.stderr.isatty()))
        for faces in stack.enter_context(_rendering(str(folder), o, workers, todo)):
            bar.update(faces)
            if bar.disable and bar.n // 1000 != (bar.n + faces) // 1000:
                say(f"{bar.n + faces} of {total} faces")
    _write_tables(folder, count, o, facts)
    say(f"{count} faces: {folder}")
    if shards:
        packed = write_shards(folder, str(folder / "shards"), shards)
        say(f"{len(packed)} shards: {folder / 'shards'}")


class Renderer:
    """Renders and writes chunks of a corpus; one in each process."""

    def __init__(self, folder: str, o: SynthesisOptions) -> None:
        self.folder = Path(folder)
        self.seed = o.seed
        model = FaceModel.load(o.face_model)
        decoder = FaceDecoder(model, camera=Camera(image_size=o.size))
        pictures = Photographs(o.backgrounds, "train", o.size) if o.backgrounds else None
        lights = load_lights(o.lights) if o.lights else ()
        self.faces = SyntheticFaces(decoder, None, pictures, lights, o.plain)

    def write(self, chunk: int, count: int) -> int:
        """Render a chunk and write its first `count` faces; returns their number.

        Raises:
            OSError: the folder can't be written.
        """
        first = chunk * CHUNK
        rendered = self.faces.render(self.seed, range(first, first + CHUNK))
        images = to_uint8(rendered.picture.image)
        shown = rendered.frontal * rendered.picture.visible
        masks = _HIDDEN * rendered.frontal + (255 - _HIDDEN) * shown  # [B, 1, H, W]
        contents: dict[Path, bytes] = {}
        for k in range(count):
            name = face_name(first + k)
            mask = masks[k, 0].round().to(torch.uint8).numpy()
            contents[self.folder / f"images/{name}.jpg"] = _jpeg_bytes(images[k])
            contents[self.folder / f"masks/{name}.png"] = png_bytes(mask, kind="mask")
        contents[_part(self.folder, chunk)] = npz_bytes(  # last: it says that the chunk is done
            codes=rendered.code.pack()[:count].numpy(), lm68=rendered.landmarks[:count].numpy()
        )
        write_files(contents)
        return count


def face_name(number: int) -> str:
    """Name of a face's files, without folder and suffix."""
    return f"{number:07d}"


_renderer: Renderer | None = None  # of a worker's process


def _start(folder: str, o: SynthesisOptions) -> None:
    global _renderer
    end_with_parent()
    torch.set_num_threads(1)
    with plain_warnings():
        _renderer = Renderer(folder, o)


def _work(item: tuple[int, int]) -> int:
    assert _renderer is not None
    with plain_warnings():
        return _renderer.write(*item)


@contextmanager
def _rendering(
    folder: str, o: SynthesisOptions, workers: int, todo: list[tuple[int, int]]
) -> Iterator[Iterator[int]]:
    """Numbers of faces as chunks are done, in the order of the chunks."""
    if not todo:
        yield iter(())
    elif workers == 1:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # products by several threads have other last bits
        try:
            renderer = Renderer(folder, o)
            yield (renderer.write(*item) for item in todo)
        finally:
            torch.set_num_threads(threads)
    else:
        # Numba's threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, context, _start, (folder, o))
        try:
            yield pool.map(_work, todo)
        except BrokenProcessPool:
            raise RuntimeError(
                f"synthesize: a worker died (out of memory?); fewer --workers need less, and the same "
                f"command again goes on with {folder}"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _check_inputs(o: SynthesisOptions) -> dict[str, Any]:
    """What the faces depend on apart from the options; mistakes show before any worker starts."""
    facts: dict[str, Any] = {"model_hash": FaceModel.load(o.face_model).hash}
    if o.backgrounds:
        backgrounds = Photographs(o.backgrounds, "train", o.size)
        facts["num_backgrounds"] = len(backgrounds)
        if backgrounds.left_out:
            logger.info("%s: %s", o.backgrounds, backgrounds.left_out)
    if o.lights:
        facts["num_lights"] = len(load_lights(o.lights))
    return facts


def _check_folder(folder: Path) -> None:
    """Refuse a folder of another corpus, whose pictures and tables would be replaced."""
    if (folder / OPTIONS_FILE).exists() or (folder / "parts").is_dir():
        return
    if theirs := [name for name in _OWN if (folder / name).exists()]:
        raise ValueError(
            f"--out {folder}: holds {theirs[0]}, and no {OPTIONS_FILE} says that it is of rendered faces; "
            "give another folder"
        )


def _check_options(folder: Path, o: SynthesisOptions, facts: dict[str, Any]) -> None:
    now = {**asdict(o), **facts}
    path = folder / OPTIONS_FILE
    if path.is_file():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            different = [
                key for key in now.keys() | before.keys() if now.get(key) != before.get(key)
            ]
        except (ValueError, AttributeError):  # not JSON, or not an object
            raise ValueError(
                f"{path}: damaged, not a JSON object; delete it to go on with the earlier options, or "
                "give another --out"
            ) from None
        if different:
            raise ValueError(
                f"{folder}: was made with another {', '.join(sorted(different))}; use the earlier "
                "options, or another --out"
            )
    write_text(path, json.dumps(now, indent=1) + "\n")


def _part(folder: Path, chunk: int) -> Path:
    return folder / "parts" / f"{chunk:06d}.npz"


def _num_done(folder: Path, chunk: int) -> int:
    """Faces of a chunk that are written."""
    try:
        with open(_part(folder, chunk), "rb") as file:
            return len(np.load(file, allow_pickle=False)["codes"])
    except Exception:  # missing, or damaged in any of the ways of zip and numpy: it is made again
        return 0


def _write_tables(folder: Path, count: int, o: SynthesisOptions, facts: dict[str, Any]) -> None:
    """index.csv, landmarks68.npz and codes.npz of all faces; parts may hold more than are asked for."""
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
        writer.writerow((name, splits[name], f"synthetic seed {o.seed} face {k}"))
    layout = FaceModel.load(o.face_model).layout
    files = np.array(names)
    codes = npz_bytes(**code_table(dict(zip(names, tables["codes"])), layout, facts["model_hash"]))
    write_files(
        {
            folder / "codes.npz": codes,
            folder / "landmarks68.npz": npz_bytes(files=files, lm68=tables["lm68"]),
            folder / "index.csv": text.getvalue().encode(),
        }
    )


def _jpeg_bytes(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=_QUALITY, subsampling=0)
    return stream.getvalue()
