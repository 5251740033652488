"""A budget that threads share: never overdrawn, and what is larger than all of it goes alone."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mofa_nvdr.system.memory import MemoryBudget


class TestMemoryBudget:
    @pytest.mark.parametrize("amount", [4, 40])
    def test_is_never_overdrawn(self, amount):
        """Two of 4 fit into 10; of 40 one at a time does."""
        budget, lock = MemoryBudget(10), threading.Lock()
        inside, most = 0, 0

        def work(_: int) -> None:
            nonlocal inside, most
            with budget.taken(amount):
                with lock:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.005)
                with lock:
                    inside -= 1

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(16)))
        assert most == (2 if amount == 4 else 1)
        with budget.taken(10):  # all of it is back
            pass

    def test_is_given_back_after_an_error(self):
        budget = MemoryBudget(10)
        with pytest.raises(OSError), budget.taken(10):
            raise OSError
        with budget.taken(10):
            pass
