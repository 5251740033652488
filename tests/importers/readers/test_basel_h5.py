"""Basel Face Model in .h5: mean, names, landmarks and albedo of the file."""

import shutil

import h5py
import numpy as np
import pytest

from mofa_nvdr.importers.foreign import ImportOptions
from mofa_nvdr.importers.formats import import_model
from tests.helpers import foreign_files as ff
from tests.helpers.foreign_files import basis


class TestRead:
    def test_bfm2017_mean_is_the_sum_and_landmarks_are_its_own(self, files, foreign):
        model, notes = import_model("bfm2017", files["bfm2017"])
        np.testing.assert_allclose(basis(model, "expression"), foreign.expression, atol=1e-4)
        assert "landmarks: 8 known for this mesh, the others by geometry" in notes
        # The coarse face has the built-in one's landmarks, so that bending finds each.
        assert (model.landmarks.numpy() == np.arange(68)).mean() > 0.9

    @pytest.mark.parametrize(
        ("file", "name"),
        [
            ("model2019_face12.h5", "bfm2019-face12"),
            ("model2017-1_face12_nomouth.h5", "bfm2017-face12"),
        ],
    )
    def test_bfm_is_named_by_its_file(self, file, name, files, tmp_path):
        shutil.copy(files["bfm2017"], tmp_path / file)
        assert import_model("bfm2019", tmp_path / file)[0].name == name

    def test_bfm_without_expressions(self, files, foreign, tmp_path, options):
        """The .h5 form of BFM 2009: shape and colour alone."""
        path = tmp_path / "model2009-publicmm1-bfm.h5"
        shutil.copy(files["bfm2017"], path)
        with h5py.File(path, "a") as file:
            del file["expression"]
        model, notes = import_model("bfm2017", path, options)
        assert model.layout.num_expression == 0
        assert any("no expression in this model" in note for note in notes)


class TestReadAlbedo:
    def test_bfm_with_the_albedo_of_another_file(self, files, foreign, tmp_path, options):
        path = ff.write_albedomm(tmp_path / "albedo.h5", foreign)
        for key in ("bfm2009", "bfm2017"):
            model, _ = import_model(
                key, files[key], ImportOptions(albedo=path, landmarks=options.landmarks)
            )
            np.testing.assert_allclose(model.mean_albedo.numpy(), 1 - foreign.color, atol=1e-5)
            np.testing.assert_allclose(basis(model, "albedo"), foreign.albedo[:2], atol=1e-5)
