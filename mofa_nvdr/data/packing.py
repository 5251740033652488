"""Packing a folder of crops into tar shards (`data.shards` reads them)."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mofa_nvdr.data.crop_tables import INDEX_FILE, DataError
from mofa_nvdr.data.photographs import SPLITS, Photographs
from mofa_nvdr.data.shards import (
    TAR_BLOCK,
    Members,
    Shard,
    header_checksum,
    index_path,
    read_shard_index,
    write_index,
)
from mofa_nvdr.system.files import replacing
from mofa_nvdr.system.locks import locked

_LONGEST_KEY = 80  # characters; USTAR names have 100


def write_shards(folder: str | os.PathLike[str], out: str, megabytes: float = 100) -> list[Path]:
    """Pack a folder of crops into tar shards of about one size; the crops stay where they are.

    Samples are in a mixed order that depends only on their names, so that a program which streams the
    shards sees no runs of one person. The same call again leaves shards alone that hold what they
    should, and writes the others again; each appears under its name only when it is whole.

    Args:
        folder: as `Photographs` reads it, and `masks/` for the pictures in `images/` if there are any.
        out: the folder of the shards.
        megabytes: size (10^6 bytes) at which a shard is full.

    Returns:
        The shards.

    Raises:
        DataError: the folder cannot be used.
        ValueError: megabytes not above 0.
        OSError: the shards cannot be written.
        FolderInUse: another command writes them.
    """
    if not megabytes > 0:
        raise ValueError(f"shards: size is {megabytes} MB, expected more than 0")
    target = Path(out)
    target.mkdir(parents=True, exist_ok=True)
    with locked(target, "shards"):
        return _write_shards(folder, target, megabytes * 1e6)


def _write_shards(folder: str | os.PathLike[str], target: Path, most: float) -> list[Path]:
    written = []
    for split in SPLITS:
        try:
            sources = _sources(folder, split)
        except DataError:
            if split == "train":
                raise
            sources = []
        plan = _plan(sources, most)
        for number, group in enumerate(tqdm(plan, f"{split} shards", disable=None, unit="shard")):
            path = target / f"{split}-{number:05d}.tar"
            _write_shard(path, group)
            written.append(path)
    for path in target.glob("*.tar"):  # of a larger corpus that was packed here before
        if path not in written and re.fullmatch(rf"({'|'.join(SPLITS)})-\d{{5}}\.tar", path.name):
            path.unlink()
            index_path(path).unlink(missing_ok=True)
    return written


@dataclass(frozen=True)
class _Source:
    """A sample to be packed: files by kind, and bytes by kind."""

    name: str
    files: dict[str, Path]
    small: dict[str, bytes]

    @property
    def size(self) -> int:
        parts = [path.stat().st_size for path in self.files.values()]
        parts += [len(data) for data in self.small.values()]
        return sum(TAR_BLOCK + -(-size // TAR_BLOCK) * TAR_BLOCK for size in parts)


def _sources(folder: str | os.PathLike[str], split: str) -> list[_Source]:
    dataset = Photographs(folder, split)
    rows: dict[str, dict[str, str]] = {}
    if (dataset.base / INDEX_FILE).is_file():
        with open(dataset.base / INDEX_FILE, newline="", encoding="utf-8-sig") as file:
            rows = {row["file"]: row for row in csv.DictReader(file)}
    sources = []
    for path in dataset.files:
        name = path.relative_to(dataset.base).as_posix()
        row = {"file": name, "split": split, **rows.get(name, {})}
        small = {"json": json.dumps(row, sort_keys=True).encode()}
        known, code = dataset.landmarks_of(name), dataset.code_of(name)
        dense = dataset.dense_of(name)
        small |= {} if known is None else {"npy": _npy(known)}
        small |= {} if dense is None else {"dense.npy": _npy(dense)}
        small |= {} if code is None else {"code.npy": _npy(code)}
        mask = dataset.base / "masks" / Path(name).with_suffix(".png").name
        files = {path.suffix[1:].lower(): path}
        if name.startswith("images/") and mask.is_file():
            files["mask.png"] = mask
        sources.append(_Source(name, files, small))
    return sorted(sources, key=lambda s: hashlib.sha1(s.name.encode()).digest())


def _plan(sources: Iterable[_Source], size: float) -> list[list[_Source]]:
    groups: list[list[_Source]] = []
    filled = size
    for source in sources:
        if filled >= size:
            groups.append([])
            filled = 0.0
        groups[-1].append(source)
        filled += source.size
    return groups


def _write_shard(path: Path, group: list[_Source]) -> None:
    digest = hashlib.sha256()
    for source in group:
        facts = []
        for kind, file in source.files.items():
            stat = file.stat()
            facts.append((kind, stat.st_size, stat.st_mtime_ns))
        digest.update(repr((source.name, facts, sorted(source.small.items()))).encode())
    known = read_shard_index(path) if path.is_file() else None
    if known is not None and known.content == digest.hexdigest():
        return
    samples: list[tuple[str, Members]] = []
    taken: set[str] = set()
    with replacing(path) as temporary:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            for source in group:
                key = _key(source.name, taken)
                members: Members = {}
                parts = {kind: file.read_bytes() for kind, file in source.files.items()}
                for kind, data in (parts | source.small).items():
                    info = tarfile.TarInfo(f"{key}.{kind}")
                    info.size = len(data)
                    checksum = header_checksum(info.tobuf(tarfile.USTAR_FORMAT))
                    members[kind] = (tar.offset + TAR_BLOCK, len(data), checksum)
                    tar.addfile(info, io.BytesIO(data))
                samples.append((key, members))
        index_path(path).unlink(missing_ok=True)  # never an old index next to a new shard
    write_index(Shard(path, samples, content=digest.hexdigest()))


def _key(name: str, taken: set[str]) -> str:
    """A sample's name in a shard: without dots, which end it, and with ASCII alone, which USTAR holds."""
    stem = name.rpartition(".")[0].removeprefix("images/")
    stem = re.sub(r"[^A-Za-z0-9_-]", "_", stem)[-_LONGEST_KEY:]
    key, number = stem, 1
    while key in taken:
        number += 1
        key = f"{stem}-{number}"
    taken.add(key)
    return key


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()
