"""Line charts as inline SVG: what report.html shows, with nothing to install."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

Points = Sequence[tuple[float, float]]

COLORS = (
    "#1f6fb4", "#d1661a", "#2f8f4e", "#a83a6b", "#6b57b8", "#8a6d1f",
    "#4b4f58", "#14a0a8", "#d62728", "#e58ac4", "#8cc152", "#7fb2e5",
)  # fmt: skip
_WIDTH, _HEIGHT = 480, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 12, 30
_MOST_POINTS = 120  # means over pieces show the course of noisy steps


def line_chart(title: str, series: Mapping[str, Points], log: bool = False) -> str:
    """A figure with a title, a legend, and one line for each series that has points.

    Values that are not finite are left out, and with `log` those that are not above 0. Long series are
    drawn as means over equal pieces. A chart without any point says so.

    Args:
        title: above the chart.
        series: name -> (x, y) in ascending order of x; x is the step.
        log: logarithmic y axis.
    """
    kept = {name: _thin(_usable(points, log)) for name, points in series.items()}
    kept = {name: points for name, points in kept.items() if points}
    if not kept:
        return _figure(title, '<p class="none">nothing yet</p>', [])
    xs = [x for points in kept.values() for x, _ in points]
    ys = [math.log10(y) if log else y for points in kept.values() for _, y in points]
    x_low, x_high = min(0.0, *xs), max(*xs, 1.0)
    y_low, y_high = _padded(min(ys), max(ys))

    def place(x: float, y: float) -> tuple[float, float]:
        """Step and (log of the) value to the picture's units."""
        across = (x - x_low) / (x_high - x_low)
        up = (y - y_low) / (y_high - y_low)
        return (
            _LEFT + across * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM),
        )

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">']
    marks = _log_ticks(10**y_low, 10**y_high) if log else _ticks(y_low, y_high)
    for value in marks:
        _, y = place(x_low, math.log10(value) if log else value)
        label = _number(value)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    for value in _ticks(x_low, x_high):
        x, _ = place(value, y_low)
        parts.append(
            f'<text x="{x:.1f}" y="{_HEIGHT - 10}" text-anchor="middle">{_number(value)}</text>'
        )
    colors = {name: COLORS[k % len(COLORS)] for k, name in enumerate(kept)}
    for name, points in kept.items():
        spots = [place(x, math.log10(y) if log else y) for x, y in points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        parts.append(f'<polyline points="{line}" stroke="{colors[name]}"/>')
        if len(spots) <= 40:  # few enough to be measurements of their own
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colors[name]}"/>'
                for x, y in spots
            ]
    parts.append("</svg>")
    return _figure(title, "".join(parts), list(colors.items()) if len(kept) > 1 else [])


def _figure(title: str, body: str, legend: list[tuple[str, str]]) -> str:
    names = "".join(
        f'<span><i style="background:{color}"></i>{html.escape(name)}</span>'
        for name, color in legend
    )
    return (
        f"<figure><figcaption>{html.escape(title)}</figcaption>{body}"
        f'<div class="legend">{names}</div></figure>'
    )


def _usable(points: Points, log: bool) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if math.isfinite(y) and (y > 0 or not log)]


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most _MOST_POINTS points: means over pieces of equal length, the last point as it is."""
    size = -(-len(points) // _MOST_POINTS)
    if size <= 1:
        return points
    pieces = [points[k : k + size] for k in range(0, len(points) - 1, size)]
    means = [(sum(x for x, _ in p) / len(p), sum(y for _, y in p) / len(p)) for p in pieces]
    return [*means, points[-1]]


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers between two bounds."""
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= raw)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """The same for a logarithmic axis: 1, 2, 5 of every power of ten, or powers alone."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = max(1, len(powers) // 7)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        marks = [digit * 10.0**power for power in powers for digit in digits]
        inside = [mark for mark in marks if low <= mark <= high]
        if len(inside) <= 7:
            break
    return inside[::every] if len(inside) > 7 else inside or _ticks(low, high)


def _number(value: float) -> str:
    """Short: 0, 0.05, 12, 1500, 20k, 1.5e-05."""
    if abs(value) >= 1e4 and value == round(value, -3):
        return f"{value / 1000:g}k"
    return f"{value:.6g}"
