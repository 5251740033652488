"""What every reader hands over: sizes that agree, finite numbers, indices within the mesh."""

import re
from pathlib import Path

import numpy as np
import pytest

from mofa_nvdr.importers.foreign import (
    ForeignModel,
    ModelFileError,
    check_apart,
    check_indices,
    check_mode_count,
)
from mofa_nvdr.system import budget
from tests.helpers import foreign_files as ff
from tests.helpers.foreign_files import FILES, refused


class TestHostile:
    @pytest.mark.parametrize("key", ["bfm2009", "deep3d", "bfm2017", "gnm", "ict"])
    def test_more_than_its_share(self, key, files, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(budget, "ALLOWANCE", 150)
        monkeypatch.setattr(budget, "RATIO", 0)
        landmarks = files["eos"].with_name("landmarks.json")
        text = refused(
            capsys, tmp_path / "a.safetensors", key, files[key], "--landmarks", landmarks
        )
        assert "with the rest of the file more than the 150 bytes that a file of" in text
        assert str(files[key]) in text

    @pytest.mark.parametrize("key", ["bfm2009", "deep3d", "bfm2017", "gnm", "flame", "eos", "ict"])
    def test_nan(self, key, foreign, tmp_path, capsys, files):
        broken = ff.SmallForeign()
        broken.mean[3, 1] = np.nan
        path = FILES[key][0](tmp_path / FILES[key][1], broken)
        landmarks = files["eos"].with_name("landmarks.json")
        text = refused(capsys, tmp_path / "a.safetensors", key, path, "--landmarks", landmarks)
        assert "not finite" in text

    @pytest.mark.parametrize("key", ["bfm2009", "deep3d", "bfm2017", "gnm", "flame", "eos", "ict"])
    def test_triangle_outside_the_mesh(self, key, tmp_path, capsys, files):
        broken = ff.SmallForeign()
        broken.triangles[5, 1] = 7000
        path = FILES[key][0](tmp_path / FILES[key][1], broken)
        landmarks = files["eos"].with_name("landmarks.json")
        text = refused(capsys, tmp_path / "a.safetensors", key, path, "--landmarks", landmarks)
        assert "outside the mesh" in text


def square(**changes: object) -> ForeignModel:
    """Four vertices, one quad, one mode."""
    parts = {
        "mean": np.eye(4)[:, :3], "shape": np.ones((1, 4, 3)), "polygons": np.array([[0, 1, 2, 3]]),
        **changes,
    }  # fmt: skip
    return ForeignModel("square", "own work", "here", **parts)


class TestForeignModel:
    def test_complete(self):
        square().check(Path("a"))
        square(polygons=np.array([[0, 1, 2, -1]]), landmarks={8: 3}).check(Path("a"))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"mean": np.zeros((3, 3))}, "the mean shape is [3, 3], expected [V, 3] with 4 to"),
            ({"mean": np.zeros((4, 2))}, "the mean shape is [4, 2], expected [V, 3] with 4 to"),
            ({"shape": np.ones((1, 5, 3))}, "the identity modes are [1, 5, 3], expected [K, 4, 3]"),
            ({"shape": np.ones((0, 4, 3))}, "no identity mode in this file"),
            ({"expression": np.ones((1, 3))}, "the expression modes are [1, 3], expected [K, 4, 3]"),
            ({"mean_albedo": np.ones((5, 3))}, "the mean albedo is [5, 3], expected [4, 3]"),
            ({"mean_albedo": np.full((4, 3), np.nan)}, "the mean albedo holds numbers that are not"),
            ({"named_expressions": {"grin": np.full((4, 3), np.inf)}}, "the grin holds numbers that"),
            ({"polygons": np.array([[0, 1, -1]])}, "a polygon points outside the mesh (vertices -1 to"),
            ({"polygons": np.array([[0, 1, 2, 4]])}, "a polygon points outside the mesh (vertices 4 to"),
            ({"polygons": np.array([[0, 1, 2, -2]])}, "a polygon points outside the mesh (vertices -2"),
            ({"landmarks": {0: 4}}, "a landmark points outside the mesh (vertices 4 to 4"),
        ],
    )  # fmt: skip
    def test_wrong(self, changes, message):
        with pytest.raises(ModelFileError, match=re.escape(f"a.bin: {message}")):
            square(**changes).check(Path("a.bin"))


class TestCheckIndices:
    def test_limits(self):
        check_indices(Path("a"), "f", np.array([[0, 3]]), 4)
        check_indices(Path("a"), "f", np.zeros((0, 3), int), 0)
        message = "a: f points outside the mesh (vertices -1 to 4 counted from 0; the mesh has 4)"
        with pytest.raises(ModelFileError, match=re.escape(message)):
            check_indices(Path("a"), "f", np.array([-1, 4]), 4)


class TestCheckModes:
    def test_limit(self):
        check_mode_count(Path("a"), "identity", 4096)
        with pytest.raises(ModelFileError, match="a: 4097 identity modes, expected at most 4096"):
            check_mode_count(Path("a"), "identity", 4097)


class TestCheckApart:
    def test_a_seam_and_a_heap(self):
        """A search among n points in one place takes n^2 steps."""
        vertices = np.random.default_rng(0).normal(size=(3000, 3))
        vertices[:20] = vertices[20]
        check_apart(Path("a"), vertices)
        vertices[:1001] = 0
        with pytest.raises(ModelFileError, match="a: 1001 of its 3000 vertices lie in one place"):
            check_apart(Path("a"), vertices)
