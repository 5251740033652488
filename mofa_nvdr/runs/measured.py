"""What was measured, with how: tables for people and for programs."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mofa_nvdr import __version__
from mofa_nvdr.system.files import write_text


@dataclass(frozen=True)
class Measured:
    """A table of measures.

    Attributes:
        title: what was measured.
        protocol: how, in sentences: pictures, region, alignment, scale, direction.
        units: column -> its unit, "" for numbers without.
        rows: name -> column -> value; NaN or missing: not measured.
        facts: what else identifies the measurement (encoder, step, face model).
    """

    title: str
    protocol: list[str]
    units: dict[str, str]
    rows: dict[str, dict[str, float]]
    facts: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """Markdown: the title, the protocol, the table."""
        heads = [f"{name}, {unit}" if unit else name for name, unit in self.units.items()]
        lines = [f"## {self.title}", "", *(f"- {line}" for line in self.protocol), ""]
        lines += [f"| | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
        for name, row in self.rows.items():
            cells = (_number(row.get(column, math.nan)) for column in self.units)
            lines.append(f"| {name} | {' | '.join(cells)} |")
        return "\n".join(lines)

    def as_json(self) -> str:
        """The same with all digits; what was not measured is null."""
        rows = {
            name: {
                column: row[column] if math.isfinite(row.get(column, math.nan)) else None
                for column in self.units
            }
            for name, row in self.rows.items()
        }
        return json.dumps(
            {
                "title": self.title,
                "version": __version__,
                "protocol": self.protocol,
                "units": self.units,
                "rows": rows,
                **self.facts,
            },
            indent=1,
        )

    def save(self, path: str | Path) -> None:
        """Write the JSON, atomically."""
        write_text(Path(path), self.as_json() + "\n")


def check_json(path: str | Path, overwrite: bool) -> None:
    """Refuse a file for `Measured.save` before anything is measured.

    Raises:
        ValueError: it is not called .json, or is there already and may not be replaced.
    """
    path = Path(path)
    if path.suffix != ".json":
        raise ValueError(f"--out {path}: expected a name that ends in .json")
    if path.exists() and not overwrite:
        raise ValueError(f"--out {path} is there already; give another name, or --overwrite")


def _number(value: float) -> str:
    if not math.isfinite(value):
        return ""
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"
