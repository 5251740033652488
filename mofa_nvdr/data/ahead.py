"""The next batch is made while a step runs."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")


def one_ahead(stream: Generator[_Item, None, None]) -> Generator[_Item, None, None]:
    """The items of a generator, each made by a thread while the one before is in use.

    Items and their order are those of the generator, which runs in no other thread; what it raises comes at
    its place. Closing waits for the item that is being made, and closes the generator.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="mofa-nvdr-ahead")
    end = object()
    try:
        ahead = pool.submit(next, stream, end)
        while (item := ahead.result()) is not end:
            ahead = pool.submit(next, stream, end)
            yield item  # type: ignore[misc]
    finally:
        pool.shutdown(wait=True)
        stream.close()
