"""Programs that name the GPU themselves, on the CPU; what is for good has a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mofa_nvdr.dr.cuda_on_cpu import CudaOnCpu, is_cuda
from tests.helpers.programs import HIDE, ROOT, run_program

PROGRAM = """
import sys
import torch
import nvdiffrast.torch as dr
import beside

glctx = dr.RasterizeCudaContext(device="cuda:0")
pos = torch.tensor([[[-1, -1, 0, 1], [1, -1, 0, 1], [-1, 1, 0, 1]]], dtype=torch.float32, device="cuda")
tri = torch.tensor([[0, 1, 2]], dtype=torch.int32).cuda()
rast, _ = dr.rasterize(glctx, pos, tri, resolution=[4, 4])
color, _ = dr.interpolate(torch.ones(3, 3).to("cuda"), rast, tri)
print(__name__, sys.argv[1:], beside.VALUE, round(dr.antialias(color, rast, pos, tri).sum().item()))
"""


def command(arguments: list[str], folder: Path) -> subprocess.CompletedProcess:
    """`python -m mofa_nvdr.dr` as it is where nvdiffrast is not installed."""
    return run_program(f"{HIDE}from mofa_nvdr.dr.__main__ import main\nmain({arguments!r})", folder)


@pytest.fixture
def program(tmp_path) -> Path:
    """A program that hard-codes CUDA, with a module of its own beside it."""
    folder = tmp_path / "samples"
    folder.mkdir()
    (folder / "beside.py").write_text("VALUE = 7\n")
    (folder / "program.py").write_text(PROGRAM)
    return folder / "program.py"


class TestCommand:
    def test_runs_a_program_unchanged(self, program, tmp_path):
        done = command([str(program), "--size", "3"], tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "__main__ ['--size', '3'] 7 27"
        assert done.stderr == ""

    def test_runs_a_module_as_python_does(self, program):
        done = command(["-m", "program", "--size", "3"], program.parent)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "__main__ ['--size', '3'] 7 27"

    def test_runs_a_package_by_its_main(self, tmp_path):
        (tmp_path / "own").mkdir()
        (tmp_path / "own" / "__init__.py").write_text("")
        (tmp_path / "own" / "__main__.py").write_text(
            "import torch\nfrom own.part import n\nprint(torch.ones(n).cuda().device)"
        )
        (tmp_path / "own" / "part.py").write_text("n = 2")
        done = command(["-m", "own"], tmp_path)
        assert (done.returncode, done.stdout.strip()) == (0, "cpu:0"), done.stderr

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["-m"], "-m needs the name of a module; usage: python -m mofa_nvdr.dr"),
            (["-m", "nothing_here"], "there is no module nothing_here; install what has it"),
            (["-m", "nothing_here.main"], "there is no module nothing_here.main; install what"),
        ],
    )
    def test_no_module(self, arguments, message, tmp_path):
        done = command(arguments, tmp_path)
        assert done.returncode == 1 and done.stderr.startswith(f"mofa_nvdr.dr: {message}")
        assert len(done.stderr.splitlines()) == 1

    def test_what_a_modules_package_misses_is_said(self, tmp_path):
        (tmp_path / "own").mkdir()
        (tmp_path / "own" / "__init__.py").write_text("import nothing_here")
        done = command(["-m", "own.main"], tmp_path)
        assert "ModuleNotFoundError: No module named 'nothing_here'" in done.stderr

    def test_a_program_that_is_not_there(self, tmp_path):
        done = command(["nothing.py"], tmp_path)
        assert done.returncode == 1
        assert (
            done.stderr.strip() == "mofa_nvdr.dr: nothing.py is not a file; name the program to run"
        )

    @pytest.mark.parametrize(("arguments", "code"), [([], 2), (["--help"], 0)])
    def test_usage(self, arguments, code, tmp_path):
        done = command(arguments, tmp_path)
        assert done.returncode == code
        assert "usage: python -m mofa_nvdr.dr (program.py | -m module)" in done.stdout

    def test_the_programs_own_errors_come_through(self, tmp_path):
        (tmp_path / "fails.py").write_text("raise KeyError('its own')")
        done = command(["fails.py"], tmp_path)
        assert done.returncode == 1 and "KeyError: 'its own'" in done.stderr

    def test_without_the_option_cuda_stays_cuda(self, program, tmp_path):
        if torch.cuda.is_available():
            pytest.skip("there is a CUDA GPU")
        source = (
            f"{HIDE}from mofa_nvdr import dr; dr.install()\n"
            f"import runpy, sys; sys.path.insert(0, {str(program.parent)!r})\n"
            f"runpy.run_path({str(program)!r})"
        )
        done = run_program(source, tmp_path)
        # torch built for CUDA, without a driver, names NVIDIA alone.
        assert done.returncode == 1 and ("CUDA" in done.stderr or "NVIDIA" in done.stderr)

    def test_as_a_module(self, tmp_path):
        done = subprocess.run(
            [sys.executable, "-m", "mofa_nvdr.dr", "--help"],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert (
            done.returncode == 0
            and "usage: python -m mofa_nvdr.dr (program.py | -m module)" in done.stdout
        )

    def test_the_real_nvdiffrast_stays_in_charge(self, tmp_path):
        (tmp_path / "nvdiffrast").mkdir()
        (tmp_path / "nvdiffrast" / "__init__.py").write_text("")
        (tmp_path / "nvdiffrast" / "torch.py").write_text("")
        source = (
            "from mofa_nvdr import dr; assert dr.install(cuda_to_cpu=True) is False\n"
            "from mofa_nvdr.dr import cuda_on_cpu; assert not cuda_on_cpu.enabled()"
        )
        done = run_program(source, tmp_path)
        assert done.returncode == 0, done.stderr
        assert "stays in use" in done.stderr


class TestMode:
    """`CudaOnCpu` as a context manager: what torch's own functions do in it."""

    @pytest.fixture(autouse=True)
    def _mode(self):
        with CudaOnCpu():
            yield

    @pytest.mark.parametrize(
        "device", ["cuda", "cuda:1", 0, torch.device("cuda"), torch.device("cuda", 2)]
    )
    def test_tensors_are_made_on_the_cpu(self, device):
        assert is_cuda(device)
        for made in (
            torch.zeros(2, device=device),
            torch.tensor([1.0, 2.0], device=device),
            torch.ones(2).to(device),
            torch.ones(2).to(device=device, dtype=torch.float64),
            torch.ones(2).new_full((2,), 3.0, device=device),
            torch.rand(2, device=device, requires_grad=True),
            torch.nn.Linear(2, 2, device=device).weight,
        ):
            assert made.device.type == "cpu"

    @pytest.mark.parametrize("device", ["cpu", None, torch.float32, True, torch.zeros(1)])
    def test_what_is_not_cuda(self, device):
        assert not is_cuda(device)

    def test_moving_there_copies(self):
        host = torch.zeros(2)
        for moved in (host.cuda(), host.to("cuda"), host.to(device="cuda"), host.cuda(0)):
            moved += 1
            assert (host == 0).all()

    def test_moving_back_copies(self):
        moved = torch.zeros(2, device="cuda")
        kept = [moved.cpu(), moved.to("cpu"), moved.detach().cpu(), moved.to(torch.device("cpu"))]
        moved += 1
        assert all((seen == 0).all() for seen in kept)

    def test_arrays_are_copied(self):
        array = torch.zeros(2).numpy()
        for moved in (torch.as_tensor(array, device="cuda"), torch.asarray(array, device="cuda")):
            moved += 1
        assert (array == 0).all()

    def test_only_what_names_a_device_copies(self):
        tensor = torch.zeros(2)
        assert tensor.to(torch.float32) is tensor and tensor.to(tensor) is tensor
        assert tensor.pin_memory() is tensor
        assert tensor.to(torch.float64).dtype == torch.float64

    def test_gradients_pass(self):
        leaf = torch.ones(2, requires_grad=True)
        (leaf.cuda() * 3).cpu().sum().backward()
        assert leaf.grad.tolist() == [3, 3]
        parameter = torch.ones(2, device="cuda", requires_grad=True)
        assert parameter.cuda() is parameter  # still the one whose .grad is filled

    def test_kinds_of_tensor(self):
        assert torch.ones(2).type("torch.cuda.DoubleTensor").dtype == torch.float64

    def test_outside_of_it_nothing_changes(self):
        assert torch.zeros(2, pin_memory=True).device.type == "cpu"


