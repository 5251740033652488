"""This package in nvdiffrast's place, each time in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.programs import HIDE, run_program

PROGRAM = """
import torch
import nvdiffrast
import nvdiffrast.torch as dr

pos = torch.tensor([[[-1, -1, 0, 1], [1, -1, 0, 1], [-1, 1, 0, 1.0]]])
tri = torch.tensor([[0, 1, 2]], dtype=torch.int32)
rast, _ = dr.rasterize(dr.RasterizeCudaContext(), pos, tri, resolution=[4, 4])
color, _ = dr.interpolate(torch.ones(3, 3), rast, tri)
print(nvdiffrast.__version__, round(dr.antialias(color, rast, pos, tri).sum().item()))
"""


class TestInstall:
    @pytest.fixture
    def real(self, tmp_path) -> Path:
        """A folder with something that is installed as nvdiffrast."""
        (tmp_path / "nvdiffrast").mkdir()
        (tmp_path / "nvdiffrast" / "__init__.py").write_text("__version__ = 'real'\n")
        (tmp_path / "nvdiffrast" / "torch.py").write_text("")
        return tmp_path

    def test_programs_run_unchanged(self):
        done = run_program(
            f"{HIDE}from mofa_nvdr import dr\nassert dr.install() is True\n{PROGRAM}"
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["0.4.0", "27"]  # half of the square, three channels
        assert done.stderr == ""

    def test_twice_is_once(self):
        done = run_program(f"{HIDE}from mofa_nvdr import dr\nassert dr.install() and dr.install()")
        assert done.returncode == 0, done.stderr

    def test_the_real_one_stays(self, real):
        program = (
            "from mofa_nvdr import dr\nassert dr.install() is False\n"
            "import nvdiffrast\nprint(nvdiffrast.__version__)"
        )
        done = run_program(program, None, real)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "real"
        assert "nvdiffrast is installed and stays in use; install(force=True)" in done.stderr
        assert len(done.stderr.splitlines()) == 1

    @pytest.mark.parametrize("first", ["", "import nvdiffrast\n"])
    def test_a_folder_of_its_name_is_not_it(self, tmp_path, first):
        """Who cloned nvdiffrast to read it has a folder of that name, perhaps the current one."""
        (tmp_path / "nvdiffrast" / "samples").mkdir(parents=True)
        done = run_program(
            f"{first}from mofa_nvdr import dr\nassert dr.install()\n{PROGRAM}", None, tmp_path
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["0.4.0", "27"]

    def test_sources_that_were_not_installed_are_not_it(self, real):
        (real / "nvdiffrast" / "__init__.py").write_text(
            "from importlib.metadata import version\nversion('nvdiffrast')\n"
        )
        done = run_program(f"from mofa_nvdr import dr\nassert dr.install()\n{PROGRAM}", None, real)
        if "nvdiffrast is installed" in done.stderr:
            pytest.skip("nvdiffrast is installed here")
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize("first", ["", "import nvdiffrast.torch\n"])
    def test_force(self, real, first):
        done = run_program(
            f"{first}from mofa_nvdr import dr\nassert dr.install(force=True)\n{PROGRAM}", None, real
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["0.4.0", "27"]

    def test_cuda_tensors_still_find_no_backend(self):
        program = (
            f"{HIDE}from mofa_nvdr import dr\nfrom mofa_nvdr.dr.context import load_nvdiffrast\n"
            "dr.install()\nload_nvdiffrast('rasterize')"
        )
        done = run_program(program)
        assert "RuntimeError: rasterize: the tensors are on CUDA" in done.stderr
        assert "mofa_nvdr.dr.install put this package in its place" in done.stderr

    def test_how_programs_look_for_it(self):
        program = f"""{HIDE}
from mofa_nvdr import dr
dr.install()
import importlib.util, sys
for name in ("nvdiffrast", "nvdiffrast.torch", "nvdiffrast.torch.ops"):
    assert importlib.util.find_spec(name) is not None, name
import nvdiffrast.torch.ops
from nvdiffrast.torch.ops import rasterize, RasterizeCudaContext
assert rasterize is dr.rasterize and nvdiffrast.torch.ops.texture is dr.texture
assert nvdiffrast.__spec__.name == "nvdiffrast"
"""
        done = run_program(program)
        assert done.returncode == 0, done.stderr
