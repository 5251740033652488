"""Codes of the photographs that an encoder trains on."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from mofa_nvdr.apply import fit_corpus as module
from mofa_nvdr.apply.fit_corpus import fit_corpus
from mofa_nvdr.apply.fitting import Stage
from mofa_nvdr.cli import SOME_LEFT_OUT, main
from mofa_nvdr.data.crop_tables import DataError, read_codes
from mofa_nvdr.data.photographs import Photographs
from mofa_nvdr.face.model import FaceModel
from tests.helpers.commands import error_line
from tests.helpers.fitted_faces import known_faces, landmarked_face

_SIZE = 64
_FORM = ("rotation", "translation", "shape", "expression")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small crops and few steps."""
    stages = (
        Stage(_FORM, 6, landmarks=0.5),
        Stage((*_FORM, "albedo", "light"), 4, landmarks=0.3, photometric=100.0),
    )
    monkeypatch.setattr(module, "_SIZE", _SIZE)
    monkeypatch.setattr(module, "QUICK_STAGES", stages)


@pytest.fixture
def face(tmp_path: Path) -> FaceModel:
    path = tmp_path / "face.safetensors"
    landmarked_face().save(path)
    return FaceModel.load(str(path))


@pytest.fixture
def folder(tmp_path: Path, face: FaceModel) -> Path:
    """Four rendered photographs; the last one has no landmarks."""
    known = known_faces(face, count=4, size=_SIZE)
    out, names = tmp_path / "crops", [f"images/{k}.png" for k in range(4)]
    (out / "images").mkdir(parents=True)
    pixels = (known.photo * 255).round().byte().permute(0, 2, 3, 1).numpy()
    for name, picture in zip(names, pixels):
        iio.imwrite(out / name, picture)
    rows = [f"{name},{'val' if k == 1 else 'train'}" for k, name in enumerate(names)]
    (out / "index.csv").write_text("\n".join(["file,split", *rows]) + "\n")
    np.savez(out / "landmarks478.npz", files=np.array(names[:3]), lm478=known.dense[:3].numpy())
    np.savez(out / "true.npz", codes=known.code.numpy())
    return out


@pytest.fixture(autouse=True)
def any_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small face's 478 points are anywhere on it, and do not look like a face."""
    monkeypatch.setattr("mofa_nvdr.data.photographs.wrong_points", lambda *args: "")
    monkeypatch.setattr("mofa_nvdr.data.crop_tables.wrong_rows", lambda points: {})


class TestFitCorpus:
    def test_codes_of_the_pictures_as_they_are(self, folder, face, tmp_path):
        done = fit_corpus(folder, str(tmp_path / "face.safetensors"), batch=2)
        assert (done.fitted, done.without) == (3, 1) and done.path == folder / "codes.npz"
        codes, whose = read_codes(done.path)
        assert whose == face.hash and sorted(codes) == [f"images/{k}.png" for k in range(3)]
        true = np.load(folder / "true.npz")["codes"]
        where = face.layout.slices["rotation"]
        for k in range(3):
            np.testing.assert_allclose(codes[f"images/{k}.png"][where], true[k, where], atol=0.05)
        samples = [Photographs(folder, "train", _SIZE)[k] for k in range(3)]
        assert [s.code is not None for s in samples] == [True, True, False]

    def test_goes_on_where_it_stopped(self, folder, tmp_path, monkeypatch):
        model, fit = str(tmp_path / "face.safetensors"), module._fit_batch
        whole = fit_corpus(folder, model, batch=2).path.read_bytes()
        (folder / "codes.npz").unlink()
        calls = []

        def stop_at_the_second(fitter, some, most):
            calls.append([split.names[k] for split, k in some])
            if len(calls) == 2:
                raise KeyboardInterrupt
            return fit(fitter, some, most)

        monkeypatch.setattr(module, "_fit_batch", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            fit_corpus(folder, model, batch=2)
        fit_corpus(folder, model, batch=2)
        assert calls[2] == calls[1] and calls[0] != calls[1]
        assert (folder / "codes.npz").read_bytes() == whole

    def test_badly_fitted_ones_have_no_code(self, folder, tmp_path):
        done = fit_corpus(folder, str(tmp_path / "face.safetensors"), most_deviation=1e-6)
        assert (done.fitted, done.without) == (0, 4)
        assert np.isfinite(np.load(done.path)["deviation"]).sum() == 3

    def test_unreadable_photographs(self, folder, tmp_path):
        (folder / "images/0.png").write_bytes(b"no picture")
        with pytest.warns(UserWarning, match="skipped picture 1"):
            done = fit_corpus(folder, str(tmp_path / "face.safetensors"))
        assert (done.fitted, done.without) == (2, 2)


class TestMistakes:
    def test_no_dense_landmarks(self, folder):
        (folder / "landmarks478.npz").unlink()
        with pytest.raises(DataError, match="crops: no landmarks478.npz; `mofa-nvdr preprocess`"):
            fit_corpus(folder)

    def test_codes_of_something_else(self, folder, tmp_path):
        model = str(tmp_path / "face.safetensors")
        (folder / "codes.npz").write_bytes(b"mine")
        with pytest.raises(DataError, match="codes.npz"):
            fit_corpus(folder, model)
        np.savez(folder / "codes.npz", files=np.array(["images/0.png"]), codes=np.zeros((1, 5)))
        with pytest.raises(DataError, match="is there, and not of `mofa-nvdr fit --codes`"):
            fit_corpus(folder, model)
        assert np.load(folder / "codes.npz")["codes"].shape == (1, 5)

    def test_codes_of_another_model(self, folder, tmp_path):
        fit_corpus(folder, str(tmp_path / "face.safetensors"))
        landmarked_face(modes=3).save(tmp_path / "other.safetensors")
        with pytest.raises(DataError, match="codes of another face model than cap"):
            fit_corpus(folder, str(tmp_path / "other.safetensors"))

    def test_numbers(self, folder):
        with pytest.raises(ValueError, match="--batch is 0, expected 1 or more"):
            fit_corpus(folder, batch=0)
        with pytest.raises(ValueError, match="most_deviation is 0, expected more than 0"):
            fit_corpus(folder, most_deviation=0)


class TestCommand:
    def test_writes_the_codes(self, folder, tmp_path, capsys):
        model = str(tmp_path / "face.safetensors")
        assert main(["fit", str(folder), "--codes", "--face-model", model]) == SOME_LEFT_OUT
        assert "3 fitted, 1 without a code" in capsys.readouterr().out

    def test_mistakes(self, folder, capsys):
        line = error_line(capsys, "fit", str(folder), "--codes", "--out", "o")
        assert "give one folder of face crops, and no --out" in line
        assert "fit: no --out" in error_line(capsys, "fit", str(folder))
