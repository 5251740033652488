"""Landmarks in files beside photographs: every form of them, and those that hold something else."""

from __future__ import annotations

import errno
import re

import numpy as np
import pytest

from mofa_nvdr.data.crops.framing import (
    crop_from_landmarks,
)
from mofa_nvdr.data.crops.landmark_files import landmarks_next_to, landmarks_of_folders, reason_of
from mofa_nvdr.data.crops.preprocess import PreprocessOptions, preprocess_files
from mofa_nvdr.data.images import ImageError
from mofa_nvdr.data.photographs import Photographs
from tests.helpers.landmarked_photographs import photograph, points_68, rows_of


class TestLandmarksNextTo:
    @pytest.mark.parametrize("kind", [".txt", ".csv", ".npz", ".pts", "table"])
    def test_landmarks_beside_the_photograph(self, tmp_path, kind):
        path = photograph(tmp_path / "in")
        points = points_68()
        if kind == "table":
            np.savez(tmp_path / "in" / "landmarks68.npz", files=["face.png"], lm68=points[None])
        elif kind == ".npz":
            np.savez(path.with_suffix(kind), lm68=points)
        elif kind == ".pts":
            lines = "\n".join(f"{x + 0.5} {y + 0.5}" for x, y in points)
            path.with_suffix(kind).write_text(f"version: 1\nn_points: 68\n{{\n{lines}\n}}\n")
        else:
            comma = ", " if kind == ".csv" else " "
            path.with_suffix(kind).write_text("\n".join(f"{x}{comma}{y}" for x, y in points))
        out = preprocess_files(
            [str(tmp_path / "in")], str(tmp_path / "out"), PreprocessOptions(size=100)
        )
        (row,) = rows_of(out)
        assert row["found_by"] == "68 landmarks"
        crop = crop_from_landmarks(points)
        assert [float(row[k]) for k in ("left", "top", "side")] == pytest.approx(
            [crop.left, crop.top, crop.side]
        )
        data = Photographs(out, "train", 100)
        (sample,) = [data[k] for k in range(len(data))]
        np.testing.assert_allclose(sample.landmarks, crop.to_crop(points, 100), atol=2e-3)
        assert sample.image.shape == (100, 100, 3)

    @pytest.mark.parametrize("header", ["x,y", 'name, "X", "Y"'])
    def test_csv_with_names_of_columns(self, tmp_path, header):
        points = points_68()
        number = "name" in header
        rows = [f"{k},{x},{y}" if number else f"{x},{y}" for k, (x, y) in enumerate(points)]
        path = photograph(tmp_path / "in")
        path.with_suffix(".csv").write_text("\ufeff" + "\n".join([header, *rows]), encoding="utf-8")
        (row,) = rows_of(preprocess_files([str(path)], str(tmp_path / "out")))
        assert row["found_by"] == "68 landmarks"
        assert float(row["left"]) == pytest.approx(crop_from_landmarks(points).left)

    def test_nothing_there(self, tmp_path):
        assert landmarks_next_to(photograph(tmp_path)) is None

    def test_pts_count_from_one(self, tmp_path):
        """iBUG's first pixel has its centre at 1, ours at 0.5."""
        rows = "\n".join(["1 1"] * 68)
        photograph(tmp_path).with_suffix(".pts").write_text(f"n_points: 68\n{{\n{rows}\n}}\n")
        (points,) = landmarks_next_to(tmp_path / "face.png")
        assert points.shape == (68, 2) and (points == 0.5).all()

    def test_numbers_behind_the_first_two_are_no_landmarks(self, tmp_path):
        rows = "\n".join(f"{k} {2 * k} 0.9" for k in range(5))
        photograph(tmp_path).with_suffix(".txt").write_text(f"\n{rows}\n\n")
        (points,) = landmarks_next_to(tmp_path / "face.png")
        assert points.tolist() == [[k, 2 * k] for k in range(5)]

    @pytest.mark.parametrize(
        ("suffix", "text", "message"),
        [
            (".txt", "", "holds points [0, 2], expected 68 or 5 rows of x and y"),
            (".txt", "1 2\n" * 6, "holds points [6, 2], expected 68 or 5 rows of x and y"),
            (".txt", "1 nan\n" * 5, "holds points [5, 2], expected 68 or 5 rows of x and y"),
            (
                ".csv",
                "x,y\n" + "1,b\n" * 5,
                "could not convert string to float: 'b', expected 68 or",
            ),
            (".pts", "1 2\n" * 68, "holds points [0, 2], expected"),  # no braces
            (".npz", "no archive", "cannot read it as .npz without pickles"),
        ],
    )
    def test_something_else(self, tmp_path, suffix, text, message):
        path = photograph(tmp_path)
        path.with_suffix(suffix).write_text(text)
        with pytest.raises(ImageError, match=re.escape(f"{path.with_suffix(suffix)}: {message}")):
            landmarks_next_to(path)


class TestLandmarksOfFolders:
    def test_table_that_does_not_fit(self, tmp_path):
        photograph(tmp_path / "in")
        np.savez(tmp_path / "in" / "landmarks68.npz", files=["face.png"], lm68=np.zeros((1, 5, 2)))
        with pytest.raises(ValueError, match=r"landmarks68.npz: expected files \[N\] and lm68"):
            preprocess_files([str(tmp_path / "in")], str(tmp_path / "out"))
        (tmp_path / "in" / "landmarks68.npz").write_bytes(b"x")
        with pytest.raises(ValueError, match="landmarks68.npz: cannot read it as .npz"):
            preprocess_files([str(tmp_path / "in")], str(tmp_path / "out"))

    def test_rows_are_faces(self, tmp_path):
        """Two of one photograph in the table's order; what is not known is left out."""
        points = np.arange(4 * 68 * 2, dtype=np.float32).reshape(4, 68, 2)
        points[2, 5] = np.nan
        files = ["a.png", "b.png", "c.png", "a.png"]
        np.savez(tmp_path / "landmarks68.npz", files=files, lm68=points)
        known = landmarks_of_folders({tmp_path})
        assert list(known) == [tmp_path / "a.png", tmp_path / "b.png"]
        assert np.array_equal(known[tmp_path / "a.png"], points[[0, 3]])

    def test_68_go_before_5(self, tmp_path):
        for count in (5, 68):
            table = {"files": ["a.png"], f"lm{count}": np.ones((1, count, 2))}
            np.savez(tmp_path / f"landmarks{count}.npz", **table)
        assert landmarks_of_folders({tmp_path})[tmp_path / "a.png"][0].shape == (68, 2)
        (tmp_path / "landmarks68.npz").unlink()
        assert landmarks_of_folders({tmp_path})[tmp_path / "a.png"][0].shape == (5, 2)
        assert landmarks_of_folders(set()) == {}


class TestReasonOf:
    def test_leaves_the_file_out(self):
        error = FileNotFoundError(errno.ENOENT, "No such file or directory", "a.txt")
        assert reason_of(error) == "cannot read it (No such file or directory)"
        assert reason_of(ValueError("three rows")) == "three rows"
