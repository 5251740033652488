"""Polygon meshes by hand: a square, a cube, a strip; what subdivision does to them."""

from __future__ import annotations

import numpy as np

from mofa_nvdr.importers.polygons import (
    as_polygons,
    boundary_loops,
    catmull_clark,
    directed_edges,
    keep_vertices,
    subdivide,
    triangulate,
    vertex_normals,
)

SQUARE = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float)
CUBE = np.array([[x, y, z] for z in (-1, 1) for y in (-1, 1) for x in (-1, 1)], float)
CUBE_QUADS = np.array(
    [[0, 2, 3, 1], [4, 5, 7, 6], [0, 1, 5, 4], [2, 6, 7, 3], [0, 4, 6, 2], [1, 3, 7, 5]]
)


class TestAsPolygons:
    def test_triangles_get_a_last_corner(self):
        assert as_polygons(np.array([[0, 1, 2]], np.int32)).tolist() == [[0, 1, 2, -1]]

    def test_a_quad_with_one_corner_twice(self):
        given = np.array([[0, 1, 2, 2], [0, 1, 2, 3]])
        assert as_polygons(given).tolist() == [[0, 1, 2, -1], [0, 1, 2, 3]]
        assert given[0].tolist() == [0, 1, 2, 2]  # the caller's own stays


class TestTriangulate:
    def test_along_the_shorter_diagonal(self):
        long = SQUARE + [[0, 0, 0], [0, 0, 0], [1, 1, 0], [0, 0, 0]]  # corner 2 pulled away
        quad = np.array([[0, 1, 2, 3]])
        assert triangulate(quad, SQUARE).tolist() == [[0, 1, 2], [0, 2, 3]]
        assert triangulate(quad, long).tolist() == [[0, 1, 3], [1, 2, 3]]

    def test_triangles_stay(self):
        mixed = np.array([[0, 1, 2, 3], [3, 1, 0, -1]])
        assert triangulate(mixed, SQUARE).tolist() == [[3, 1, 0], [0, 1, 2], [0, 2, 3]]


class TestDirectedEdges:
    def test_of_a_quad_and_a_triangle(self):
        edges, owners = directed_edges(np.array([[0, 1, 2, 3], [4, 0, 3, -1]]))
        found = {(a, b): p for (a, b), p in zip(edges.tolist(), owners.tolist())}
        assert found == {
            (0, 1): 0,
            (1, 2): 0,
            (2, 3): 0,
            (3, 0): 0,
            (4, 0): 1,
            (0, 3): 1,
            (3, 4): 1,
        }


class TestBoundaryLoops:
    def test_of_a_square(self):
        (loop,) = boundary_loops(np.array([[0, 1, 2, 3]]))
        assert loop.tolist() == [0, 1, 2, 3]

    def test_two_of_a_cube_without_its_ends(self):
        loops = boundary_loops(CUBE_QUADS[2:])
        assert sorted(sorted(loop.tolist()) for loop in loops) == [[0, 1, 2, 3], [4, 5, 6, 7]]

    def test_none_of_a_closed_mesh(self):
        assert boundary_loops(CUBE_QUADS) == []


class TestCatmullClark:
    def test_a_cube(self):
        """Catmull and Clark's rules: a corner of valence 3 goes to 5/9, an edge's middle to 3/4."""
        matrix, quads = catmull_clark(CUBE_QUADS, 8)
        new = matrix @ CUBE
        assert matrix.shape == (8 + 12 + 6, 8) and quads.shape == (24, 4)
        np.testing.assert_allclose(new[:8], CUBE * 5 / 9, atol=1e-12)
        lengths = np.sort(np.abs(new[8:20]), axis=1)
        np.testing.assert_allclose(lengths, [[0, 0.75, 0.75]] * 12, atol=1e-12)
        np.testing.assert_allclose(np.sort(np.abs(new[20:]), axis=1), [[0, 0, 1]] * 6, atol=1e-12)
        assert boundary_loops(quads) == []

    def test_a_rim_is_a_spline_of_its_own(self):
        """Corners of a square: 1/8, 6/8, 1/8 along the rim; edges' middles stay on it."""
        matrix, quads = catmull_clark(np.array([[0, 1, 2, 3]]), 4)
        new = matrix @ SQUARE
        np.testing.assert_allclose(new[0], [1 / 8, 1 / 8, 0])
        assert {tuple(row) for row in new[4:8].tolist()} == {
            (0.5, 0, 0), (1, 0.5, 0), (0.5, 1, 0), (0, 0.5, 0),
        }  # fmt: skip
        np.testing.assert_allclose(new[8], [0.5, 0.5, 0])
        assert quads[:, 0].tolist() == [0, 1, 2, 3] and (quads[:, 2] == 8).all()

    def test_creases_stay_sharp(self):
        """All edges of a cube: its corners stay, and edges' middles are middles."""
        edges = directed_edges(CUBE_QUADS)[0]
        matrix, _ = catmull_clark(CUBE_QUADS, 8, edges)
        new = matrix @ CUBE
        np.testing.assert_allclose(new[:8], CUBE)
        np.testing.assert_allclose(np.abs(new[8:20]).sum(1), 2)

    def test_rows_are_means(self):
        """Vertices of no polygon stay; everything moves with a shift."""
        matrix, _ = catmull_clark(np.array([[0, 1, 2, -1], [2, 1, 3, -1]]), 5)
        np.testing.assert_allclose(matrix.sum(1), 1)
        assert matrix[4].toarray().tolist() == [[0, 0, 0, 0, 1]]


class TestKeepVertices:
    def test_by_hand(self):
        """Vertex 1 goes, and with it all but the polygon 2 3 4; vertex 0 is of no polygon then."""
        polygons = np.array([[0, 1, 2, -1], [1, 2, 3, 4], [2, 3, 4, -1]])
        kept, old, new = keep_vertices(polygons, np.array([True, False, True, True, True]))
        assert kept.tolist() == [[0, 1, 2, -1]]
        assert old.tolist() == [2, 3, 4] and new.tolist() == [-1, -1, 0, 1, 2]


class TestVertexNormals:
    def test_of_a_square(self):
        normals = vertex_normals(SQUARE, np.array([[0, 1, 2], [0, 2, 3]]))
        np.testing.assert_allclose(normals, [[0, 0, 1]] * 4, atol=1e-6)


class TestSubdivide:
    def test_a_square(self):
        """Five edges, eight triangles; area and orientation stay."""
        matrix, triangles = subdivide(np.array([[0, 1, 2], [0, 2, 3]]), 4)
        new = matrix @ SQUARE
        assert matrix.shape == (9, 4) and triangles.shape == (8, 3)
        assert np.array_equal(new[:4], SQUARE)
        a, b, c = (new[triangles[:, k]] for k in range(3))
        np.testing.assert_allclose(np.cross(b - a, c - a), [[0, 0, 0.25]] * 8)
