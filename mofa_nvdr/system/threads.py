"""Work on as many threads as torch has, each with one thread of torch's own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def on_threads(work: Callable[[int], None], count: int) -> None:
    """Call work(0) to work(count - 1), without gradients.

    What a call computes then does not depend on the number of threads.

    Args:
        work: takes a number; writes where no other call does.
        count: of the calls.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(min(threads, count) or 1) as pool:
            list(pool.map(torch.no_grad()(work), range(count)))
    finally:
        torch.set_num_threads(threads)


def on_one_thread(work: Callable[[], T]) -> T:
    """What `work` returns, computed without gradients on one thread: the same bits wherever it runs."""
    results: list[T] = []
    on_threads(lambda _: results.append(work()), 1)
    return results[0]
