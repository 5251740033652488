"""Sets of points that users bring, converted to iBUG's 68: by contours drawn by hand."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mofa_nvdr.data.crops.framing import crop_from_landmarks
from mofa_nvdr.data.crops.landmark_files import landmarks_next_to
from mofa_nvdr.data.crops.landmark_shape import fit_face, wrong_points
from mofa_nvdr.data.crops.point_sets import POINT_SETS, READ, as_dense, as_landmarks
from mofa_nvdr.data.crops.preprocess import PreprocessOptions, preprocess_files
from mofa_nvdr.data.photographs import Photographs
from mofa_nvdr.face.ibug_points import ibug_landmarks
from tests.helpers.landmarked_photographs import face, mesh_of, photograph, rows_of


class TestAsLandmarks:
    @pytest.mark.parametrize("kind", [98, 106])
    def test_contours(self, kind):
        """Each landmark where the set's contour has it; of lids the chord of the curve: 0.33 px measured."""
        points = face(kind)
        assert points.shape == (kind, 2)
        away = np.linalg.norm(as_landmarks(points) - face(68), axis=1)
        lids = [37, 38, 40, 41, 43, 44, 46, 47]
        assert away[lids].max() < 0.4 and np.delete(away, lids).max() < 1e-9

    @pytest.mark.parametrize("kind", [98, 106])
    def test_a_face_and_its_mistakes(self, kind):
        points = face(kind)
        assert wrong_points(points, 240, 240) == ""
        assert "rows of y and x" in wrong_points(points[:, ::-1])
        assert "normalised" in wrong_points(points / 240)
        shuffled = np.random.default_rng(0).permutation(points)
        assert f"expected {POINT_SETS[kind].name}, in this order" in wrong_points(shuffled)
        assert abs(fit_face(points).roll) < 0.05

    def test_an_order_of_another_106(self):
        """Its brows behind the jaw are one after the other, five points each: no face in this order."""
        points = face(106)
        other = np.concatenate(
            [points[:38], points[42:47], points[38:42], points[47:51], points[84:], points[51:84]]
        )
        assert "in this order" in wrong_points(other)

    @pytest.mark.parametrize("count", [468, 478])
    def test_mesh(self, count):
        points = np.random.default_rng(0).normal(size=(3, count, 2))
        assert (as_landmarks(points) == ibug_landmarks(points)).all()

    def test_those_that_stay(self):
        for count in (5, 68):
            points = np.zeros((count, 2))
            assert as_landmarks(points) is points


class TestAsDense:
    def test_irises_of_468_are_unknown(self):
        points = np.random.default_rng(0).normal(size=(468, 3))
        dense = as_dense(points)
        assert (dense[:468] == points[:, :2]).all() and np.isnan(dense[468:]).all()
        whole = np.random.default_rng(0).normal(size=(478, 2))
        assert (as_dense(whole) == whole).all()

    def test_of_others_there_are_none(self):
        assert as_dense(np.zeros((68, 2))) is None and as_dense(np.zeros((98, 2))) is None


class TestFiles:
    @pytest.mark.parametrize("kind", [".txt", ".npz", "table"])
    @pytest.mark.parametrize("count", [98, 106])
    def test_crops_as_by_68(self, tmp_path, count, kind):
        path, points = photograph(tmp_path / "in"), face(count)
        if kind == "table":
            table = {"files": ["face.png"], f"lm{count}": points[None]}
            np.savez(path.with_name(f"landmarks{count}.npz"), **table)
        elif kind == ".npz":
            np.savez(path.with_suffix(kind), **{f"lm{count}": points})
        else:
            path.with_suffix(kind).write_text("\n".join(f"{x} {y}" for x, y in points))
        out = preprocess_files([str(path)], str(tmp_path / "out"), PreprocessOptions(size=100))
        (row,) = rows_of(out)
        crop = crop_from_landmarks(face(68))
        found = [float(row[k]) for k in ("left", "top", "side")]
        assert found == pytest.approx([crop.left, crop.top, crop.side])
        assert not (out / "landmarks478.npz").exists()
        marks = np.load(out / "landmarks68.npz")["lm68"][0]
        assert np.abs(marks - crop.to_crop(face(68), 100)).max() < 0.4

    @pytest.mark.parametrize("count", [468, 478])
    def test_mesh_with_depth(self, tmp_path, count):
        """Of the mesh the dense landmarks are kept too, and trained on."""
        path, points = photograph(tmp_path / "in"), np.zeros((count, 3))
        points[:, :2] = mesh_of(face(68), count)
        np.savez(path.with_suffix(".npz"), **{f"lm{count}": points})
        out = preprocess_files([str(path)], str(tmp_path / "out"), PreprocessOptions(size=100))
        crop = crop_from_landmarks(ibug_landmarks(points))
        table = np.load(out / "landmarks478.npz")
        assert table["source"].tolist() == ["next to the photograph"]
        expected = crop.to_crop(points[:, :2], 100)
        np.testing.assert_allclose(table["lm478"][0, :count], expected, atol=6e-3)
        assert np.isnan(table["lm478"][0, count:]).all()
        sample = Photographs(out, "train", 50)[0]
        np.testing.assert_allclose(sample.dense[:count], expected / 2, atol=6e-3)
        assert np.isnan(sample.dense[count:]).all()

    def test_68_before_others(self, tmp_path):
        path = photograph(tmp_path)
        np.savez(path.with_suffix(".npz"), lm98=face(98), lm68=face(68), lm5=np.zeros((5, 2)))
        assert (landmarks_next_to(path).points[0] == face(68)).all()

    def test_none_of_them(self, tmp_path):
        path = photograph(tmp_path)
        np.savez(path.with_suffix(".npz"), points=np.zeros((68, 2)))
        (note,) = landmarks_next_to(path).notes
        words = "holds none of lm5, lm68, lm98, lm106, lm468, lm478; not taken for landmarks"
        assert note.endswith(words)


def test_what_is_read():
    assert READ == (5, 68, 98, 106, 468, 478)
    for count, kind in POINT_SETS.items():
        assert kind.name and len(kind.parts) in (0, count, 68)
        assert not re.search(r"\d", kind.name) or str(count) in kind.name
