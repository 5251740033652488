"""Charts, the report, and what a run shows of itself."""

import json
import math
import re
import sys
import xml.etree.ElementTree as ElementTree

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.runs.config import TrainConfig, replace_options
from mofa_nvdr.training import monitoring
from mofa_nvdr.training.charts import _log_ticks, _number, _thin, _ticks, line_chart
from mofa_nvdr.training.monitoring import command_line
from mofa_nvdr.training.report import write_report
from mofa_nvdr.training.stages import STAGES, StageClock
from mofa_nvdr.training.step import code_statistics, gradient_norms
from tests.helpers.small_encoder import small_encoder


def _svg(figure: str) -> ElementTree.Element:
    return ElementTree.fromstring(re.search("<svg.*</svg>", figure).group())


class TestLineChart:
    def test_places_by_hand(self):
        """From (0, 1) to (10, 3): the lower left and the upper right of the plot, 5 % within."""
        svg = _svg(line_chart("error", {"a": [(0, 1.0), (10, 3.0)]}))
        (line,) = svg.findall("polyline")
        (x0, y0), (x1, y1) = (map(float, p.split(",")) for p in line.get("points").split())
        assert (x0, x1) == (58, 480 - 12)
        height = 260 - 12 - 30
        assert y0 == pytest.approx(260 - 30 - height * 0.1 / 2.2, abs=0.05)
        assert y1 == pytest.approx(12 + height * 0.1 / 2.2, abs=0.05)
        labels = [text.text for text in svg.findall("text")]
        assert labels == ["1", "1.5", "2", "2.5", "3", "0", "2", "4", "6", "8", "10"]

    def test_what_is_not_a_number_is_left_out(self):
        points = [(0, 1.0), (1, math.nan), (2, math.inf), (3, 0.0), (4, 2.0)]
        svg = _svg(line_chart("x", {"a": points}, log=True))
        assert len(svg.find("polyline").get("points").split()) == 2

    def test_nothing_yet(self):
        assert "nothing yet" in line_chart("x", {"a": [], "b": [(0, math.nan)]})

    def test_one_point_and_a_constant(self):
        for points in ([(5, 2.0)], [(0, 0.0), (1, 0.0)], [(0, 3.0), (9, 3.0)]):
            for log in (False, True):
                figure = line_chart("x", {"a": points}, log)
                assert "nan" not in figure and "inf" not in figure

    def test_legend_and_names_are_escaped(self):
        figure = line_chart("<b>", {"a<": [(0, 1.0)], "b": [(0, 2.0)]})
        assert "&lt;b&gt;" in figure and "a&lt;" in figure and "<b>" not in figure
        assert 'class="legend"></div>' in line_chart("x", {"alone": [(0, 1.0)]})

    def test_many_points_become_means_and_the_last_stays(self):
        points = [(float(k), float(k % 2)) for k in range(10_001)]
        thin = _thin(points)
        assert len(thin) <= 122 and thin[-1] == points[-1]
        assert all(abs(y - 0.5) < 0.02 for _, y in thin[:-2])

    @pytest.mark.parametrize("bounds", [(0, 1), (-3, 1e6), (0.1234, 0.1235), (-2e-9, 1e-9)])
    def test_ticks(self, bounds):
        ticks = _ticks(*bounds)
        low, high = bounds[0] - 1e-12, bounds[1] + 1e-12
        assert 3 <= len(ticks) <= 7 and low <= ticks[0] and ticks[-1] <= high

    @pytest.mark.parametrize("bounds", [(1e-6, 1e-3), (0.011, 0.3), (3.1, 3.3), (1e-12, 1e12)])
    def test_log_ticks(self, bounds):
        ticks = _log_ticks(*bounds)
        low, high = bounds[0] * (1 - 1e-9), bounds[1] * (1 + 1e-9)
        assert 2 <= len(ticks) <= 9 and low <= ticks[0] and ticks[-1] <= high

    @pytest.mark.parametrize(
        ("value", "text"),
        [(0, "0"), (0.05, "0.05"), (20_000, "20k"), (1.5e-5, "1.5e-05"), (1500, "1500")],
    )
    def test_numbers(self, value, text):
        assert _number(value) == text


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
        assert "<td>seed</td><td><b>7</b></td>" in page and "<td>flip</td><td>True</td>" in page
        assert len(re.findall("<figure>", page)) == 9
        assert "http://" not in page and "https://" not in page  # nothing from elsewhere

    def test_before_the_first_line(self, tmp_path):
        write_report(tmp_path, TrainConfig(), {"seconds": 0.0, "commands": []}, "begun")
        assert "nothing yet" in (tmp_path / "report.html").read_text()

    def test_folder_gone(self, tmp_path):
        with pytest.raises(OSError, match="No such file"):
            write_report(tmp_path / "no", TrainConfig(), {"seconds": 0.0, "commands": []}, "begun")


