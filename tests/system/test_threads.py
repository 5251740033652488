from __future__ import annotations

import pytest
import torch

from mofa_nvdr.system.threads import on_one_thread, on_threads


class TestOnThreads:
    def test_every_number_once(self):
        done: list[int] = []
        on_threads(done.append, 7)
        assert sorted(done) == list(range(7))
        on_threads(done.append, 0)

    def test_the_number_of_threads_stays(self):
        def fail(k: int) -> None:
            assert torch.get_num_threads() == 1
            raise ValueError("of a photograph")

        before = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            with pytest.raises(ValueError, match="of a photograph"):
                on_threads(fail, 2)
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(before)


class TestOnOneThread:
    def test_result_threads_and_errors(self):
        before = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            assert on_one_thread(torch.get_num_threads) == 1
            assert on_one_thread(torch.is_grad_enabled) is False
            with pytest.raises(KeyError, match="a face"):
                on_one_thread(lambda: {}["a face"])
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(before)
