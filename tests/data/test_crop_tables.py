"""The tables next to face crops: what is no such table ends in one line that names it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from mofa_nvdr.data import Photographs
from mofa_nvdr.data.crop_tables import (
    DataError,
    code_table,
    npz_bytes,
    read_codes,
    read_dense_landmarks,
)
from mofa_nvdr.face.code import CodeLayout
from tests.helpers.landmarked_photographs import mesh_of
from tests.helpers.picture_folders import landmarks_of, write_index


class TestReadIndex:
    def test_bad_ones(self, corpus: Path):
        index = corpus / "index.csv"
        write_index(index, [], header="name,split")
        with pytest.raises(DataError, match=r"index\.csv: no column file; .* found name, split"):
            Photographs(corpus)
        index.write_text("")
        with pytest.raises(DataError, match="no column file and split; .* found nothing"):
            Photographs(corpus)
        write_index(index, [("images/face_000.png", "train"), ("images/gone.png", "val")])
        with pytest.raises(DataError, match="names 1 pictures that are not under .*gone.png'"):
            Photographs(corpus)
        write_index(index, [("images/face_000.png", "train"), ("images/face_000.png", "val")])
        with pytest.raises(DataError, match="names 'images/face_000.png' more than once"):
            Photographs(corpus)
        write_index(index, [("images/face_000.png", "val")])
        with pytest.raises(DataError, match="no picture under .* has split 'train'"):
            Photographs(corpus)
        assert len(Photographs(corpus, "val")) == 1
        index.write_bytes(b"file,split\n\xff\xfe\x00,train\n")
        with pytest.raises(DataError, match=r"index\.csv: cannot read it as CSV") as error:
            Photographs(corpus)
        assert "\n" not in str(error.value)


class TestReadLandmarks:
    def test_bad_ones(self, corpus: Path):
        path = corpus / "landmarks68.npz"
        files = np.array(["images/face_000.png", "images/face_001.png"])
        good = landmarks_of(2)

        def expect(message: str, **arrays: np.ndarray) -> None:
            np.savez(path, **arrays)
            with pytest.raises(DataError, match=message) as error:
                Photographs(corpus)
            assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)

        expect(
            "no array lm68; expected files and lm68, found files, points", files=files, points=good
        )
        expect(
            r"lm68 is \[2, 51, 2\] float32, expected \[2, 68, 2\]", files=files, lm68=good[:, :51]
        )
        expect(r"lm68 is \[1, 68, 2\] float32, expected \[2, 68", files=files, lm68=good[:1])
        expect(r"lm68 is .* int64, expected .* floats", files=files, lm68=good.astype(np.int64))
        expect(r"files is \[2\] int64, expected \[2\] text", files=np.arange(2), lm68=good)
        expect("cannot read it as .npz without pickles", files=files.astype(object), lm68=good)
        expect("names 1 pictures that are not", files=np.array(["a.png", files[0]]), lm68=good)
        expect("more than once", files=files[[0, 0]], lm68=good)
        expect(
            r"confidence is \[2, 1\] float64, expected \[2, 68\]",
            files=files,
            lm68=good,
            confidence=np.ones((2, 1)),
        )
        expect(
            r"confidence leaves \[0, 1\]",
            files=files,
            lm68=good,
            confidence=np.full((2, 68), np.nan),
        )
        wrong = np.stack([good[0], good[1][:, ::-1]])
        expect(
            r"1 of 2 rows are no landmarks in px of their pictures as viewers show them: the points of "
            "'images/face_001.png' look like rows of y and x, expected x and y: exchange the columns",
            files=files,
            lm68=wrong,
        )
        path.write_bytes(path.read_bytes()[:200])
        with pytest.raises(DataError, match="cannot read it as .npz"):
            Photographs(corpus)
        np.save(corpus / "array.npy", good)
        (corpus / "array.npy").replace(path)
        with pytest.raises(
            DataError, match="cannot read it as .npz without pickles: a single array"
        ):
            Photographs(corpus)


class TestReadDenseLandmarks:
    def test_unknown_points(self, corpus: Path):
        names, path = ["a.png", "b.png"], corpus / "landmarks478.npz"
        points = mesh_of(landmarks_of(2)).astype(np.float32)
        points[0, 470, 0] = np.inf
        np.savez(path, files=names, lm478=points, source=["x", "y"])
        found = read_dense_landmarks(path, names, corpus, ())
        assert np.isnan(found["a.png"][470]).all() and np.isfinite(found["a.png"][:470]).all()
        assert (found["b.png"] == points[1]).all()

    def test_bad_ones(self, corpus: Path):
        path = corpus / "landmarks478.npz"
        points = mesh_of(landmarks_of(2)).astype(np.float32)
        wrong = {
            "expected files .N. text and lm478 .N, 478, 2. floats, found files .1.": points[
                :1, :400
            ],
            "2 of 2 rows are no landmarks in px of their pictures.*rows of y and x": points[
                ..., ::-1
            ],
        }
        for message, array in wrong.items():
            np.savez(path, files=["a.png", "b.png"][: len(array)], lm478=array)
            with pytest.raises(DataError, match=message):
                read_dense_landmarks(path, ["a.png", "b.png"], corpus, ())
        np.savez(path, files=["c.png", "b.png"], lm478=points)
        with pytest.raises(DataError, match="names 1 pictures that are not under"):
            read_dense_landmarks(path, ["a.png", "b.png"], corpus, ())


class TestReadCodes:
    def test_round_trip(self, tmp_path: Path):
        path = tmp_path / "codes.npz"
        codes = np.arange(6, dtype=np.float64).reshape(2, 3)
        path.write_bytes(npz_bytes(files=np.array(["a", "b"]), codes=codes))
        found, whose = read_codes(path)
        assert list(found) == ["a", "b"] and found["b"].tolist() == [3, 4, 5] and whose == ""
        assert found["b"].dtype == np.float32

    def test_of_a_face_model(self, tmp_path: Path):
        """And photographs that could not be fitted have none."""
        layout = CodeLayout(1, 0, 2)
        codes = {"a": np.full(layout.size, 2.0), "b": np.full(layout.size, np.nan)}
        path = tmp_path / "codes.npz"
        table = code_table(codes, layout, "f00", deviation=np.array([0.1, 0.2]))
        path.write_bytes(npz_bytes(**table))
        found, whose = read_codes(path)
        assert list(found) == ["a"] and whose == "f00"
        assert dict(zip(table["parts"], table["sizes"]))["albedo"] == 2

    def test_bad_codes(self, tmp_path: Path):
        path = tmp_path / "codes.npz"
        path.write_bytes(npz_bytes(files=np.array(["a"]), codes=np.zeros((2, 3))))
        message = f"{path}: expected files [N] text and codes [N, size] floats, found files [1]"
        with pytest.raises(DataError, match=re.escape(message)):
            read_codes(path)
        path.write_bytes(npz_bytes(other=np.zeros(1)))
        with pytest.raises(DataError, match=r"found other \[1\] float64"):
            read_codes(path)


class TestNpzBytes:
    def test_same_bytes_each_time(self):
        assert npz_bytes(a=np.arange(3)) == npz_bytes(a=np.arange(3))
