"""mofa-nvdr model build: one option into one call. Its work: face/rebuild.py."""

import importlib.resources
import re
import sys

import numpy as np
import pytest
import torch

from mofa_nvdr.cli import main
from mofa_nvdr.face import recipe
from mofa_nvdr.face.model import FaceModel
from tests.helpers.commands import calls_of, error_line, help_words


class TestOptions:
    def test_out(self, monkeypatch, capsys):
        calls = calls_of(monkeypatch, "mofa_nvdr.face.rebuild.build_model")
        assert main(["model", "build", "--out", "face.npz"]) == 0
        assert main(["model", "build", "--out", "face.npz", "--overwrite"]) == 0
        assert calls == [("face.npz", False), ("face.npz", True)]
        assert "--out" in error_line(capsys, "model", "build")
        assert "--in" in error_line(capsys, "model", "build", "--out", "a.npz", "--in", "b")
        assert len(calls) == 2

    def test_help(self, capsys):
        words = help_words(capsys, "model", "build")
        assert "about half a minute and needs scipy" in words
        assert ".safetensors for --face-model, or .npz" in words


class TestBuild:
    @pytest.fixture
    def quick(self, monkeypatch):
        """The shipped product in the recipe's place: the command's own work, without its ten seconds."""
        monkeypatch.setattr(recipe, "build", recipe.load_product)

    def test_the_same_bits(self, quick, tmp_path, capsys, face_model):
        assert main(["model", "build", "--out", str(tmp_path / "face.safetensors")]) == 0
        assert "the same as the shipped product, bit for bit" in capsys.readouterr().out
        again = FaceModel.load(tmp_path / "face.safetensors")
        assert again.hash == face_model.hash and again.name == "procedural"
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
        assert "procedural-rebuilt" in text and "mean_shape: 0.5 mm" in text
        # Turned among themselves, the modes span the same covariance.
        (off,) = re.findall(r"covariance of shape_basis: (\S+) of", text)
        assert float(off) < 1e-9
        assert "landmarks: the same" in text
        assert FaceModel.load(tmp_path / "face.safetensors").name == "procedural-rebuilt"

    def test_mistakes(self, tmp_path, capsys, monkeypatch):
        obj, lost = str(tmp_path / "face.obj"), str(tmp_path / "no" / "face.npz")
        assert "expected a .safetensors file" in error_line(capsys, "model", "build", "--out", obj)
        assert "no such folder" in error_line(capsys, "model", "build", "--out", lost)
        monkeypatch.setitem(sys.modules, "scipy", None)
        monkeypatch.setitem(sys.modules, "scipy.interpolate", None)
        for name in [n for n in sys.modules if n.startswith("mofa_nvdr.face.recipe.m")]:
            monkeypatch.delitem(sys.modules, name)
        message = error_line(capsys, "model", "build", "--out", str(tmp_path / "face.npz"))
        assert "the recipe needs scipy" in message and "pip install scipy" in message
        assert list(tmp_path.iterdir()) == []

    def test_shipped_beside_the_package(self):
        assert (importlib.resources.files("mofa_nvdr.assets") / "default_face.npz").is_file()
