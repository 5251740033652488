"""The mesh of the built-in face: its smooth building blocks, slits and pockets, and that it is a disk."""

import numpy as np
import pytest
import torch

from mofa_nvdr.face.recipe import tables
from mofa_nvdr.face.recipe.grid import Loft, _nodes, gauss, smooth_max, smooth_step
from mofa_nvdr.scene.topology import topology


class TestGauss:
    def test_values(self):
        values = gauss(np.array([0.0, 3.0, -6.0]), 3.0)
        assert values == pytest.approx([1, np.exp(-0.5), np.exp(-2)])


class TestSmoothStep:
    def test_values(self):
        """0, a quarter way 5/32, half at the middle, 1; beyond the ends constant."""
        x = np.array([-5.0, 2.0, 3.0, 4.0, 6.0, 99.0])
        want = [0, 0, 5 / 32, 0.5, 1, 1]
        assert smooth_step(x, 2, 6) == pytest.approx(want)
        assert smooth_step(x, 6, 2) == pytest.approx(
            1 - np.array(want)
        )  # the end may be the smaller


class TestSmoothMax:
    def test_values(self):
        """Far apart the larger; where both are equal a quarter of the blend above."""
        a, b = np.array([5.0, 1.0, 2.0]), np.array([1.0, 5.0, 2.0])
        assert smooth_max(a, b, 0.8) == pytest.approx([5, 5, 2.2])

    def test_order_does_not_matter_and_never_below(self):
        a, b = np.linspace(-2, 2, 41), np.zeros(41)
        both = smooth_max(a, b, 1.0)
        assert both == pytest.approx(smooth_max(b, a, 1.0))
        assert (both >= np.maximum(a, b)).all()


class TestNodes:
    def test_closer_where_denser(self):
        """Density 1, then 3: of four steps one takes the first half."""
        nodes = _nodes(0, 2, 5, lambda x: np.where(x < 1, 1.0, 3.0))
        # measured 2e-4: the integral has 4001 samples
        assert nodes == pytest.approx([0, 1, 4 / 3, 5 / 3, 2], abs=1e-3)


class TestLoft:
    @pytest.mark.parametrize("row", [0, 5, 11, 17])
    def test_passes_through_the_authored_points(self, row):
        pytest.importorskip("scipy")
        height, x, z, offset = tables.LOFT_ROWS[row]
        want = np.column_stack([x, height + np.array(offset), z])
        loft, v = Loft(), np.full(len(x), float(height))
        # measured 1.4e-14
        assert loft(tables.LOFT_COLUMNS, v) == pytest.approx(want, abs=1e-10)
        assert loft(-tables.LOFT_COLUMNS, v) == pytest.approx(want * [-1, 1, 1], abs=1e-10)


class TestGrid:
    def test_is_the_shipped_mesh(self, grid, face):
        assert grid.num_vertices == len(face["mean_shape"])
        assert np.array_equal(grid.triangles, face["triangles"])
        assert np.array_equal(grid.mirror, face["mirror_index"])

    @pytest.mark.parametrize("name", ["left_eye", "right_eye", "mouth"])
    def test_slits_are_open_between_their_corners(self, grid, name):
        """Both edges share the corners; between them every node is there twice."""
        upper, lower = grid.seams[name]
        assert upper[0] == lower[0] and upper[-1] == lower[-1]
        assert len(set(upper[1:-1]) & set(lower[1:-1])) == 0
        assert np.array_equal(grid.u[upper], grid.u[lower]) and (np.diff(grid.u[upper]) > 0).all()
        row = tables.MOUTH_ROW if name == "mouth" else tables.EYE_ROW
        assert (grid.v[upper] == row).all() and (grid.v[lower] == row).all()
        rows = grid.pockets[name]
        assert np.array_equal(rows[0], upper[1:-1]) and np.array_equal(rows[-1], lower[1:-1])

    def test_edges_know_their_side(self, grid):
        upper, lower = grid.seams["mouth"]
        assert grid.upper_lip[upper].all() and not grid.upper_lip[lower[1:-1]].any()
        upper, lower = grid.seams["left_eye"]
        assert grid.upper_lid[upper].all() and not grid.upper_lid[lower[1:-1]].any()

    def test_vertices_are_skin_eyes_or_mouth(self, grid):
        skin = np.arange(grid.num_vertices) < grid.num_skin
        assert (skin.astype(int) + grid.eyes + grid.bag == 1).all()
        depth = tables.EYE_POCKET_ROWS, tables.MOUTH_POCKET_ROWS
        assert grid.eyes.sum() == 2 * depth[0] * (len(grid.seams["left_eye"][0]) - 2)
        assert grid.bag.sum() == depth[1] * (len(grid.seams["mouth"][0]) - 2)

    def test_mirror_of_the_slits(self, grid):
        for edge in (0, 1):
            left, right = grid.seams["left_eye"][edge], grid.seams["right_eye"][edge]
            assert np.array_equal(grid.mirror[left], right[::-1])
            mouth = grid.seams["mouth"][edge]
            assert np.array_equal(grid.mirror[mouth], mouth[::-1])
        assert np.allclose(grid.u[grid.mirror[: grid.num_skin]], -grid.u)

    def test_corners_are_near_the_authored_ones(self, grid):
        """On the nearest column; columns are about a millimetre apart."""
        assert grid.eye == pytest.approx((tables.EYE_INNER, tables.EYE_OUTER), abs=0.6)
        assert grid.mouth_half_width == pytest.approx(tables.MOUTH_HALF_WIDTH, abs=0.6)


class TestMesh:
    def test_manifold_disk(self, face):
        facts = topology(torch.from_numpy(face["triangles"]))
        assert facts.is_manifold and facts.is_oriented
        assert facts.num_components == 1
        assert facts.euler_number == 1  # a disk: pockets are part of the surface

    def test_triangles_look_outwards(self, face):
        corners = face["mean_shape"][face["triangles"]]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        cheek = np.argmin(((corners.mean(1) - [40, 0, 25]) ** 2).sum(1))
        assert normals[cheek, 2] > 0

    def test_topology_is_its_own_mirror_image(self, face):
        mirror = face["mirror_index"]
        assert (mirror[mirror] == np.arange(len(mirror))).all()

        def edges(triangles):
            pairs = np.concatenate(
                [triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]
            )
            return np.unique(np.sort(pairs, axis=1), axis=0)

        assert (edges(face["triangles"]) == edges(mirror[face["triangles"]])).all()
