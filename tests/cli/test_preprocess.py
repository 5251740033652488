"""mofa-nvdr preprocess: options, and one line for those that cannot be meant."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mofa_nvdr.cli import main
from mofa_nvdr.data import (
    open_corpus,
    val_batches,
)
from mofa_nvdr.data.crops.framing import Crop
from mofa_nvdr.data.crops.preprocess import PreprocessOptions
from mofa_nvdr.data.images import read_image
from mofa_nvdr.face.ibug_points import ibug_landmarks
from mofa_nvdr.networks.landmark_detector import LandmarkDetector
from tests.helpers.commands import calls_of, error_line, help_words
from tests.helpers.drawn_heads import draw_head, stand_in_detector
from tests.helpers.landmarked_photographs import POINTS_5, photograph


class TestCommand:
    def test_command(self, tmp_path, capsys):
        np.savetxt(photograph(tmp_path).with_suffix(".txt"), POINTS_5)
        out = tmp_path / "out"
        assert (
            main(["preprocess", str(tmp_path / "face.png"), "--out", str(out), "--size", "64"]) == 0
        )
        assert "1 faces from 1 photographs" in capsys.readouterr().out
        assert read_image(out / "images" / "face.jpg").shape == (64, 64, 3)

    def test_preprocess_and_train(self, tmp_path: Path, capsys):
        folder = tmp_path / "in"
        folder.mkdir()
        points = np.array([[80.0, 90], [120, 90], [100, 115], [85, 140], [115, 140]])
        for i in range(6):
            pixels = np.random.default_rng(i).integers(0, 255, (240, 240, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
            np.savetxt(folder / f"{i}.txt", points)
        out = tmp_path / "out"
        args = ["preprocess", str(folder), "--out", str(out), "--size", "48"]
        assert main([*args, "--shards", "-1"]) == 2
        assert "--shards is -1.0, expected 0 to 1000000" in capsys.readouterr().err
        assert main([*args, "--shards", "0.01"]) == 0
        assert f"shards: {out / 'shards'}" in capsys.readouterr().out
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = sum(len(open_corpus(out / "shards", s, 48)) for s in ("train", "val"))
            list(val_batches(open_corpus(out / "shards", "val", 48), 2))
        assert found == 6
        config = ["--config", "smoke", "--steps", "2", "--out", str(tmp_path / "run")]
        truncated = sorted((out / "shards").glob("train-*.tar"))[0]
        truncated.write_bytes(truncated.read_bytes()[:-9000])
        warnings.simplefilter("default")  # in tests warnings are errors
        assert main(["train", *config, "--data", str(out / "shards")]) == 0
        printed = capsys.readouterr()
        assert "1 unreadable images were skipped" in printed.out
        assert re.fullmatch(
            r"warning: skipped picture 1: \S+train-\d+\.tar: the shard is cut short [^\n]+\n",
            printed.err,
        )
        lines = [json.loads(x) for x in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
        assert [x["skipped_images"] for x in lines if x.get("split") != "val"] == [1, 1]


class TestMistakes:
    @pytest.mark.parametrize(
        ("option", "value", "expected"),
        [
            ("size", "0", "is 0, expected 16 to 16384"),
            ("size", "99999", "is 99999, expected 16 to 16384"),
            ("smallest", "0", "is 0, expected 1 to 16384"),
            ("smallest", "999999", "is 999999, expected 1 to 16384"),
            ("sharpness", "inf", "is inf, expected 0 to 1000000"),
            ("turned", "-1", "is -1.0, expected 0 to 1000"),
            ("score", "nan", "is nan, expected -100 to 100"),
            ("detection-size", "10", "is 10, expected 64 to 16384"),
            ("max-megapixels", "0", "is 0.0, expected 0.001 to 100000"),
            ("max-megapixels", "nan", "is nan, expected 0.001 to 100000"),
            ("workers", "0", "is 0, expected 1 to 1024"),
            ("workers", "4000", "is 4000, expected 1 to 1024"),
            ("shards", "-2", "is -2.0, expected 0 to 1000000"),
            ("shards", "inf", "is inf, expected 0 to 1000000"),
        ],
    )
    def test_numbers_out_of_their_range(self, tmp_path, capsys, option, value, expected):
        args = ["preprocess", str(photograph(tmp_path)), "--out", str(tmp_path / "o")]
        assert main([*args, f"--{option}", value]) == 2
        assert capsys.readouterr().err == f"mofa-nvdr: --{option} {expected}\n"
        assert not (tmp_path / "o").exists()

    @pytest.mark.parametrize(
        ("photos", "out", "message"),
        [
            ("", "o", "preprocess: an input is empty, expected a photograph or a folder"),
            ("face.png", "", "--out is empty, expected a folder"),
            ("face.png", "face.png", "--out face.png: cannot write there (Not a directory); give"),
            ("images", ".", "images: lies in images, where crops go; give another --out"),
            ("images/own.png", ".", "images/own.png: lies in images, where crops go; give another"),
            ("face.png", ".", "--out .: its images/ holds files, and no preprocess.jsonl says of"),
        ],
    )
    def test_folders_that_cannot_be_meant(
        self, tmp_path, monkeypatch, capsys, photos, out, message
    ):
        """Nothing is searched or written over that was not named."""
        monkeypatch.chdir(tmp_path)
        photograph(tmp_path)
        own = photograph(tmp_path / "images", "own.png").read_bytes()
        before = sorted(tmp_path.rglob("*"))
        assert main(["preprocess", photos, "--out", out]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before
        assert (tmp_path / "images" / "own.png").read_bytes() == own


class TestOptions:
    def test_into_one_call(self, monkeypatch, tmp_path):
        calls = calls_of(monkeypatch, "mofa_nvdr.data.crops.preprocess.preprocess_files")
        monkeypatch.setenv("MOFA_NVDR_CACHE", str(tmp_path))  # no networks
        assert main(["preprocess", "a", "b.png", "--out", "o"]) == 0
        numbers = {"size": 64, "smallest": 20, "sharpness": 3.5, "turned": 0.4, "score": 1.5}
        options = {**numbers, "landmark-model": "m.dat", "workers": 3, "shards": 7.5}
        options |= {"detection-size": 900, "max-megapixels": 30.0}
        words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        assert main(["preprocess", "a", "--out", "o", *words]) == 0
        assert calls == [
            (["a", "b.png"], "o", PreprocessOptions(), 2, 0.0, 250.0, None),
            (
                ["a"],
                "o",
                PreprocessOptions(64, 20, 3.5, 0.4, 1.5, "m.dat", 900),
                3,
                7.5,
                30.0,
                None,
            ),
        ]

    def test_help_has_units(self, capsys):
        words = help_words(capsys, "preprocess")
        assert "side of the crops in pixels" in words and "shards of about this many MB" in words

    def test_wrong_one(self, capsys):
        assert "--size" in error_line(capsys, "preprocess", "a", "--out", "o", "--size", "large")


class TestDetector:
    """What finds faces: the networks if they are here, unless a landmark model or the cascade is."""

    @pytest.fixture
    def finders(self, monkeypatch):
        """Of each call, whether it was given networks."""
        calls = calls_of(monkeypatch, "mofa_nvdr.data.crops.preprocess.preprocess_files")

        def call(*options: str) -> bool:
            assert main(["preprocess", "a", "--out", "o", *options]) == 0
            return calls.pop()[-1] is not None

        return call

    def test_with_networks(self, finders, monkeypatch):
        here = stand_in_detector()
        monkeypatch.setattr(LandmarkDetector, "is_here", lambda: True)
        monkeypatch.setattr(LandmarkDetector, "load", lambda: here)
        assert finders() and finders("--detector", "networks")
        assert not finders("--detector", "haar")
        assert not finders("--landmark-model", "m.dat")

    def test_without_networks(self, finders, monkeypatch, tmp_path, capsys):
        monkeypatch.setenv("MOFA_NVDR_CACHE", str(tmp_path))
        assert not finders() and not finders("--detector", "haar")
        command = ["preprocess", "a", "--out", "o", "--detector", "networks"]
        assert error_line(capsys, *command).endswith("mofa-nvdr networks get landmarks")
        line = error_line(capsys, *command, "--landmark-model", "m.dat")
        assert "--detector networks: gives landmarks of its own" in line

    def test_crops_of_drawn_heads(self, monkeypatch, tmp_path, capsys):
        """All the way: two heads, framed by landmarks that go with them."""
        here = stand_in_detector()
        monkeypatch.setattr(LandmarkDetector, "is_here", lambda: True)
        monkeypatch.setattr(LandmarkDetector, "load", lambda: here)
        picture = np.random.default_rng(0).integers(0, 60, (300, 500, 3)).astype(np.uint8)
        eyes = draw_head(picture, 150, 150, 70)
        draw_head(picture, 370, 150, 60)
        (tmp_path / "in").mkdir()
        Image.fromarray(picture).save(tmp_path / "in" / "two.png")
        out = tmp_path / "out"
        command = [
            "preprocess",
            str(tmp_path / "in"),
            "--out",
            str(out),
            "--sharpness",
            "0",
            "--turned",
            "1000",
        ]
        assert main(command) == 0
        assert "2 faces from 1 photographs" in capsys.readouterr().out
        table = np.load(out / "landmarks68.npz")
        assert table["lm68"].shape == (2, 68, 2)
        dense = np.load(out / "landmarks478.npz")
        assert (dense["files"] == table["files"]).all()
        assert set(dense["source"]) == {"MediaPipe's face mesh and iris networks"}
        # Rounded to 0.01 px, and the landmarks to 0.001.
        np.testing.assert_allclose(ibug_landmarks(dense["lm478"]), table["lm68"], atol=0.02)
        lines = (out / "preprocess.jsonl").read_text().splitlines()
        face = json.loads(lines[1])["faces"][0]
        assert face["found_by"] == "networks, 68 landmarks" and 0 < face["score"] < 1
        crop = Crop(face["left"], face["top"], face["side"])
        corner = crop.to_source(table["lm68"][0, 36], 256)
        assert np.abs(corner - eyes["right"]).max() < 15  # the outer corner is next to the dot
        assert main(command) == 0  # again, and with the other detector, the folder goes on
        assert main([*command, "--detector", "haar"]) == 0