class TestStatistics:
    def test_norm_and_deviation_of_each_part(self):
        """Two codes, by hand."""
        layout = CodeLayout(2, 1, 1)
        codes = torch.zeros(2, layout.size)
        codes[0, layout.slices["shape"]] = torch.tensor([3.0, 4.0])
        codes[:, layout.slices["albedo"]] = 2.0
        result = code_statistics(codes, layout)
        assert result["code_norm"]["shape"] == 2.5  # (5 + 0) / 2
        # deviations 1.5 and 2: the root of the mean of their squares
        assert result["code_sd"]["shape"] == pytest.approx(math.sqrt((1.5**2 + 2**2) / 2))
        assert result["code_norm"]["albedo"] == 2 and result["code_sd"]["albedo"] == 0

    def test_gradient_of_each_part(self):
        encoder = small_encoder(TrainConfig(), CodeLayout(4, 3, 5))
        encoder.head.parts["rotation"].bias.grad = torch.tensor([3.0, 0.0, 4.0])
        norms = gradient_norms(encoder)
        assert norms["rotation"] == 5 and norms["trunk"] == 0

    def test_command_line(self, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["/usr/bin/mofa-nvdr", "train", "--data", "a b"])
        assert command_line() == "mofa-nvdr train --data 'a b'"
        monkeypatch.setattr(monitoring.distributed, "world_size", lambda: 4)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
        assert command_line() == "torchrun --nproc-per-node 2 -m mofa_nvdr train --data 'a b'"
        monkeypatch.setattr(sys, "argv", ["fit.py", "x"])
        assert command_line() == "python fit.py x"


class TestStageClock:
    def test_laps_add_up_and_the_decoders_backward_is_its_own(self, monkeypatch):
        now = iter(range(100))
        monkeypatch.setattr(StageClock, "_now", lambda self: (float(t := next(now)), 2.0 * t))
        clock = StageClock(torch.device("cpu"))
        for _ in range(2):
            clock.start()
            clock.lap("data")
            leaf = torch.ones(2, 3, requires_grad=True)
            codes = leaf * 2
            clock.lap("encoder_forward")
            clock.watch(codes)
            loss = codes.sum()
            clock.lap("decoder_forward")
            loss.backward()
            clock.lap("encoder_backward")
            clock.lap("optimizer")
        assert torch.equal(clock.codes, torch.full((2, 3), 2.0))
        wall, cpu = clock.take()
        assert list(wall) == list(STAGES)
        assert set(wall.values()) == {1000.0} and set(cpu.values()) == {2000.0}
        assert clock.take() == ({}, {})

    def test_a_step_that_is_not_measured_reads_no_clock(self, monkeypatch):
        monkeypatch.setattr(StageClock, "_now", lambda self: pytest.fail("read"))
        clock = StageClock(torch.device("cpu"))
        clock.start(measure=False)
        clock.lap("data")
        clock.watch(torch.ones(1, 2, requires_grad=True))
        assert clock.codes is not None