class TestForGood:
    def test_what_torch_modes_do_not_see(self, tmp_path):
        source = """
import io, warnings
import torch
from mofa_nvdr import dr
assert dr.install() and dr.install(cuda_to_cpu=True) and dr.install(cuda_to_cpu=True)
torch.cuda.synchronize(); torch.cuda.set_device(0); torch.cuda.reset_peak_memory_stats()
assert torch.cuda.current_device() == 0 and not torch.cuda.is_available()
with torch.cuda.device(0):
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record(); end.record(); end.synchronize()
    assert start.elapsed_time(end) >= 0 and end.query()
assert torch.cuda.FloatTensor([1.0, 2.0]).tolist() == [1, 2]
torch.set_default_device("cuda")
assert torch.zeros(1).device.type == "cpu"
torch.set_default_device(None)
warnings.simplefilter("ignore")
torch.set_default_tensor_type("torch.cuda.FloatTensor")
assert torch.zeros(1).device.type == "cpu"
for device in (0, "cuda", torch.device("cuda", 0)):
    module = torch.nn.Linear(2, 2).to(device)
    assert module.weight.requires_grad and module.weight.is_leaf and module.weight.device.type == "cpu"
assert torch.nn.Linear(2, 2).cuda().to(torch.float64).weight.dtype == torch.float64
file = io.BytesIO()
torch.save({"a": torch.ones(2)}, file)
for options in ({}, {"map_location": "cuda"}, {"map_location": None}, {"map_location": torch.device("cuda")}):
    file.seek(0)
    assert torch.load(file, weights_only=True, **options)["a"].tolist() == [1, 1]
for device in (None, "cuda", 0, torch.device("cuda")):
    for make in (dr.RasterizeCudaContext, dr.RasterizeContext):
        assert make(device=device).device is None
print("all", "well")
"""
        done = run_program(HIDE + source, tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.strip() == "all well"

    def run(self, source: str, folder: Path, before: str = "dr.install(cuda_to_cpu=True)") -> None:
        done = run_program(
            f"{HIDE}import torch\nfrom mofa_nvdr import dr\n{before}\n{source}\nprint('well')",
            folder,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.strip() == "well"

    def test_devices_have_an_index_and_compare(self, tmp_path):
        """Deep3DFaceRecon and 3DDFA-V3 print `"cuda:%d" % vertex.device.index`."""
        self.run(
            """
import copy, io, pickle
x = torch.zeros(2, device="cuda")
assert "create ctx on device cuda:%d" % x.device.index == "create ctx on device cuda:0"
assert getattr(x, "device").index == 0 and x.get_device() == 0 and x.device.type == "cpu"
for name in ("cuda", "cuda:0", "cuda:1", "cpu"):
    assert x.device == torch.device(name) and not x.device != torch.device(name)
assert x.device == torch.device("cuda", 0) == torch.nn.Linear(1, 1).cuda().weight.device
assert torch.device("meta").type == "meta" and torch.device(x.device) == x.device
assert isinstance(x.device, torch.device) and not isinstance("cpu", torch.device)
assert issubclass(torch.device, torch.device) and {x.device: 1}[torch.device("cuda")] == 1
assert pickle.loads(pickle.dumps(x.device)) == copy.deepcopy(x.device) == x.device
with torch.device("cuda"):
    assert torch.zeros(1).device == x.device
for place in (x.device, str(x.device), "cuda:0", lambda storage, location: storage):
    file = io.BytesIO()
    torch.save({"a": x}, file)
    file.seek(0)
    assert torch.load(file, map_location=place)["a"].tolist() == [0, 0]
""",
            tmp_path,
        )

    def test_backward_passes_hooks_and_recomputation(self, tmp_path):
        self.run(
            """
from torch.utils.checkpoint import checkpoint

class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a):
        return 2 * a

    @staticmethod
    def backward(ctx, g):
        return g * torch.full((2,), 2.0, device="cuda")

leaf = torch.ones(2, device="cuda", requires_grad=True)
doubled = Double.apply(leaf)
doubled.register_hook(lambda g: g * torch.tensor([1.0, 3.0]).cuda())
doubled.sum().backward()
assert leaf.grad.tolist() == [2, 6]
(gradient,) = torch.autograd.grad(Double.apply(leaf).sum(), leaf)
assert gradient.tolist() == [2, 2]

def block(a):
    return a * torch.tensor([1.0, 2.0], device="cuda")

for reentrant in (True, False):
    leaf.grad = None
    checkpoint(block, leaf, use_reentrant=reentrant).sum().backward()
    assert leaf.grad.tolist() == [1, 2]
""",
            tmp_path,
        )

    def test_threads(self, tmp_path):
        self.run(
            """
import threading
from concurrent.futures import ThreadPoolExecutor

found = []

class Worker(threading.Thread):
    def run(self):
        found.append(torch.ones(1).cuda().device.index)

for thread in (Worker(), threading.Thread(target=lambda: found.append(torch.ones(1, device="cuda").sum()))):
    thread.start()
    thread.join()
with ThreadPoolExecutor(1) as pool:
    found.append(pool.submit(torch.zeros, 1, device="cuda").result().item())
assert found == [0, 1, 0]
""",
            tmp_path,
        )

    def test_scripted_functions_modules_and_classes(self, tmp_path):
        """diffrp scripts functions that make tensors on a device which they are given, or name."""
        (tmp_path / "scripted.py").write_text(
            """
import io
from typing import Optional
import torch

@torch.jit.script
def made(n: int, device: Optional[torch.device]):
    return torch.arange(n, device=device) + torch.ones(n, device="cuda")

assert made(2, torch.device("cuda")).tolist() == made(2, "cuda").tolist() == [1, 2]

class Doubled(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x

module = torch.jit.script(Doubled())
assert isinstance(module, torch.jit.ScriptModule) and module(torch.ones(1).cuda()).item() == 2

@torch.jit.script
class Pair:
    def __init__(self, a: int):
        self.a = a

assert Pair(3).a == 3
file = io.BytesIO()
torch.jit.save(module, file)
for place in ({"map_location": "cuda"}, {"map_location": torch.device("cuda")}, {}):
    file.seek(0)
    assert torch.jit.load(file, **place)(torch.ones(1)).item() == 2
print("well")
"""
        )
        done = command(["scripted.py"], tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.strip() == "well"

    def test_generators_streams_and_names(self, tmp_path):
        self.run(
            """
for generator in (torch.Generator(device="cuda"), torch.Generator("cuda:0"), torch.Generator()):
    assert isinstance(generator, torch.Generator) and generator.device.type == "cpu"
    a, b = (torch.rand(2, generator=generator.manual_seed(3), device="cuda") for _ in range(2))
    assert torch.equal(a, b)
stream, event = torch.cuda.Stream(), torch.cuda.Event()
with torch.cuda.stream(stream) as inside:
    stream.wait_stream(torch.cuda.current_stream())
    stream.wait_event(stream.record_event(event))
    assert inside.query() and stream.record_event().query()
    torch.zeros(1, device="cuda").record_stream(stream)
stream.synchronize()
event.wait()
torch.cuda.set_stream(torch.cuda.default_stream())
assert torch.cuda.get_device_name(0).startswith("CPU (")
found = torch.cuda.get_device_properties("cuda")
assert found.name == torch.cuda.get_device_name() and found.total_memory > 0
free, total = torch.cuda.mem_get_info()
assert 0 < free <= total == found.total_memory
assert torch.cuda.get_device_capability() == (found.major, found.minor) == (0, 0)
torch.cuda.init()
torch.cuda.nvtx.range_push("a"), torch.cuda.nvtx.range_pop(), torch.cuda.nvtx.mark("a")
with torch.cuda.nvtx.range("a"), torch.cuda.device_of(torch.zeros(1)):
    pass
""",
            tmp_path,
        )
