"""Charts, the report, and what a run shows of itself."""

import json
import re

import imageio.v3 as iio
import numpy as np
import pytest

from mofa_nvdr.runs.options import TrainConfig, replace_options
from mofa_nvdr.training.report import write_report


class TestReport:
    def test_says_what_happened(self, tmp_path):
        run = tmp_path / "00003-a<b"
        run.mkdir()
        lines = [
            {"step": 0, "split": "val", "photometric": 0.4, "photometric_vertex": 0.41, "landmark_px": 15.0,
             "mask_fraction": 0.6, "scale": 1.0},
            {"step": 5, "loss": 0.5, "photometric": 0.3, "gradient_norm": 1.0, "ms": {"data.path": 1.0},
             "rate": {"trunk": 0.1, "translation_z": 5e-4}, "code_norm": {"shape": 1.0},
             "code_sd": {"shape": 0.0}},
            {"step": 7, "skipped": "the photometric is nan"},
            {"step": 10, "split": "val", "photometric": 0.2, "photometric_vertex": None,
             "landmark_px": None, "mask_fraction": 0.1, "scale": 0.5, "warning": "the face vanishes"},
        ]  # fmt: skip
        (run / "log.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
        for step in (0, 5, 10):
            iio.imwrite(run / f"sheet-{step:08d}.png", np.full((64, 2000, 3), 90, np.uint8))
        (run / "sheet-00000010.png").write_bytes(b"half")
        facts = {
            "seconds": 90.0, "best": {"step": 0, "measure": "landmark_px", "value": 15.0},
            "commands": [[0, "mofa-nvdr train --data 'a b'"], [5, "mofa-nvdr train --steps 10 > <x>"]],
        }  # fmt: skip
        write_report(
            run, replace_options(TrainConfig(), {"run.steps": 10, "run.seed": 7}), facts, "stopped"
        )
        page = (run / "report.html").read_text()
        assert not list(run.glob("*.tmp"))
        assert "<title>00003-a&lt;b</title>" in page and "<x>" not in page
        assert "stopped at step 10 of 10, 1.5 minutes of training" in page
        assert "The face vanishes at the validations from step 10 on (1 of 2)" in page
        assert (
            "1 steps were skipped because a number was not finite, the last at step 7: the phot"
            in page
        )
        assert "<td>start</td><td>0</td><td>0.4000</td><td>0.4100</td><td>15.00</td>" in page
        assert "<td>best by landmark_px</td><td>0</td>" in page
        assert "<td>last</td><td>10</td><td>0.2000</td><td>-</td><td>-</td><td>0.100</td>" in page
        assert "mofa-nvdr train --data &#x27;a b&#x27;" in page
        assert page.count("data:image/jpeg") == 1  # the other is no picture
        assert all(f'<a href="sheet-{k:08d}.png">{k}</a>' in page for k in (0, 5, 10))
        assert (
            "<td>run.seed</td><td><b>7</b></td>" in page
            and "<td>data.flip</td><td>True</td>" in page
        )
        assert len(re.findall("<figure>", page)) == 9
        assert "http://" not in page and "https://" not in page  # nothing from elsewhere

    def test_before_the_first_line(self, tmp_path):
        write_report(tmp_path, TrainConfig(), {"seconds": 0.0, "commands": []}, "begun")
        assert "nothing yet" in (tmp_path / "report.html").read_text()

    def test_folder_gone(self, tmp_path):
        with pytest.raises(OSError, match="No such file"):
            write_report(tmp_path / "no", TrainConfig(), {"seconds": 0.0, "commands": []}, "begun")
