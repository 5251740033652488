"""Line charts: places by hand, ticks, legends."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest

from mofa_nvdr.training.charts import _log_ticks, _number, _thin, _ticks, line_chart


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
