"""The recipe's product made again, against the one that is shipped."""

from __future__ import annotations

import numpy as np
import pytest

from mofa_nvdr.face import rebuild, recipe
from mofa_nvdr.face.model import FaceModel


@pytest.fixture
def two_vertices() -> dict[str, np.ndarray]:
    """A product of two vertices and two modes a group, x and y of the first vertex, alike in variance."""
    basis = np.zeros((2, 2, 3), np.float32)
    basis[0, 0, 0] = basis[1, 0, 1] = 5.0
    return {
        "mean_shape": np.zeros((2, 3), np.float32),
        "mean_albedo": np.full((2, 3), 0.5, np.float32),
        "uv": np.zeros((2, 2), np.float32),
        **{f"{name}_basis": basis.copy() for name in ("shape", "expression", "albedo")},
        "triangles": np.array([[0, 1, 1]]),
        "landmarks": np.zeros(68, np.int64),
        "mirror_index": np.array([0, 1]),
        "frontal_mask": np.array([True, False]),
        "regions": np.zeros(2, np.uint8),
        "expression_names": np.array(["jawOpen", "mouthClose"]),
    }


class TestCompare:
    def test_the_same(self, two_vertices):
        again = {name: array.copy() for name, array in two_vertices.items()}
        (line,) = rebuild.differences(again, two_vertices)
        assert line == "the same as the shipped product, bit for bit"

    def test_differences_by_hand(self, two_vertices):
        other = {name: array.copy() for name, array in two_vertices.items()}
        other["mean_shape"][1, 2] = -0.25
        other["uv"][0, 0] = 0.125
        other["albedo_basis"][0, 0, 0] = 4.0  # a variance of 16 instead of 25
        other["landmarks"][:3] = 1
        # Both modes of shape turned by 3-4-5: other modes, the same covariance.
        x, y = two_vertices["shape_basis"]
        other["shape_basis"] = np.stack([0.6 * x + 0.8 * y, 0.8 * x - 0.6 * y])
        head, *lines = rebuild.differences(other, two_vertices)
        assert head == "against the shipped product, largest differences:"
        said = dict(line.strip().split(": ") for line in lines)
        off, rest = said.pop("covariance of shape_basis").split(maxsplit=1)
        assert float(off) < 1e-5 and rest == "of 25 mm2"  # measured 1e-6: 0.6 and 0.8 are rounded
        assert said == {
            "mean_shape": "0.25 mm", "mean_albedo": "0", "uv": "0.12",
            "covariance of expression_basis": "0 of 25 mm2", "covariance of albedo_basis": "9 of 25",
            "triangles": "the same", "landmarks": "3 differ", "mirror_index": "the same",
            "frontal_mask": "the same", "regions": "the same", "expression_names": "the same",
        }  # fmt: skip

    def test_another_mesh(self):
        shipped = recipe.load_product()
        (line,) = rebuild.differences({**shipped, "uv": shipped["uv"][:5]}, shipped)
        count = len(shipped["uv"])
        assert line == f"unlike the shipped product: uv is [5, 2], shipped [{count}, 2]"
        del shipped["uv"]
        (line,) = rebuild.differences(recipe.load_product(), shipped)
        assert line == "unlike the shipped product: only one has uv"


class TestBuildModel:
    def test_mistakes_cost_no_run_of_the_recipe(self, tmp_path, monkeypatch):
        monkeypatch.setattr(recipe, "build", None)  # would not be callable
        with pytest.raises(ValueError, match=r"--out .*face\.obj: expected a \.safetensors file"):
            rebuild.build_model(tmp_path / "face.obj")
        with pytest.raises(ValueError, match=r"--out .*face\.npz: no such folder .*none$"):
            rebuild.build_model(tmp_path / "none" / "face.npz")

    def test_without_scipy(self, tmp_path, monkeypatch):
        def build():
            raise ImportError("No module named 'scipy'")

        monkeypatch.setattr(recipe, "build", build)
        with pytest.raises(
            RuntimeError,
            match=r"the recipe needs scipy \(No module named 'scipy'\); pip install scipy",
        ):
            rebuild.build_model(tmp_path / "face.npz")
        assert list(tmp_path.iterdir()) == []

    def test_a_place_that_is_taken(self, tmp_path, monkeypatch):
        monkeypatch.setattr(recipe, "build", recipe.load_product)
        (tmp_path / "face.npz").mkdir()
        with pytest.raises(
            ValueError, match=r"--out .*face\.npz: cannot write there \(.*directory"
        ):
            rebuild.build_model(tmp_path / "face.npz")
        assert [p.name for p in tmp_path.iterdir()] == ["face.npz"]

    @pytest.mark.parametrize("name", ["face.npz", "face.safetensors"])
    def test_only_its_own_product_is_replaced(self, tmp_path, monkeypatch, name):
        monkeypatch.setattr(recipe, "build", recipe.load_product)
        rebuild.build_model(tmp_path / name)
        rebuild.build_model(tmp_path / name)
        (tmp_path / name).write_bytes(b"mine")
        monkeypatch.setattr(recipe, "build", None)  # refused before the work
        with pytest.raises(ValueError, match=rf"{name} is there, and is no result of the same so"):
            rebuild.build_model(tmp_path / name)
        assert (tmp_path / name).read_bytes() == b"mine"
        monkeypatch.setattr(recipe, "build", recipe.load_product)
        rebuild.build_model(tmp_path / name, overwrite=True)
        rebuild.build_model(tmp_path / name)

    def test_returns_what_it_wrote(self, tmp_path, monkeypatch, face_model, capsys):
        monkeypatch.setattr(recipe, "build", recipe.load_product)
        model = rebuild.build_model(tmp_path / "face.safetensors")
        assert model.hash == face_model.hash == FaceModel.load(tmp_path / "face.safetensors").hash
        first, second = capsys.readouterr().out.splitlines()
        assert first.startswith(f"procedural {model.hash}: {tmp_path / 'face.safetensors'} (")
        assert second == "the same as the shipped product, bit for bit"
