"""Mesh files from meshes given by hand: lines of .obj, .ply and .glb, and shapes that do not fit."""

import dataclasses
import io
import struct

import numpy as np
import pytest
import trimesh

from mofa_nvdr.apply.mesh_files import (
    Mesh,
    glb_bytes,
    mtl_bytes,
    obj_bytes,
    ply_bytes,
    split_at_seams,
)
from tests.helpers.mesh_readers import Glb


def seamed(seam: bool = True) -> Mesh:
    """A square of two triangles; with a seam along their common edge."""
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0.0]])
    triangles = np.array([[0, 1, 2], [2, 1, 3]])
    if not seam:
        return Mesh(vertices, triangles, np.eye(4)[:, :3])
    uv = np.stack([np.full(6, 0.5), 0.1 * np.arange(6)], 1)
    corners = np.array([[0, 1, 2], [4, 3, 5]])
    return Mesh(vertices, triangles, np.eye(4)[:, :3], uv=uv, uv_triangles=corners)


class TestMesh:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"normals": np.eye(4)}, r"normals is \[4, 4\], expected \[3, 3\]"),
            ({"colors": np.eye(2)}, r"colors is \[2, 2\], expected \[3, 3\]"),
            ({"targets": {"a": np.eye(2)}}, r"targets\['a'\] is \[2, 2\]"),
            ({"triangles": np.array([0, 1, 2])}, r"triangles is \[3\], expected \[T, 3\]"),
            ({"triangles": np.array([[0, 1, 3]])}, "indices 0 to 3, expected 0 to 2"),
            ({"uv": np.eye(2)}, "uv_triangles holds indices 0 to 2, expected 0 to 1"),
            (
                {"uv": np.eye(3)[:, :2], "uv_triangles": np.zeros((2, 3), int)},
                r"uv_triangles is \[2, 3\], expected \[1, 3\]",
            ),
            ({"texture": np.zeros((2, 2, 3), np.uint8)}, "a texture without uv"),
        ],
    )
    def test_wrong(self, change, message):
        parts = {"vertices": np.eye(3), "triangles": np.array([[0, 1, 2]]), "normals": np.eye(3)}
        with pytest.raises(ValueError, match=message):
            Mesh(**{**parts, **change})


class TestSplitAtSeams:
    def test_without_seams_nothing_changes(self):
        mesh = Mesh(np.eye(3), np.array([[2, 1, 0]]), np.eye(3), uv=np.eye(3)[:, :2])
        vertex, corner, triangles = split_at_seams(mesh)
        assert vertex.tolist() == corner.tolist() == [0, 1, 2]
        assert triangles.tolist() == [[2, 1, 0]]

    def test_a_seam_by_hand(self):
        """Two triangles over the edge 1-2, whose uv are others on the second one: 1 and 2 are doubled."""
        vertex, corner, triangles = split_at_seams(seamed())
        assert list(zip(vertex, corner)) == [(0, 0), (1, 1), (1, 3), (2, 2), (2, 4), (3, 5)]
        assert vertex[triangles].tolist() == [[0, 1, 2], [2, 1, 3]]
        assert corner[triangles].tolist() == [[0, 1, 2], [4, 3, 5]]


class TestObjBytes:
    def test_lines(self):
        colors = np.array([[0, 0.5, 1], [2, -1, 0.25], [0, 0, 0]])
        text = obj_bytes(Mesh(np.eye(3) / 3, np.array([[0, 1, 2]]), np.eye(3), colors)).decode()
        assert text.splitlines()[:2] == ["v 0.3333333 0 0 0 0.5 1", "v 0 0.3333333 0 1 0 0.25"]
        assert text.splitlines()[3:] == [
            "vn 1.00000 0.00000 0.00000", "vn 0.00000 1.00000 0.00000", "vn 0.00000 0.00000 1.00000",
            "f 1//1 2//2 3//3",
        ]  # fmt: skip

    def test_texture_lines(self):
        """A texture goes before colours; corners are vertex/uv/normal, counted from 1."""
        mesh = dataclasses.replace(
            seamed(),
            colors=np.zeros((4, 3)),
            texture=np.zeros((2, 2, 3), np.uint8),
            comments=("a b",),
        )
        lines = obj_bytes(mesh, "face.mtl").decode().splitlines()
        assert lines[:3] == ["# a b", "mtllib face.mtl", "v 0 0 0"]
        assert lines[10:12] == ["vt 0.500000 0.000000", "vt 0.500000 0.100000"]
        assert lines[-3:] == ["usemtl face", "f 1/1/1 2/2/2 3/3/3", "f 3/5/3 2/4/2 4/6/4"]


