"""mofa-nvdr model: its sub-commands and their help; a described model, and the built-in one built again."""

import importlib.resources
import re
import sys

import numpy as np
import pytest
import torch

from mofa_nvdr.cli import main
from mofa_nvdr.cli.model import SUBCOMMANDS
from mofa_nvdr.face import recipe
from mofa_nvdr.face.info import describe
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.system.files import write_files
from tests.helpers.small_face import small_face, textured_face


def _error(capsys, *args: str) -> str:
    assert main(list(args)) == 2
    text = capsys.readouterr().err.strip()
    assert text.startswith("mofa-nvdr: ") and len(text.splitlines()) == 1, text
    return text


class TestDescribe:
    def test_variance_by_hand(self):
        """Modes of 3, 4 and 12 mm at one vertex of 144: shares 9, 16 and 144 of 169."""
        arrays = {name: value.numpy() for name, value in small_face().named_buffers()}
        basis = np.zeros((3, 144, 3))
        basis[[0, 1, 2], [5, 5, 9], [0, 2, 1]] = [3, 4, 12]
        arrays["shape_basis"] = basis
        group = describe(FaceModel(arrays))["modes"]["shape"]
        assert group["count"] == 3 and group["explained"] == {"3": 1.0}
        assert group["deviation"] == pytest.approx(np.sqrt(169 / 144), abs=1e-5)

    def test_explained_by_the_first(self, face_model):
        facts = describe(face_model)
        variance = face_model.shape_basis.double().square().sum((1, 2))
        for count, share in facts["modes"]["shape"]["explained"].items():
            assert share == pytest.approx(
                float(variance[: int(count)].sum() / variance.sum()), abs=1e-5
            )
        assert list(facts["modes"]["shape"]["explained"]) == ["10", "20", "40", "80"]
        assert list(facts["modes"]["expression"]["explained"])[-1] == "64"

    def test_facts(self):
        facts = describe(textured_face())
        assert facts["vertices"] == 144 and facts["triangles"] == 242
        assert facts["extent_mm"]["width"] == 140 and facts["extent_mm"]["height"] == 190
        assert facts["mesh"] == {
            "manifold": True, "oriented": True, "pieces": 1, "boundary_edges": 44, "unused_vertices": 0,
        }  # fmt: skip
        assert facts["regions"] == {"right": 72, "left": 72}
        assert facts["uv"] == {"count": 144, "seams": False, "triangle_area": 1.0}
        assert facts["licence"] == "own work" and facts["named_expressions"] == ["grin", "frown"]

    def test_bare_model(self):
        facts = describe(small_face())
        assert facts["uv"] is None and facts["regions"] == {} and facts["named_expressions"] == []
        text = table(facts)
        assert (
            "no coordinates" in text and "none named" in text and "licence      not given" in text
        )

    def test_seams(self):
        arrays = {name: value.numpy() for name, value in textured_face().named_buffers()}
        corners = arrays["triangles"].astype(np.int64)
        uv = arrays["uv"][corners].reshape(-1, 2)  # every triangle on its own
        arrays |= {"uv": uv, "uv_triangles": np.arange(len(uv)).reshape(-1, 3)}
        facts = describe(FaceModel(arrays, region_names=["right", "left"]))
        assert facts["uv"] == {"count": 726, "seams": True, "triangle_area": 1.0}


class TestModel:
    def test_overview(self, capsys):
        assert main(["model"]) == 0
        with pytest.raises(SystemExit) as stop:
            main(["model", "--help"])
        assert stop.value.code == 0
        lines = capsys.readouterr().out.splitlines()
        for name, what in SUBCOMMANDS.items():
            assert sum(line.split() == [name, *what.split()] for line in lines) == 2

    def test_unknown_subcommand(self, capsys):
        assert "unknown sub-command 'paint', expected one of info" in _error(
            capsys, "model", "paint"
        )

    @pytest.mark.parametrize("name", ["info", "show", "build"])
    def test_help(self, name, capsys):
        with pytest.raises(SystemExit) as stop:
            main(["model", name, "--help"])
        assert stop.value.code == 0
        assert f"usage: mofa-nvdr model {name}" in capsys.readouterr().out


