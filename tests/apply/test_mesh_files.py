"""Mesh files from meshes given by hand: lines of .obj and .ply, parts, and shapes that do not fit."""

import dataclasses
import io
import struct

import numpy as np
import pytest
import trimesh

from mofa_nvdr.apply.mesh_files import (
    Mesh,
    Motion,
    kept_triangles,
    mtl_bytes,
    obj_bytes,
    ply_bytes,
    split_at_seams,
)


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
            (
                {"motion": Motion(np.zeros(5), np.zeros((5, 2)), np.eye(3), np.eye(3))},
                r"motion.weights is \[5, 2\], expected \[5, 0\] \(from times and targets\)",
            ),
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


class TestKeptTriangles:
    def test_unused_vertices_go(self):
        """Of the square with a seam the second triangle: three vertices, its own three uv."""
        whole = dataclasses.replace(seamed(), targets={"a": np.arange(12.0).reshape(4, 3)})
        part = kept_triangles(whole, np.array([False, True]))
        assert part.vertices.tolist() == [[1, 0, 0], [0, 1, 0], [1, 1, 0]]
        assert part.triangles.tolist() == [[1, 0, 2]]
        assert part.uv is not None and np.array_equal(part.uv, seamed().uv[[3, 4, 5]])
        assert part.corners.tolist() == [[1, 0, 2]]
        assert np.array_equal(part.targets["a"], whole.targets["a"][1:])

    def test_without_a_seam(self):
        mesh = Mesh(
            np.eye(4)[:, :3], np.array([[0, 1, 2], [3, 2, 1]]), np.eye(4)[:, :3],
            colors=np.eye(4)[:, :3], uv=np.eye(4)[:, :2],
        )  # fmt: skip
        part = kept_triangles(mesh, np.array([False, True]))
        assert part.triangles.tolist() == [[2, 1, 0]] and part.uv_triangles is None
        assert part.uv is not None and part.colors is not None
        assert np.array_equal(part.uv, np.eye(4)[1:, :2])
        assert np.array_equal(part.colors, np.eye(4)[1:, :3])


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
        assert "illum 1" in lines and "Ks 0 0 0" in lines  # Blender warns of 0; without highlights


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