class TestMtlBytes:
    def test_lines(self):
        lines = mtl_bytes("face.png").decode().splitlines()
        assert lines[0] == "newmtl face" and lines[-1] == "map_Kd face.png"
        assert "illum 0" in lines and "Ks 0 0 0" in lines  # as it is, without light


class TestPlyBytes:
    def test_bytes_by_hand(self):
        """27 bytes a vertex behind the header, colours rounded and cut; 13 bytes a triangle."""
        colors = np.array([[0, 0.5, 1], [2, -1, 0.25], [0, 0, 0]])
        data = ply_bytes(Mesh(np.eye(3), np.array([[0, 1, 2]]), 2 * np.eye(3), colors))
        body = data.partition(b"end_header\n")[2]
        assert len(body) == 3 * 27 + 13
        assert struct.unpack("<6f3B", body[27:54]) == (0, 1, 0, 0, 2, 0, 255, 0, 64)
        assert struct.unpack("<B3i", body[-13:]) == (3, 0, 1, 2)

    def test_without_colours(self):
        data = ply_bytes(Mesh(np.eye(3), np.array([[0, 1, 2]]), np.eye(3), comments=("größe",)))
        assert b"red" not in data and b"comment gr??e" in data
        read = trimesh.load(io.BytesIO(data), file_type="ply", process=False)
        assert (read.vertices == np.eye(3)).all() and read.faces.tolist() == [[0, 1, 2]]


class TestGlbBytes:
    def test_target_that_moves_nothing(self):
        mesh = Mesh(
            np.eye(3), np.array([[0, 1, 2]]), np.eye(3), targets={"still": np.zeros((3, 3))}
        )
        assert (Glb(glb_bytes(mesh)).targets["still"] == 0).all()

    def test_few_moved_vertices_are_sparse(self):
        """One of four moves: its row alone is stored; where three move all four are."""
        few, many = np.zeros((4, 3)), np.ones((4, 3))
        few[2], many[0] = [0, 5, 0], 0
        glb = Glb(glb_bytes(dataclasses.replace(seamed(False), targets={"a": few, "b": many})))
        assert np.array_equal(glb.targets["a"], few) and np.array_equal(glb.targets["b"], many)
        numbers = [target["POSITION"] for target in glb.primitive["targets"]]
        assert ["sparse" in glb.json["accessors"][k] for k in numbers] == [True, False]

    def test_seams_and_turned_coordinates(self):
        """Vertices are doubled at the seam; v points down in a .glb."""
        glb = Glb(glb_bytes(dataclasses.replace(seamed(), texture=np.zeros((2, 2, 3), np.uint8))))
        assert glb.attribute("POSITION").shape == (6, 3)
        uv = seamed().uv[[0, 1, 3, 2, 4, 5]]
        np.testing.assert_allclose(glb.attribute("TEXCOORD_0"), uv * [1, -1] + [0, 1], atol=1e-7)

    def test_camera_and_copyright(self):
        mesh = dataclasses.replace(seamed(False), camera=(0.5, 1.5, 0.1, 10.0))
        glb = Glb(glb_bytes(mesh, "own work", "a program"))
        assert glb.json["cameras"][0]["perspective"] == {
            "yfov": 0.5, "aspectRatio": 1.5, "znear": 0.1, "zfar": 10.0,
        }  # fmt: skip
        assert glb.json["asset"]["copyright"] == "own work"
        assert glb.json["asset"]["generator"] == "a program"
        assert "cameras" not in Glb(glb_bytes(seamed(False))).json