class TestBuild:
    @pytest.fixture
    def quick(self, monkeypatch):
        """The shipped product in the recipe's place: the command's own work, without its ten seconds."""
        monkeypatch.setattr(recipe, "build", recipe.load_product)

    def test_the_same_bits(self, quick, tmp_path, capsys, face_model):
        assert main(["model", "build", "--out", str(tmp_path / "face.safetensors")]) == 0
        assert "the same as the shipped product, bit for bit" in capsys.readouterr().out
        again = FaceModel.load(tmp_path / "face.safetensors")
        assert again.hash == face_model.hash and again.name == "default"
        assert again.region_names == face_model.region_names and torch.equal(
            again.uv, face_model.uv
        )

    def test_compact_file(self, quick, tmp_path):
        assert main(["model", "build", "--out", str(tmp_path / "face.npz")]) == 0
        again, shipped = (
            recipe.load_product(tmp_path / "face.npz"),
            recipe.load_product(),
        )
        assert all(np.array_equal(again[name], shipped[name]) for name in shipped)
        assert [p.name for p in tmp_path.iterdir()] == ["face.npz"]

    def test_another_model(self, monkeypatch, tmp_path, capsys):
        arrays = recipe.load_product()
        arrays["mean_shape"] = arrays["mean_shape"] + np.float32([0, 0.5, 0])
        arrays["shape_basis"] = arrays["shape_basis"][::-1]
        monkeypatch.setattr(recipe, "build", lambda: arrays)
        assert main(["model", "build", "--out", str(tmp_path / "face.safetensors")]) == 0
        text = capsys.readouterr().out
        assert "default-rebuilt" in text and "mean_shape: 0.5 mm" in text
        # Turned among themselves, the modes span the same covariance.
        (off,) = re.findall(r"covariance of shape_basis: (\S+) of", text)
        assert float(off) < 1e-9
        assert "landmarks: the same" in text
        assert FaceModel.load(tmp_path / "face.safetensors").name == "default-rebuilt"

    def test_mistakes(self, tmp_path, capsys, monkeypatch):
        obj, lost = str(tmp_path / "face.obj"), str(tmp_path / "no" / "face.npz")
        assert "expected a .safetensors file" in _error(capsys, "model", "build", "--out", obj)
        assert "no such folder" in _error(capsys, "model", "build", "--out", lost)
        monkeypatch.setitem(sys.modules, "scipy", None)
        monkeypatch.setitem(sys.modules, "scipy.interpolate", None)
        for name in [n for n in sys.modules if n.startswith("mofa_nvdr.face.recipe.m")]:
            monkeypatch.delitem(sys.modules, name)
        message = _error(capsys, "model", "build", "--out", str(tmp_path / "face.npz"))
        assert "the recipe needs scipy" in message and "pip install scipy" in message
        assert list(tmp_path.iterdir()) == []

    def test_shipped_beside_the_package(self):
        assert (importlib.resources.files("mofa_nvdr.assets") / "default_face.npz").is_file()


class TestWriteFiles:
    def test_all_or_none(self, tmp_path):
        """The second can't be written: the first doesn't appear, an old one stays as it was."""
        (tmp_path / "old").write_bytes(b"before")
        with pytest.raises(OSError, match="nowhere"):
            write_files({tmp_path / "old": b"after", tmp_path / "nowhere" / "b": b"b"})
        assert (tmp_path / "old").read_bytes() == b"before"
        assert [p.name for p in tmp_path.iterdir()] == ["old"]
        write_files({tmp_path / "old": b"after", tmp_path / "b": b"b"})
        assert (tmp_path / "old").read_bytes() == b"after"
