"""A memory budget that threads share: each takes what it is about to use, and waits while others have it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class MemoryBudget:
    """Bytes that threads take and give back.

    Who asks for more than there is at all gets everything, alone. Who holds some must not ask for more:
    two of them could wait for each other.

    Args:
        total: bytes.
    """

    def __init__(self, total: float) -> None:
        self.total = total
        self._left = total
        self._change = threading.Condition()

    @contextlib.contextmanager
    def taken(self, amount: float) -> Iterator[None]:
        """Hold `amount` bytes while the block runs; waits until they are free."""
        amount = min(amount, self.total)
        with self._change:
            self._change.wait_for(lambda: amount <= self._left)
            self._left -= amount
        try:
            yield
        finally:
            with self._change:
                self._left += amount
                self._change.notify_all()
