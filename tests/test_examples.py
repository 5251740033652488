"""The programs in examples/ run, and do what they say."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
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

    def test_first_face(self, tmp_path):
        """The notebook's cells, one after the other: from a photograph to a relit face and a mesh."""
        cells = json.loads((ROOT / "examples" / "first_face.ipynb").read_text("utf-8"))["cells"]
        code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
        assert not any(c.get("outputs") for c in cells)  # pictures would swell the repository
        (tmp_path / "cells.py").write_text(code)
        done = subprocess.run(
            [sys.executable, "cells.py"], cwd=tmp_path, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "MOFA_NVDR_CACHE": str(tmp_path / "none")},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "torch.Size([1, 257])" in done.stdout
        certainty = float(re.search(r"certainty (\S+)", done.stdout).group(1))
        assert certainty > 0.8
        photo = iio.imread(ROOT / "assets" / "portrait.jpg").astype(float)
        relit = iio.imread(tmp_path / "first_face" / "relit.png").astype(float)
        assert relit.shape == photo.shape
        left, right = (
            np.abs(relit - photo)[80:260, x].mean() for x in (slice(90, 160), slice(180, 250))
        )
        assert max(left, right) > 8  # the light has changed
        assert (tmp_path / "first_face" / "face.glb").read_bytes()[:4] == b"glTF"

    def test_all_are_tested(self):
        names = {p.name for p in (ROOT / "examples").iterdir() if p.is_file()}
        assert names == {"renderer_only.py", "own_training_loop.py", "first_face.ipynb"}
