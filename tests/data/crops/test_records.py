"""What a folder of crops remembers: the log, the tables, the summary."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from mofa_nvdr.data.crop_tables import (
    DENSE_FILE,
    LANDMARK_FILE,
    read_dense_landmarks,
    read_index,
    read_landmarks,
)
from mofa_nvdr.data.crops.records import LOG_FILE, place_of, read_records, summary, write_tables
from tests.helpers.landmarked_photographs import frontal_68, mesh_of

OPTIONS = {"size": 240, "score": 2.0}


def record(source, *files, **more):
    faces = [{"file": f"images/{file}.jpg", "left": 1.0} for file in files]
    return {"source": source, "place": f"/in/{source}", "faces": faces, "pruned": [], **more}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    return tmp_path


def write_log(folder, *lines):
    (folder / LOG_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))


class TestReadLog:
    def test_new_folder(self, folder):
        assert read_records(folder, OPTIONS, OPTIONS) == {}
        assert json.loads((folder / LOG_FILE).read_text()) == {"options": OPTIONS}

    def test_later_line_counts_and_half_a_line_does_not(self, folder):
        first, second = record("a.png", "a"), record("a.png", "a", "a_1")
        write_log(folder, {"options": OPTIONS}, first, second)
        with open(folder / LOG_FILE, "a") as log:
            log.write('{"source": "b.p')
        assert read_records(folder, OPTIONS, OPTIONS) == {"/in/a.png": second}
        lines = (folder / LOG_FILE).read_text().splitlines()
        assert [json.loads(line) for line in lines] == [{"options": OPTIONS}, second]

    def test_one_file_of_two_photographs(self, folder):
        write_log(folder, {"options": OPTIONS}, record("a.png", "a"), record("b.png", "a"))
        assert read_records(folder, OPTIONS, OPTIONS) == {}

    def test_options_of_an_earlier_version(self, folder):
        write_log(folder, {"options": {"size": 240}}, record("a.png", "a"))
        assert list(read_records(folder, OPTIONS, OPTIONS)) == ["/in/a.png"]
        with pytest.raises(ValueError, match="was made with other options .*another --out"):
            read_records(folder, {**OPTIONS, "score": 3.0}, OPTIONS)

    def test_folder_of_something_else(self, folder):
        (folder / LANDMARK_FILE).write_bytes(b"of photographs")
        with pytest.raises(ValueError, match="holds landmarks68.npz, and no preprocess.jsonl says"):
            read_records(folder, OPTIONS, OPTIONS)
        (folder / "images" / "x.jpg").write_bytes(b"")
        with pytest.raises(ValueError, match="its images/ holds files, and no preprocess.jsonl"):
            read_records(folder, OPTIONS, OPTIONS)


def test_place_of_links(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "b.png").symlink_to(tmp_path / "in" / "a.png")
    a = place_of(tmp_path / "in" / "a.png")
    assert place_of(tmp_path / "link" / "a.png") == a
    assert place_of(tmp_path / "in" / "b.png") != a and os.path.isabs(a)


class TestWriteTables:
    def test_faces_of_one_photograph_go_to_one_split(self, folder):
        write_tables(folder, [record(f"{k}.png", f"{k}", f"{k}_1") for k in range(40)])
        names = [f"images/{k}{tail}.jpg" for k in range(40) for tail in ("", "_1")]
        splits = read_index(folder / "index.csv", names, folder)
        assert set(splits.values()) == {"train", "val"}
        assert all(splits[a] == splits[b] for a, b in zip(names[::2], names[1::2]))
        assert not (folder / LANDMARK_FILE).exists()

    def test_landmarks_of_those_that_have_them(self, folder):
        points = frontal_68() * 60 + 120
        marked, bare = record("a.png", "a"), record("b.png", "b")
        marked["faces"][0]["lm68"] = points.tolist()
        write_tables(folder, [marked, bare])
        table = read_landmarks(folder / LANDMARK_FILE, ["images/a.jpg"], folder, ())
        np.testing.assert_allclose(table["images/a.jpg"][:, :2], points, rtol=1e-6)

    def test_dense_landmarks_name_their_source(self, folder):
        points = mesh_of(frontal_68() * 60 + 120)
        given, found, bare = (record(f"{name}.png", name) for name in "abc")
        given["faces"][0] |= {"lm478": [*points[:477].tolist(), [None, None]], "score": None}
        found["faces"][0] |= {"lm478": points.tolist(), "score": 0.9}
        write_tables(folder, [given, found, bare])
        names = ["images/a.jpg", "images/b.jpg"]
        table = read_dense_landmarks(folder / DENSE_FILE, names, folder, ())
        np.testing.assert_allclose(table["images/b.jpg"], points, rtol=1e-6)
        assert np.isnan(table["images/a.jpg"][477]).all()
        source = np.load(folder / DENSE_FILE)["source"].tolist()
        assert source == ["next to the photograph", "MediaPipe's face mesh and iris networks"]


def test_summary():
    records = [
        record("a.png", "a", "a_1"),
        record("b.png", pruned=["blurred", "small", "blurred"]),
        record("c.png"),
        record("d.png", unreadable="cut short"),
        record("e.png", unreadable="y before x", refused=True),
    ]
    assert summary(records, 2) == (
        "2 faces from 5 photographs, 2 left out as blurred, 1 left out as small, no face in 1, "
        "1 with landmarks that are refused, 1 unreadable, 2 folders that cannot be read"
    )
