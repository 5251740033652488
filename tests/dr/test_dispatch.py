"""Which backend a call goes to, and what it says when there is none; contexts, threads, forks, caches."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from mofa_nvdr import dr
from mofa_nvdr.dr import parallel
from mofa_nvdr.dr.rasterize_kernels import decode_id
from tests.dr.test_rasterize import RIGHT_TRIANGLE, random_scene, triangles_of

ROOT = Path(__file__).resolve().parents[2]
POS = torch.tensor([RIGHT_TRIANGLE], dtype=torch.float32)
TRI = triangles_of((0, 1, 2))
INSTALL = "pip install --no-build-isolation git\\+https://github.com/NVlabs/nvdiffrast.git@v0.4.0"
# The verbs' modules; `dr.rasterize` itself is the function.
MODULES = {name: sys.modules[f"mofa_nvdr.dr.{name}"] for name in ("rasterize", "interpolate")}
MODULES["antialias"] = sys.modules["mofa_nvdr.dr.antialias"]


def calls() -> dict[str, object]:
    image = torch.zeros(1, 4, 4, 4)
    return {
        "rasterize": lambda: dr.rasterize(dr.RasterizeContext(), POS, TRI, (4, 4)),
        "interpolate": lambda: dr.interpolate(torch.ones(3, 1), image, TRI),
        "antialias": lambda: dr.antialias(image, image, POS, TRI),
        "antialias_construct_topology_hash": lambda: dr.antialias_construct_topology_hash(TRI),
    }


@pytest.fixture
def as_if_cuda(monkeypatch):
    """The verbs take their tensors for CUDA tensors."""
    for module in MODULES.values():
        monkeypatch.setattr(module, "common_device", lambda *a, **k: torch.device("cuda", 0))


class FakeContext:
    made: list[torch.device] = []

    def __init__(self, device):
        self.made.append(device)


@pytest.fixture
def fake_nvdiffrast(monkeypatch):
    """An nvdiffrast that returns its own arguments."""
    package, module = types.ModuleType("nvdiffrast"), types.ModuleType("nvdiffrast.torch")
    module.RasterizeCudaContext = FakeContext
    for name in calls():
        setattr(module, name, lambda *args, _name=name, **kwargs: (_name, args, kwargs))
    package.torch = module
    monkeypatch.setitem(sys.modules, "nvdiffrast", package)
    monkeypatch.setitem(sys.modules, "nvdiffrast.torch", module)
    monkeypatch.setattr(FakeContext, "made", [])
    return module


class TestCuda:
    @pytest.mark.parametrize("name", list(calls()))
    def test_without_nvdiffrast_raises_the_install_line(self, monkeypatch, as_if_cuda, name):
        monkeypatch.setitem(sys.modules, "nvdiffrast", None)
        monkeypatch.delitem(sys.modules, "nvdiffrast.torch", raising=False)
        with pytest.raises(RuntimeError, match=f"{name}: the tensors are on CUDA.*{INSTALL}"):
            calls()[name]()

    @pytest.mark.parametrize("name", list(calls()))
    def test_goes_to_nvdiffrast(self, as_if_cuda, fake_nvdiffrast, name):
        called, args, _ = calls()[name]()
        assert called == name
        assert any(argument is TRI for argument in args)

    def test_one_context_per_size(self, as_if_cuda, fake_nvdiffrast):
        context, used = dr.RasterizeContext(), []
        for size in ((4, 4), (4, 5), (4, 4)):
            _, args, kwargs = dr.rasterize(context, POS, TRI, size, grad_db=False)
            used.append(args[0])
            assert kwargs == {"resolution": list(size), "ranges": None, "grad_db": False}
        assert used[0] is used[2] and used[0] is not used[1]
        assert FakeContext.made == [torch.device("cuda", 0)] * 2

    def test_contexts_do_not_pile_up(self, as_if_cuda, fake_nvdiffrast):
        context = dr.RasterizeContext()
        for width in range(1, 20):
            dr.rasterize(context, POS, TRI, (4, width))
        assert len(context._cuda_contexts) == 8

    def test_nvdiffrasts_own_context_is_taken(self, as_if_cuda, fake_nvdiffrast):
        own = FakeContext(None)
        _, args, _ = dr.rasterize(own, POS, TRI, (4, 4))
        assert args[0] is own

    def test_same_results_as_cpu(self):
        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA GPU")
        pytest.importorskip("nvdiffrast.torch", reason="needs nvdiffrast")
        pos, tri = random_scene(0)
        attr = torch.rand(pos.shape[1], 3, generator=torch.Generator().manual_seed(0))
        images, grads = [], []
        for device in ("cpu", "cuda"):
            leaf = pos.clone().to(device).requires_grad_()
            index = tri.to(device)
            rast, _ = dr.rasterize(dr.RasterizeContext(), leaf, index, (64, 64))
            out, _ = dr.interpolate(attr.to(device), rast, index)
            out = dr.antialias(out, rast, leaf, index)
            out.square().sum().backward()
            images.append(out.detach().cpu())
            grads.append(leaf.grad.cpu())
        same = (images[0] - images[1]).abs().amax(dim=-1) < 1e-4
        assert same.float().mean() > 0.999
        assert (grads[0] - grads[1]).norm() < 1e-2 * grads[0].norm()


class TestDevices:
    def test_mixed_devices_name_both(self):
        with pytest.raises(RuntimeError, match="rasterize: tri is on meta, but pos is on cpu"):
            dr.rasterize(dr.RasterizeContext(), POS, TRI.to("meta"), (4, 4))
        with pytest.raises(RuntimeError, match="interpolate: rast is on meta, but attr is on cpu"):
            dr.interpolate(torch.ones(3, 1), torch.zeros(1, 4, 4, 4, device="meta"), TRI)
        image = torch.zeros(1, 4, 4, 4)
        with pytest.raises(RuntimeError, match="antialias: pos is on meta, but color is on cpu"):
            dr.antialias(image, image, POS.to("meta"), TRI)

    def test_other_devices_are_refused(self):
        with pytest.raises(RuntimeError, match="pos is on meta, expected cpu or cuda"):
            dr.rasterize(dr.RasterizeContext(), POS.to("meta"), TRI.to("meta"), (4, 4))

    def test_context_of_another_device(self):
        with pytest.raises(RuntimeError, match="pos is on cpu, but glctx was made for cuda:0"):
            dr.rasterize(dr.RasterizeContext("cuda:0"), POS, TRI, (4, 4))

    def test_ranges_stay_on_the_cpu(self):
        ranges = torch.zeros(1, 2, dtype=torch.int32, device="meta")
        with pytest.raises(RuntimeError, match="ranges is on meta, expected cpu"):
            dr.rasterize(dr.RasterizeContext(), POS[0], TRI, (4, 4), ranges=ranges)


class TestContexts:
    @pytest.mark.parametrize(
        "context",
        [
            dr.RasterizeContext(),
            dr.RasterizeContext("cpu"),
            dr.RasterizeCudaContext(),
            dr.RasterizeGLContext(output_db=False, mode="manual"),
        ],
    )
    def test_draws_on_the_cpu(self, context):
        rast, _ = dr.rasterize(context, POS, TRI, (4, 4))
        assert int((rast[..., 3] == 1).sum()) == 6

    def test_gl_context_can_be_made_current(self):
        """Programs that drew with OpenGL do so around their calls."""
        context = dr.RasterizeGLContext()
        context.set_context()
        rast, _ = dr.rasterize(context, POS, TRI, (4, 4))
        context.release_context()
        assert int((rast[..., 3] == 1).sum()) == 6

    def test_copies_and_pickles_without_cuda_contexts(self, as_if_cuda, fake_nvdiffrast):
        context = dr.RasterizeContext()
        dr.rasterize(context, POS, TRI, (4, 4))
        for twin in (copy.deepcopy(context), pickle.loads(pickle.dumps(context))):
            assert len(twin._cuda_contexts) == 0 and twin.device is None


class TestIds:
    @pytest.mark.parametrize("number", [1, 2**24 - 1, 2**24, 2**24 + 1, 2**25 + 3])
    def test_numbers_above_2_to_24_survive_float32(self, number):
        # nvdiffrast counts on in the bit pattern of 2^24 as float32.
        bits = 0x4B800000 + number - 2**24
        stored = torch.tensor([bits], dtype=torch.int32).view(torch.float32)
        if number <= 2**24:
            stored = torch.tensor([float(number)])
        assert decode_id(stored.numpy()[0]) == number

    def test_range_mode_beyond_2_to_24(self):
        # 201 MB of indices to nothing, and one triangle after them.
        tri = torch.full((2**24 + 2, 3), -1, dtype=torch.int32)
        tri[-1] = TRI[0]
        ranges = torch.tensor([[2**24, 2]], dtype=torch.int32)
        rast, _ = dr.rasterize(dr.RasterizeContext(), POS[0], tri, (4, 4), ranges=ranges)
        assert int(rast[0, 0, 0, 3].view(torch.int32)) == 0x4B800000 + 2
        out, _ = dr.interpolate(torch.ones(3, 1), rast, tri)
        assert int((out == 1).sum()) == 6


class TestParallel:
    def test_errors_come_through(self):
        def fail(k):
            raise ValueError(f"item {k}")

        before = torch.get_num_threads()
        try:
            for num_threads in (1, 3):
                torch.set_num_threads(num_threads)
                with pytest.raises(ValueError, match="item"):
                    parallel.run(fail, [(k,) for k in range(4)])
        finally:
            torch.set_num_threads(before)

    def test_every_item_once(self):
        before, seen = torch.get_num_threads(), []
        try:
            torch.set_num_threads(4)
            parallel.run(seen.append, [(k,) for k in range(100)])
        finally:
            torch.set_num_threads(before)
        assert sorted(seen) == list(range(100))

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
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", program], check=True, timeout=60, env=environment)

    def test_import_leaves_nvdiffrast_alone(self):
        program = "import sys, mofa_nvdr.dr; sys.exit('nvdiffrast' in sys.modules)"
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-c", program], check=True, timeout=60, env=environment)
