"""tests/gpu_check.sh: without a GPU it says so; on a stand-in for one it is walked through."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
STAND_IN = ROOT / "tests" / "fake_gpu"


def check(arguments: list[str], **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", str(ROOT / "tests" / "gpu_check.sh"), *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHON": sys.executable, **environment},
    )


def on_stand_in(out: Path, files: str, **environment: str) -> subprocess.CompletedProcess:
    """With a small benchmark and the tests of some files only."""
    others = [p for p in (ROOT / "tests").rglob("test_*.py") if not p.match(files)]
    ignored = " ".join(f"--ignore={p.relative_to(ROOT)}" for p in others)
    small = ["--batch", "1", "--vertices", "100", "--resolution", "8", "--repeats", "1"]
    return check(
        [str(out), *small],
        PYTHONPATH=str(STAND_IN),
        PYTEST_ADDOPTS=ignored,
        **environment,
    )


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU")
class TestGpuCheck:
    def test_fails_loudly_without_a_gpu(self, tmp_path):
        done = check([str(tmp_path / "out.json")], PYTHONPATH=str(ROOT))
        assert done.returncode == 1
        assert "torch sees no CUDA GPU; nothing was checked" in done.stderr

    def test_wants_a_json_file(self):
        done = check(["table.txt"])
        assert done.returncode == 2 and "table.txt does not end in .json" in done.stderr

    def test_passes_on_the_stand_in(self, tmp_path):
        out = tmp_path / "out.json"
        done = on_stand_in(out, "dr/test_parity.py")
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
        report = json.loads(out.read_text())
        assert report["tests"]["failed"] == [] and report["tests"]["passed"] > 50
        assert report["gpu"] == "stand-in for a GPU" and report["mofa-nvdr"] and report["driver"]
        compared = {row["what"] for row in report["parity"] if row["other"] == "nvdiffrast"}
        for verb in (
            "rasterize",
            "range mode",
            "interpolate",
            "antialias",
            "layer 2",
            "texture, linear",
        ):
            assert any(what.startswith(verb) for what in compared)
        operators = {row["operator"] for row in report["rows"]}
        assert "rasterize" in operators and "decoder step, vertex" in operators
        for line in (
            "CPU against nvdiffrast",
            "0 failed",
            "benchmark: done",
            "decoder step, raster",
        ):
            assert line in done.stdout.split("=" * 96)[-1]
        assert (tmp_path / "out.log").stat().st_size > 0

    def test_prints_the_table_in_spite_of_failures(self, tmp_path):
        out = tmp_path / "out.json"
        done = on_stand_in(out, "dr/test_parity.py", FAKE_GPU_BREAK="1")
        assert done.returncode == 1
        table = done.stdout.split("=" * 96)[-1]
        (shown,) = (line for line in table.splitlines() if line.startswith("rasterize: u, v, z/w"))
        assert shown.endswith("FAILED") and "0.001" in shown
        assert "FAILED tests.dr.test_parity.TestSameAsTheOther::test_rasterize[nvdiffrast" in table
        assert json.loads(out.read_text())["tests"]["failed"] and "benchmark: done" in table
