"""Points that are a face's, in their order and frame, and every mistake by its name."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest

from mofa_nvdr.data.crops import landmark_shape
from mofa_nvdr.data.crops.landmark_shape import (
    fit_face,
    wrong_points,
    wrong_rows,
)
from mofa_nvdr.face.landmarks import MIRROR
from tests.helpers.landmarked_photographs import POINTS_5, frontal_68

SIDE = 256
DLIB_FIVE = (45, 42, 36, 39, 33)


def five(points: np.ndarray) -> np.ndarray:
    """[..., 68, 2] -> the five points of them."""
    eyes = [points[..., 36:42, :].mean(-2), points[..., 42:48, :].mean(-2)]
    return np.stack([*eyes, points[..., 30, :], points[..., 48, :], points[..., 54, :]], -2)


def heads(yaw: float, roll: float, num: int = 20) -> np.ndarray:
    """Faces [num, 68, 2] of a picture of 256 px, in perspective, of other proportions than the mean's."""
    rng = np.random.default_rng(round(abs(10 * yaw + roll)))
    mean = landmark_shape._MEAN * rng.uniform(0.85, 1.15, (num, 1, 3))
    mean = mean + rng.normal(0, 3, mean.shape)
    pitch = np.radians(rng.uniform(-25, 25, (num, 1)))
    c, s = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
    x, z = mean[..., 0] * c + mean[..., 2] * s, mean[..., 2] * c - mean[..., 0] * s
    y = mean[..., 1] * np.cos(pitch) - z * np.sin(pitch)
    z = mean[..., 1] * np.sin(pitch) + z * np.cos(pitch)
    face = 500 * (x - 1j * y) / (500 - z) * np.exp(1j * np.radians(roll))
    return np.stack([face.real, face.imag], -1) + SIDE / 2


ROLLS = (0, 30, -60, 90, -90, 180)


class TestFaces:
    @pytest.mark.parametrize("roll", ROLLS)
    @pytest.mark.parametrize("yaw", [0, 20, -45, 60, -75, 90])
    def test_are_taken(self, yaw, roll):
        points = heads(yaw, roll)
        for marks in (points, five(points)):
            assert [wrong_points(p, SIDE, SIDE) for p in marks] == [""] * len(marks)
            assert wrong_rows(marks) == {}

    def test_roll_is_clockwise(self):
        for roll in ROLLS:
            found = np.degrees(fit_face(heads(0, roll)).roll)
            # proportions that differ from the mean's turn the fit by up to 3 degrees
            assert np.abs((found - roll + 180) % 360 - 180).max() < 5

    def test_unknown_points(self):
        points = heads(0, 0)
        points[:, 17:40] = np.nan
        assert wrong_rows(points) == {}
        assert all("rows of y and x" in wrong_points(p[:, ::-1]) for p in points)
        points[:, :20] = np.nan  # too few are left to tell anything
        assert wrong_rows(points[..., ::-1]) == {}

    def test_the_mean_is_the_built_in_face(self):
        """With the marks that its recipe builds on."""
        pytest.importorskip("scipy")
        from mofa_nvdr.face.recipe.landmark_vertices import landmark_vertices
        from mofa_nvdr.face.recipe.mean import face_grid, mean_shape

        vertices = mean_shape()
        mean = vertices[landmark_vertices(vertices, face_grid())]
        mean = (mean + mean[list(MIRROR)] * [-1, 1, 1]) / 2
        assert np.abs(mean - mean.mean(0) - landmark_shape._MEAN).max() < 0.51  # whole mm

    def test_tiny_and_cut_faces(self):
        """Whether a face is too small or cut by the edge is said elsewhere."""
        assert wrong_points(heads(0, 0)[0] * 0.02 + 40, SIDE, SIDE) == ""
        assert wrong_points(heads(0, 0)[0] - [120, 0], SIDE, SIDE) == ""


