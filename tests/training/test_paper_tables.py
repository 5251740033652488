"""The paper's tables: known distances, and that a better encoder has better rows."""

from __future__ import annotations

import math

import pytest
import torch

from mofa_nvdr.runs.trained import Reconstructor
from mofa_nvdr.scene.pose import axis_angle_to_matrix
from mofa_nvdr.training.paper_tables import (
    centred_distance,
    measure_photographs,
    measure_renders,
    own_encoder,
    similar_distance,
)
from tests.helpers.photos_to_reconstruct import write_photos


class TestDistances:
    def test_what_is_compensated(self):
        """Translation and scale in both; a turn in the second alone."""
        a = torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(0))
        moved = 1.7 * a + torch.tensor([3.0, -1.0, 2.0])
        assert centred_distance(a, moved).max() < 1e-5
        turned = moved @ axis_angle_to_matrix(torch.tensor([[0.0, 0.0, 0.2]]))[0].mT
        assert centred_distance(a, turned).min() > 0.1
        assert similar_distance(a, turned).max() < 1e-5

    def test_a_known_distance(self):
        """A square and one with two corners 1 mm higher: nothing else can be compensated."""
        a = torch.tensor([[[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]]) * 10
        b = a + torch.tensor([[[0.0, 0, 1], [0, 0, -1], [0, 0, 1], [0, 0, -1]]])
        torch.testing.assert_close(centred_distance(a, b), torch.ones(1, dtype=torch.float64))


@pytest.fixture(scope="module")
def run(smoke_run):
    return Reconstructor.load(smoke_run[0], smoke_run[1], "cpu")


class TestTables:
    def test_renders(self, run):
        measured = measure_renders(run, 5)
        assert measured.rows["paper, AlexNet"]["geometry"] == 4.5
        own = measured.rows["this encoder"]
        assert set(own) == set(measured.units) and all(v >= 0 for v in own.values())
        assert measured.facts["step"] == 4 and measured.facts["face_model"] == "cap"
        again = measure_renders(run, 5)
        assert again.rows == measured.rows

    def test_the_shipped_encoder_knows_more_than_code_zero(self):
        rows = measure_renders(Reconstructor.load(device="cpu"), 8).rows
        before, own = rows["before training"], rows["this encoder"]
        for name in ("geometry", "form", "photometric", "landmarks"):
            assert own[name] < 0.9 * before[name], name  # measured 0.33, 0.7, 0.33, 0.16
        assert own["landmarks"] < 8

    def test_photographs(self, run, tmp_path):
        write_photos(tmp_path / "faces")
        measured = measure_photographs(run, tmp_path / "faces", 3)
        own, before = measured.rows["this encoder"], measured.rows["before training"]
        assert own["mask"] > 0 and own["photometric"] != before["photometric"]
        assert math.isnan(own["landmarks"])
        assert measured.rows["paper, VGG-Face"]["landmarks"] == 4.9

    def test_mistakes(self, run, tmp_path):
        with pytest.raises(ValueError, match="--count is 0, expected at least 1"):
            measure_renders(run, 0)
        with pytest.raises(ValueError, match="no such folder"):
            measure_photographs(run, tmp_path / "none")

    def test_an_exported_encoder(self, run):
        exported = Reconstructor(
            object(), run.decoder, run.device, run.face_model, run.spec, run.path, run.metadata
        )
        with pytest.raises(ValueError, match="is an exported encoder; give its run or checkpoint"):
            own_encoder(exported)
