"""How images are cut for the threads, and the memory that is lent to the backward passes."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from mofa_nvdr.dr import parallel
from mofa_nvdr.dr.bands import bands_of_images, forward_bands, gradient_bands


@pytest.fixture(params=[1, 2, 3, 16])
def num_threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


class TestBands:
    @pytest.mark.parametrize("make", [forward_bands, gradient_bands])
    @pytest.mark.parametrize("num_images", [1, 2, 3, 4, 5, 8])
    @pytest.mark.parametrize("height", [1, 2, 7, 240])
    def test_every_row_once_and_in_order(self, num_threads, make, num_images, height):
        bands = make(num_images, height)
        rows = [(image, row) for image, start, stop in bands for row in range(start, stop)]
        assert rows == [(image, row) for image in range(num_images) for row in range(height)]
        for image, span in enumerate(bands_of_images(bands)):
            assert {band[0] for band in bands[span]} == {image}
        assert sum(len(bands[span]) for span in bands_of_images(bands)) == len(bands)

    def test_two_threads_share_the_fifth_image(self):
        before = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            assert forward_bands(5, 240)[4:] == [(4, 0, 120), (4, 120, 240)]
        finally:
            torch.set_num_threads(before)

    def test_sums_do_not_follow_the_threads(self, num_threads):
        assert gradient_bands(5, 240)[4:] == [(4, 0, 120), (4, 120, 240)]
        assert len(gradient_bands(4, 240)) == 4
        assert len(gradient_bands(2, 240)) == 4


class TestWorkspace:
    @pytest.fixture(autouse=True)
    def _empty(self, monkeypatch):
        monkeypatch.setattr(parallel, "_workspaces", [])

    def test_the_same_memory_serves_the_next_call(self):
        with parallel.workspace(5, 4, 3) as first:
            assert first.shape == (5, 4, 3) and first.dtype == np.float64
        with parallel.workspace(2, 7) as second:
            assert np.shares_memory(first, second)

    def test_two_at_once_are_two(self):
        with parallel.workspace(10) as one, parallel.workspace(10) as other:
            assert not np.shares_memory(one, other)

    def test_comes_back_after_an_error(self):
        with pytest.raises(KeyError), parallel.workspace(10) as first:
            raise KeyError
        with parallel.workspace(10) as second:
            assert np.shares_memory(first, second)

    def test_keeps_at_most_64_mb(self):
        with parallel.workspace(2**22), parallel.workspace(2**22), parallel.workspace(2**22):
            pass
        assert sum(kept.nbytes for kept in parallel._workspaces) <= 64 * 2**20

    def test_threads_never_share(self):
        def fill(number: int) -> bool:
            with parallel.workspace(1000) as mine:
                mine[:] = number
                return bool((mine == number).all())

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(fill, range(500)))

    @pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
    def test_after_a_fork(self):
        """The child starts with none: the parent's may have been lent out at that moment."""
        source = """
import os, sys, warnings
warnings.simplefilter("ignore")
from mofa_nvdr.dr import parallel
with parallel.workspace(10):
    pass
parallel._workspace_lock.acquire()
child = os.fork()
if child == 0:
    kept = len(parallel._workspaces)
    with parallel.workspace(10):
        os._exit(kept)
parallel._workspace_lock.release()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
        done = subprocess.run([sys.executable, "-c", source], timeout=120)
        assert done.returncode == 0
