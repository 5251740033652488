"""The programs in examples/ run, and do what they say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import pytest

ROOT = Path(__file__).resolve().parents[1]


def _run(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / name), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
class TestExamples:
    def test_renderer_only(self, tmp_path):
        printed = _run("renderer_only.py", str(tmp_path / "out.png"))
        found = float(re.match(r"turned by (\S+) rad, .* with 0.50", printed).group(1))
        assert abs(found - 0.5) < 0.03
        assert iio.imread(tmp_path / "out.png").shape == (160, 480, 3)

    def test_own_training_loop(self):
        printed = _run("own_training_loop.py", "", "2")
        assert re.fullmatch(r"step 2: photometric 0\.\d{4}, mask 0\.\d{3}\n", printed)

    def test_all_are_tested(self):
        assert {p.name for p in (ROOT / "examples").glob("*.py")} == {
            "renderer_only.py",
            "own_training_loop.py",
        }
