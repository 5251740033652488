"""The paper's tables: a better encoder has better rows, and several stand side by side."""

from __future__ import annotations

import math

import pytest

from mofa_nvdr.runs.trained import Reconstructor
from mofa_nvdr.training.paper_tables import measure_photographs, measure_renders, own_encoder
from tests.helpers.photos_to_reconstruct import write_photos


@pytest.fixture(scope="module")
def run(smoke_run):
    return Reconstructor.load(smoke_run[0], smoke_run[1], "cpu")


OWN = "this encoder"


class TestTables:
    def test_renders(self, run):
        measured = measure_renders({OWN: run}, 5)
        assert measured.rows["paper, AlexNet"]["geometry"] == 4.5
        own = measured.rows[OWN]
        assert set(own) == set(measured.units) and all(v >= 0 for v in own.values())
        facts = measured.facts["encoders"][OWN]
        assert facts["step"] == 4 and facts["face_model"] == "cap"
        again = measure_renders({OWN: run}, 5)
        assert again.rows == measured.rows

    def test_the_shipped_encoder_knows_more_than_code_zero(self):
        rows = measure_renders({OWN: Reconstructor.load(device="cpu")}, 8).rows
        before, own = rows["before training"], rows[OWN]
        for name in ("geometry", "form", "photometric", "landmarks"):
            assert own[name] < 0.9 * before[name], name  # measured 0.33, 0.7, 0.33, 0.16
        assert own["landmarks"] < 8
        # Code zero has no expression: its error is how far the true ones move faces.
        strong = rows["before training, strong expressions"]
        assert strong["expression"] > 1.1 * before["expression"] > 0

    def test_plain(self, run):
        """Code zero misses the same faces by as much; only their pictures differ."""
        plain, rough = (measure_renders({OWN: run}, 3, plain) for plain in (True, False))
        assert "made-up rooms" in plain.protocol[0] and "made-up rooms" not in rough.protocol[0]
        one, other = (table.rows["before training"] for table in (plain, rough))
        assert one["geometry"] == other["geometry"] and one["photometric"] != other["photometric"]

    def test_two_side_by_side(self, run):
        """Each row is what it is alone."""
        shipped = Reconstructor.load(device="cpu")
        both = measure_renders({"a": run, "b": run}, 3).rows
        alone = measure_renders({OWN: run}, 3).rows
        assert both["a"] == both["b"] == alone[OWN] and "before training" in both
        with pytest.raises(ValueError, match="runs of the face models cap, portraits"):
            measure_renders({"a": run, "b": shipped}, 3)

    def test_photographs(self, run, tmp_path):
        write_photos(tmp_path / "faces")
        shipped = Reconstructor.load(device="cpu")
        measured = measure_photographs({"a": run, "b": shipped}, tmp_path / "faces", 3)
        own, before = measured.rows["a"], measured.rows["before training"]
        assert own["mask"] > 0 and own["photometric"] != before["photometric"]
        assert measured.rows["b"]["photometric"] not in (own["photometric"], before["photometric"])
        assert math.isnan(own["landmarks"])
        assert measured.rows["paper, VGG-Face"]["landmarks"] == 4.9

    def test_mistakes(self, run, tmp_path):
        with pytest.raises(ValueError, match="--count is 0, expected at least 1"):
            measure_renders({OWN: run}, 0)
        with pytest.raises(ValueError, match="no such folder"):
            measure_photographs({OWN: run}, tmp_path / "none")

    def test_an_exported_encoder(self, run):
        exported = Reconstructor(
            object(), run.decoder, run.device, run.face_model, run.spec, run.path, run.metadata
        )
        with pytest.raises(ValueError, match="is an exported encoder; give its run or checkpoint"):
            own_encoder(exported)
