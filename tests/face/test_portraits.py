"""The face that was learned from portraits, as it ships, and how one is stored."""

from __future__ import annotations

import importlib.resources

import numpy as np
import pytest
import torch

from mofa_nvdr.apply.learn_lips import touching
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.face.model_reference import ModelReference
from mofa_nvdr.face.portraits import PORTRAITS_FILE, load_portraits, with_teeth, write_portraits
from mofa_nvdr.face.recipe import load_product

SAME = ("triangles", "landmarks", "mirror_index", "frontal_mask", "expression_basis", "regions")


@pytest.fixture(scope="module")
def shipped() -> FaceModel:
    return FaceModel.load("portraits")


@pytest.fixture(scope="module")
def procedural() -> FaceModel:
    return FaceModel.load("procedural")


class TestShipped:
    def test_sizes(self, shipped):
        layout = shipped.layout
        sizes = (layout.num_shape, layout.num_expression, layout.num_albedo)
        assert sizes == (80, 64, 80) and layout.size == 257

    def test_the_file_is_small(self):
        file = importlib.resources.files("mofa_nvdr.assets") / PORTRAITS_FILE
        assert len(file.read_bytes()) < 8e6

    def test_mesh_and_expressions_of_the_procedural_face(self, shipped, procedural):
        for name in SAME:
            assert torch.equal(getattr(shipped, name), getattr(procedural, name)), name
        assert list(shipped.named_expressions) == list(procedural.named_expressions)
        assert shipped.region_names == procedural.region_names
        assert shipped.dense_landmarks is not None and shipped.uv is not None

    def test_codes_of_its_own(self, shipped, procedural):
        assert shipped.hash != procedural.hash
        assert not shipped.has_codes_of(procedural.hash)
        assert not procedural.has_codes_of(shipped.hash)

    @pytest.mark.parametrize("name", ["shape_basis", "albedo_basis"])
    def test_modes_are_even_or_odd(self, shipped, name):
        basis = getattr(shipped, name)
        across = (-1.0, 1.0, 1.0) if name == "shape_basis" else (1.0, 1.0, 1.0)
        image = basis[:, shipped.mirror_index] * torch.tensor(across)
        away = torch.minimum((image - basis).norm(dim=(1, 2)), (image + basis).norm(dim=(1, 2)))
        # The middle line of an odd mode is as it was stored: within a step of zero.
        assert (away <= 0.01 * basis.norm(dim=(1, 2)) + 1e-6).all()

    def test_mean(self, shipped):
        assert shipped.mean_albedo.min() >= 0 and shipped.mean_albedo.max() <= 1
        image = shipped.mean_shape[shipped.mirror_index] * torch.tensor([-1.0, 1, 1])
        torch.testing.assert_close(image, shipped.mean_shape, atol=0.01, rtol=0)

    def test_mouths_are_shut(self, shipped, procedural):
        """Of all neutral faces: lips that touch on the procedural face have one place in mean and modes."""
        one, other = touching(procedural).T
        for shape in (shipped.mean_shape[None], shipped.shape_basis):
            assert torch.equal(shape[:, one], shape[:, other])

    def test_codes_of_the_parted_lips(self, shipped):
        """The encoder in the box and files of before mean the same people."""
        assert shipped.has_codes_of("27edbd3e6ac63fd5")

    def test_says_what_it_is(self, shipped):
        assert shipped.name not in ("unnamed", "default")
        assert shipped.metadata["licence"] and shipped.metadata["source"]

    def test_a_reference_finds_it_by_name(self, shipped, tmp_path):
        reference = ModelReference.of(shipped, "portraits")
        assert reference.file == "portraits"
        model, found = reference.load("", tmp_path, "face.npz: parameters of")
        assert model.hash == shipped.hash and found == reference


class TestWritePortraits:
    @pytest.fixture
    def arrays(self):
        arrays = load_product()
        arrays["mean_albedo"] = arrays["mean_albedo"] * 0.9
        return arrays

    def test_there_and_back(self, arrays, tmp_path):
        facts = {"name": "people", "licence": "CC0", "units": "mm", "origin": "of photographs"}
        write_portraits(tmp_path / "p.npz", arrays, facts)
        back, metadata = load_portraits(tmp_path / "p.npz")
        assert metadata == {"name": "people", "licence": "CC0", "origin": "of photographs"}
        assert np.abs(back["mean_albedo"] - arrays["mean_albedo"]).max() < 0.00051
        assert np.abs(back["shape_basis"] - arrays["shape_basis"]).max() < 0.0051
        assert np.array_equal(back["expression_basis"], arrays["expression_basis"])

    def test_teeth_of_smiles(self, arrays, procedural):
        """The upper row is longer, flat and no darker than lips; nothing but mouth and teeth changes."""
        changed = with_teeth(arrays)
        names = procedural.region_names
        inside = np.isin(arrays["regions"], [names.index("teeth"), names.index("mouth")])
        for name in ("mean_shape", "mean_albedo"):
            assert np.array_equal(changed[name][~inside], arrays[name][~inside])
            assert not np.array_equal(changed[name], arrays[name])
        teeth = arrays["regions"] == names.index("teeth")
        middle = teeth & (np.abs(arrays["mean_shape"][:, 0]) < 12)
        y, before = changed["mean_shape"][middle, 1], arrays["mean_shape"][middle, 1]
        upper = before != y
        assert np.ptp(y[upper]) > np.ptp(before[upper]) + 1  # mm
        albedo = changed["mean_albedo"]
        assert 0.4 < albedo[teeth].mean() < 0.65
        mirrored = albedo[procedural.mirror_index.numpy()]
        assert np.abs(mirrored - albedo)[inside].max() < 0.02

    @pytest.mark.parametrize("name", ["triangles", "landmarks", "expression_basis"])
    def test_another_mesh(self, arrays, tmp_path, name):
        other = {**arrays, name: arrays[name][:-1]}
        with pytest.raises(
            ValueError, match=f"^write_portraits: {name} is not the built-in face's$"
        ):
            write_portraits(tmp_path / "p.npz", other, {})
        assert not list(tmp_path.iterdir())
