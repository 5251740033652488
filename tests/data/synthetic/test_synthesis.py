"""mofa-nvdr synthesize: the same bytes for any number of workers and any interruption; truth that fits."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from mofa_nvdr.cli import main
from mofa_nvdr.data import Photographs, open_corpus
from mofa_nvdr.data.synthetic.rendered_folder import CHUNK
from mofa_nvdr.data.synthetic.synthesis import SynthesisOptions, synthesize_files
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.system.locks import FolderInUse, locked
from mofa_nvdr.system.marks import read_mark
from tests.helpers.small_face import small_face

ROOT = Path(__file__).resolve().parents[3]
SIZE = 48


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("model") / "cap.safetensors"
    small_face(16).save(path)
    return str(path)


@pytest.fixture(scope="module")
def options(model) -> SynthesisOptions:
    return SynthesisOptions(seed=3, size=SIZE, face_model=model)


@pytest.fixture(scope="module")
def corpus(options, tmp_path_factory) -> Path:
    return synthesize_files(20, str(tmp_path_factory.mktemp("corpus")), options)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class TestCorpus:
    def test_files(self, corpus: Path):
        assert len(list((corpus / "images").iterdir())) == 20
        assert not list(corpus.rglob("*.tmp"))
        with open(corpus / "index.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["file"] for row in rows] == [f"images/{k:07d}.jpg" for k in range(20)]
        assert rows[7]["source"] == "synthetic seed 3 face 7"
        assert {row["split"] for row in rows} == {"train", "val"}

    def test_truth_is_the_decoders(self, corpus: Path, options: SynthesisOptions):
        """Decoding a stored code gives the stored landmarks, mask and colours."""
        from mofa_nvdr.face.model import FaceModel

        model = FaceModel.load(options.face_model)
        decoder = FaceDecoder(model, camera=Camera(image_size=SIZE))
        table = np.load(corpus / "codes.npz")
        assert table["face_model_hash"] == model.hash
        assert dict(zip(table["parts"], table["sizes"])) == model.layout.sizes
        errors = []
        for split in ("train", "val"):
            data = Photographs(corpus, split, SIZE)
            assert data.has_landmarks
            for k in range(len(data)):
                sample = data[k]
                face = decoder(torch.from_numpy(sample.code)[None])
                assert np.abs(sample.landmarks - face.landmarks[0].numpy()).max() < 1e-3
                mask = iio.imread(corpus / "masks" / f"{sample.path.stem}.png")
                inside = face.mask[0, 0].numpy() > 0
                assert ((mask > 0) != inside).mean() < 0.002
                error = np.abs(sample.image / 255 - face.image[0].permute(1, 2, 0).numpy())
                errors.append(np.median(error[mask == 255]))
        # Where faces are visible: texture, gain, blur, noise and JPEG; on some a shadow or a beard.
        assert len(errors) == 20 and np.median(errors) < 0.06 and max(errors) < 0.4

    def test_masks_tell_what_is_hidden(self, corpus: Path):
        masks = np.stack([iio.imread(path) for path in sorted((corpus / "masks").iterdir())])
        assert masks.shape == (20, SIZE, SIZE) and masks.dtype == np.uint8
        assert {read_mark(path) for path in (corpus / "masks").iterdir()} == {"mask"}
        assert ((masks > 0) & (masks < 250)).any(axis=(1, 2)).sum() >= 3

    def test_evaluates_and_trains(self, corpus: Path, model: str, tmp_path: Path, capsys):
        args = ["train", "--config", "smoke", "--steps", "2", "--out", str(tmp_path / "run")]
        more = ["--data", str(corpus), "--face-model", model, "--data.image-size", "48"]
        assert main([*args, *more]) == 0
        line = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[0])
        assert line["split"] == "val" and line["landmark_px"] > 0


class TestSameBytes:
    def test_for_two_workers(self, corpus: Path, options: SynthesisOptions, tmp_path: Path):
        synthesize_files(20, str(tmp_path), options, workers=2)
        assert contents(tmp_path) == contents(corpus)

    def test_after_a_stop(self, corpus: Path, options: SynthesisOptions, tmp_path: Path):
        """Killed within the second chunk, with a damaged part, and asked for fewer faces at first."""
        synthesize_files(11, str(tmp_path), options)
        (tmp_path / "parts" / "000001.npz").unlink()
        (tmp_path / "images" / f"{CHUNK + 1:07d}.jpg").unlink()
        (tmp_path / "parts" / "000000.npz").write_bytes(b"PK half")
        synthesize_files(20, str(tmp_path), options)
        assert contents(tmp_path) == contents(corpus)

    def test_what_is_done_is_not_done_again(self, options: SynthesisOptions, tmp_path: Path):
        synthesize_files(9, str(tmp_path), options)
        image = tmp_path / "images" / "0000002.jpg"
        image.write_bytes(b"not made again")
        synthesize_files(17, str(tmp_path), options)
        assert image.read_bytes() == b"not made again"

    def test_killed_process(self, corpus: Path, options: SynthesisOptions, tmp_path: Path):
        """kill -9 while it works; the same command ends with the same bytes."""
        command = [sys.executable, "-m", "mofa_nvdr", "synthesize", "--count", "20", "--seed", "3"]
        command += ["--size", str(SIZE), "--face-model", options.face_model, "--out", str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not (tmp_path / "images" / "0000003.jpg").is_file() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        synthesize_files(20, str(tmp_path), options)
        assert contents(tmp_path) == contents(corpus)

    def test_seed_and_place_decide(self, corpus: Path, options: SynthesisOptions, tmp_path: Path):
        codes = np.load(corpus / "codes.npz")["codes"]
        assert len({row.tobytes() for row in codes}) == 20
        synthesize_files(8, str(tmp_path), SynthesisOptions(4, SIZE, options.face_model))
        other = np.load(tmp_path / "codes.npz")["codes"]
        assert not (other == codes[:8]).all(1).any()


class TestOptions:
    def test_plain_backgrounds_and_shards(
        self, options: SynthesisOptions, model: str, tmp_path: Path
    ):
        (tmp_path / "walls").mkdir()
        for k in range(3):
            iio.imwrite(
                tmp_path / "walls" / f"{k}.png", np.full((60, 60, 3), (0, 200, 0), np.uint8)
            )
        o = SynthesisOptions(0, SIZE, model, backgrounds=str(tmp_path / "walls"), plain=True)
        out = synthesize_files(8, str(tmp_path / "out"), o, shards=1)
        images = [iio.imread(path) for path in sorted((out / "images").iterdir())]
        masks = [iio.imread(path) for path in sorted((out / "masks").iterdir())]
        for image, mask in zip(images, masks):
            away = mask == 0
            away[1:] &= mask[:-1] == 0
            away[:-1] &= mask[1:] == 0
            assert np.abs(np.median(image[away], axis=0) - (0, 200, 0)).max() <= 6
            assert set(np.unique(mask)) <= {0, 255}
        shards = open_corpus(out / "shards", "train", SIZE)
        assert shards.has_landmarks and shards[0].code is not None


class TestMistakes:
    def test_second_command_on_a_folder(self, options: SynthesisOptions, tmp_path: Path):
        out = tmp_path / "out"
        out.mkdir()
        with locked(out, "mofa-nvdr synthesize"):
            with pytest.raises(
                FolderInUse, match=r"\(mofa-nvdr synthesize\) is writing there since"
            ):
                synthesize_files(8, str(out), options)
        assert not (out / "index.csv").exists()

    def test_other_options_than_before(
        self, corpus: Path, options: SynthesisOptions, tmp_path: Path
    ):
        with pytest.raises(ValueError, match="another plain, seed; use the earlier options, or an"):
            synthesize_files(
                20, str(corpus), SynthesisOptions(5, SIZE, options.face_model, plain=True)
            )

    @pytest.mark.parametrize("name", ["index.csv", "landmarks68.npz", "codes.npz", "images/1.jpg"])
    def test_the_folder_of_another_corpus(
        self, options: SynthesisOptions, tmp_path: Path, name: str
    ):
        file = tmp_path / "out" / name
        file.parent.mkdir(parents=True)
        file.write_bytes(b"of photographs")
        words = (
            f"holds {name.split('/')[0]}, and no synthesize.json says that it is of rendered faces"
        )
        with pytest.raises(ValueError, match=words):
            synthesize_files(2, str(tmp_path / "out"), options)
        assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == [file]
        assert file.read_bytes() == b"of photographs"

    def test_unreadable_background_is_a_line(self, model: str, tmp_path: Path, capfd):
        """Of workers too, whose warnings no one else could show."""
        (tmp_path / "photos").mkdir()
        for k in range(2):
            iio.imwrite(tmp_path / "photos" / f"{k}.png", np.full((64, 64, 3), 90, np.uint8))
        (tmp_path / "photos" / "broken.jpg").write_bytes(b"no picture")
        rows = ["file,split", "0.png,train", "broken.jpg,train"]
        (tmp_path / "photos" / "index.csv").write_text("\n".join(rows) + "\n")
        options = ["--face-model", model, "--size", str(SIZE), "--workers", "2", "--count", "16"]
        options += ["--backgrounds", str(tmp_path / "photos"), "--out", str(tmp_path / "out")]
        assert main(["synthesize", *options]) == 0
        lines = [line for line in capfd.readouterr().err.splitlines() if "broken" in line]
        assert lines
        assert all(line.startswith("warning: skipped picture 1: ") for line in lines)

    @pytest.mark.parametrize("content", [b"half of", b"[1]", b"\xff\xfe"])
    def test_damaged_options_file(self, options: SynthesisOptions, tmp_path: Path, content: bytes):
        path = tmp_path / "synthesize.json"
        path.write_bytes(content)
        message = f"{path}: damaged, not a JSON object; delete it to go on with the earlier options"
        with pytest.raises(ValueError, match=re.escape(message)):
            synthesize_files(2, str(tmp_path), options)
        assert path.read_bytes() == content

    def test_full_disk(self, options: SynthesisOptions, tmp_path: Path, monkeypatch):
        def full(self, data):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        expected = (
            r"cannot write there any more \(No space left on device\); the faces that are done are whole; "
            "free some space or repair the folder, then the same command resumes"
        )
        with pytest.raises(OSError, match=expected):
            synthesize_files(2, str(tmp_path), options)
        assert not list(tmp_path.rglob("*.tmp")) and not list((tmp_path / "parts").iterdir())

    def test_a_worker_that_dies(self, options: SynthesisOptions, tmp_path: Path, monkeypatch):
        monkeypatch.setattr("mofa_nvdr.data.synthetic.synthesis._work", _die)
        with pytest.raises(
            RuntimeError, match="synthesize: a worker died .* the same command again"
        ):
            synthesize_files(2, str(tmp_path), options, workers=2)


def _die(item: tuple[int, int]) -> int:
    os._exit(1)
