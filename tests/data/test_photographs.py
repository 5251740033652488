"""Folders of photographs: which pictures, which split, with and without landmarks."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mofa_nvdr.data import (
    DataError,
    ImageError,
    Photographs,
    open_corpus,
    val_batches,
)
from mofa_nvdr.data.crops.landmark_checks import shown_points
from mofa_nvdr.data.photographs import split_by_name
from mofa_nvdr.render.pictures import write_png
from tests.helpers.landmarked_photographs import frontal_68
from tests.helpers.picture_folders import SIDE, color, landmarks_of, write_index, write_pictures


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "bare", 12)
    return tmp_path / "bare"


class TestPhotographs:
    def test_splits_and_landmarks(self, corpus: Path):
        train, val = Photographs(corpus, image_size=64), Photographs(corpus, "val", 64)
        assert [path.name for path in train.files] == [f"face_{i:03d}.png" for i in range(6)]
        assert [path.name for path in val.files] == [f"face_{i:03d}.png" for i in range(6, 9)]
        assert val.has_landmarks and len(val) == 3
        sample = val[1]
        assert sample.path == corpus / "images" / "face_007.png"
        assert sample.image.shape == (64, 64, 3) and (sample.image == color(7)).all()
        np.testing.assert_allclose(sample.landmarks, landmarks_of(10)[7] * 64 / SIDE, rtol=1e-6)
        assert sample.landmarks.dtype == sample.confidence.dtype == np.float32
        assert (sample.confidence == 1).all()

    def test_the_folder_images_is_the_same(self, corpus: Path):
        a, b = Photographs(corpus), Photographs(corpus / "images")
        assert a.files == b.files
        assert (a[3].landmarks == b[3].landmarks).all()

    def test_landmarks_follow_the_central_crop(self, tmp_path: Path):
        Image.new("RGB", (60, 40)).save(tmp_path / "wide.png")
        points = (10 + 20 * (landmarks_of(1) / SIDE)).astype(np.float32)
        np.savez(tmp_path / "landmarks68.npz", files=np.array(["wide.png"]), lm68=points)
        landmarks = Photographs(tmp_path, image_size=20)[0].landmarks
        np.testing.assert_allclose(landmarks, (points[0] - [10, 0]) * 20 / 40, rtol=1e-5)

    def test_confidence_and_unknown_points(self, bare: Path):
        points = landmarks_of(2)
        points[0, 5, 1] = np.nan
        points[1, 6] = np.inf
        confidence = np.full((2, 68), 0.5, np.float32)
        np.savez(
            bare / "landmarks68.npz",
            files=np.array(["face_000.png", "face_001.png"]),
            lm68=points,
            confidence=confidence,
        )
        samples = {}
        for split in ("train", "val"):
            dataset = Photographs(bare, split, SIDE)
            samples |= {dataset.files[i].name: dataset[i] for i in range(len(dataset))}
        first, second, third = (samples[f"face_00{i}.png"] for i in range(3))
        assert np.isnan(first.landmarks).all(-1).nonzero()[0].tolist() == [5]
        assert np.isnan(second.landmarks).all(-1).nonzero()[0].tolist() == [6]
        assert first.confidence[5] == 0 and first.confidence[4] == 0.5
        assert np.isnan(third.landmarks).all() and (third.confidence == 0).all()

    def test_bare_folder(self, bare: Path):
        train, val = Photographs(bare), Photographs(bare, "val")
        assert len(train) + len(val) == 12 and len(val) >= 1
        assert not set(train.files) & set(val.files)
        assert not train.has_landmarks
        sample = train[0]
        assert sample.image.shape == (240, 240, 3)
        assert np.isnan(sample.landmarks).all() and (sample.confidence == 0).all()

    def test_finds_any_case_and_subfolders_but_nothing_hidden(self, tmp_path: Path):
        picture = Image.new("RGB", (SIDE, SIDE))
        for name in ("b.JPG", "deep/er/a.Png", "c.jpeg", "d.TIFF", "e.webp", ".hidden.png"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            picture.save(tmp_path / name)
        (tmp_path / ".cache").mkdir()
        picture.save(tmp_path / ".cache" / "x.png")
        (tmp_path / "notes.txt").write_text("no picture")
        found = Photographs(tmp_path).files + Photographs(tmp_path, "val").files
        names = sorted(path.relative_to(tmp_path).as_posix() for path in found)
        assert names == ["b.JPG", "c.jpeg", "d.TIFF", "deep/er/a.Png", "e.webp"]

    def test_bad_arguments(self, bare: Path):
        with pytest.raises(ValueError, match="split is 'test', expected 'train' or 'val'"):
            Photographs(bare, "test")
        with pytest.raises(ValueError, match="image_size is 0 px"):
            Photographs(bare, image_size=0)

    def test_bad_folders(self, tmp_path: Path):
        with pytest.raises(DataError, match="nowhere: no such folder of photographs"):
            Photographs(tmp_path / "nowhere")
        (tmp_path / "file.txt").write_text("")
        with pytest.raises(DataError, match=r"file\.txt: not a folder"):
            Photographs(tmp_path / "file.txt")
        with pytest.raises(DataError, match="the name of the folder of photographs is empty"):
            Photographs("")
        with pytest.raises(DataError, match="the name of the folder of photographs is empty"):
            open_corpus("")
        with pytest.raises(DataError, match=r"subfolders; 1 file not read: 1 \.txt$"):
            Photographs(tmp_path)
        (tmp_path / "file.txt").unlink()
        with pytest.raises(DataError, match=r"no pictures here or in its subfolders \(jpg, "):
            Photographs(tmp_path)

    def test_what_else_is_there(self, bare: Path):
        """Results of the package are no photographs, with an index neither: it says what counts."""
        write_png(bare / "face_000_panel.png", np.zeros((16, 80, 3), np.uint8), kind="panel")
        (bare / "notes.md").write_text("words")
        train, val = Photographs(bare), Photographs(bare, "val")
        assert len(train) + len(val) == 12
        assert train.left_out == "2 files not read: 1 .md, what mofa-nvdr wrote: 1 panel"
        write_index(bare / "index.csv", [("face_000.png", "train"), ("face_001.png", "train")])
        train = Photographs(bare)
        assert len(train) == 2 and train.left_out == ""

    def test_large_ones(self, tmp_path: Path):
        """Decoded no finer than needed, landmarks where they were; above the limit an error names it."""
        pixels = np.zeros((1200, 1600, 3), np.uint8)
        pixels[600:720, 800:920] = 255
        Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95)
        points = np.float32(100 * frontal_68() + (860, 660))
        np.savez(tmp_path / "landmarks68.npz", files=np.array(["a.jpg"]), lm68=points[None])
        sample = Photographs(tmp_path, image_size=100)[0]
        y, x = (np.argwhere(sample.image[..., 0] > 127) + 0.5).mean(0)
        np.testing.assert_allclose((x, y), (55, 55), atol=0.2)  # (860 - 200) / 12, 660 / 12
        expected = (points - (200, 0)) / 12
        np.testing.assert_allclose(sample.landmarks, expected, atol=1e-4)
        with pytest.raises(
            ImageError, match=r"a\.jpg: .*, 2 megapixels, more than --max-megapixels 1"
        ):
            Photographs(tmp_path, image_size=100, max_megapixels=1)[0]

    def test_subfolders_that_cannot_be_read(self, bare: Path, monkeypatch):
        """Named in a warning, and in the error where there is nothing else; root may read everything."""
        closed = bare / "closed"
        write_pictures(closed, 1)
        scandir = os.scandir

        def refuse(path):
            if Path(path) in forbidden:
                raise PermissionError(13, "Permission denied", str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refuse)
        forbidden = [closed]
        message = f"{bare}: left out what cannot be looked into: {closed} (Permission denied)"
        with pytest.warns(UserWarning, match=re.escape(message)):
            found = len(Photographs(bare)), len(Photographs(bare, "val"))
        assert sum(found) == 12
        for picture in bare.glob("*.png"):
            picture.unlink()
        message = (
            f"{bare}: no pictures that can be read; cannot look into {closed} (Permission denied)"
        )
        with pytest.raises(DataError, match=re.escape(message)):
            Photographs(bare)
        forbidden = [bare]
        with pytest.raises(
            DataError, match=re.escape(f"cannot look into {bare} (Permission denied)")
        ):
            Photographs(bare)


class TestWrongLandmarks:
    def test_few_rows_of_a_table(self, corpus: Path):
        """Their pictures are refused, whoever reads them; the others are read."""
        points = landmarks_of(10)
        points[1], points[2] = points[1, :, ::-1], points[2] * 5
        names = [f"images/face_{k:03d}.png" for k in range(10)]
        np.savez(corpus / "landmarks68.npz", files=names, lm68=points)
        data = Photographs(corpus, "train", SIDE)
        refused = []
        for k, file in enumerate(data.files):
            try:
                assert np.isfinite(data[k].landmarks).all()
            except ImageError as error:
                assert str(error).startswith(f"{file}: its landmarks ")
                refused.append((file.name, str(error).partition("its landmarks ")[2][:20]))
        assert refused == [
            ("face_001.png", "look like rows of y "),
            ("face_002.png", "lie outside the pict"),
        ]

    @pytest.mark.parametrize("orientation", [3, 6, 8])
    def test_stored_pixels_of_turned_pictures(self, bare: Path, orientation: int):
        points = landmarks_of(1)
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", (SIDE, SIDE)).save(bare / "face_000.png", exif=exif)
        inverse = {6: 8, 8: 6}.get(orientation, orientation)
        for marks, wrong in (
            (points[0], ""),
            (shown_points(points[0], inverse, SIDE, SIDE), "EXIF"),
        ):
            np.savez(bare / "landmarks68.npz", files=["face_000.png"], lm68=marks[None])
            data = [Photographs(bare, split, SIDE) for split in ("train", "val")]
            (read,) = [(d, k) for d in data for k in range(len(d)) if d.files[k].stem == "face_000"]
            if wrong:
                with pytest.raises(ImageError, match="stored pixels, before the EXIF turn"):
                    read[0][read[1]]
            else:
                assert np.isfinite(read[0][read[1]].landmarks).all()


class TestSplitByName:
    def test_about_one_in_twenty(self):
        names = [f"{i}.jpg" for i in range(4000)]
        num_val = list(split_by_name(names).values()).count("val")
        assert 160 <= num_val <= 240  # expected 200, standard deviation 14

    def test_stays_when_others_come_and_folders_change(self):
        names = [f"{i}.jpg" for i in range(400)]
        few, many = split_by_name(names[:200]), split_by_name([f"a/{name}" for name in names])
        assert all(many[f"a/{name}"] == split for name, split in few.items())

    @pytest.mark.parametrize("num", [2, 3, 5])
    def test_both_splits_have_one(self, num: int):
        for start in range(30):
            splits = split_by_name([f"{start}_{i}.png" for i in range(num)]).values()
            assert {"train", "val"} == set(splits)

    def test_one_picture_is_train(self):
        assert all(split_by_name([f"{i}.jpg"]) == {f"{i}.jpg": "train"} for i in range(60))


class TestFaceCrops:
    """The photographs themselves, where they are at hand."""

    @pytest.fixture
    def faces(self, data_dir: Path) -> Path:
        if not (data_dir / "faces" / "index.csv").is_file():
            pytest.skip(f"no face crops at {data_dir / 'faces'}")
        return data_dir / "faces"

    def test_counts(self, faces: Path):
        train, val = Photographs(faces), Photographs(faces, "val")
        assert (len(train), len(val)) == (10_570, 903)
        assert not set(train.files) & set(val.files)

    def test_landmarks_lie_on_the_face(self, faces: Path):
        (batch,) = val_batches(Photographs(faces, "val"), 16, limit=16)
        assert batch.images.shape == (16, 3, 240, 240) and (batch.confidence == 1).all()
        center = batch.landmarks[:, 30].mean(0)  # the nose's tip
        assert (center - 120).abs().max() < 30
        eyes, mouth = batch.landmarks[:, 36:48, 1].mean(1), batch.landmarks[:, 48:60, 1].mean(1)
        assert (eyes < mouth).all()
        right, left = batch.landmarks[:, 36, 0], batch.landmarks[:, 45, 0]
        assert (right < left).all()  # the subject's right is on the picture's left
