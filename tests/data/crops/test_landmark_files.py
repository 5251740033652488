"""Landmarks in files beside photographs: every form of them, and those that hold something else."""

from __future__ import annotations

import errno
import re

import numpy as np
import pytest

from mofa_nvdr.data.crops import landmark_files
from mofa_nvdr.data.crops.framing import (
    crop_from_landmarks,
)
from mofa_nvdr.data.crops.landmark_files import (
    LandmarkError,
    landmarks_next_to,
    orphans,
    read_tables,
    reason_of,
)
from mofa_nvdr.data.crops.preprocess import PreprocessOptions, preprocess_files
from mofa_nvdr.data.photographs import Photographs
from tests.helpers.landmarked_photographs import POINTS_5, photograph, points_68, rows_of


class TestLandmarksNextTo:
    @pytest.mark.parametrize("kind", [".txt", ".csv", ".npz", ".pts", "table"])
    def test_landmarks_next_to_the_photograph(self, tmp_path, kind):
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
        known = landmarks_next_to(photograph(tmp_path))
        assert known.points is None and known.file is None and known.notes == []

    def test_pts_count_from_one(self, tmp_path):
        """iBUG's first pixel has its centre at 1, ours at 0.5."""
        rows = "\n".join(["1 1"] * 68)
        photograph(tmp_path).with_suffix(".pts").write_text(f"n_points: 68\n{{\n{rows}\n}}\n")
        (points,) = landmarks_next_to(tmp_path / "face.png").points
        assert points.shape == (68, 2) and (points == 0.5).all()

    def test_numbers_behind_the_first_two_are_no_landmarks(self, tmp_path):
        rows = "\n".join(f"{k + 0.5} {2 * k} 0.9" for k in range(5))
        photograph(tmp_path).with_suffix(".txt").write_text(f"\n{rows}\n\n")
        (points,) = landmarks_next_to(tmp_path / "face.png").points
        assert points.tolist() == [[k + 0.5, 2 * k] for k in range(5)]

    @pytest.mark.parametrize("first", [0, 1])
    @pytest.mark.parametrize("suffix", [".txt", ".csv"])
    def test_index_column_is_left_out(self, tmp_path, first, suffix):
        rows = [f"{k + first},{x},{y}" for k, (x, y) in enumerate(POINTS_5)]
        file = photograph(tmp_path).with_suffix(suffix)
        file.write_text("\n".join(rows))
        known = landmarks_next_to(tmp_path / "face.png")
        assert known.points[0].tolist() == POINTS_5.tolist()
        note = "its first column counts the points; the next two are taken as x and y"
        assert known.notes == [f"{file}: {note}"]

    @pytest.mark.parametrize(
        ("suffix", "text", "message"),
        [
            (
                ".txt",
                "1 nan\n" * 5,
                "holds points that are not finite, expected 5, 68, 98, 106, 468 or 478 rows of x",
            ),
            (
                ".txt",
                "1 2\n" * 4 + "1 b",
                "row '1 b' is no x and y, expected 5, 68, 98, 106, 468 or 478 rows of x and y",
            ),
            (
                ".csv",
                "x,y\n" + "1,b\n" * 5,
                "row '1 b' is no x and y, expected 5, 68, 98, 106, 468 or 478",
            ),
            (
                ".pts",
                "1 2\n" * 68,
                "holds points [0, 2], expected 5, 68, 98, 106, 468 or 478",
            ),  # no braces
            (".npz", "no archive", "cannot read it as .npz without pickles"),
        ],
    )
    def test_damaged(self, tmp_path, suffix, text, message):
        path = photograph(tmp_path)
        path.with_suffix(suffix).write_text(text)
        expected = re.escape(f"{path.with_suffix(suffix)}: {message}")
        with pytest.raises(LandmarkError, match=expected):
            landmarks_next_to(path)

    @pytest.mark.parametrize(
        ("suffix", "text", "note"),
        [
            (
                ".txt",
                "a photo of a person, smiling",
                "holds no rows of x and y; not taken for landmarks",
            ),
            (".txt", "", "holds no rows of x and y; not taken for landmarks"),
            (
                ".txt",
                "0 0.5 0.4 0.2 0.3",
                "holds 1 points, expected 5, 68, 98, 106, 468 or 478 rows of x and y; not used",
            ),
            (
                ".txt",
                "1 2\n" * 194,
                "holds 194 points (Helen's 194), expected 5, 68, 98, 106, 468 or 478 rows of x and y; not",
            ),
            (
                ".csv",
                "x,y\n" + "1,2\n" * 51,
                "holds 51 points (iBUG's 51 without the jaw), expected 5, 68, 98, 106, 468 or 478",
            ),
            (
                ".pts",
                "{\n" + "1 2\n" * 21 + "}",
                "holds 21 points (AFLW's 21), expected 5, 68, 98, 106, 468 or 478 rows",
            ),
        ],
    )
    def test_something_else_is_noted(self, tmp_path, suffix, text, note):
        path = photograph(tmp_path)
        path.with_suffix(suffix).write_text(text)
        known = landmarks_next_to(path)
        assert known.points is None
        (found,) = known.notes
        assert found.startswith(f"{path.with_suffix(suffix)}: {note}")

    @pytest.mark.parametrize(
        ("points", "message"),
        [
            (np.full((68, 2), "a"), "holds points of kind <U1, expected numbers"),
            (np.zeros((68, 2), complex), "holds points of kind complex128, expected numbers"),
            (np.full((68, 2), np.inf), "holds points that are not finite"),
            (np.float64(3), r"holds points \[\], expected 5, 68, 98, 106, 468 or 478"),
        ],
    )
    def test_npz_of_other_kinds(self, tmp_path, points, message):
        path = photograph(tmp_path)
        np.savez(path.with_suffix(".npz"), lm68=points)
        with pytest.raises(LandmarkError, match=rf"face\.npz: {message}"):
            landmarks_next_to(path)

    def test_what_takes_too_much(self, tmp_path, monkeypatch):
        path = photograph(tmp_path)
        np.savez_compressed(path.with_suffix(".npz"), lm68=np.zeros((20_000_000, 2)))
        with pytest.raises(LandmarkError, match=r"face\.npz: lm68\S* \[20000000, 2\] unfolds into"):
            landmarks_next_to(path)
        path.with_suffix(".npz").unlink()
        monkeypatch.setattr(landmark_files, "MOST_TEXT", 100)
        path.with_suffix(".txt").write_text("1 2\n" * 68)
        with pytest.raises(
            LandmarkError, match=r"face\.txt: more than the 100 bytes that a text of"
        ):
            landmarks_next_to(path)

    def test_npz_of_something_else(self, tmp_path):
        path = photograph(tmp_path)
        np.savez(path.with_suffix(".npz"), shape=np.zeros(80))
        known = landmarks_next_to(path)
        assert (
            known.points is None
            and "holds none of lm5, lm68, lm98, lm106, lm468, lm478; not taken" in known.notes[0]
        )

    def test_landmarks_after_a_caption(self, tmp_path):
        """What is no landmarks does not hide those that are there."""
        path = photograph(tmp_path)
        path.with_suffix(".txt").write_text("a woman in a park")
        np.savetxt(path.with_suffix(".csv"), POINTS_5, delimiter=",")
        known = landmarks_next_to(path)
        assert known.points[0].tolist() == POINTS_5.tolist() and len(known.notes) == 1

    @pytest.mark.parametrize(
        "name",
        [
            "FACE.TXT",
            "Face.txt",
            "face.png.txt",
            "detections/face.txt",
            "landmarks/face.txt",
            "detections/FACE.txt",
            "../detections/face.txt",
            "../landmarks/face.png.txt",
        ],
    )
    def test_names_and_places(self, tmp_path, name):
        path = photograph(tmp_path / "images")
        file = path.parent / name
        file.parent.mkdir(exist_ok=True)
        np.savetxt(file, POINTS_5)
        known = landmarks_next_to(path)
        assert known.points[0].tolist() == POINTS_5.tolist()
        assert known.file.resolve() == file.resolve() and known.notes == []

    def test_two_that_may_be_meant(self, tmp_path):
        path = photograph(tmp_path)
        for name in ("FACE.txt", "Face.txt"):
            np.savetxt(tmp_path / name, POINTS_5)
        if len(list(tmp_path.iterdir())) < 3:
            pytest.skip("names in upper and lower case are one file here")
        with pytest.raises(
            LandmarkError, match="FACE.txt and Face.txt: either may be the landmarks of"
        ):
            landmarks_next_to(path)
        np.savetxt(tmp_path / "face.txt", POINTS_5 + 1)  # its very own
        assert landmarks_next_to(path).points[0].tolist() == (POINTS_5 + 1).tolist()


