"""Tables of measures: for people, and for programs."""

import json
import math

import pytest

from mofa_nvdr.runs.measured import Measured, MeasuredTables, check_file

TABLE = Measured(
    "Faces", ["three faces", "to the truth"], {"form": "mm", "share": ""},
    {"ours": {"form": 1.23456, "share": 0.51239}, "paper": {"form": math.nan}}, {"step": 7},
)  # fmt: skip


def test_text():
    assert TABLE.text().splitlines() == [
        "## Faces", "", "- three faces", "- to the truth", "",
        "| | form, mm | share |", "|---|---|---|", "| ours | 1.23 | 0.512 |", "| paper |  |  |",
    ]  # fmt: skip


def test_json(tmp_path):
    TABLE.save(tmp_path / "t.json")
    read = json.loads((tmp_path / "t.json").read_text())
    assert read["rows"] == {
        "ours": {"form": 1.23456, "share": 0.51239}, "paper": {"form": None, "share": None},
    }  # fmt: skip
    assert read["protocol"] == TABLE.protocol and read["step"] == 7 and read["title"] == "Faces"


def test_several(tmp_path):
    both = MeasuredTables((TABLE, TABLE))
    assert both.text() == f"{TABLE.text()}\n\n{TABLE.text()}"
    both.save(tmp_path / "t.json")
    read = json.loads((tmp_path / "t.json").read_text())
    assert read == {"tables": [json.loads(TABLE.as_json())] * 2}


def test_refused(tmp_path):
    with pytest.raises(ValueError, match=r"--out x.txt: expected a name that ends in .json"):
        check_file("x.txt", True)
    (tmp_path / "t.json").touch()
    with pytest.raises(ValueError, match=r"t.json is there already; give another name, or --overw"):
        check_file(tmp_path / "t.json", False)
    check_file(tmp_path / "t.json", True)
    with pytest.raises(ValueError, match=r"--sheet x.json: expected a name that ends in .png"):
        check_file("x.json", True, ".png", "--sheet")
    with pytest.raises(
        ValueError, match=r"--out none/t.json: cannot write there \(there is no folder"
    ):
        check_file("none/t.json", True)
