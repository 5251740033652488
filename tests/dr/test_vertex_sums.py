"""Sums by vertex in a fixed order, and the memory that is lent to them."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mofa_nvdr.dr import vertex_sums
from mofa_nvdr.dr.vertex_sums import sum_by_vertex
from tests.helpers.programs import run_program


class TestSumByVertex:
    BANDS = [(0, 0, 2), (1, 0, 1), (1, 1, 2)]

    @staticmethod
    def add(band, sums):
        assert (sums == 0).all()
        sums[band] += [1, 2, 4]

    @pytest.mark.parametrize("repetition", range(2))
    def test_by_hand(self, num_threads, repetition):
        """Band k gives (1, 2, 4) to vertex k; the two outs take two columns and one."""
        first, second = np.empty((2, 3, 2), np.float32), np.empty((2, 3, 1), np.float32)
        sum_by_vertex(self.add, self.BANDS, (3, [first, second]))
        assert first.tolist() == [[[1, 2], [0, 0], [0, 0]], [[0, 0], [1, 2], [1, 2]]]
        assert second.tolist() == [[[4], [0], [0]], [[0], [4], [4]]]

    def test_images_share_the_vertices(self, num_threads):
        out = np.empty((1, 3, 3), np.float32)
        sum_by_vertex(self.add, self.BANDS, (3, [out]))
        assert out.tolist() == [[[1, 2, 4]] * 3]


class TestZeros:
    @pytest.fixture(autouse=True)
    def _empty(self, monkeypatch):
        monkeypatch.setattr(vertex_sums, "_kept", [])

    def test_the_same_memory_serves_the_next_call(self):
        with vertex_sums.zeros(5, 4, 3) as first:
            assert first.shape == (5, 4, 3) and first.dtype == np.float64
        with vertex_sums.zeros(2, 7) as second:
            assert np.shares_memory(first, second)

    def test_two_at_once_are_two(self):
        with vertex_sums.zeros(10) as one, vertex_sums.zeros(10) as other:
            assert not np.shares_memory(one, other)

    def test_never_comes_back_after_an_error(self):
        with pytest.raises(KeyError), vertex_sums.zeros(10) as first:
            first[:] = 1
            raise KeyError
        with vertex_sums.zeros(10) as second:
            assert (second == 0).all()

    def test_keeps_at_most_64_mb(self):
        with vertex_sums.zeros(2**22), vertex_sums.zeros(2**22), vertex_sums.zeros(2**22):
            pass
        assert sum(kept.nbytes for kept in vertex_sums._kept) <= 64 * 2**20

    def test_threads_never_share(self):
        def fill(number: int) -> bool:
            with vertex_sums.zeros(1000) as mine:
                zero = bool((mine == 0).all())
                mine[:] = number
                own = bool((mine == number).all())
                mine[:] = 0
                return zero and own

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(fill, range(500)))

    @pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
    def test_after_a_fork(self):
        """The child starts with none: the parent's may be in use at that moment."""
        source = """
import os, sys, warnings
warnings.simplefilter("ignore")
from mofa_nvdr.dr import vertex_sums
with vertex_sums.zeros(10):
    pass
vertex_sums._lock.acquire()
child = os.fork()
if child == 0:
    kept = len(vertex_sums._kept)
    with vertex_sums.zeros(10):
        os._exit(kept)
vertex_sums._lock.release()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
        run_program(source).check_returncode()
