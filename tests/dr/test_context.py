"""Which backend a call goes to, and what it says when there is none; contexts, checks, the log level."""

from __future__ import annotations

import copy
import pickle
import sys
import types

import pytest
import torch

from mofa_nvdr import dr
from mofa_nvdr.dr.context import check_tensor, common_device
from tests.helpers.programs import run_program
from tests.helpers.triangles import RIGHT_TRIANGLE, random_scene, triangles_of

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

    def test_import_leaves_nvdiffrast_alone(self):
        program = "import sys, mofa_nvdr.dr; sys.exit('nvdiffrast' in sys.modules)"
        run_program(program).check_returncode()


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


class TestLogLevel:
    def test_keeps_the_level(self):
        assert dr.get_log_level() == 1
        try:
            dr.set_log_level(3)
            assert dr.get_log_level() == 3
        finally:
            dr.set_log_level(1)

    def test_unknown(self):
        with pytest.raises(ValueError, match="level is 4, expected 0, 1, 2 or 3"):
            dr.set_log_level(4)


class TestCommonDevice:
    def test_none_does_not_count(self):
        assert common_device("interpolate", rast_db=None, attr=POS) == torch.device("cpu")

    def test_what_is_no_tensor(self):
        with pytest.raises(TypeError, match="rasterize: tri is a list, expected a torch.Tensor"):
            common_device("rasterize", pos=POS, tri=[[0, 1, 2]])


class TestCheckTensor:
    """Ints in the shape must match, names stand for any size above 0."""

    def test_fits(self):
        check_tensor("rasterize", "pos", POS, ("N", "V", 4))
        check_tensor("rasterize", "tri", TRI, ("T", 3), (torch.int64, torch.int32))

    @pytest.mark.parametrize(
        ("tensor", "message"),
        [
            (torch.zeros(2, 3), r"pos is \[2, 3\], expected \[N, 4\], every size above 0"),
            (torch.zeros(0, 4), r"pos is \[0, 4\], expected \[N, 4\], every size above 0"),
            (torch.zeros(1, 2, 4), r"pos is \[1, 2, 4\], expected \[N, 4\]"),
            (
                torch.zeros(2, 4).int(),
                r"pos is int32, expected float32; convert it with .to\(torch.fl",
            ),
            (
                torch.zeros(2, 4).double(),
                "pos is float64, .*; mofa_nvdr.dr.reference takes float64",
            ),
            (torch.zeros(4, 2).T, r"pos is not contiguous; call .contiguous\(\) on it"),
        ],
    )
    def test_refuses(self, tensor, message):
        with pytest.raises(RuntimeError, match=f"^rasterize: {message}"):
            check_tensor("rasterize", "pos", tensor, ("N", 4))

    def test_several_dtypes(self):
        with pytest.raises(
            RuntimeError, match=r"tri is float32, expected int64 or int32; .*int64\)"
        ):
            check_tensor("rasterize", "tri", POS, ("N", "V", 4), (torch.int64, torch.int32))
