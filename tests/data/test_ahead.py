"""The next item is made while one is in use."""

from __future__ import annotations

import threading
from collections.abc import Generator

import pytest

from mofa_nvdr.data.ahead import one_ahead


def numbers(count: int, made: list[int], closed: list[bool]) -> Generator[int, None, None]:
    try:
        for k in range(count):
            made.append(k)
            yield k
    finally:
        closed.append(True)


class TestOneAhead:
    def test_items_and_their_order(self):
        made, closed = [], []
        assert list(one_ahead(numbers(5, made, closed))) == [0, 1, 2, 3, 4] and closed == [True]

    def test_one_is_made_while_one_is_in_use(self):
        ready = threading.Event()

        def stream() -> Generator[int, None, None]:
            yield 0
            ready.set()
            yield 1

        items = one_ahead(stream())
        assert next(items) == 0 and ready.wait(5)
        items.close()

    def test_closing_closes(self):
        made, closed = [], []
        items = one_ahead(numbers(100, made, closed))
        assert [next(items), next(items)] == [0, 1]
        items.close()
        assert closed == [True] and len(made) <= 4

    def test_errors_come_at_their_place(self):
        def stream() -> Generator[int, None, None]:
            yield 0
            raise ValueError("the second")

        items = one_ahead(stream())
        assert next(items) == 0
        with pytest.raises(ValueError, match="the second"):
            next(items)
