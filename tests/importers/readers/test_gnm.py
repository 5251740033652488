"""GNM: teeth are left behind, and what remains of the modes is made orthogonal again."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mofa_nvdr.importers.foreign import ImportOptions, ModelFileError
from mofa_nvdr.importers.readers.gnm import looks_like, read


def changed(source, target, **changes: np.ndarray | None) -> None:
    """A copy of an .npz with arrays exchanged; None leaves one out."""
    with np.load(source) as file:
        arrays = {**{name: file[name] for name in file.files}, **changes}
    np.savez(target, **{name: value for name, value in arrays.items() if value is not None})


class TestLooksLike:
    def test_by_its_arrays(self, files):
        assert looks_like(files["gnm"])
        assert not any(looks_like(files[key]) for key in ("flame", "eos", "bfm2017"))


class TestRead:
    def test_millimetres_without_teeth(self, files, foreign):
        model = read(files["gnm"], ImportOptions())
        np.testing.assert_allclose(model.mean[:-3], foreign.mean, atol=1e-4)  # float32 of metres
        assert len(model.polygons) == len(foreign.triangles)
        assert (model.shape[:, -3:] == 0).all() and (model.expression[:, -3:] == 0).all()
        assert model.notes[0] == "3 vertices of teeth, tongue and outer eyeballs left out"
        assert "6 identity modes: 6 orthogonal ones keep 100.00% of the variance" in model.notes[1]
        assert model.source.startswith("GNM head 3.0")

    def test_few_modes_are_the_strongest(self, files, foreign):
        model = read(files["gnm"], ImportOptions(shape_modes=2))
        variances = np.linalg.svd(foreign.shape.reshape(6, -1), compute_uv=False) ** 2
        lengths = (model.shape**2).sum((1, 2))
        np.testing.assert_allclose(lengths, variances[:2], rtol=1e-4)

    def test_without_groups_nothing_is_left_behind(self, files, tmp_path):
        changed(files["gnm"], tmp_path / "a.npz", vertex_groups=None, version=None)
        model = read(tmp_path / "a.npz", ImportOptions())
        assert model.notes[0].startswith("0 vertices") and model.source.startswith("GNM head 3 ")
        assert (model.shape[:, -3:] == 0).all()  # the file's modes do not move them

    def test_without_a_mode(self, files, tmp_path, foreign):
        none = np.zeros((0, len(foreign.mean) + 3, 3))
        changed(files["gnm"], tmp_path / "a.npz", vertex_identity_basis=none)
        with pytest.raises(ModelFileError, match="no identity mode in this file"):
            read(tmp_path / "a.npz", ImportOptions()).check(tmp_path / "a.npz")

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("triangles", None, "missing triangles"),
            ("triangles", np.zeros((4, 2), int), "triangles is [4, 2], expected triangles [T, 3]"),
            (
                "triangles",
                np.full((4, 3), 0.5),
                "triangles holds numbers that are no vertex indices",
            ),
            (
                "expression_basis",
                np.zeros((2, 5, 3)),
                "expression_basis is float64 [2, 5, 3], expected",
            ),
            (
                "vertex_groups",
                np.zeros((2, 5)),
                "vertex_groups is float64 [2, 5], expected numbers",
            ),
        ],
    )
    def test_wrong(self, files, tmp_path, name, value, message):
        path = tmp_path / "a.npz"
        changed(files["gnm"], path, **{name: value})
        with pytest.raises(ModelFileError, match=re.escape(f"{path}: {message}")):
            read(path, ImportOptions())
