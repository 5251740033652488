"""Errors by what is covered: the rows, and that telling occluders is seen in them."""

from __future__ import annotations

import math

import pytest

from mofa_nvdr.apply import occluded_error
from mofa_nvdr.apply.occluded_error import measure_occluded
from mofa_nvdr.runs.trained import Reconstructor
from tests.helpers.photos_to_reconstruct import write_photos

OWN = "this encoder"


@pytest.fixture(scope="module")
def shipped():
    return Reconstructor.load(device="cpu")


@pytest.fixture
def two_shares(monkeypatch):
    monkeypatch.setattr(occluded_error, "SHARES", (0.0, 0.3))


def test_rendered_people(shipped, two_shares):
    measured = measure_occluded({OWN: shipped}, "synthetic", 2, plain=True)
    rows = measured.rows
    assert len(rows) == 2 * 5 and "2 people" in measured.protocol[0]
    free, covered = rows[f"{OWN}, 0%"], rows[f"{OWN}, 30%"]
    assert math.isnan(free["photometric hidden"]) and covered["photometric hidden"] > 0
    assert covered["landmarks"] > free["landmarks"]
    told, blind = (rows[f"{OWN}, fit, {how}, 30%"] for how in ("occluders told", "not told"))
    for name in ("geometry", "photometric seen", "photometric hidden"):
        assert told[name] < 0.9 * blind[name], name
    # Colours alone move nothing.
    assert rows[f"{OWN}, colours, not told, 30%"]["landmarks"] == covered["landmarks"]


def test_photographs(smoke_run, shipped, two_shares, tmp_path):
    """Encoders of any face model, before the same boxes."""
    folder = write_photos(tmp_path / "faces")
    run = Reconstructor.load(smoke_run[0], smoke_run[1], "cpu")
    measured = measure_occluded({"a": run, "b": shipped}, str(folder), 0)
    assert "geometry" not in measured.units and len(measured.rows) == 2 * 2 * 5
    assert measured.rows["a, 30%"]["photometric hidden"] > 0
    assert math.isnan(measured.rows["a, 0%"]["landmarks"])  # there are none


def test_mistakes(shipped, tmp_path):
    with pytest.raises(ValueError, match="--count is 0, expected at least 1"):
        measure_occluded({OWN: shipped}, "synthetic", 0)
    with pytest.raises(ValueError, match="no such folder"):
        measure_occluded({OWN: shipped}, str(tmp_path / "none"), 4)
