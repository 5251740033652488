"""From photographs to crops: names, what is left out, going on after a stop."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from mofa_nvdr.cli import main
from mofa_nvdr.data.crops import finder as face_finder
from mofa_nvdr.data.crops.finder import FaceFinder
from mofa_nvdr.data.crops.framing import Crop, crop_from_landmarks
from mofa_nvdr.data.crops.landmark_files import LandmarkError
from mofa_nvdr.data.crops.preprocess import PreprocessOptions, preprocess_files
from mofa_nvdr.data.photographs import Photographs
from mofa_nvdr.render.pictures import write_png
from mofa_nvdr.system.locks import locked
from tests.helpers.landmarked_photographs import POINTS_5, photograph, points_68, rows_of


class NoFaces:
    """A detector that finds none: the photographs are noise, and OpenCV takes its time to say so."""

    def __init__(self, *options: float) -> None:
        pass

    def boxes(self, image: np.ndarray) -> list[tuple[float, ...]]:
        return []


@pytest.fixture(autouse=True)
def no_faces(request, monkeypatch):
    if "opencv" not in request.node.name:
        monkeypatch.setattr(face_finder, "FaceDetector", NoFaces)


class TestPreprocess:
    @pytest.mark.skipif(os.name == "nt", reason="names have no control characters there")
    def test_names_command_no_terminal(self, tmp_path, capsys):
        (tmp_path / "in").mkdir()
        for name in ("a\x1b[2J.jpg", "b\n1 faces from 1 photographs.jpg"):
            (tmp_path / "in" / name).write_bytes(b"no picture")
        preprocess_files([str(tmp_path / "in")], str(tmp_path / "out"))
        text = capsys.readouterr().out
        assert (
            "a\\x1b[2J.jpg: cannot read" in text and "b\\n1 faces from 1 photographs.jpg: c" in text
        )
        assert "\x1b" not in text and len(text.splitlines()) == 3

    def test_several_faces_go_to_one_split(self, tmp_path):
        for k in range(12):
            photograph(tmp_path / "in", f"{k}.png")
        files = [f"{k}.png" for k in range(12) for _ in range(2)]
        table = np.stack([POINTS_5 + 2 * (n % 2) for n in range(24)])
        np.savez(tmp_path / "in" / "landmarks5.npz", files=files, lm5=table)
        out = preprocess_files([str(tmp_path / "in")], str(tmp_path / "out"))
        rows = rows_of(out)
        assert len(rows) == 24 and len({row["file"] for row in rows}) == 24
        splits: dict[str, set[str]] = {}
        for row in rows:
            splits.setdefault(row["source"], set()).add(row["split"])
        assert all(len(names) == 1 for names in splits.values())
        assert {row["split"] for row in rows} == {"train", "val"}

    def test_what_is_left_out_and_why(self, tmp_path, capsys):
        folder = tmp_path / "in"
        cases = {
            "small": POINTS_5 * 0.2,
            "edge": (POINTS_5 - 100) * 3 + 100,
            "turned": POINTS_5 + np.array([[0, 0], [0, 0], [19.5, 0], [0, 0], [0, 0]]),
            "good": POINTS_5,
        }
        for name, points in cases.items():
            np.savetxt(photograph(folder, f"{name}.png").with_suffix(".txt"), points)
        iio.imwrite(folder / "flat.png", np.full((240, 240, 3), 80, np.uint8))
        np.savetxt(folder / "flat.txt", POINTS_5)
        (folder / "broken.jpg").write_bytes(b"no picture")
        photograph(folder, "other.png").with_suffix(".txt").write_text("1 2\n3 4\n")
        out = preprocess_files([str(folder)], str(tmp_path / "out"))
        assert [row["file"] for row in rows_of(out)] == ["images/good.jpg"]
        text = capsys.readouterr().out
        assert (
            "1 faces from 7 photographs, 1 left out as blurred, 1 left out as cut by the edge, "
            "1 left out as too small, 1 left out as turned away, no face in 1, 1 unreadable"
        ) in text
        assert "skipped: " in text and "broken.jpg" in text
        assert (
            "other.txt: holds 2 points, expected 5, 68, 98, 106, 468 or 478 rows of x and y; not used"
            in text
        )

    def test_goes_on_after_a_stop(self, tmp_path):
        for k in range(5):
            np.savetxt(photograph(tmp_path / "in", f"{k}.png").with_suffix(".txt"), POINTS_5)
        args = [str(tmp_path / "in")], str(tmp_path / "out")
        out = preprocess_files(*args)
        whole, log = (out / "index.csv").read_text(), out / "preprocess.jsonl"
        lines = log.read_text().splitlines(keepends=True)
        log.write_text(
            "".join(lines[:3]) + lines[3][:20]
        )  # killed while it wrote the third photograph
        kept = out / json.loads(lines[1])["faces"][0]["file"]
        kept.write_bytes(b"not made again")
        (out / "images" / "4.jpg").unlink()
        preprocess_files(*args)
        assert (out / "index.csv").read_text() == whole
        assert kept.read_bytes() == b"not made again"
        assert (out / "images" / "4.jpg").is_file()

    def test_same_names_in_two_folders(self, tmp_path):
        paths = [photograph(tmp_path / name, "face.png") for name in ("a", "b")]
        for path in paths:
            np.savetxt(path.with_suffix(".txt"), POINTS_5)
        out = preprocess_files([str(path) for path in paths], str(tmp_path / "out"))
        assert [row["file"] for row in rows_of(out)] == ["images/face.jpg", "images/face-2.jpg"]

    @pytest.mark.parametrize("workers", [1, 4])
    def test_order_does_not_depend_on_workers(self, tmp_path, workers):
        for k in range(6):
            np.savetxt(photograph(tmp_path / "in", f"{k}.png").with_suffix(".txt"), POINTS_5)
        out = preprocess_files([str(tmp_path / "in")], str(tmp_path / "out"), workers=workers)
        assert [row["file"] for row in rows_of(out)] == [f"images/{k}.jpg" for k in range(6)]


def faces(folder: Path, counts: dict[str, int]) -> Path:
    """Photographs with so many faces each, all in one table beside them."""
    files = [name for name, count in counts.items() for _ in range(count)]
    for name in counts:
        photograph(folder, name)
    marks = np.stack([POINTS_5 + k % 7 for k in range(len(files))])
    np.savez(folder / "landmarks5.npz", files=files, lm5=marks)
    return folder


def names_of(folder: Path) -> list[str]:
    """Names of the crops in index.csv, all of them files, each once; training reads them."""
    rows = rows_of(folder)
    files = [row["file"] for row in rows]
    assert len(set(files)) == len(files)
    assert {f"images/{path.name}" for path in (folder / "images").iterdir()} >= set(files)
    splits = [row["split"] for row in rows]
    for split in ("train", "val"):
        assert len(Photographs(folder, split)) == splits.count(split)
    return [Path(file).stem for file in files]


class TestNames:
    """A name is given once, in the order of the photographs, and stays."""

    @pytest.mark.parametrize("workers", [1, 4])
    @pytest.mark.parametrize(
        ("counts", "expected"),
        [
            (
                {"fam.png": 3, "fam_1.png": 1, "fam_2.png": 2},
                ["fam", "fam_1", "fam_2", "fam_1-2", "fam_2-2", "fam_2-2_1"],
            ),
            ({"b-2.png": 1, "b.jpg": 1, "b.png": 1}, ["b-2", "b", "b-3"]),
            ({"b.jpg": 1, "b.png": 1, "b.webp": 1}, ["b", "b-2", "b-3"]),
            ({"A.png": 1, "a.png": 1}, ["A", "a-2"]),
            ({"b_1.png": 1, "b_2.png": 0, "c.png": 1}, ["b_1", "c"]),
        ],
    )
    def test_unique(self, tmp_path, workers, counts, expected):
        folder = faces(tmp_path / "in", counts)
        out = preprocess_files([str(folder)], str(tmp_path / "out"), workers=workers)
        assert names_of(out) == expected
        assert len(list((out / "images").iterdir())) == len(expected)

    def test_folders_and_names_that_read_alike(self, tmp_path):
        for path in (tmp_path / "in" / "a_b.png", tmp_path / "in" / "a" / "b.png"):
            np.savetxt(photograph(path.parent, path.name).with_suffix(".txt"), POINTS_5)
        out = preprocess_files([str(tmp_path / "in")], str(tmp_path / "out"))
        assert names_of(out) == ["a_b", "a_b-2"]
        assert rows_of(out)[0]["source"] == str(tmp_path / "in" / "a" / "b.png")

    def test_a_photograph_that_is_given_twice(self, tmp_path, monkeypatch):
        monkeypatch.chdir(faces(tmp_path / "in", {"1.png": 1, "2.png": 1}))
        (tmp_path / "link").symlink_to(tmp_path / "in")
        inputs = ["2.png", "../in/2.png", ".", str(tmp_path / "link")]
        out = preprocess_files(inputs, str(tmp_path / "out"))
        assert names_of(out) == ["2", "1"]

    def test_long_and_foreign_names(self, tmp_path):
        long = "deep/" * 60
        np.savetxt(photograph(tmp_path / "in" / long, "x.png").with_suffix(".txt"), POINTS_5)
        try:
            foreign = photograph(tmp_path / "in").rename(tmp_path / "in" / "caf\udce9.png")
        except OSError:
            pytest.skip("file names are Unicode here")
        np.savetxt(foreign.with_suffix(".txt"), POINTS_5)
        (tmp_path / "in" / "\udce9.jpg").write_bytes(b"no picture")
        for _ in range(2):
            out = preprocess_files([str(tmp_path / "in")], str(tmp_path / "out"))
            first, second = names_of(out)
            assert first == "caf\ufffd" and second.endswith("_deep_x") and len(second) == 200


class TestAccumulates:
    """DIR keeps what its log records; what comes later gets names that are free."""

    def test_a_second_folder(self, tmp_path, capsys):
        a = faces(tmp_path / "a", {"1.png": 1, "2.png": 2})
        b = faces(tmp_path / "b", {"1.png": 2, "3.png": 1})
        out = preprocess_files([str(a)], str(tmp_path / "out"))
        before = {path.name: path.read_bytes() for path in (out / "images").iterdir()}
        preprocess_files([str(b)], str(tmp_path / "out"))
        assert names_of(out) == ["1", "2", "2_1", "1-2", "1-2_1", "3"]
        assert all((out / "images" / name).read_bytes() == data for name, data in before.items())
        text = capsys.readouterr().out
        assert (
            f"3 faces from 2 photographs: {out}\nin all 6 faces from 4 photographs: {out}" in text
        )
        table = (out / "index.csv").read_bytes()
        for inputs in ([a], [b], [b, a]):  # nothing is new
            preprocess_files([str(path) for path in inputs], str(tmp_path / "out"))
            assert (out / "index.csv").read_bytes() == table

    def test_landmarks_of_both(self, tmp_path):
        for name in ("a", "b"):
            np.savetxt(photograph(tmp_path / name).with_suffix(".txt"), points_68(len(name)))
            out = preprocess_files([str(tmp_path / name)], str(tmp_path / "out"))
        files = np.load(out / "landmarks68.npz")["files"].tolist()
        assert files == ["images/face.jpg", "images/face-2.jpg"] and names_of(out)

    def test_a_folder_that_grows(self, tmp_path):
        folder = faces(tmp_path / "in", {"k.png": 2})
        out = preprocess_files([str(folder)], str(tmp_path / "out"))
        first = (out / "images" / "k.jpg").read_bytes()
        faces(folder, {"k.png": 2, "k.jpg": 1, "a.png": 1})
        preprocess_files([str(folder)], str(tmp_path / "out"))
        assert names_of(out) == ["k", "k_1", "a", "k-2"]
        assert (out / "images" / "k.jpg").read_bytes() == first

    def test_the_same_relative_name_elsewhere(self, tmp_path, monkeypatch):
        for name in ("a", "b"):
            monkeypatch.chdir(faces(tmp_path / name, {"1.png": 1}))
            out = preprocess_files(["."], str(tmp_path / "out"))
        assert names_of(out) == ["1", "1-2"]

    def test_log_without_places(self, tmp_path, monkeypatch):
        """Logs were written so once; what they record is done."""
        monkeypatch.chdir(tmp_path)
        faces(tmp_path / "in", {"1.png": 1, "2.png": 1})
        out = preprocess_files(["in"], "out")
        log = out / "preprocess.jsonl"
        lines = [json.loads(text) for text in log.read_text().splitlines()]
        for line in lines:
            line.pop("place", None)
        log.write_text("".join(json.dumps(line) + "\n" for line in lines[:2]))
        (out / "images" / "1.jpg").write_bytes(b"not made again")
        preprocess_files(["in"], "out")
        assert (out / "images" / "1.jpg").read_bytes() == b"not made again"
        assert [row["file"] for row in rows_of(out)] == ["images/1.jpg", "images/2.jpg"]

    def test_log_that_gave_a_name_twice(self, tmp_path):
        """Which of the two crops is there cannot be known: both are made again."""
        folder = faces(tmp_path / "in", {"a.png": 1, "b.png": 1, "c.png": 1})
        out = preprocess_files([str(folder)], str(tmp_path / "out"))
        log = out / "preprocess.jsonl"
        log.write_text(log.read_text().replace("images/b.jpg", "images/a.jpg"))
        preprocess_files([str(folder)], str(tmp_path / "out"))
        assert sorted(names_of(out)) == ["a", "b", "c"]

    @pytest.mark.parametrize("inside", ["crops", "."])
    def test_own_crops_are_not_photographs(self, tmp_path, capsys, inside):
        folder = faces(tmp_path / "in", {"1.png": 1, "2.png": 1})
        for _ in range(2):
            out = preprocess_files([str(folder)], str(folder / inside))
            assert names_of(out) == ["1", "2"]
            assert capsys.readouterr().out == f"2 faces from 2 photographs: {out}\n"


class TestOwnResults:
    """What the package wrote is no photograph; crops are, where they are named."""

    @pytest.fixture
    def folder(self, tmp_path):
        """A photograph with landmarks, and the results of reconstruct for another one without any."""
        folder = faces(tmp_path / "in", {"1.png": 1})
        photograph(folder, "a.png")
        keys = ("shape", "expression", "albedo", "rotation", "translation", "light")
        np.savez(folder / "a.npz", **{key: np.zeros(3) for key in keys})
        write_png(folder / "a_panel.png", iio.imread(folder / "a.png"), kind="panel")
        return folder

    def test_parameters_are_no_landmarks(self, folder, tmp_path, monkeypatch, capsys):
        """The photograph next to them goes to the detector."""
        monkeypatch.setattr(FaceFinder, "find", lambda self, picture: ([], 0))
        out = preprocess_files([str(folder)], str(tmp_path / "out"))
        assert names_of(out) == ["1"]
        assert capsys.readouterr().out == (
            "2 files not read: what mofa-nvdr wrote: 1 panel, 1 parameter file\n"
            f"1 faces from 2 photographs, no face in 1: {out}\n"
        )

    def test_named_ones(self, folder, tmp_path, capsys):
        inputs = [folder / "1.png", folder / "a.npz", folder / "a_panel.png"]
        preprocess_files([str(path) for path in inputs], str(tmp_path / "out"))
        text = capsys.readouterr().out
        assert f"skipped: {inputs[1]}: a parameter file that mofa-nvdr wrote, not a photo" in text
        assert f"skipped: {inputs[2]}: a panel that mofa-nvdr wrote, not a photograph\n" in text
        assert "1 faces from 3 photographs, 2 unreadable" in text

    def test_crops_of_another_call_inside(self, tmp_path, capsys):
        folder = faces(tmp_path / "in", {"1.png": 1, "2.png": 1})
        first = preprocess_files([str(folder)], str(folder / "crops"))
        capsys.readouterr()
        out = preprocess_files([str(folder)], str(tmp_path / "out"))
        assert names_of(out) == ["1", "2"]
        assert capsys.readouterr().out == (
            f"left out: {first} holds crops; name it to crop them again\n"
            f"2 faces from 2 photographs: {out}\n"
        )

    def test_crops_that_are_named(self, tmp_path, monkeypatch, capsys):
        folder = faces(tmp_path / "in", {"1.png": 1})
        first = preprocess_files([str(folder)], str(tmp_path / "first"))
        monkeypatch.setattr(FaceFinder, "find", lambda self, picture: ([], 0))
        preprocess_files([str(first)], str(tmp_path / "second"))
        assert "0 faces from 1 photographs, no face in 1" in capsys.readouterr().out


class TestLargePhotographs:
    def test_place_and_limit(self, tmp_path, capsys):
        """The crop is cut out of a coarser decoding and its place kept in the photograph's pixels."""
        pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8)
        large = Image.fromarray(pixels).resize((4000, 3000), Image.Resampling.NEAREST)
        (tmp_path / "in").mkdir()
        large.save(tmp_path / "in" / "a.jpg", quality=95)
        np.savetxt(tmp_path / "in" / "a.txt", POINTS_5 * 15)
        out = preprocess_files([str(tmp_path / "in")], str(tmp_path / "out"))
        (row,) = rows_of(out)
        crop = Crop(*(float(row[key]) for key in ("left", "top", "side")))
        want = crop_from_landmarks(POINTS_5 * 15)
        assert crop == want and crop.side > 1000
        cut = iio.imread(out / row["file"]).astype(int)
        assert np.abs(cut - crop.cut(np.asarray(large), 256)).mean() < 6  # measured 3, JPEG twice
        again = ([str(tmp_path / "in")], str(tmp_path / "none"))
        preprocess_files(*again, max_megapixels=11)
        text = capsys.readouterr().out
        assert "12 megapixels, more than --max-megapixels 11; give a larger one if it is to" in text
        preprocess_files(*again)  # tried again, with another limit
        assert names_of(tmp_path / "none") == ["a"]

    def test_log_without_the_size_of_the_copy(self, tmp_path):
        """Earlier versions wrote none: it is the default's."""
        folder = faces(tmp_path / "in", {"1.png": 1})
        out = preprocess_files([str(folder)], str(tmp_path / "out"))
        log = out / "preprocess.jsonl"
        log.write_text(log.read_text().replace(', "detection_size": 1280', "", 1))
        assert "detection_size" not in log.read_text()
        preprocess_files([str(folder)], str(tmp_path / "out"))
        with pytest.raises(ValueError, match="was made with other options"):
            preprocess_files(
                [str(folder)], str(tmp_path / "out"), PreprocessOptions(detection_size=900)
            )


