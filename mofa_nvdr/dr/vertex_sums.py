"""Gradients of vertices: each pixel adds to the vertices of its triangle, band by band, in a fixed order."""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from mofa_nvdr.dr.bands import Band
from mofa_nvdr.dr.parallel import jit, run_on_threads

_MOST_KEPT = 64 * 2**20  # bytes of zeros that wait for the next call
_kept: list[np.ndarray] = []
_lock = threading.Lock()


def sum_by_vertex(
    add: Callable[..., None],
    bands: Sequence[Band],
    *groups: tuple[int, Sequence[np.ndarray]],
) -> None:
    """Let every band add to sums of its own, and put the totals of each image into the groups' arrays.

    Args:
        add: called as add(k, sums, ...) for band k, on several threads at once, with float64 sums
            [V, columns] for each group, zeros at first.
        bands: as `gradient_bands` gives them.
        groups: (columns, outs) each. The outs are float32 [N, V, C]: the first takes the first C
            columns, and so on; there may be more columns. [1, V, C]: the images share the vertices,
            and their gradients are added up.
    """
    shared = len(groups[0][1][0]) == 1
    firsts = [
        k == 0 or (not shared and bands[k - 1][0] != image) for k, (image, _, _) in enumerate(bands)
    ]
    # Bands that are not the first of their image go to places of their own, and are added in order.
    extra = len(bands) - sum(firsts)
    slots = [0 if shared else image for image, _, _ in bands]
    outs = [out for _, group in groups for out in group]
    others = [np.empty((extra, *out.shape[1:]), np.float32) for out in outs]
    columns = [
        (n, sum(out.shape[2] for out in group[:k]))
        for n, (_, group) in enumerate(groups)
        for k in range(len(group))
    ]

    def work(k: int) -> None:
        with contextlib.ExitStack() as stack:
            sums = [stack.enter_context(zeros(outs[0].shape[1], count)) for count, _ in groups]
            add(k, *sums)
            for (group, column), out, other in zip(columns, outs, others):
                place = out[slots[k]] if firsts[k] else other[k - sum(firsts[:k])]
                _take(sums[group], column, place)

    run_on_threads(work, [(k,) for k in range(len(bands))])
    rest = [slot for slot, first in zip(slots, firsts) if not first]
    for out, other in zip(outs, others):
        for slot, share in zip(rest, other):
            out[slot] += share


@jit
def _take(sums: np.ndarray, column: int, out: np.ndarray) -> None:
    """Move some columns to `out`, and leave zeros."""
    for v in range(out.shape[0]):
        for c in range(out.shape[1]):
            out[v, c] = sums[v, column + c]
            sums[v, column + c] = 0.0


@contextlib.contextmanager
def zeros(*shape: int) -> Iterator[np.ndarray]:
    """Lend a float64 array of zeros for the time of a `with` block, which must leave zeros in it.

    The same memory serves call after call: fresh memory of some MB comes from the system page by page, at
    a cost like that of the work on it. At most 64 MB are kept, and nothing after an error.
    """
    size = math.prod(shape)
    with _lock:
        fitting = [k for k, buffer in enumerate(_kept) if buffer.size >= size]
        best = min(fitting, key=lambda k: _kept[k].size, default=None)
        buffer = np.zeros(size) if best is None else _kept.pop(best)
    yield buffer[:size].reshape(shape)
    with _lock:
        _kept.append(buffer)
        while sum(kept.nbytes for kept in _kept) > _MOST_KEPT:
            _kept.pop(0)


def _forget() -> None:
    """A forked child has what the parent's threads were just writing to, and perhaps a held lock."""
    global _lock
    _lock = threading.Lock()
    _kept.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
