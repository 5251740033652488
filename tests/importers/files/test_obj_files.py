"""Wavefront files by hand: what is read, and the line for what is not."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mofa_nvdr.importers.files import obj_files
from mofa_nvdr.importers.files.obj_files import read_obj, read_vertices
from mofa_nvdr.importers.foreign import ModelFileError

VERTICES = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0.5 1.0\n"


class TestReadObj:
    def test_by_hand(self, tmp_path):
        """A quad before any material, a triangle of two forms of corners, indices from the end."""
        lines = ["# a comment", "vt 0.25 0.5", "vt 0.5 1", "f 1/1 2/1/1 3/1 4/2", "usemtl skin",
                 "f 1//1 2 3", "usemtl teeth", "f -4 -3 -2", "usemtl skin", "f 4 3 2"]  # fmt: skip
        (tmp_path / "a.obj").write_text(VERTICES + "\n".join(lines))
        mesh = read_obj(tmp_path / "a.obj")
        assert mesh.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.5]]
        assert mesh.polygons.tolist() == [[0, 1, 2, 3], [0, 1, 2, -1], [0, 1, 2, -1], [3, 2, 1, -1]]
        assert mesh.material_names == ["skin", "teeth"]
        assert mesh.material.tolist() == [-1, 0, 1, 0]
        assert mesh.uv.tolist() == [[0.25, 0.5], [0.25, 0.5], [0.25, 0.5], [0.5, 1]]

    def test_on_a_seam_the_first_polygon_has_the_word(self, tmp_path):
        lines = ["vt 0 0", "vt 1 1", "f 1/1 2/1 3/1", "f 3/2 4/2 1/2"]
        (tmp_path / "a.obj").write_text(VERTICES + "\n".join(lines))
        mesh = read_obj(tmp_path / "a.obj")
        assert mesh.uv.tolist() == [[0, 0], [0, 0], [0, 0], [1, 1]]
        assert mesh.uv_points.tolist() == [[0, 0], [1, 1]]  # and every corner has its own
        assert mesh.uv_polygons.tolist() == [[0, 0, 0, -1], [1, 1, 1, -1]]

    def test_without_coordinates(self, tmp_path):
        (tmp_path / "a.obj").write_text(VERTICES + "f 1 2 3\n")
        assert read_obj(tmp_path / "a.obj").uv is None

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "no vertex in this file; expected a Wavefront .obj"),
            (VERTICES, "no polygon in this file"),
            (VERTICES + "f 1 2\n", "line 5 has a polygon of 2 corners, expected 3 or 4"),
            (VERTICES + "f 1 2 0\n", "line 5 is not a polygon: 'f 1 2 0'"),
            (VERTICES + "f 1 2 5\n", "a polygon points outside the mesh (vertices 0 to 4"),
            (VERTICES + "f 1 2 -5\n", "a polygon points outside the mesh (vertices -1 to 1"),
            (VERTICES + f"f 1 2 {2**70}\n", "a polygon points outside the mesh"),
            (VERTICES + "f 1/1 2/1 3/1\n", "a texture corner points outside the mesh"),
            (VERTICES + "v 1 2\n", "a 'v' line is not 3 numbers: '1 2'"),
            (VERTICES + "vt 1\n", "a 'vt' line is not 2 numbers: '1'"),
        ],
    )
    def test_wrong(self, tmp_path, text, message):
        path = tmp_path / "a.obj"
        path.write_text(text)
        with pytest.raises(ModelFileError, match=re.escape(f"{path}: {message}")):
            read_obj(path)


class TestLimits:
    """What no face has, before it is taken apart."""

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("_MOST_LINES", VERTICES, "more than 3 lines in it"),
            ("MAX_VERTICES", VERTICES, "4 'v' lines, expected at most 3"),
            ("_MOST_MATERIALS", VERTICES + "usemtl a\nusemtl b\nusemtl c\nusemtl d\n",
             "more than 3 materials in it"),
            ("_MOST_BYTES", VERTICES, "0 MB, more than the 0 MB that an .obj of a face may have"),
        ],
    )  # fmt: skip
    def test_too_much(self, tmp_path, monkeypatch, name, text, message):
        (tmp_path / "a.obj").write_text(text)
        monkeypatch.setattr(obj_files, name, 3)
        with pytest.raises(ModelFileError, match=rf"a\.obj: {re.escape(message)}"):
            read_obj(tmp_path / "a.obj")


class TestReadVertices:
    def test_looks_at_nothing_else(self, tmp_path):
        (tmp_path / "a.obj").write_text(VERTICES + "f what is this\nvn 1 0 0\n")
        found = read_vertices(tmp_path / "a.obj")
        assert np.array_equal(found[-1], [0, 1, 0.5]) and found.shape == (4, 3)

    def test_missing(self, tmp_path):
        with pytest.raises(ModelFileError, match=r"no\.obj: cannot read this file \(No such file"):
            read_vertices(tmp_path / "no.obj")
