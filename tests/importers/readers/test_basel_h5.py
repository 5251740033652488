"""Basel Face Model in .h5: mean, names, landmarks and albedo of the file."""

import re
import shutil

import h5py
import numpy as np
import pytest

from mofa_nvdr.importers.foreign import ImportOptions, ModelFileError
from mofa_nvdr.importers.formats import import_model
from mofa_nvdr.importers.readers.basel_h5 import looks_like, read, read_albedo
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

    @pytest.mark.parametrize("count", [3, 76])
    def test_of_another_mesh_or_no_file(self, count, files, foreign, tmp_path):
        path = ff.write_albedomm(tmp_path / "albedo.h5", foreign)
        assert len(foreign.mean) == 76
        if count != 76:
            with pytest.raises(ModelFileError, match="76 vertices, but the model has 3"):
                read_albedo(path, 2, count)
        else:
            assert read_albedo(path, 1, count)[1].shape == (1, 76, 3)
        path.write_bytes(b"no")
        with pytest.raises(
            ModelFileError, match=r"--albedo .*albedo\.h5: not an AlbedoMM \.h5 file"
        ):
            read_albedo(path, 2, count)


class TestWrongFiles:
    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("shape/model/mean", None, "missing shape/model/mean"),
            (
                "shape/model/pcaVariance",
                -np.ones(6),
                "shape/model/pcaVariance does not hold a variance",
            ),
            (
                "shape/model/pcaVariance",
                np.ones(2),
                "shape/model/pcaVariance does not hold a variance",
            ),
            (
                "shape/representer/cells",
                np.zeros((2, 4)),
                "shape/representer/cells is [2, 4], expected",
            ),
            (
                "expression/model/mean",
                np.zeros(9),
                "expression/model has 3 vertices, but shape/model 76",
            ),
            ("color/representer/colorspace", "Lab", "colours are 'Lab', expected RGB"),
        ],
    )
    def test_line(self, name, value, message, files, tmp_path):
        path = tmp_path / "a.h5"
        shutil.copy(files["bfm2017"], path)
        with h5py.File(path, "a") as file:
            del file[name]
            if value is not None:
                file[name] = value
        with pytest.raises(ModelFileError, match=re.escape(f"{path}: {message}")):
            read(path, ImportOptions())


class TestLooksLike:
    def test_by_the_first_bytes(self, files):
        assert looks_like(files["bfm2017"]) and not looks_like(files["bfm2009"])
