"""Batches of photographs: an order that depends on the step number alone, read ahead by threads.

`EpochSampler` says which sample is where; `batches` reads them. Where several processes train
together, a sampler takes `rank` and `world_size` and gives each process its share of every batch: rank r
the r-th of world_size equal parts.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mofa_nvdr.data.crop_tables import DataError
from mofa_nvdr.data.images import ImageError
from mofa_nvdr.data.photographs import Corpus, Sample
from mofa_nvdr.data.random_numbers import random_words
from mofa_nvdr.face import dense_landmarks
from mofa_nvdr.face.landmarks import MIRROR
from mofa_nvdr.system.threads import map_ahead

NUM_THREADS = 2  # reading one 240 px sample takes 2 to 3 ms, a training step tens of ms an image
READ_AHEAD = 3  # batches


@dataclass(frozen=True)
class Batch:
    """Photographs, or rendered faces, for one step.

    Attributes:
        images: float32 [B, 3, S, S], RGB in [0, 1], row 0 at the top.
        landmarks: [B, 68, 2] px at S, x right and y down from the top left corner; NaN where
            unknown.
        confidence: [B, 68] in [0, 1]; 0 where unknown.
        step: the training step; in validation the number of the batch.
        codes: [B, size], the true codes of rendered faces or fitted ones of photographs, NaN where
            unknown; None where all are.
        paths: where the images came from.
        places: number of each image in the endless sequence of a training run, over all processes;
            random changes of an image are drawn from the seed and this number. Empty in validation.
        clean: [B, 3, S, S], what the photometric loss compares with where it is not `images`: see
            `target`.
        rendered: rendered faces with known codes that accompany the images, of any number.
        teacher_codes: [B, size], what a frozen encoder says of `images`.
        teacher_offset: [6], how far from it the mean placement of all images should be.
        dense: [B, 478, 2] px at S, the points of `face.dense_landmarks`, NaN where unknown; None where all
            are.
    """

    images: Tensor
    landmarks: Tensor
    confidence: Tensor
    step: int
    codes: Tensor | None = None
    paths: tuple[Path, ...] = field(default=())
    places: tuple[int, ...] = field(default=())
    clean: Tensor | None = None
    rendered: Batch | None = None
    teacher_codes: Tensor | None = None
    teacher_offset: Tensor | None = None
    dense: Tensor | None = None

    @property
    def target(self) -> Tensor:
        """What the photometric loss compares with: without occluders, blur, noise and JPEG's marks."""
        return self.images if self.clean is None else self.clean

    def to(self, device: torch.device | str) -> Batch:
        """A copy with its tensors on `device`."""
        return replace(
            self,
            images=self.images.to(device),
            landmarks=self.landmarks.to(device),
            confidence=self.confidence.to(device),
            codes=None if self.codes is None else self.codes.to(device),
            clean=None if self.clean is None else self.clean.to(device),
            rendered=None if self.rendered is None else self.rendered.to(device),
            teacher_codes=None if self.teacher_codes is None else self.teacher_codes.to(device),
            teacher_offset=None if self.teacher_offset is None else self.teacher_offset.to(device),
            dense=None if self.dense is None else self.dense.to(device),
        )