class TestReadTables:
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
        tables = read_tables([tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png"])
        assert list(tables.known) == [tmp_path / "a.png", tmp_path / "b.png"] and not tables.notes
        known = tables.known[tmp_path / "a.png"]
        assert np.array_equal(known.points, points[[0, 3]])
        assert known.file == tmp_path / "landmarks68.npz"

    def test_68_go_before_5(self, tmp_path):
        for count in (5, 68):
            table = {"files": ["a.png"], f"lm{count}": np.ones((1, count, 2))}
            np.savez(tmp_path / f"landmarks{count}.npz", **table)
        a = tmp_path / "a.png"
        assert read_tables([a]).known[a].points[0].shape == (68, 2)
        (tmp_path / "landmarks68.npz").unlink()
        assert read_tables([a]).known[a].points[0].shape == (5, 2)
        assert read_tables([]).known == {}

    @pytest.mark.parametrize(
        "name", ["a", "A.PNG", "images/a.png", "images\\a.png", "./images/a.png", "a.jpg", "a.png"]
    )
    @pytest.mark.parametrize("above", [False, True])
    def test_names_of_one_photograph(self, tmp_path, name, above):
        """Stem alone, other case, with its folder, another suffix; table next to it or above."""
        path = photograph(tmp_path / "images", "a.png")
        folder = tmp_path if above else path.parent
        np.savez(folder / "landmarks5.npz", files=[name], lm5=POINTS_5[None])
        tables = read_tables([path])
        assert np.array_equal(tables.known[path].points, POINTS_5[None]) and not tables.notes

    def test_several_names_of_one_photograph(self, tmp_path):
        """x/a.png and y/a.png are two pictures, and a.png is one of them at best."""
        one, two = (photograph(tmp_path, name) for name in ("a.png", "b.png"))
        files = ["x/a.png", "y/a.png", "b.png", "z/b.png", "b.png"]
        points = np.stack([POINTS_5 + k for k in range(5)])
        np.savez(tmp_path / "landmarks5.npz", files=files, lm5=points)
        tables = read_tables([one, two])
        assert list(tables.known) == [two]
        assert np.array_equal(tables.known[two].points, points[[2, 4]])
        assert tables.notes == [
            f"{tmp_path / 'landmarks5.npz'}: 3 of 5 rows, first 'x/a.png', may mean a photograph that others "
            "mean too; they are not used: give names with folder and suffix"
        ]

    def test_names_that_are_unclear_or_of_nothing(self, tmp_path):
        paths = [photograph(tmp_path, name) for name in ("a.png", "a.jpg", "b.png")]
        photograph(tmp_path, "not_asked_for.png")
        files = ["a", "gone.png", "also_gone.png", "not_asked_for.png", "b.png"]
        np.savez(tmp_path / "landmarks5.npz", files=files, lm5=np.stack([POINTS_5] * 5))
        tables = read_tables(paths)
        assert list(tables.known) == [paths[2]]
        path = tmp_path / "landmarks5.npz"
        assert tables.notes == [
            f"{path}: 2 of 5 rows, first 'gone.png', name no picture there; they are not used",
            f"{path}: 1 of 5 rows, first 'a', may mean several photographs; they are not used: give names "
            "with folder and suffix",
        ]


class TestOrphans:
    def test_files_of_no_picture(self, tmp_path):
        path = photograph(tmp_path)
        (tmp_path / "detections").mkdir()
        for name in ("face.pts", "other.pts", "notes.txt", "detections/FACE.png.txt"):
            (tmp_path / name).write_text("x")
        for name in ("x.txt", "y.txt"):
            (tmp_path / "detections" / name).write_text("x")
        assert orphans([path]) == [
            f"{tmp_path}: other.pts: landmarks of no picture in {tmp_path}; not used",
            f"{tmp_path / 'detections'}: x.txt and 1 more: landmarks of no picture in {tmp_path}; not used",
        ]
        assert orphans([]) == []


class TestReasonOf:
    def test_leaves_the_file_out(self):
        error = FileNotFoundError(errno.ENOENT, "No such file or directory", "a.txt")
        assert reason_of(error) == "cannot read it (No such file or directory)"
        assert reason_of(ValueError("three rows")) == "three rows"