MISTAKES = {
    "index": (lambda p: np.stack([np.arange(len(p)), p[:, 0]], -1), "remove the index column"),
    "index from 1": (lambda p: np.stack([np.arange(len(p)) + 1, p[:, 0]], -1), "index column"),
    "x and index": (lambda p: np.stack([p[:, 0], np.arange(len(p))], -1), "index column"),
    "y x": (
        lambda p: p[:, ::-1],
        "look like rows of y and x, expected x and y: exchange the columns",
    ),
    "normalised": (
        lambda p: p / SIDE,
        r"look normalised to \[0, 1\], expected pixels .*: multiply",
    ),
    "to -1": (lambda p: p / (SIDE / 2) - 1, r"look normalised to \[-1, 1\], expected pixels"),
    "x from the right": (
        lambda p: [SIDE, 0] + p * [-1, 1],
        "are mirrored: x counts from the right",
    ),
    "y from the bottom": (lambda p: [0, SIDE] + p * [1, -1], "as if y counted from the bottom"),
    "larger picture": (
        lambda p: p * 4,
        "lie outside the picture of 256x256 px .*: are they of another",
    ),
    "overflow": (lambda p: p * 1e300, r"are up to [0-9.]+e\+302 px away, expected pixels"),
    "one place": (lambda p: p * 0 + 7, "are all at one place"),
    "noise": (
        lambda p: p[np.random.default_rng(0).permutation(len(p))] @ [[1, 0.4], [-0.2, 1]],
        "do not have the shape of a face|look ",
    ),
}


class TestMistakes:
    @pytest.mark.parametrize("count", (5, 68))
    @pytest.mark.parametrize("mistake", MISTAKES)
    def test_is_named(self, mistake, count):
        change, message = MISTAKES[mistake]
        for yaw in (0, 15, -30):
            for points in heads(yaw, 0, 5):
                points = change(points if count == 68 else five(points))
                reason = wrong_points(points, SIDE, SIDE)
                assert re.search(message, reason), (yaw, reason)

    def test_left_and_right(self):
        for points in heads(10, 0, 5):
            assert "left and right are exchanged" in wrong_points(points[list(MIRROR)])
            assert "left and right are exchanged" in wrong_points(five(points)[[1, 0, 2, 4, 3]])

    def test_dlib_five(self):
        for points in heads(10, 0, 5):
            reason = wrong_points(points[list(DLIB_FIVE)])
            assert reason.startswith("look like dlib's five (corners of the eyes first, nose last)")

    def test_another_order_of_five(self):
        reason = wrong_points(POINTS_5[[2, 0, 1, 3, 4]])
        assert reason == (
            "look like nose, right eye, left eye, right mouth corner, left mouth corner; expected "
            "right eye, left eye, nose, right and left mouth corner"
        )

    def test_turned_and_mirrored(self):
        """Rows of y and minus x: stored pixels of a picture that EXIF turns and mirrors."""
        points = frontal_68()[:, ::-1] * [-1, -1] * 50 + 100
        assert wrong_points(points).startswith("are mirrored, as those of a picture that is turned")

    def test_rows_of_a_table(self):
        points = heads(0, 0, 6)
        points[1], points[4] = points[1, :, ::-1], points[4] / SIDE
        found = wrong_rows(points)
        assert list(found) == [1, 4]
        assert "y and x" in found[1] and "normalised" in found[4]


def test_photographs(data_dir):
    """None of 11,473 faces is refused, as they are or turned; of every kind of mistake nearly all are."""
    table = np.load(data_dir / "faces" / "landmarks68.npz")
    with open(data_dir / "faces" / "index.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(table["lm68"])
    right = table["lm68"].astype(float)
    for points in (right, five(right)):
        assert wrong_rows(points) == {} and wrong_rows(points[..., ::-1] * [-1, 1]) == {}
        some = points[::200]
        for change, _ in MISTAKES.values():
            refused = sum(bool(wrong_points(change(p), SIDE, SIDE)) for p in some)
            assert refused >= 0.95 * len(some)
