"""Corpora in tar shards: few large files instead of many small ones, read at any place by an index.

A shard is a plain USTAR archive in WebDataset's naming. A sample is a run of members of one name:
`KEY.jpg` (the crop as it was), `KEY.json` (its row of index.csv), `KEY.npy` ([68, 3] landmarks: x, y,
confidence, px of the picture), `KEY.dense.npy` ([478, 2], the points of `face.dense_landmarks`, px of the
picture) and, for rendered faces, `KEY.code.npy` and `KEY.mask.png`. Next to
`train-00000.tar` is `train-00000.index` with the position of every member. An index that is missing, or
does not fit its shard, is made again by reading the shard once.
"""

from __future__ import annotations

import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mofa_nvdr.data.crop_tables import DataError
from mofa_nvdr.data.decoding import MAX_MEGAPIXELS
from mofa_nvdr.data.images import ImageError, decode_square
from mofa_nvdr.data.photographs import SPLITS, Corpus, Photographs, Sample, split_by_name
from mofa_nvdr.data.picture_formats import IMAGE_SUFFIXES
from mofa_nvdr.face.dense_landmarks import NUM_DENSE
from mofa_nvdr.face.landmarks import NUM_LANDMARKS
from mofa_nvdr.system.array_files import NotArrays, read_npy
from mofa_nvdr.system.files import replacing

FORMAT = "mofa-nvdr shard index 1"
TAR_BLOCK = 512  # bytes; tar's headers and padding
_PICTURES = tuple(suffix[1:] for suffix in IMAGE_SUFFIXES)
# Kind ("jpg", "code.npy") -> offset of its data, size, and checksum of the header before it.
Members = dict[str, tuple[int, int, int]]


@dataclass(frozen=True)
class Shard:
    """What is known of one shard.

    Attributes:
        path: the .tar file.
        samples: key and members of each sample, in the archive's order.
        damage: what is wrong with the rest of the file; empty: nothing.
        content: digest of what the shard was written from; empty for a shard that we did not write.
    """

    path: Path
    samples: list[tuple[str, Members]]
    damage: str = ""
    content: str = ""


