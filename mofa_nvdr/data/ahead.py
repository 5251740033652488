"""The next batch is made while a step runs."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from itertools import repeat
from typing import TypeVar

from mofa_nvdr.system.threads import map_ahead

_Item = TypeVar("_Item")


def one_ahead(stream: Generator[_Item, None, None]) -> Generator[_Item, None, None]:
    """The items of a generator, each made by a thread while the one before is in use.

    Items and their order are those of the generator, which runs in no other thread; what it raises comes at
    its place. Closing waits for the item that is being made, and closes the generator.
    """
    end = object()
    with closing(stream), closing(map_ahead(lambda s: next(s, end), repeat(stream), 2, 1)) as items:
        for item in items:
            if item is end:
                return
            yield item  # type: ignore[misc]
