"""report.html: what a run did, in one file: figures, curves, pictures, and the command that made it."""

from __future__ import annotations

import base64
import datetime
import html
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from mofa_nvdr import __version__
from mofa_nvdr.runs.folder import read_log
from mofa_nvdr.runs.options import TrainConfig, options
from mofa_nvdr.system.files import write_bytes
from mofa_nvdr.training.charts import line_chart
from mofa_nvdr.training.timing import STAGES

REPORT = "report.html"
_SHEET_WIDTH = 1200  # px in the report; the sheets themselves are larger

# Validation measures: key, heading, digits.
_MEASURES = (
    ("photometric", "photometric, raster", 4),
    ("photometric_vertex", "photometric, vertex", 4),
    ("landmark_px", "landmarks, px at 240", 2),
    ("mask_fraction", "mask", 3),
    ("scale", "scale", 3),
    ("yaw_std_deg", "yaw, sd, degrees", 1),
    ("pitch_mean_deg", "pitch, mean, degrees", 1),
)
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1240px; margin: 24px auto; padding: 0 16px; }
h1 { font-size: 22px; margin-bottom: 2px; } h2 { font-size: 17px; margin-top: 32px; }
.status { opacity: .75; margin-top: 0; } .warning { color: #c0392b; font-weight: 600; }
code, pre { font: 13px/1.45 ui-monospace, monospace; } pre { white-space: pre-wrap; }
table { border-collapse: collapse; } .scroll { overflow-x: auto; }
th, td { padding: 3px 14px 3px 0; text-align: right; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; } tr + tr { border-top: 1px solid #8884; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(360px, 1fr)); gap: 18px; }
figure { margin: 0; } figcaption { font-weight: 600; } svg { width: 100%; height: auto; }
svg line { stroke: #8884; } svg text { font-size: 12px; fill: currentColor; opacity: .8; }
svg polyline { fill: none; stroke-width: 1.6; } .none { opacity: .6; }
.legend span { margin-right: 14px; font-size: 13px; white-space: nowrap; }
.legend i { display: inline-block; width: 14px; height: 3px; margin: 0 5px 3px 0; }
img { max-width: 100%; height: auto; }
"""


def write_report(run: Path, config: TrainConfig, facts: dict[str, Any], status: str) -> None:
    """Write report.html into a run folder from what is there; atomic.

    Args:
        run: folder with log.jsonl and sheet-*.png.
        config: of the run.
        facts: of state.TrainingState.
        status: "running", "finished" or another word for its state.

    Raises:
        OSError: the folder cannot be written.
    """
    lines = read_log(run / "log.jsonl")
    validations = [line for line in lines if line.get("split") == "val"]
    steps = [line for line in lines if "loss" in line]
    skipped = [line for line in lines if "skipped" in line]
    last = max((line["step"] for line in lines), default=0)
    now = datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
    body = [
        f"<h1>{html.escape(run.name)}</h1>",
        f'<p class="status">{html.escape(status)} at step {last} of {config.run.steps}, '
        f"{facts['seconds'] / 60:.1f} minutes of training; written {now} by mofa-nvdr {__version__}</p>",
        *_warnings(validations, skipped),
        "<h2>Validation</h2>",
        _validation_table(validations, facts),
        "<h2>Curves</h2>",
        f'<div class="charts">{"".join(_charts(steps, validations))}</div>',
        "<h2>Faces of the validation images</h2>",
        "<p>Input, overlay, geometry, albedo and shading, two faces per row.</p>",
        _sheets(run),
        "<h2>Commands</h2>",
        *(
            f"<pre>{html.escape(command)}</pre><p class='status'>from step {step}</p>"
            for step, command in facts["commands"]
        ),
        "<h2>Configuration</h2>",
        _config_table(config),
    ]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(run.name)}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(body)}</body></html>\n"
    )
    write_bytes(run / REPORT, page.encode("utf-8"))


def _warnings(validations: list[dict[str, Any]], skipped: list[dict[str, Any]]) -> list[str]:
    found = []
    vanishing = [line["step"] for line in validations if "warning" in line]
    if vanishing:
        found.append(
            f"The face vanishes at the validations from step {vanishing[0]} on ({len(vanishing)} of "
            f"{len(validations)}): the run is collapsing, and its photometric figure means nothing."
        )
    if skipped:
        last = skipped[-1]
        found.append(
            f"{len(skipped)} steps were skipped because a number was not finite, the last at step "
            f"{last['step']}: {last['skipped']}."
        )
    return [f'<p class="warning">{html.escape(text)}</p>' for text in found]


def _validation_table(validations: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    if not validations:
        return '<p class="none">nothing yet</p>'
    best = facts.get("best") or {}
    rows = [("start", validations[0])] if validations[0]["step"] == 0 else []
    chosen = [line for line in validations if line["step"] == best.get("step")]
    rows += [(f"best by {best['measure']}", line) for line in chosen[-1:]]
    rows.append(("last", validations[-1]))
    head = "".join(f"<th>{heading}</th>" for _, heading, _ in _MEASURES)
    body = "".join(
        f"<tr><td>{name}</td><td>{line['step']}</td>"
        + "".join(f"<td>{_cell(line.get(key), digits)}</td>" for key, _, digits in _MEASURES)
        + "</tr>"
        for name, line in rows
    )
    return f'<div class="scroll"><table><tr><th></th><th>step</th>{head}</tr>{body}</table></div>'


def _charts(steps: list[dict[str, Any]], validations: list[dict[str, Any]]) -> list[str]:
    def of(lines: list[dict[str, Any]], *keys: str) -> list[tuple[float, float]]:
        points = []
        for line in lines:
            value: Any = line
            for key in keys:
                value = value.get(key) if isinstance(value, dict) else None
            if isinstance(value, (int, float)):
                points.append((float(line["step"]), float(value)))
        return points

    def group(name: str, keys: Callable[[dict[str, Any]], list[str]]) -> dict[str, Any]:
        known = keys(steps[-1].get(name, {})) if steps else []
        return {key.replace("_", " "): of(steps, name, key) for key in known}

    return [
        line_chart(
            "Photometric error",
            {
                "training": of(steps, "photometric"),
                "validation, raster": of(validations, "photometric"),
                "validation, vertex": of(validations, "photometric_vertex"),
            },
        ),
        line_chart("Landmark error on validation, px at 240", {"": of(validations, "landmark_px")}),
        line_chart(
            "Does the face stay? (validation)",
            {
                "share of the image": of(validations, "mask_fraction"),
                "scale": of(validations, "scale"),
            },
        ),
        line_chart("Loss", {"": of(steps, "loss")}),
        line_chart("Gradient norm, before clipping", {"": of(steps, "gradient_norm")}, log=True),
        line_chart(
            "Learning rates",
            {
                "depth": of(steps, "rate", "translation_z"),
                "all others": of(steps, "rate", "trunk"),
            },
            log=True,
        ),
        line_chart("Length of each part of the code", group("code_norm", list), log=True),
        line_chart("Its standard deviation over a batch", group("code_sd", list), log=True),
        line_chart(
            "Time a step, ms",
            group("ms", lambda known: [s for s in STAGES if s in known]),
            log=True,
        ),
    ]


def _sheets(run: Path) -> str:
    """The first and the last sheet within the page, links to all."""
    files = sorted(run.glob("sheet-*.png"))
    shown = [files[0], files[-1]] if len(files) > 1 else files
    parts = []
    for file in shown:
        step = int(file.stem.split("-")[1])
        try:
            data = _jpeg(file)
        except OSError:  # for example half written by another program: the curves matter more
            continue
        encoded = base64.b64encode(data).decode("ascii")
        parts.append(
            f'<p>step {step}</p><a href="{file.name}"><img alt="faces at step {step}" '
            f'src="data:image/jpeg;base64,{encoded}"></a>'
        )
    links = " ".join(f'<a href="{f.name}">{int(f.stem.split("-")[1])}</a>' for f in files)
    return "".join(parts) + (f"<p>All sheets, by step: {links}</p>" if links else "")


def _jpeg(file: Path) -> bytes:
    with Image.open(file, formats=("PNG",)) as image:
        picture = image.convert("RGB")
    if picture.width > _SHEET_WIDTH:
        height = round(picture.height * _SHEET_WIDTH / picture.width)
        picture = picture.resize((_SHEET_WIDTH, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def _config_table(config: TrainConfig) -> str:
    """Every option; those that differ from the defaults are bold."""
    defaults = options(TrainConfig())
    rows = []
    for key, value in options(config).items():
        text = html.escape(str(value)) or "-"
        shown = text if value == defaults[key] else f"<b>{text}</b>"
        rows.append(f"<tr><td>{key}</td><td>{shown}</td></tr>")
    return f'<div class="scroll"><table>{"".join(rows)}</table></div>'


def _cell(value: Any, digits: int) -> str:
    known = isinstance(value, (int, float)) and math.isfinite(value)
    return f"{value:.{digits}f}" if known else "-"
