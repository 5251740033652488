"""The threads and the compiler of the CPU kernels: errors, forks, several callers, no place for a cache."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numba
import pytest
import torch
from numba.core import event

from mofa_nvdr import dr
from mofa_nvdr.dr import parallel
from tests.helpers.programs import run_program
from tests.helpers.triangles import random_scene


class TestParallel:
    def test_errors_come_through(self):
        def fail(k):
            raise ValueError(f"item {k}")

        before = torch.get_num_threads()
        try:
            for num_threads in (1, 3):
                torch.set_num_threads(num_threads)
                with pytest.raises(ValueError, match="item"):
                    parallel.run_on_threads(fail, [(k,) for k in range(4)])
        finally:
            torch.set_num_threads(before)

    def test_every_item_once(self):
        before, seen = torch.get_num_threads(), []
        try:
            torch.set_num_threads(4)
            parallel.run_on_threads(seen.append, [(k,) for k in range(100)])
        finally:
            torch.set_num_threads(before)
        assert sorted(seen) == list(range(100))

    @pytest.mark.parametrize("terminal", [True, False])
    @pytest.mark.parametrize("module", ["mofa_nvdr.dr.some_kernels", "another_program"])
    @pytest.mark.parametrize("level", ["INFO", "WARNING"])
    def test_who_waits_for_the_compiler_sees_it(
        self, caplog, capsys, monkeypatch, terminal, module, level
    ):
        """A note once, and a count that ends as an empty line; nothing of others' functions."""
        monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)

        def inner(x):
            return x + 1

        def outer(x):
            return compiled(x) * 2

        inner.__module__ = outer.__module__ = module
        compiled = numba.njit(inner)
        listener = parallel._Compiling()
        with event.install_listener("numba:compile", listener), caplog.at_level(level, "mofa_nvdr"):
            assert numba.njit(outer)(1) == 4
        shown = terminal and module.startswith("mofa_nvdr") and level == "INFO"
        said = [r.getMessage() for r in caplog.records if r.name == parallel.__name__]
        line = "compiling the kernels, once after an install: about ten seconds"
        # The listener that is always there may have said it in this process before.
        assert set(said) == ({line} if shown else set()) and len(said) <= 2
        assert listener.count == 2 * shown
        written = capsys.readouterr().err
        assert ("\r1 kernels compiled" in written) is shown
        assert not written or written.endswith("\r") and not written.split("\r")[-2].strip()

    def test_several_threads_at_once(self):
        """Programs that draw from threads of their own get what one thread gets."""

        def draw(seed: int) -> tuple[torch.Tensor, ...]:
            pos, tri = random_scene(seed)
            pos.requires_grad_()
            rast, rast_db = dr.rasterize(dr.RasterizeContext(), pos, tri, (50, 40))
            attr = torch.rand(pos.shape[1], 3, generator=torch.Generator().manual_seed(seed))
            out, out_da = dr.interpolate(attr.requires_grad_(), rast, tri, rast_db, "all")
            out = dr.antialias(out, rast, pos, tri)
            (out.square().sum() + out_da.square().sum()).backward()
            return out.detach(), pos.grad, attr.grad

        before = torch.get_num_threads()
        try:
            torch.set_num_threads(2)
            alone = [draw(seed) for seed in range(6)]
            with ThreadPoolExecutor(6) as pool:
                for _ in range(3):
                    for one, many in zip(alone, pool.map(draw, range(6))):
                        assert all(torch.equal(a, b) for a, b in zip(one, many))
        finally:
            torch.set_num_threads(before)

    def test_works_without_a_place_for_the_cache(self):
        # A function without a file can't be cached, like one in a folder that can't be written.
        scope: dict[str, object] = {}
        exec("def double(x):\n    return 2 * x", scope)
        assert parallel.jit(scope["double"])(21) == 42

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_draws_after_a_fork(self):
        program = """
import os, sys, warnings
import torch
from mofa_nvdr import dr
warnings.simplefilter("ignore")  # newer Pythons warn of forks with threads; this is what is tested
torch.set_num_threads(2)
pos = torch.tensor([[[-1, -1, 0, 1], [1, -1, 0, 1], [-1, 1, 0, 1.0]]])
tri = torch.tensor([[0, 1, 2]], dtype=torch.int32)
draw = lambda: int((dr.rasterize(dr.RasterizeContext(), pos, tri, (4, 4))[0] != 0)[..., 3].sum())
assert draw() == 6
child = os.fork()
if child == 0:
    os._exit(draw())
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 6
"""
        run_program(program).check_returncode()
