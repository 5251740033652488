"""The commands that are killed: their arguments, how far they are, and what must be the same in the end."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mofa_nvdr.data.crops.records import LOG_FILE
from mofa_nvdr.runs.checkpoint import CheckpointError, list_checkpoints, read_checkpoint
from mofa_nvdr.system.files import read_json_lines
from tests.helpers.training import curve, same_state


@dataclass(frozen=True)
class Command:
    """A command that goes on where it was killed.

    Attributes:
        arguments: the folder of all, the output, and which start it is (0, 1, ...) -> the command line.
        progress: the output -> what is done and may not be lost: a number that must not fall.
        contents: the output -> what must be the same as without kills, by name.
    """

    arguments: Callable[[Path, Path, int], list[str]]
    progress: Callable[[Path], int]
    contents: Callable[[Path], dict[str, object]]


def render_faces(folder: Path, small: bool) -> list[str]:
    """The command line that renders what `lay_out_photographs` takes."""
    return ["synthesize", "--count", "8" if small else "30", "--size", "128", "--seed", "5",
            "--out", str(folder / "faces")]  # fmt: skip


def lay_out_photographs(folder: Path) -> None:
    """Of the rendered faces: a folder with landmarks, one where faces must be found, and a broken file."""
    faces, photos = folder / "faces", folder / "photos"
    names = sorted((faces / "images").iterdir())
    (photos / "known").mkdir(parents=True)
    (photos / "found").mkdir()
    for path in names[::2]:
        shutil.copy(path, photos / "known")
    for path in names[1::2]:
        # Larger, as photographs are: reading and looking takes time.
        Image.open(path).resize((320, 320)).save(photos / "found" / path.with_suffix(".png").name)
    with np.load(faces / "landmarks68.npz") as table:
        points = {Path(str(f)).name: p for f, p in zip(table["files"], table["lm68"])}
    files = [path.name for path in names[::2]]
    np.savez(
        photos / "known" / "landmarks68.npz", files=np.array(files),
        lm68=np.stack([points[name] for name in files]),
    )  # fmt: skip
    (photos / "found" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")


def commands(small: bool) -> dict[str, Command]:
    """By name.

    Args:
        small: a small face model and few faces, for continuous integration.
    """
    count, model = (24, "cap.safetensors") if small else (64, "")

    def face_model(folder: Path) -> list[str]:
        return ["--face-model", str(folder / model)] if model else []

    def train(folder: Path, out: Path, start: int) -> list[str]:
        return ["train", "--config", "smoke", "--out", str(out), *face_model(folder), "--steps", "8",
                "--report.val-every", "3", "--report.val-images", "2", "--report.sheet-every", "6",
                "--schedule.warm-start-steps", "3", "--device", "cpu"]  # fmt: skip

    def bootstrap(folder: Path, out: Path, start: int) -> list[str]:
        return ["train", "--config", "inverse_face_net_smoke", "--data", str(folder / "photos" / "known"),
                "--out", str(out), *face_model(folder), "--encoder.network", "mobilenet_v3_large",
                "--bootstrap.photographs", "4", "--bootstrap.faces", "20", "--report.val-images", "2",
                "--device", "cpu"]  # fmt: skip

    def preprocess(folder: Path, out: Path, start: int) -> list[str]:
        return ["preprocess", str(folder / "photos"), "--out", str(out), "--size", "96",
                "--workers", str(1 + start % 2), "--shards", "0.05"]  # fmt: skip

    def synthesize(folder: Path, out: Path, start: int) -> list[str]:
        workers = 2 if start % 4 == 3 else 1
        return ["synthesize", "--count", str(count), "--size", "64", "--out", str(out), "--workers",
                str(workers), *face_model(folder), "--shards", "0.05"]  # fmt: skip

    return {
        "train": Command(train, _steps, _run_contents),
        "bootstrap": Command(bootstrap, _cycled, _cycled_contents),
        "preprocess": Command(preprocess, _photographs, _corpus_contents),
        "synthesize": Command(synthesize, _parts, _corpus_contents),
    }


def _steps(run: Path) -> int:
    """Steps of the newest whole checkpoint; all that are under their name must be whole."""
    found = list_checkpoints(run)
    try:
        for path in found:
            read_checkpoint(path)
    except CheckpointError:
        return -1
    return int(found[-1].stem[-8:]) if found else 0


def _cycled(run: Path) -> int:
    """Steps of the newest whole checkpoint, and chunks of the cycles' faces."""
    steps = _steps(run)
    parts = run.glob("corpus-*/parts/[0-9]*.npz")
    return steps if steps < 0 else 100 * steps + len(list(parts))


def _cycled_contents(run: Path) -> dict[str, object]:
    """As of any run, and the bytes of the cycles' corpora."""
    files = {f"{k}": v for k, v in _files(run).items() if k.startswith("corpus-")}
    return _run_contents(run) | files


def _photographs(out: Path) -> int:
    """Photographs whose crops are all there, each of them whole."""
    done = 0
    for line in read_json_lines(out / LOG_FILE):
        if "source" in line:
            for face in line["faces"]:
                Image.open(out / face["file"]).load()
            done += 1
    return done


def _parts(out: Path) -> int:
    return len(list((out / "parts").glob("[0-9]*.npz")))


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _run_contents(run: Path) -> dict[str, object]:
    """Names of all files, the curve, the bits of each checkpoint, the sheets' bytes."""
    files = _files(run)
    names = {re.sub(r"^events\..*", "events", name) for name in files}  # of each start one
    contents: dict[str, object] = {"files": sorted(names), "curve": curve(run)}
    contents |= {name: data for name, data in files.items() if name.endswith(".png")}
    contents |= {path.name: _State(path) for path in run.glob("*.safetensors")}
    return contents


class _State:
    """A checkpoint, equal to another with the same tensors and facts."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _State) and same_state(self.path, other.path)

    __hash__ = None  # type: ignore[assignment]


def _corpus_contents(out: Path) -> dict[str, object]:
    """The bytes of all files; of those that name times or another order, what they say."""
    contents: dict[str, object] = dict(_files(out))
    for name in list(contents):
        data = contents[name]
        assert isinstance(data, bytes)
        if name.endswith(
            ".index"
        ):  # it has a checksum with the times of the files that were packed
            contents[name] = re.sub(rb'"content": "[0-9a-f]+"', b"", data)
        elif name == LOG_FILE:
            # What cannot be read is tried again by each start, and the last line for it counts.
            lines = [json.loads(line) for line in data.splitlines()]
            contents[name] = {line.get("place", "options"): line for line in lines}
    return contents
