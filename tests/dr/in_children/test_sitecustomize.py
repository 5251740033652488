"""Processes that a program starts: told by the environment, and as they would be without it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mofa_nvdr.dr.install import IN_CHILDREN

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "mofa_nvdr" / "dr" / "in_children"


def run(source: str, told: str | None, *folders: Path) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if k != IN_CHILDREN}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, [FOLDER, *folders, ROOT]))
    if told:
        environment[IN_CHILDREN] = told
    return subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=120, env=environment
    )


CUDA = "x = torch.ones(2, device='cuda'); print(x.device.index, dr.__name__)"


@pytest.mark.parametrize(
    "first", ["import torch", "import nvdiffrast", "from nvdiffrast import torch as _"]
)
def test_told(first):
    done = run(f"{first}\nimport torch, nvdiffrast.torch as dr\n{CUDA}", "cuda_to_cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "0 mofa_nvdr.dr"


def test_without_cuda():
    done = run(
        "import nvdiffrast.torch as dr; import torch; print(torch.ones(2).device.index)",
        "nvdiffrast",
    )
    assert done.returncode == 0 and done.stdout.strip() == "None", done.stderr


def test_others_start_as_ever():
    source = "import sys; print([m for m in ('torch', 'numba', 'mofa_nvdr') if m in sys.modules])"
    assert run(source, "cuda_to_cpu").stdout.strip() == "[]"
    done = run("import nvdiffrast", None)
    assert done.returncode == 1 and "No module named 'nvdiffrast'" in done.stderr


def test_another_sitecustomize_still_runs(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import builtins; builtins.hidden = 7")
    done = run("print(hidden)", "cuda_to_cpu", tmp_path)
    assert done.stdout.strip() == "7", done.stderr


def test_from_a_program(tmp_path):
    """A program with three kinds of children, by `python -m mofa_nvdr.dr`."""
    program = tmp_path / "program.py"
    program.write_text("""
import multiprocessing, subprocess, sys
import torch

def work(queue):
    queue.put(torch.ones(3, device="cuda").sum().item())

if __name__ == "__main__":
    for kind in ("fork", "spawn"):
        context = multiprocessing.get_context(kind)
        queue = context.Queue()
        process = context.Process(target=work, args=(queue,))
        process.start()
        print(queue.get(timeout=100))
        process.join()
    code = "import nvdiffrast.torch as dr, torch; print(torch.ones(2).cuda().device.index)"
    print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
""")
    done = subprocess.run(
        [sys.executable, "-m", "mofa_nvdr.dr", str(program)],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["3.0", "3.0", "0"]
