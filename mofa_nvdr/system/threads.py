"""Work on as many threads as torch has, each with one thread of torch's own; and work in advance."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")
Job = TypeVar("Job")


@contextmanager
def one_thread_each() -> Iterator[int]:
    """How many threads may work at once, while each has one thread of torch's own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def on_threads(work: Callable[[int], None], count: int) -> None:
    """Call work(0) to work(count - 1), without gradients.

    What a call computes then does not depend on the number of threads.

    Args:
        work: takes a number; writes where no other call does.
        count: of the calls.
    """
    with one_thread_each() as threads, ThreadPoolExecutor(min(threads, count) or 1) as pool:
        list(pool.map(torch.no_grad()(work), range(count)))


def on_one_thread(work: Callable[[], T]) -> T:
    """What `work` returns, computed without gradients on one thread: the same bits wherever it runs."""
    results: list[T] = []
    on_threads(lambda _: results.append(work()), 1)
    return results[0]


def map_ahead(
    function: Callable[[Job], T], jobs: Iterable[Job], num_ahead: int, num_threads: int
) -> Generator[T, None, None]:
    """Results in the order of the jobs, computed by threads at most `num_ahead` in advance.

    An exception in `function` surfaces at its place. Closing the generator drops what has not begun
    and waits for what has.
    """
    jobs = iter(jobs)
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="mofa-nvdr-ahead")
    pending: deque[Future[T]] = deque()
    try:
        while True:
            for job in itertools.islice(jobs, num_ahead - len(pending)):
                pending.append(pool.submit(function, job))
            if not pending:
                return
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
