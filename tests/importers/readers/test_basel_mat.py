"""Models in MATLAB files: units, scales, and variables that do not fit."""

import re

import numpy as np
import pytest
import scipy.io

from mofa_nvdr.importers.foreign import ImportOptions, ModelFileError
from mofa_nvdr.importers.readers.basel_mat import (
    looks_like_bfm2009,
    looks_like_deep3d,
    looks_like_lyhm,
    read_bfm2009,
    read_lyhm,
)
from tests.helpers.foreign_files import refused


class TestReadDeep3d:
    def test_missing_and_misshapen_variables(self, files, tmp_path, capsys):
        data = scipy.io.loadmat(files["deep3d"])
        keep = {k: v for k, v in data.items() if not k.startswith("_")}
        path = tmp_path / "a.mat"
        for key, value, message in (
            ("texBase", None, "missing texBase"),
            (
                "idBase",
                keep["idBase"][:-3],
                "the identity modes are [6, 75, 3], expected [K, 76, 3]",
            ),
            ("idBase", keep["idBase"][:-1], "idBase has 227 rows, expected three for each vertex"),
            ("tri", keep["tri"] + 0.5, "tri holds numbers that are no vertex indices"),
            ("meanshape", np.array(["x"]), "meanshape"),
        ):
            changed = {**keep, key: value}
            if value is None:
                del changed[key]
            scipy.io.savemat(path, changed)
            assert message in refused(capsys, tmp_path / "a.safetensors", "deep3d", path)


class TestReadBfm2009:
    def test_units_and_deviations(self, files, foreign):
        """Micrometres, colours of 255, deviations beside unit modes, triangles from 1."""
        model = read_bfm2009(files["bfm2009"], ImportOptions(shape_modes=2))
        np.testing.assert_allclose(model.mean, foreign.mean, atol=0.01)  # float32 of 1e5
        np.testing.assert_allclose(model.shape, foreign.shape[:2], atol=1e-5)
        np.testing.assert_allclose(model.mean_albedo, foreign.color, atol=1e-6)
        np.testing.assert_allclose(model.albedo, foreign.albedo, atol=1e-6)
        assert np.array_equal(model.polygons, foreign.triangles[:, [0, 2, 1]])
        assert model.expression is None and model.landmarks == {}

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            (
                "shapeEV",
                np.ones(5),
                "shapeEV does not hold a deviation of 0 or more for each of the [228, 6] ",
            ),
            (
                "texEV",
                -np.ones(4),
                "texEV does not hold a deviation of 0 or more for each of the [228, 4] ",
            ),
            ("tl", np.ones((4, 2)), "tl is [4, 2], expected triangles [T, 3]"),
        ],
    )
    def test_wrong(self, files, tmp_path, name, value, message):
        data = {k: v for k, v in scipy.io.loadmat(files["bfm2009"]).items() if k[0] != "_"}
        path = tmp_path / "a.mat"
        scipy.io.savemat(path, {**data, name: value})
        with pytest.raises(ModelFileError, match=re.escape(f"{path}: {message}")):
            read_bfm2009(path, ImportOptions())


class TestReadLyhm:
    def test_variances(self, files, foreign):
        model = read_lyhm(files["lyhm"], ImportOptions(albedo_modes=3))
        np.testing.assert_allclose(model.shape, foreign.shape, atol=1e-5)
        np.testing.assert_allclose(model.albedo, foreign.albedo[:3], atol=1e-6)
        np.testing.assert_allclose(model.mean, foreign.mean, atol=1e-4)

    def test_without_texture(self, files, tmp_path):
        data = scipy.io.loadmat(files["lyhm"])
        scipy.io.savemat(tmp_path / "a.mat", {"shp": data["shp"], "tri": data["tri"]})
        model = read_lyhm(tmp_path / "a.mat", ImportOptions())
        assert model.mean_albedo is None and model.albedo is None

    def test_no_structure(self, files, tmp_path):
        data = scipy.io.loadmat(files["lyhm"])
        scipy.io.savemat(tmp_path / "a.mat", {"shp": np.ones(3), "tri": data["tri"]})
        with pytest.raises(ModelFileError, match="shp is no structure with mu, eigVec, eigVal"):
            read_lyhm(tmp_path / "a.mat", ImportOptions())


class TestLooksLike:
    def test_each_knows_its_own(self, files):
        looks = {
            "bfm2009": looks_like_bfm2009,
            "deep3d": looks_like_deep3d,
            "lyhm": looks_like_lyhm,
        }
        for key, look in looks.items():
            assert [k for k in looks if look(files[k])] == [key]
            assert not look(files["gnm"])
