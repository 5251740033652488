"""The tables and the sheet of Figs. 12 and 13 on a tiny corpus."""

from __future__ import annotations

import dataclasses
import logging
import math

import imageio.v3 as iio
import pytest

from mofa_nvdr import FaceDecoder, FaceModel
from mofa_nvdr.apply import learned_evaluation
from mofa_nvdr.apply.learned_evaluation import evaluate_learned
from mofa_nvdr.apply.learned_pictures import LearnedOptions
from mofa_nvdr.data.crop_tables import DataError
from mofa_nvdr.runs.trained import Reconstructor
from tests.helpers.photos_to_reconstruct import write_photos

OWN = "this encoder"
FEW = LearnedOptions(steps=2, size=32)


@pytest.fixture(scope="module")
def shipped():
    return Reconstructor.load(device="cpu")


@pytest.fixture(scope="module")
def run(shipped, cap):
    """An encoder of another face model, which says code zero of everybody."""
    model = FaceModel.load(cap)

    def encoder(images):
        return images.new_zeros(len(images), model.layout.size)

    decoder = FaceDecoder(model, image_size=48)
    return dataclasses.replace(shipped, encoder=encoder, decoder=decoder)


@pytest.fixture
def folder(tmp_path):
    where = write_photos(tmp_path / "faces")
    (where / "index.csv").write_text("file,split\na.png,train\nb.JPG,val\nmore/c.png,val\n")
    return str(where)


def test_a_folder(run, folder, tmp_path):
    file = tmp_path / "sheet.png"
    tables = evaluate_learned({OWN: run}, folder, 3, FEW, str(file))
    first, second = tables.parts
    assert "Fig. 12" in first.title and "Fig. 13" in second.title
    assert list(first.rows) == [
        OWN, f"{OWN}, colours", "principal components", "convolutional autoencoder",
        "convolutional autoencoder, pictures that it learned from",
    ]  # fmt: skip
    own, network = first.rows[OWN], first.rows["convolutional autoencoder"]
    assert own["mask"] == network["mask"] > 0  # over the same pixels
    assert math.isnan(own["whole picture"]) and network["whole picture"] > 0
    assert own["sharpness"] > 0 and -1 <= own["edges"] <= 1
    assert first.rows[f"{OWN}, colours"]["photometric"] <= own["photometric"]
    assert "2 validation pictures of faces, at 32 px" in first.protocol[0]
    assert list(second.rows) == [
        "analytic decoder", "learned decoder", "learned decoder, 1.5 times as far from the mean",
        f"learned decoder, codes of {OWN}",
    ]  # fmt: skip
    learned = second.rows["learned decoder"]
    assert learned["face"] > 0 and learned["ms"] > 0 and second.rows["analytic decoder"]["ms"] > 0
    assert second.facts["encoders"][OWN]["face_model"] == "cap"
    # Two photographs, twelve pairs in rows of three, and lines of text below both.
    height, width, _ = iio.imread(file).shape
    assert width == 7 * 64 and 6 * 64 < height < 8 * 64
    again = evaluate_learned({OWN: run}, folder, 3, FEW)
    without_times = [
        {name: {k: v for k, v in row.items() if k != "ms"} for name, row in part.rows.items()}
        for both in (tables, again)
        for part in both.parts
    ]
    assert repr(without_times[:2]) == repr(without_times[2:])


def test_two_runs(run, shipped, folder):
    """A learned decoder for each face model, one autoencoder for all."""
    first, second = evaluate_learned({"a": run, "b": shipped}, folder, 1, FEW).parts
    assert {"a", "b", "b, colours", "convolutional autoencoder, where b draws"} <= set(first.rows)
    assert {"learned decoder of cap", "learned decoder of portraits, codes of b"} <= set(
        second.rows
    )


def test_synthetic(run, caplog):
    caplog.set_level(logging.INFO, "mofa_nvdr")
    (table,) = evaluate_learned({OWN: run}, "synthetic", 4, FEW).parts
    assert "Fig. 13" in table.title and len(table.rows) == 3
    assert "learn from photographs: --on FOLDER" in caplog.text


def test_mistakes(run, folder, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="--count is 0, expected at least 1"):
        evaluate_learned({OWN: run}, "synthetic", 0, FEW)
    with pytest.raises(DataError, match="no such folder"):
        evaluate_learned({OWN: run}, str(tmp_path / "none"), 1, FEW)
    (tmp_path / "faces" / "index.csv").write_text(
        "file,split\na.png,train\nb.JPG,train\nmore/c.png,train\n"
    )
    with pytest.raises(DataError, match="no validation picture; index.csv says which are"):
        evaluate_learned({OWN: run}, folder, 1, FEW)

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(learned_evaluation, "learn_counterparts", stopped)
    with pytest.raises(KeyboardInterrupt, match="keeps nothing, and starts anew"):
        evaluate_learned({OWN: run}, folder, 1, FEW)
