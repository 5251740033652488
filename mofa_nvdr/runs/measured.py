"""What was measured, with how: tables for people and for programs."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mofa_nvdr import __version__
from mofa_nvdr.system.files import check_folder_of, write_text


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


@dataclass(frozen=True)
class MeasuredTables:
    """Several tables of one measurement.

    Attributes:
        parts: in their order.
    """

    parts: tuple[Measured, ...]

    def text(self) -> str:
        """Markdown: each as `Measured.text` has it."""
        return "\n\n".join(part.text() for part in self.parts)

    def save(self, path: str | Path) -> None:
        """Write JSON, {"tables": [...]}, each as `Measured.save` writes it; atomically."""
        parts = [json.loads(part.as_json()) for part in self.parts]
        write_text(Path(path), json.dumps({"tables": parts}, indent=1) + "\n")


def check_file(
    path: str | Path, overwrite: bool, suffix: str = ".json", flag: str = "--out"
) -> None:
    """Refuse a file before anything is measured that is to be kept in it.

    Args:
        path: the user's.
        overwrite: whether it may be replaced.
        suffix: what its name ends in.
        flag: the option that names it.

    Raises:
        ValueError: another ending, no such folder, or it is there already and may not be replaced.
    """
    path = Path(path)
    if path.suffix != suffix:
        raise ValueError(f"{flag} {path}: expected a name that ends in {suffix}")
    check_folder_of(path, flag)
    if path.exists() and not overwrite:
        raise ValueError(f"{flag} {path} is there already; give another name, or --overwrite")


def _number(value: float) -> str:
    if not math.isfinite(value):
        return ""
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"
