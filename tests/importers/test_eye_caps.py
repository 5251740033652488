"""Eye caps over a ball and a round rim: on the ball, within the rim, moving with both."""

from __future__ import annotations

import numpy as np
import pytest

from mofa_nvdr.importers.eye_caps import Cap, eye_cap, eyeballs, loop_around
from mofa_nvdr.importers.files.obj_files import ObjMesh
from mofa_nvdr.importers.polygons import boundary_loops

COUNT, RADIUS = 12, 12.0
CENTRE = np.array([30.0, 40, 50])


def ring(radius: float, z: float) -> np.ndarray:
    angle = 2 * np.pi * np.arange(COUNT) / COUNT
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full(COUNT, z)], 1)


def ball() -> np.ndarray:
    """Points of a sphere."""
    points = np.random.default_rng(0).normal(size=(60, 3))
    return CENTRE + RADIUS * points / np.linalg.norm(points, axis=1, keepdims=True)


@pytest.fixture
def rim() -> np.ndarray:
    """A lid opening of radius 7 that lies on the ball."""
    return CENTRE + ring(7.0, np.sqrt(RADIUS**2 - 7.0**2))


def cap_over(rim: np.ndarray, balls: np.ndarray) -> tuple[Cap, np.ndarray]:
    """The cap of a mesh that is the rim alone, and all vertices of the file: the ball, then the rim."""
    everything = np.concatenate([balls, rim])
    old_index = len(balls) + np.arange(COUNT)
    loop = np.arange(COUNT)
    return eye_cap(loop, rim, old_index, everything, np.arange(len(balls)), COUNT), everything


class TestEyeCap:
    def test_lies_on_the_ball(self, rim):
        cap, _ = cap_over(rim, ball())
        assert cap.positions.shape == (4 * COUNT + 1, 3)
        # 8e-12 measured
        np.testing.assert_allclose(
            np.linalg.norm(cap.positions - CENTRE, axis=1), RADIUS, atol=1e-6
        )
        across = np.linalg.norm((cap.positions - CENTRE)[:, :2], axis=1)
        want = np.repeat([0.8, 0.6, 0.4, 0.2], COUNT) * 7.0
        np.testing.assert_allclose(across[:-1], want, atol=1e-6)
        assert across[-1] < 1e-6

    def test_closes_the_opening(self, rim):
        """Its own rim is the opening's, run through the other way; every polygon is used once."""
        cap, _ = cap_over(rim, ball())
        assert cap.polygons.shape == (5 * COUNT, 4)
        (loop,) = boundary_loops(cap.polygons)
        start = loop.tolist().index(0)
        assert np.roll(loop, -start).tolist() == [0, *range(COUNT - 1, 0, -1)]
        assert np.unique(cap.polygons).tolist() == [-1, *range(COUNT + 4 * COUNT + 1)]

    def test_moves_with_what_is_there(self, rim):
        """A shift of everything shifts it; of the ball alone, the middle wholly and the outer ring half."""
        cap, everything = cap_over(rim, ball())
        moved = cap.follows @ np.ones_like(everything)
        np.testing.assert_allclose(moved, 1)
        motion = np.zeros_like(everything)
        motion[: len(ball())] = 1
        moved = cap.follows @ motion
        np.testing.assert_allclose(moved[-1], 1)
        np.testing.assert_allclose(moved[:COUNT], 1 - 0.8**3)

    def test_between_the_rims_values(self, rim):
        cap, _ = cap_over(rim, ball())
        values = np.arange(COUNT, dtype=float)[:, None]
        inside = cap.between(values)
        assert inside[-1, 0] == pytest.approx(values.mean())
        np.testing.assert_allclose(inside[:COUNT], 0.8 * values + 0.2 * values.mean())

    def test_without_eyeballs(self, rim):
        """A ball of 12 mm is put 9.6 mm behind the rim's middle; it moves as the rim does on average."""
        cap, everything = cap_over(rim, np.zeros((0, 3)))
        centre = rim.mean(0) - [0, 0, 9.6]
        inner = cap.positions[3 * COUNT :]  # where the rim's own height counts for nothing any more
        np.testing.assert_allclose(np.linalg.norm(inner - centre, axis=1), 12.0, atol=0.02)
        motion = np.zeros_like(everything)
        motion[0] = COUNT
        np.testing.assert_allclose((cap.follows @ motion)[-1], 1)


class TestEyeballs:
    def test_by_material(self):
        polygons = np.array([[0, 1, 2, -1], [3, 4, 5, 6], [7, 8, 9, -1]])
        names = ["M_Face", "M_ScleraLeft", "M_Teeth"]
        mesh = ObjMesh(
            np.zeros((10, 3)), polygons, None, np.arange(3), names, np.zeros((0, 2)), polygons
        )
        assert eyeballs(mesh, ("M_Sclera",)).tolist() == [3, 4, 5, 6]
        assert eyeballs(mesh, ("M_Hair",)).tolist() == []


class TestLoopAround:
    def test_nearest_small_one(self):
        vertices = np.concatenate([ring(10, 0), ring(10, 0) + [12, 0, 0], ring(40, 0)])
        loops = [np.arange(COUNT) + k * COUNT for k in range(3)]
        corners = [COUNT, COUNT + 6]  # opposite points of the second
        assert loop_around(loops, vertices, corners) is loops[1]
        # The third is 80 mm wide: no eye opening, though its middle is the nearest.
        assert loop_around(loops[2:], vertices, [0, 6]) is None
        assert loop_around([], vertices, [0]) is None
