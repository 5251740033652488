"""A limited number of rendered faces, each rendered once and shown again and again."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np

from mofa_nvdr.data.photographs import Sample
from mofa_nvdr.data.random_numbers import random_words
from mofa_nvdr.data.sampling import Batch, collate, mirror, share_of
from mofa_nvdr.data.synthetic.faces import TRAIN, SyntheticFaces
from mofa_nvdr.render.pictures import to_uint8

# Faces that are rendered together and stay together: who needs one after a stop renders no more than these,
# with the same bits, since products of matrices of another size have other last bits.
GROUP = 16
_ORDER = 6  # stream of a seed; data.synthetic.faces has those before


class KeptFaces:
    """Batches of the first `count` faces of a seed, again and again.

    Faces come in the order of their numbers first, as `SyntheticFaces.batches` has them, then group by group
    in an order of each round; in every second round they are mirrored. What a step gets follows from the seed
    and the step alone: a resumed run renders anew what it needs. Pictures are bytes from their first time on.

    Args:
        faces: what renders.
        count: how many, rounded up to a multiple of GROUP; they stay in memory, 3 S^2 bytes each.
        signs: of the codes of mirrored faces (face/mirror.py); None: none is mirrored.

    Raises:
        ValueError: count below 1.
    """

    def __init__(self, faces: SyntheticFaces, count: int, signs: np.ndarray | None = None) -> None:
        if count < 1:
            raise ValueError(f"KeptFaces: count is {count}, expected at least 1")
        self._faces, self._signs = faces, signs
        self._num_groups = -(-count // GROUP)
        self._groups: dict[tuple[int, int], list[Sample]] = {}

    def __len__(self) -> int:
        return self._num_groups * GROUP

    def batches(
        self,
        batch_size: int,
        seed: int,
        start_step: int,
        rank: int = 0,
        world_size: int = 1,
        first: int = 0,
    ) -> Generator[Batch, None, None]:
        """Endless training batches, on the CPU, or a process's share of each.

        Args:
            batch_size: faces in a step, over all processes.
            seed: of the faces and of their order.
            start_step: first step to come.
            rank: of this process.
            world_size: processes that share the batches.
            first: place in the endless sequence where step 0 begins; may be negative if no step comes there.

        Raises:
            ValueError: the processes can't share a batch evenly.
        """
        share = share_of(batch_size, rank, world_size)
        for step in itertools.count(start_step):
            start = first + step * batch_size
            places = range(start, start + batch_size)[share]
            samples = [self._sample(seed, place) for place in places]
            yield replace(collate(samples, step), paths=(), places=tuple(places))

    def _sample(self, seed: int, place: int) -> Sample:
        turn, within = divmod(place, len(self))
        number, member = divmod(within, GROUP)
        group = number if turn == 0 else int(self._order(seed, turn)[number])
        sample = self._group(seed, group)[member]
        return mirror(sample, self._signs) if turn % 2 and self._signs is not None else sample

    def _order(self, seed: int, turn: int) -> np.ndarray:
        return _shuffled(self._num_groups, seed, turn)

    def _group(self, seed: int, group: int) -> list[Sample]:
        if (seed, group) not in self._groups:
            places = range(group * GROUP, (group + 1) * GROUP)
            rendered = self._faces.render(seed, places, TRAIN)
            images, codes = to_uint8(rendered.picture.image), rendered.code.pack().cpu().numpy()
            marks = rendered.landmarks.cpu().numpy()
            dense = [None] * GROUP if rendered.dense is None else rendered.dense.cpu().numpy()
            sure = np.ones(marks.shape[1], np.float32)
            self._groups[seed, group] = [
                Sample(np.ascontiguousarray(images[k]), marks[k], sure, Path(), codes[k], dense[k])
                for k in range(GROUP)
            ]
        return self._groups[seed, group]


@functools.lru_cache(maxsize=2)
def _shuffled(count: int, seed: int, turn: int) -> np.ndarray:
    return np.argsort(random_words(count, seed, _ORDER, turn), kind="stable")
