"""Landmarks next to photographs: which are taken, and which are refused by the pixels."""

import numpy as np
import pytest

from mofa_nvdr.data.crops.finder import FaceFinder
from mofa_nvdr.data.crops.known_points import KnownPoints
from mofa_nvdr.data.crops.landmark_files import DENSE_FIRST, LandmarkError
from mofa_nvdr.data.decoding import Picture
from tests.helpers.landmarked_photographs import face, mesh_of, photograph


def known_points(path, networks=None, **more):
    return KnownPoints([path], FaceFinder(1, 0.0, 240, networks=networks), 240, **more)


class TestOf:
    def test_a_table_before_a_file(self, tmp_path):
        path = photograph(tmp_path)
        np.savetxt(path.with_suffix(".txt"), face(68))
        known = known_points(path).of(path)
        assert known.file == path.with_suffix(".txt") and np.allclose(known.points[0], face(68))
        np.savez(tmp_path / "landmarks68.npz", files=["face.png"], lm68=face(68)[None] + 1)
        known = known_points(path).of(path)
        assert known.file.name == "landmarks68.npz"
        assert np.allclose(known.points[0], face(68) + 1)

    def test_order_of_tables(self, tmp_path):
        path = photograph(tmp_path)
        np.savez(tmp_path / "landmarks68.npz", files=["face.png"], lm68=face(68)[None])
        dense = mesh_of(face(68))[None]
        np.savez(tmp_path / "landmarks478.npz", files=["face.png"], lm478=dense)
        assert known_points(path).of(path).points[0].shape == (68, 2)
        assert known_points(path, order=DENSE_FIRST).of(path).points[0].shape == (478, 2)

    def test_nothing_is_known(self, tmp_path):
        path = photograph(tmp_path)
        points = known_points(path)
        assert points.of(path).points is None and points.notes == []
        with Picture(path) as picture:
            points.check(points.of(path), path, picture)


class TestCheck:
    def test_against_a_face_that_is_seen(self, tmp_path):
        """Networks see the face where the points are; and half a face further."""
        path = photograph(tmp_path)
        np.savetxt(path.with_suffix(".txt"), face(68))
        here, beside = [(face(68), 0.95)], [(face(68) + 45, 0.95)]
        with Picture(path) as picture:
            points = known_points(path, lambda image: here)
            points.check(points.of(path), path, picture)
            points = known_points(path, lambda image: beside)
            with pytest.raises(LandmarkError, match=r"face.txt: the points of face.png are off"):
                points.check(points.of(path), path, picture)
