"""Corpora of rendered faces with their truth: images, codes, landmarks and masks; `mofa-nvdr synthesize`.

The output folder is a data set as `data.photographs.Photographs` reads it: `images/`, `index.csv`,
`landmarks68.npz` and `codes.npz`, and `masks/` next to them (rendered_folder.py): the same bytes for any
number of workers, and the same command again goes on after the last chunk that is done.
"""

from __future__ import annotations

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

import torch
from tqdm import tqdm

from mofa_nvdr.data.packing import write_shards
from mofa_nvdr.data.photographs import Photographs
from mofa_nvdr.data.synthetic.codes import load_lights
from mofa_nvdr.data.synthetic.faces import SyntheticFaces
from mofa_nvdr.data.synthetic.rendered_folder import (
    FOLDERS,
    chunks_to_do,
    one_thread,
    remove_unfinished,
    write_chunk,
    write_tables,
)
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.system.files import (
    check_out,
    make_folders,
    named_errors,
    write_text,
)
from mofa_nvdr.system.locks import locked
from mofa_nvdr.system.notes import plain_warnings, say
from mofa_nvdr.system.workers import end_with_parent

logger = logging.getLogger(__name__)

OPTIONS_FILE = "synthesize.json"
_OWN = ("images", "masks", "index.csv", "landmarks68.npz", "codes.npz")


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
    folder = make_folders(out, *FOLDERS)
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
    remove_unfinished(folder)
    todo = chunks_to_do(folder, count)
    total = sum(faces for _, faces in todo)
    with ExitStack() as stack:
        bar = stack.enter_context(tqdm(total=total, unit="face", disable=not sys.stderr.isatty()))
        for faces in stack.enter_context(_rendering(str(folder), o, workers, todo)):
            bar.update(faces)
            if bar.disable and bar.n // 1000 != (bar.n + faces) // 1000:
                say(f"{bar.n + faces} of {total} faces")
    layout = FaceModel.load(o.face_model).layout
    write_tables(folder, count, layout, facts["model_hash"], f"synthetic seed {o.seed}")
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
        """`write_chunk` of this corpus."""
        return write_chunk(self.folder, self.faces, self.seed, chunk, count)


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
        with one_thread():
            renderer = Renderer(folder, o)
            yield (renderer.write(*item) for item in todo)
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
