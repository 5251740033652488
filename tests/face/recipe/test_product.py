"""The shipped face: its sizes and symmetry, and that the committed product is what the recipe gives."""

import importlib.resources

import numpy as np
import pytest

from mofa_nvdr.face import recipe as face_recipe
from mofa_nvdr.face.landmarks import MIRROR
from mofa_nvdr.face.recipe import product


@pytest.fixture(scope="module")
def recipe() -> dict[str, np.ndarray]:
    """The whole recipe, run once: about 10 s on one core."""
    pytest.importorskip("scipy")
    return face_recipe.build()


FLIP = np.array([-1, 1, 1], np.float32)


class TestMesh:
    def test_size(self, face):
        assert 23_500 <= len(face["mean_shape"]) <= 24_500
        assert face["shape_basis"].shape == (80, len(face["mean_shape"]), 3)
        assert face["expression_basis"].shape == (64, len(face["mean_shape"]), 3)
        assert face["albedo_basis"].shape == (80, len(face["mean_shape"]), 3)


class TestSymmetry:
    def test_mean_and_landmarks(self, face):
        mirror = face["mirror_index"]
        mean = face["mean_shape"]
        assert np.abs(mean[mirror] * FLIP - mean).max() < 1e-3  # mm
        assert np.abs(face["mean_albedo"][mirror] - face["mean_albedo"]).max() < 1e-3
        assert (mirror[face["landmarks"]] == face["landmarks"][list(MIRROR)]).all()

    @pytest.mark.parametrize("basis", ["shape_basis", "expression_basis", "albedo_basis"])
    def test_every_mode_is_even_or_odd(self, face, basis):
        flip = np.ones(3, np.float32) if basis == "albedo_basis" else FLIP
        for mode in face[basis]:
            other = mode[face["mirror_index"]] * flip
            assert min(np.abs(mode - other).max(), np.abs(mode + other).max()) < 0.005


class TestProduct:
    def test_file_is_small(self):
        file = importlib.resources.files("mofa_nvdr.assets") / product.PRODUCT_FILE
        assert len(file.read_bytes()) < 8_000_000

    @pytest.mark.slow
    def test_is_what_the_recipe_gives(self, face, recipe):
        """Up to the file's steps; eigenvectors of nearly equal variance may differ between LAPACKs."""
        for name in ("triangles", "landmarks", "mirror_index", "frontal_mask", "expression_names"):
            assert (face[name] == recipe[name]).all(), name
        assert (face["region_names"] == recipe["region_names"]).all()
        assert (face["regions"] != recipe["regions"]).mean() < 1e-3  # thresholds of floating point
        assert np.abs(face["uv"] - recipe["uv"]).max() < 5e-5  # 1/20 of a texel at 1024
        assert np.abs(face["mean_shape"] - recipe["mean_shape"]).max() < 0.002  # mm
        assert np.abs(face["mean_albedo"] - recipe["mean_albedo"]).max() < 0.001
        some = np.random.default_rng(0).choice(len(face["mean_shape"]), 300, replace=False)
        for name, tolerance in (
            ("shape_basis", 0.05),
            ("expression_basis", 0.05),
            ("albedo_basis", 1e-3),
        ):
            a, b = (
                arrays[name][:, some].reshape(len(arrays[name]), -1) for arrays in (face, recipe)
            )
            # The covariance that a basis spans does not depend on the choice of eigenvectors.
            assert np.abs(a.T @ a - b.T @ b).max() < tolerance, name

    @pytest.mark.slow
    def test_round_trip(self, recipe, tmp_path, monkeypatch):
        face_recipe.write_product(tmp_path / product.PRODUCT_FILE, recipe)
        monkeypatch.setattr(importlib.resources, "files", lambda _: tmp_path)
        again = face_recipe.load_product()
        assert np.abs(again["shape_basis"] - recipe["shape_basis"]).max() < 0.0021
        assert np.abs(again["albedo_basis"] - recipe["albedo_basis"]).max() < 0.0003
        assert (again["triangles"] == recipe["triangles"]).all()
