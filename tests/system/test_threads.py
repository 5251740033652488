from __future__ import annotations

import threading

import pytest
import torch

from mofa_nvdr.system.threads import map_ahead, on_one_thread, on_threads


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


class TestMapAhead:
    def test_in_order(self):
        assert list(map_ahead(lambda k: k * k, range(20), num_ahead=5, num_threads=2)) == [
            k * k for k in range(20)
        ]
        assert list(map_ahead(abs, [], 3, 2)) == []

    def test_no_further_than_asked(self):
        """No job is taken before the result `num_ahead` places before it."""
        taken: list[int] = []

        def jobs():
            for k in range(10):
                taken.append(k)
                yield k

        results = map_ahead(abs, jobs(), num_ahead=3, num_threads=1)
        assert next(results) == 0 and taken == [0, 1, 2]
        assert next(results) == 1 and taken == [0, 1, 2, 3]
        results.close()
        assert taken == [0, 1, 2, 3]

    def test_an_error_comes_at_its_place(self):
        results = map_ahead(lambda k: 1 // (2 - k), range(4), num_ahead=4, num_threads=2)
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(ZeroDivisionError):
            next(results)

    def test_closing_waits_for_what_has_begun(self):
        begun, go, done = threading.Event(), threading.Event(), []

        def work(k: int) -> int:
            if k == 1:
                begun.set()
                go.wait(10)
                done.append(k)
            return k

        results = map_ahead(work, range(100), num_ahead=50, num_threads=1)
        assert next(results) == 0
        assert begun.wait(10)
        threading.Timer(0.05, go.set).start()
        results.close()
        assert done == [1]