class TestFailures:
    """A photograph that cannot be used is named, counted and tried again; the others are done."""

    def bad_folder(self, folder: Path) -> Path:
        """good.png and photographs with a sidecar each that is bad in its own way."""
        np.savetxt(photograph(folder, "good.png").with_suffix(".txt"), POINTS_5)
        photograph(folder, "junk.png").with_suffix(".npz").write_bytes(b"junk")
        np.savez(photograph(folder, "text.png").with_suffix(".npz"), lm68=[["a", "b"]] * 68)
        np.savez(photograph(folder, "other.png").with_suffix(".npz"), boxes=np.zeros(4))
        np.save(photograph(folder, "array.png").with_suffix(".npy"), np.zeros((68, 2)))
        (folder / "array.npy").rename(folder / "array.npz")
        photograph(folder, "words.png").with_suffix(".csv").write_text("left,right\n" * 68)
        photograph(folder, "closed.png").with_suffix(".pts").write_text("{}")
        np.savetxt(photograph(folder, "point.png").with_suffix(".txt"), POINTS_5 / 5)
        return folder

    def test_bad_sidecars(self, tmp_path, monkeypatch, capsys):
        folder = self.bad_folder(tmp_path / "in")
        read_text = Path.read_text

        def refused(path: Path, *args, **kwargs) -> str:
            if path.name == "closed.pts":
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return read_text(path, *args, **kwargs)

        monkeypatch.setattr(Path, "read_text", refused)
        with pytest.raises(LandmarkError) as error:
            preprocess_files([str(folder)], str(tmp_path / "out"))
        assert str(error.value).startswith(
            "4 photographs left out for their landmarks, all others are done; correct the landmarks and give "
            f"the same command again, or remove them; first {folder / 'array.npz'}: cannot read it"
        )
        assert names_of(tmp_path / "out") == ["good"]
        text = capsys.readouterr().out
        for name, reason in (
            ("junk.npz", "cannot read it as .npz without pickles"),
            ("text.npz", "holds points of kind <U1, expected numbers"),
            ("array.npz", "cannot read it as .npz without pickles"),
            ("closed.pts", "cannot read it (Permission denied)"),
        ):
            assert f"skipped: {folder / name}: {reason}" in text
        for name, reason in (
            (
                "other.npz",
                "holds none of lm5, lm68, lm98, lm106, lm468, lm478; not taken for landmarks",
            ),
            ("words.csv", "holds no rows of x and y; not taken for landmarks"),
        ):
            assert f"note: {folder / name}: {reason}" in text
        assert (
            "1 faces from 8 photographs, 1 left out as too small, no face in 2, 4 with landmarks that are "
            f"refused: {tmp_path / 'out'}"
        ) in text

    def test_mended_files_are_tried_again(self, tmp_path, capsys):
        folder = self.bad_folder(tmp_path / "in")
        (folder / "broken.png").write_bytes(b"no picture")
        out = tmp_path / "out"
        with pytest.raises(LandmarkError, match="4 photographs left out"):
            preprocess_files([str(folder)], str(out))
        pruned = folder / "point.txt"
        for path in (folder / "text.npz", folder / "junk.npz", pruned):
            path.unlink()
            np.savetxt(path.with_suffix(".txt"), POINTS_5)
        capsys.readouterr()
        with pytest.raises(LandmarkError, match="2 photographs left out"):
            preprocess_files([str(folder)], str(out))
        # What was left out as too small is done.
        assert names_of(out) == ["good", "junk", "text"]
        text = capsys.readouterr().out
        assert "junk" not in text and f"skipped: {folder / 'broken.png'}: cannot read this" in text
        assert (
            "3 faces from 9 photographs, 1 left out as too small, no face in 2, 2 with landmarks that are "
            "refused, 1 unreadable"
        ) in text
        with pytest.raises(LandmarkError, match="2 photographs left out"):
            preprocess_files([str(folder)], str(out))
        # The log has a line for the options and for each photograph, then those tried again.
        assert len((out / "preprocess.jsonl").read_text().splitlines()) == 1 + 9 + 3

    def test_folders_that_cannot_be_read(self, tmp_path, monkeypatch, capsys):
        for name in ("a", "closed", "z"):
            np.savetxt(photograph(tmp_path / "in" / name).with_suffix(".txt"), POINTS_5)
        scandir = os.scandir

        def refused(path):
            if Path(path).name == "closed":
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refused)
        out = preprocess_files([str(tmp_path / "in")], str(tmp_path / "out"))
        assert names_of(out) == ["a_face", "z_face"]
        reason = f"{tmp_path / 'in' / 'closed'}: cannot read this folder (Permission denied)"
        text = capsys.readouterr().out
        assert f"skipped: {reason}\n" in text
        assert "2 faces from 2 photographs, 1 folders that cannot be read" in text
        with pytest.raises(ValueError, match=re.escape(reason)):
            preprocess_files([str(tmp_path / "in" / "closed")], str(tmp_path / "other"))
        assert not (tmp_path / "other").exists()

    def test_folder_that_may_be_listed_alone(self, tmp_path, monkeypatch, capsys):
        folder = faces(tmp_path / "in", {"1.png": 1, "2.png": 1})
        is_file = Path.is_file

        def refused(path: Path) -> bool:
            if path.name == "1.png":
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return is_file(path)

        monkeypatch.setattr(Path, "is_file", refused)
        out = preprocess_files([str(folder)], str(tmp_path / "out"))
        assert [row["file"] for row in rows_of(out)] == ["images/2.jpg"]
        assert "1.png: cannot read it (Permission denied)" in capsys.readouterr().out
        with pytest.raises(ValueError, match=r"1.png: cannot read it \(Permission denied\)"):
            preprocess_files([str(folder / "1.png")], str(tmp_path / "other"))

    @pytest.mark.parametrize("name", ["images/3.jpg", "index.csv"])
    def test_full_disk(self, tmp_path, monkeypatch, name):
        folder = faces(tmp_path / "in", {f"{k}.png": 1 for k in range(6)})
        whole = preprocess_files([str(folder)], str(tmp_path / "whole"))
        write_bytes = Path.write_bytes

        def full(path: Path, data: bytes) -> int:
            if Path(name).name in path.name:  # its temporary name holds it
                write_bytes(path, data[:9])
                raise OSError(errno.ENOSPC, "No space left on device")
            return write_bytes(path, data)

        monkeypatch.setattr(Path, "write_bytes", full)
        expected = (
            r"out: cannot write there any more \(No space left on device\); the crops that are done are "
            "whole; free some space or repair the folder, then the same command resumes"
        )
        for _ in range(2):
            with pytest.raises(OSError, match=expected):
                preprocess_files([str(folder)], str(tmp_path / "out"))
        monkeypatch.setattr(Path, "write_bytes", write_bytes)
        first = tmp_path / "out" / "images" / "0.jpg"
        data = first.read_bytes()
        first.write_bytes(b"not made again")
        out = preprocess_files([str(folder)], str(tmp_path / "out"))
        assert first.read_bytes() == b"not made again"
        first.write_bytes(data)
        for path in whole.rglob("*"):
            if path.is_file() and path.name != "preprocess.jsonl":
                assert (out / path.relative_to(whole)).read_bytes() == path.read_bytes()
        assert not list(out.rglob("*.tmp"))


