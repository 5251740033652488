"""The 68 landmarks: published lists, the user's file in every form, and files that are wrong."""

import re

import numpy as np
import pytest

from mofa_nvdr.importers.foreign import ModelFileError
from mofa_nvdr.importers.landmark_points import known_landmarks, read_landmark_vertices
from tests.helpers.foreign_files import refused


def formats_lists() -> list[dict]:
    from mofa_nvdr.importers.landmark_points import _lists

    return _lists()


class TestKnownLandmarks:
    def test_published_landmark_lists(self):
        """Complete lists have 68 entries; every index lies within the topology that is named."""
        for entry in formats_lists():
            indices = list(entry["landmarks"].values())
            assert max(indices) < entry["vertices"] and min(indices) >= 0
            assert entry["licence"] in ("MIT", "Apache-2.0") and entry["source"]
            found = known_landmarks(entry["format"], entry["vertices"], None)
            assert len(found) == len(indices) and found.keys() <= set(range(68))
        assert len(known_landmarks("ict", 26719, None)) == 68
        assert known_landmarks("ict", 26720, None) == {}


class TestReadLandmarks:
    @pytest.mark.parametrize(
        ("name", "text", "want"),
        [
            ("a.json", "[5, 6, 7, 8, 9, 10]", {0: 5, 5: 10}),
            ("a.json", '{"9": 3, "31": 4, "37": 5, "46": 6, "49": 7, "55": 8}', {8: 3, 54: 8}),
            ("a.txt", "5\n6\n7\n8\n9\n10\n", {0: 5, 5: 10}),
            ("a.txt", "# heaviest\n5 .2 6 .8\n6 1\n7 1\n8 1\n9 .5 11 .4\n10 1\n", {0: 6, 4: 9}),
        ],
    )
    def test_landmark_files(self, tmp_path, name, text, want):
        (tmp_path / name).write_text(text)
        found = known_landmarks("ict", 100, tmp_path / name)
        assert len(found) == 6 and all(found[k] == v for k, v in want.items())


class TestMistakes:
    @pytest.mark.parametrize(
        ("name", "text"),
        [("l.json", "[1, 2]"), ("l.json", "{"), ("l.json", '"x"'), ("l.txt", "a b"),
         ("l.txt", "1 2 3\n"), ("l.json", "[1, 2, 3, 4, 5, 99999]"), ("l.json", "[1.5, 2, 3, 4, 5, 6]")],
    )  # fmt: skip
    def test_landmark_files(self, name, text, files, tmp_path, capsys):
        (tmp_path / name).write_text(text)
        message = refused(
            capsys, tmp_path / "a.safetensors", "gnm", files["gnm"], "--landmarks", tmp_path / name
        )
        assert f"--landmarks {tmp_path / name}: " in message


class TestWrongFiles:
    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("l.json", "{", "expected 68 vertex indices counted from 0 (Expecting property name"),
            (
                "l.json",
                '"x"',
                "expected 68 vertex indices counted from 0 (neither a list nor a table)",
            ),
            ("l.json", "[1, 2]", "2 landmarks, expected 68 vertex indices counted from 0"),
            ("l.json", '{"0": 1}', "1 landmarks, expected 68 vertex indices counted from 0"),
            (
                "l.json",
                "[1, 2, 3, 4, 5, 9.5]",
                "expected 68 vertex indices counted from 0 (9.5 is no",
            ),
            ("l.json", "[1, 2, 3, 4, 5, 100]", "vertex 100 is outside the mesh, which has 100"),
            ("l.txt", "1 2 3\n4\n", "expected 68 vertex indices counted from 0 (line 1 is neither"),
            ("l.npy", "no", "expected 68 vertex indices counted from 0 ("),
        ],
    )
    def test_line(self, tmp_path, name, text, message):
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(ModelFileError, match=re.escape(f"--landmarks {path}: {message}")):
            read_landmark_vertices(path, 100)

    def test_numbers_that_are_no_indices(self, tmp_path):
        np.save(tmp_path / "l.npy", np.zeros(68))
        with pytest.raises(ModelFileError, match=r"\(it holds float64, expected integers\)"):
            read_landmark_vertices(tmp_path / "l.npy", 100)
        np.save(tmp_path / "l.npy", np.arange(68)[None])
        assert read_landmark_vertices(tmp_path / "l.npy", 100) == {k: k for k in range(68)}

    def test_missing(self, tmp_path):
        with pytest.raises(ModelFileError, match=r"--landmarks .*none\.txt: no such file"):
            known_landmarks("ict", 100, tmp_path / "none.txt")