def open_corpus(
    path: str | os.PathLike[str],
    split: str = "train",
    image_size: int = 240,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> Corpus:
    """The data set in a folder: `Shards` if there are .tar files in it, else `Photographs`.

    Raises:
        DataError: no such folder, or nothing in it that can be used.
        ValueError: another split, or image_size below 1.
    """
    kind = Shards if any(Path(path).glob("*.tar")) else Photographs
    return kind(path, split, image_size, max_megapixels)


class Shards(Corpus):
    """A folder of tar shards as a data set.

    Shards named `train-*` and `val-*` are the splits; of others about one sample in twenty, chosen by a
    hash of its key, is val. Samples are read at their place, each by one read of the file: any order is
    as good as another, and processes need not share shards out among them. A shard that ends early, or
    is damaged, is named and counted in `skipped`; what is before the damage is used.

    Args:
        path: the folder.
        split: "train" or "val". The val split may be empty, the train split not.
        image_size: side S of the samples, px; see `resize_square`.
        max_megapixels: larger pictures are not read.

    Raises:
        DataError: no shards in the folder, or no samples for training in them.
        ValueError: another split, or image_size below 1.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        split: str = "train",
        image_size: int = 240,
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> None:
        super().__init__(path, split, image_size, max_megapixels)
        paths = sorted(self.path.glob("*.tar"))
        if not paths:
            raise DataError(f"{self.path}: no .tar shards in this folder")
        named = [p for p in paths if p.name.startswith(tuple(f"{name}-" for name in SPLITS))]
        mine = [p for p in named if p.name.startswith(f"{split}-")] if named else paths
        self._samples: list[tuple[Path, str, Members]] = []
        for shard in map(open_shard, mine):
            if shard.damage:
                self.report_skipped(shard.path, f"{shard.path}: {shard.damage}")
            pictures = [(k, m) for k, m in shard.samples if any(kind in m for kind in _PICTURES)]
            splits = {} if named else split_by_name([key for key, _ in pictures])
            self._samples += [
                (shard.path, key, members)
                for key, members in pictures
                if splits.get(key, split) == split
            ]
        if split == "train" and not self._samples:
            raise DataError(f"{self.path}: no samples for training in {len(paths)} shards")
        self.files = [shard / key for shard, key, _ in self._samples]
        self.has_landmarks = any("npy" in members for _, _, members in self._samples)
        self.has_dense = any("dense.npy" in members for _, _, members in self._samples)

    def __getitem__(self, index: int) -> Sample:
        """Read one sample.

        Raises:
            ImageError: it cannot be read, or is not where the index says.
            IndexError: no such index.
        """
        shard, key, members = self._samples[index]
        name = str(self.files[index])
        parts = read_members(shard, key, members)
        kind = next(kind for kind in _PICTURES if kind in parts)
        known = None
        if "npy" in parts:
            known = _array(f"{name}.npy", parts["npy"])
            if known.shape == (NUM_LANDMARKS, 2):
                known = np.concatenate([known, np.isfinite(known).all(-1, keepdims=True)], axis=1)
            if known.shape != (NUM_LANDMARKS, 3):
                raise ImageError(
                    f"{name}.npy: holds {list(known.shape)}, expected landmarks [68, 3] or [68, 2]"
                )
            known = known.astype(np.float32)
            unknown = ~np.isfinite(known).all(-1)
            known[unknown] = (np.nan, np.nan, 0)
        dense = None
        if "dense.npy" in parts:
            dense = _array(f"{name}.dense.npy", parts["dense.npy"]).astype(np.float32)
            if dense.shape != (NUM_DENSE, 2):
                raise ImageError(
                    f"{name}.dense.npy: holds {list(dense.shape)}, expected landmarks [{NUM_DENSE}, 2]"
                )
        code = _array(f"{name}.code.npy", parts["code.npy"]) if "code.npy" in parts else None
        return self._sample(
            decode_square(parts[kind], f"{name}.{kind}", self.image_size, self.max_megapixels),
            known,
            None if code is None else code.astype(np.float32),
            self.files[index],
            dense,
        )


def read_members(shard: Path, key: str, members: Members) -> dict[str, bytes]:
    """Kind -> bytes of a sample's members, by one read.

    Raises:
        ImageError: the file cannot be read, or other members than expected are there.
    """
    start = min(offset for offset, _, _ in members.values()) - TAR_BLOCK
    end = max(offset + size for offset, size, _ in members.values())
    try:
        with open(shard, "rb") as file:
            file.seek(start)
            data = file.read(end - start)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{shard}/{key}: cannot read ({reason})") from error
    result = {}
    for kind, (offset, size, checksum) in members.items():
        fits = header_checksum(data[offset - start - TAR_BLOCK : offset - start]) == checksum
        result[kind] = data[offset - start : offset - start + size]
        if not fits or len(result[kind]) != size:
            raise ImageError(
                f"{shard}/{key}.{kind}: not where the index says; the shard is damaged or has changed: "
                f"delete {index_path(shard).name} to have it made again"
            )
    return result


def header_checksum(header: bytes) -> int:
    """Checksum of a tar header; -1: it is none, or damaged."""
    try:
        return tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape").chksum
    except tarfile.HeaderError:
        return -1


def index_path(shard: Path) -> Path:
    """The file of the index of a shard."""
    return shard.with_suffix(".index")


def open_shard(path: Path) -> Shard:
    """What is where in a shard: from its index, or by reading through the shard if necessary.

    A new index is kept next to the shard if that can be written.

    Raises:
        DataError: the shard cannot be read.
    """
    try:
        known = read_shard_index(path)
        if known is not None:
            return known
        shard = scan_shard(path)
    except OSError as error:
        raise DataError(f"{path}: cannot read the shard ({error.strerror or error})") from error
    if not shard.damage:  # a damaged shard may be being written or copied just now
        try:
            write_index(shard)
        except OSError:
            pass  # a corpus that is mounted read-only: the next run reads through it again
    return shard


def scan_shard(path: Path) -> Shard:
    """Read through a shard: its samples up to the first damage.

    Raises:
        OSError: the file cannot be read.
    """
    total = path.stat().st_size
    groups: dict[str, Members] = {}
    damage, end = "", 0
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                end = member.offset_data + -(-member.size // TAR_BLOCK) * TAR_BLOCK
                key, _, kind = member.name.rpartition("/")[2].partition(".")
                if member.offset_data + member.size > total:
                    break
                if member.isfile() and key and kind:
                    folder = member.name.rpartition("/")[0]
                    key = f"{folder}/{key}" if folder else key
                    place = (member.offset_data, member.size, member.chksum)
                    groups.setdefault(key, {})[kind.lower()] = place
    except (tarfile.TarError, ValueError, OverflowError):
        pass  # what the two empty blocks at the end of a whole archive tell too
    with open(path, "rb") as file:
        file.seek(end)
        whole = file.read(2 * TAR_BLOCK) == bytes(2 * TAR_BLOCK)
    samples = list(groups.items())
    if not whole:
        if len(samples) > 1 and samples[-1][1].keys() != samples[0][1].keys():
            samples.pop()  # its other members are lost
        reason = "cut short" if end + 2 * TAR_BLOCK > total else "damaged"
        damage = (
            f"the shard is {reason} behind its first {len(samples)} samples; the rest is skipped"
        )
    return Shard(path, samples, damage)


def read_shard_index(path: Path) -> Shard | None:
    """The shard by its index; None: there is none, or it does not fit the file."""
    try:
        lines = index_path(path).read_text(encoding="utf-8").splitlines()
        header = json.loads(lines[0])
        size = path.stat().st_size
        if header["format"] != FORMAT or header["bytes"] != size:
            return None
        samples = [_sample_of_row(json.loads(line), size) for line in lines[1:]]
        if len(samples) != header["samples"] or not isinstance(header["content"], str):
            return None
        if samples:
            read_members(path, *samples[-1])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None  # missing, half written, or something else of that name
    return Shard(path, samples, content=header["content"])


def _sample_of_row(row: dict[str, Any], total: int) -> tuple[str, Members]:
    """A sample of an index; TypeError unless its members are places in a shard of `total` bytes."""
    key, members = row["key"], {}
    if not isinstance(key, str) or not row["members"]:
        raise TypeError
    for kind, place in row["members"].items():
        at, size, check = place
        if not all(type(number) is int for number in place):
            raise TypeError
        if at < TAR_BLOCK or size < 0 or at + size > total:
            raise TypeError
        members[kind] = (at, size, check)
    return key, members


def write_index(shard: Shard) -> None:
    """Write the index of a whole shard next to it.

    Raises:
        OSError: the folder cannot be written.
    """
    header = {
        "format": FORMAT,
        "bytes": shard.path.stat().st_size,
        "samples": len(shard.samples),
        "content": shard.content,
    }
    lines = [header] + [{"key": key, "members": members} for key, members in shard.samples]
    path = index_path(shard.path)
    with replacing(path) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _array(name: str, data: bytes) -> np.ndarray:
    try:
        array = read_npy(data, name, ImageError)
        if array.dtype.kind in "fiu":
            return array
        reason = "not an array of numbers"
    except NotArrays as error:
        reason = str(error)
    raise ImageError(f"{name}: cannot read it as .npy without pickles: {reason}")