class TestKnownLandmarks:
    """Never silently replaced by the detector: used, refused, or named in a note."""

    MISTAKES = {
        "y_x": (
            lambda p: p[:, ::-1],
            "look like rows of y and x, expected x and y: exchange the columns",
        ),
        "shares": (lambda p: p / 240, "look normalised to [0, 1], expected pixels of the picture"),
        "index": (lambda p: np.stack([np.arange(len(p)), p[:, 0]], -1), "remove the index column"),
        "outside": (lambda p: p * 4, "lie outside the picture of 240x240 px"),
    }

    @pytest.mark.parametrize("points", [POINTS_5, points_68()])
    @pytest.mark.parametrize("kind", ["file", "table"])
    def test_another_frame_is_refused(self, tmp_path, monkeypatch, capsys, kind, points):
        """The photograph is left out, counted, named, and the exit code says so; the others are done."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(
            face_finder.FaceDetector, "boxes", lambda self, image: [(60, 50, 80, 9.0)]
        )
        marks = {name: change(points) for name, (change, _) in self.MISTAKES.items()}
        marks["right"] = points
        for name, rows in marks.items():
            path = photograph(Path("in"), f"{name}.png")
            if kind == "file":
                np.savetxt(path.with_suffix(".txt"), rows)
        if kind == "table":
            table = {f"lm{len(points)}": np.stack(list(marks.values()))}
            np.savez(f"in/landmarks{len(points)}.npz", files=[f"{n}.png" for n in marks], **table)
        assert main(["preprocess", "in", "--out", "out"]) == 2
        out, err = capsys.readouterr()
        assert names_of(Path("out")) == ["right"]
        assert rows_of(Path("out"))[0]["found_by"] == f"{len(points)} landmarks"
        for name, (_, reason) in self.MISTAKES.items():
            file = f"{name}.txt" if kind == "file" else f"landmarks{len(points)}.npz"
            (line,) = [t for t in out.splitlines() if f"the points of {name}.png " in t]
            assert line.startswith(f"skipped: {Path('in') / file}: ") and reason in line
        assert "1 faces from 5 photographs, 4 with landmarks that are refused: out\n" in out
        assert err.startswith(
            "mofa-nvdr: 4 photographs left out for their landmarks, all others are done;"
        )
        assert err.count("\n") == 1

    def test_stored_pixels_of_a_turned_photograph(self, tmp_path, capsys):
        path = photograph(tmp_path / "in", "phone.png")
        exif = Image.Exif()
        exif[0x0112] = 6
        with Image.open(path) as picture:
            picture.save(path, exif=exif)
        for points, code in (
            (POINTS_5, 0),
            (np.stack([POINTS_5[:, 1], 240 - POINTS_5[:, 0]], -1), 2),
        ):
            np.savetxt(path.with_suffix(".txt"), points)
            args = ["preprocess", str(path), "--out", str(tmp_path / f"out{code}")]
            assert main(args) == code
        assert (
            "look like those of the stored pixels, before the EXIF turn" in capsys.readouterr().err
        )

    def test_caption_is_no_landmarks(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(
            face_finder.FaceDetector, "boxes", lambda self, image: [(60, 50, 80, 9.0)]
        )
        path = photograph(tmp_path / "in")
        path.with_suffix(".txt").write_text("a photo of a person, smiling\n")
        out = preprocess_files([str(path)], str(tmp_path / "out"))
        assert rows_of(out)[0]["found_by"] == "detector"
        reason = "holds no rows of x and y; not taken for landmarks"
        assert f"note: {path.with_suffix('.txt')}: {reason}\n" in capsys.readouterr().out

    def test_rows_and_files_of_nothing_are_named(self, tmp_path, capsys):
        path = photograph(tmp_path / "in")
        np.savez(tmp_path / "in" / "landmarks5.npz", files=["gone.png", "face"], lm5=[POINTS_5] * 2)
        (tmp_path / "in" / "lost.pts").write_text("{}")
        preprocess_files([str(path)], str(tmp_path / "out"))
        assert rows_of(tmp_path / "out")[0]["found_by"] == "5 landmarks"
        text = capsys.readouterr().out
        assert "landmarks5.npz: 1 of 2 rows, first 'gone.png', name no picture there" in text
        assert "lost.pts: landmarks of no picture in" in text


class TestLock:
    def test_second_command_on_a_folder(self, tmp_path, capsys):
        np.savetxt(photograph(tmp_path / "in").with_suffix(".txt"), POINTS_5)
        out = tmp_path / "out"
        out.mkdir()
        args = ["preprocess", str(tmp_path / "in"), "--out", str(out)]
        with locked(out, "mofa-nvdr preprocess"):
            assert main(args) == 2
        assert f"{out}: process {os.getpid()} on " in capsys.readouterr().err
        assert not (out / "preprocess.jsonl").exists()
        assert main(args) == 0
        assert sorted(path.name for path in out.iterdir()) == [
            "images",
            "index.csv",
            "preprocess.jsonl",
        ]


class TestMistakes:
    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            ([], "no input; give photographs or folders of them"),
            (["missing"], "missing: no such photograph or folder"),
            (["empty"], "no pictures here"),
        ],
    )
    def test_nothing_to_read(self, tmp_path, monkeypatch, inputs, message):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "empty").mkdir()
        with pytest.raises(ValueError, match=message):
            preprocess_files(inputs, "out")

    @pytest.mark.parametrize("name", ["index.csv", "landmarks68.npz"])
    def test_tables_of_the_photographs(self, tmp_path, name):
        """Crops next to the photographs would replace what is known of these."""
        np.savetxt(photograph(tmp_path).with_suffix(".txt"), POINTS_5)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / name).write_bytes(b"of photographs")
        words = (
            f"holds {name}, and no preprocess.jsonl says that it is of crops; give another folder"
        )
        with pytest.raises(ValueError, match=words):
            preprocess_files([str(tmp_path / "face.png")], str(tmp_path / "out"))
        assert (tmp_path / "out" / name).read_bytes() == b"of photographs"

    def test_other_options_than_before(self, tmp_path):
        np.savetxt(photograph(tmp_path).with_suffix(".txt"), POINTS_5)
        preprocess_files([str(tmp_path / "face.png")], str(tmp_path / "out"))
        with pytest.raises(ValueError, match="out: was made with other options .*another --out"):
            preprocess_files(
                [str(tmp_path / "face.png")], str(tmp_path / "out"), PreprocessOptions(size=64)
            )

    def test_without_opencv(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "cv2", None)
        path = photograph(tmp_path)
        with pytest.raises(
            RuntimeError, match=r"needs OpenCV 4; pip install 'opencv-python-headless"
        ):
            preprocess_files([str(path)], str(tmp_path / "out"))
        np.savetxt(path.with_suffix(".txt"), POINTS_5)  # landmarks need none
        preprocess_files([str(path)], str(tmp_path / "out"))