class EpochSampler:
    """Which samples a process sees at each step: an endless sequence of shuffled epochs, cut exactly.

    Epoch e holds every sample once, in an order drawn from (seed, e); the epochs follow each other.
    Step k takes the next `batch_size` places of this sequence, rank r the r-th part of them. A step
    may reach from one epoch into the next, so that nothing is padded, repeated or dropped: each sample
    comes exactly once per epoch over all ranks. Several processes see together
    what one would see, in the same order.

    As an iterator it yields a step at a time and remembers where it is.

    Args:
        num_samples: size of the data set.
        batch_size: samples per step, over all processes.
        seed: non-negative.
        rank: of this process.
        world_size: processes that share the batches.
        start_step: first step to come.

    Raises:
        ValueError: a number out of its range, or processes that can't share a batch evenly.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        start_step: int = 0,
    ) -> None:
        for name, value, least in (
            ("num_samples", num_samples, 1),
            ("batch_size", batch_size, 1),
            ("seed", seed, 0),
            ("start_step", start_step, 0),
        ):
            if value < least:
                raise ValueError(f"EpochSampler: {name} is {value}, expected at least {least}")
        self._share = share_of(batch_size, rank, world_size)
        self.num_samples, self.batch_size, self.seed = num_samples, batch_size, seed
        self.step = start_step
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def places(self, step: int) -> range:
        """Numbers of a step's samples in the endless sequence."""
        return step_places(step, self.batch_size, self._share)

    def index(self, place: int) -> int:
        """The sample at a place of the sequence."""
        epoch, within = divmod(place, self.num_samples)
        if epoch != self._epoch:
            words = random_words(self.num_samples, self.seed, 0, epoch)
            self._epoch, self._order = epoch, np.argsort(words, kind="stable")
        return int(self._order[within])

    def __iter__(self) -> Iterator[list[int]]:
        return self

    def __next__(self) -> list[int]:
        """Samples of the next step."""
        indices = [self.index(place) for place in self.places(self.step)]
        self.step += 1
        return indices

    def state_dict(self) -> dict[str, int]:
        """The position in the sequence; the same on all ranks."""
        return {
            "samples_seen": self.step * self.batch_size,
            "num_samples": self.num_samples,
            "seed": self.seed,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state, also with another number of ranks if a step ends there.

        Raises:
            ValueError: the state is of another seed or data set, or is within a step.
        """
        for name in ("num_samples", "seed"):
            if state[name] != getattr(self, name):
                raise ValueError(
                    f"EpochSampler: the saved {name} is {state[name]}, this run's is "
                    f"{getattr(self, name)}; resume with the earlier data and options"
                )
        if state["samples_seen"] % self.batch_size:
            raise ValueError(
                f"EpochSampler: {state['samples_seen']} samples seen are no whole steps of "
                f"{self.batch_size}; resume with the earlier batch size"
            )
        self.step = state["samples_seen"] // self.batch_size


def share_of(batch_size: int, rank: int, world_size: int) -> slice:
    """The places in a batch that belong to one of the processes that share it.

    Raises:
        ValueError: the batch can't be shared evenly, or there is no such rank.
    """
    if world_size < 1 or not 0 <= rank < world_size or batch_size % world_size:
        raise ValueError(
            f"batches: {batch_size} images for rank {rank} of {world_size} processes; expected a "
            "batch size that the number of processes divides"
        )
    share = batch_size // world_size
    return slice(rank * share, (rank + 1) * share)


def step_places(step: int, batch_size: int, share: slice) -> range:
    """Numbers of a process's part of a step in the endless sequence of a training run."""
    return range(step * batch_size, (step + 1) * batch_size)[share]


def batches(
    dataset: Corpus,
    batch_size: int,
    seed: int = 0,
    start_step: int = 0,
    flip: bool = True,
    rank: int = 0,
    world_size: int = 1,
    signs: np.ndarray | None = None,
) -> Generator[Batch, None, None]:
    """Shuffled training batches without end, from `start_step` on, in the order of `EpochSampler`.

    What a step sees depends on these numbers alone, so a resumed run sees what an uninterrupted one would,
    in the middle of an epoch too. Instead of an unreadable picture comes the next readable one of
    the data set; see `Corpus.skipped`.

    Closing the iterator ends its threads.

    Args:
        dataset: the photographs.
        batch_size: pictures per step, over all processes.
        seed: non-negative.
        start_step: number of the first batch.
        flip: mirror half of the pictures, chosen from the seed and the picture's place; left and right
            landmarks swap.
        rank: of this process.
        world_size: processes that share the batches.
        signs: of the codes of mirrored pictures; see `mirror`.

    Raises:
        ValueError: a number out of its range, or processes that can't share a batch evenly.
        DataError: the data set is empty, or (while iterating) none of its pictures can be read.
    """
    if len(dataset) == 0:
        raise DataError(f"batches: no {dataset.split} pictures in {dataset.path}")
    sampler = EpochSampler(len(dataset), batch_size, seed, rank, world_size, start_step)
    return _train_batches(dataset, sampler, flip, signs)


def val_batches(
    dataset: Corpus,
    batch_size: int,
    limit: int | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> Generator[Batch, None, None]:
    """All pictures once, in order, not mirrored; the last batch may be smaller.

    Unreadable pictures are left out; see `Photographs.skipped`.

    Args:
        dataset: the photographs.
        batch_size: pictures per batch.
        limit: at most this many pictures, evenly spaced over the data set; None takes all.
        rank: of this process, which gets every world_size-th picture.
        world_size: processes that share the pictures.

    Raises:
        ValueError: batch_size or limit below 1.
    """
    if batch_size < 1:
        raise ValueError(f"val_batches: batch_size is {batch_size}, expected at least 1")
    if limit is not None and limit < 1:
        raise ValueError(f"val_batches: limit is {limit}, expected at least 1 or None")
    num = len(dataset)
    indices: Sequence[int] = range(num)
    if limit is not None and limit < num:
        indices = [(2 * i + 1) * num // (2 * limit) for i in range(limit)]
    return _val_batches(dataset, batch_size, indices[rank::world_size])


def mirror(sample: Sample, signs: np.ndarray | None = None) -> Sample:
    """The picture seen in a mirror: x goes to S - x, and left and right landmarks are swapped.

    `signs`: what turns a code into that of the mirrored face (face/mirror.py). Without them it is unknown:
    modes of a face model have no mirror images in general.
    """
    order = list(MIRROR)
    width, dense = sample.image.shape[1], sample.dense
    if dense is not None:
        dense = _mirrored(dense[list(dense_landmarks.DENSE_MIRROR)], width)
    return replace(
        sample,
        image=np.ascontiguousarray(sample.image[:, ::-1]),
        landmarks=_mirrored(sample.landmarks[order], width),
        confidence=sample.confidence[order].copy(),
        code=None if sample.code is None or signs is None else sample.code * signs,
        dense=dense,
    )


def _mirrored(points: np.ndarray, width: int) -> np.ndarray:
    return np.stack([width - points[:, 0], points[:, 1]], 1)


def _train_batches(
    dataset: Corpus, sampler: EpochSampler, flip: bool, signs: np.ndarray | None
) -> Generator[Batch, None, None]:
    num = sampler.num_samples
    start_step = sampler.step

    def jobs() -> Iterator[tuple[int, bool]]:
        for step in itertools.count(start_step):
            for place in sampler.places(step):
                is_mirrored = flip and bool(random_words(1, sampler.seed, 1, place)[0] >> 63)
                yield sampler.index(place), is_mirrored

    def read(job: tuple[int, bool]) -> _Reading:
        index, is_mirrored = job
        reading = _read_first(dataset, [(index + i) % num for i in range(num)])
        if reading.sample is None:
            raise DataError(
                f"{dataset.path}: none of its {num} {dataset.split} pictures is readable"
            )
        return replace(reading, sample=mirror(reading.sample, signs)) if is_mirrored else reading

    count = len(sampler.places(start_step))
    with closing(map_ahead(read, jobs(), READ_AHEAD * count, NUM_THREADS)) as readings:
        samples = _report(dataset, readings)
        for step in itertools.count(start_step):
            batch = collate(list(itertools.islice(samples, count)), step)
            yield replace(batch, places=tuple(sampler.places(step)))


def _val_batches(
    dataset: Corpus, batch_size: int, indices: Sequence[int]
) -> Generator[Batch, None, None]:
    def read(index: int) -> _Reading:
        return _read_first(dataset, [index])

    with closing(map_ahead(read, indices, READ_AHEAD * batch_size, NUM_THREADS)) as readings:
        samples = _report(dataset, readings)
        for number in itertools.count():
            group = list(itertools.islice(samples, batch_size))
            if not group:
                return
            yield collate(group, number)


@dataclass(frozen=True)
class _Reading:
    """A sample, None if there was none, and what was skipped on the way to it."""

    sample: Sample | None
    passed_over: tuple[tuple[Path, str], ...]


def _read_first(dataset: Corpus, indices: Iterable[int]) -> _Reading:
    """The first readable one of some pictures."""
    passed_over: list[tuple[Path, str]] = []
    for index in indices:
        try:
            return _Reading(dataset[index], tuple(passed_over))
        except ImageError as error:
            passed_over.append((dataset.files[index], str(error)))
    return _Reading(None, tuple(passed_over))


def _report(dataset: Corpus, readings: Iterable[_Reading]) -> Iterator[Sample]:
    """Pass samples on; report unreadable pictures here, in the caller's thread and order."""
    for reading in readings:
        for path, reason in reading.passed_over:
            dataset.report_skipped(path, reason)
        if reading.sample is not None:
            yield reading.sample


def collate(samples: list[Sample], step: int) -> Batch:
    """Samples of one size as a batch on the CPU; codes and dense landmarks are NaN for those without."""
    images = np.stack([sample.image for sample in samples])  # [B, S, S, 3]
    known = [sample.code for sample in samples if sample.code is not None]
    codes = None
    if known:
        codes = np.stack(
            [np.full_like(known[0], np.nan) if s.code is None else s.code for s in samples]
        )
    images = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32) / np.float32(255)
    dense = None
    if any(sample.dense is not None for sample in samples):
        unknown = np.full((dense_landmarks.NUM_DENSE, 2), np.nan, np.float32)
        dense = np.stack([unknown if s.dense is None else s.dense for s in samples])
    return Batch(
        images=torch.from_numpy(images),
        landmarks=torch.from_numpy(np.stack([sample.landmarks for sample in samples])),
        confidence=torch.from_numpy(np.stack([sample.confidence for sample in samples])),
        step=step,
        codes=None if codes is None else torch.from_numpy(codes),
        paths=tuple(sample.path for sample in samples),
        dense=None if dense is None else torch.from_numpy(dense),
    )
