"""Pictures of every kind, folders of photographs with and without landmarks, order of batches."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mofa_nvdr.data import (
    Batch,
    DataError,
    EpochSampler,
    ImageError,
    Photographs,
    batches,
    mirror,
    open_corpus,
    read_image,
    resize_square,
    val_batches,
)
from mofa_nvdr.data.photographs import split_by_name
from mofa_nvdr.face.landmarks import MIRROR

SIDE = 32


def color(number: int) -> tuple[int, int, int]:
    """A colour of its own for every picture, by which a test knows it again."""
    return (number * 7 % 256, number // 36 * 7 % 256, 128)


def write_pictures(folder: Path, num: int) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"face_{i:03d}.png" for i in range(num)]
    for i, name in enumerate(names):
        Image.new("RGB", (SIDE, SIDE), color(i)).save(folder / name)
    return names


def write_index(path: Path, rows: list[tuple[str, str]], header: str = "file,dataset,split"):
    path.write_text("\n".join([header, *(f"{file},x,{split}" for file, split in rows)]) + "\n")


def landmarks_of(num: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, SIDE, (num, 68, 2)).astype(np.float32)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """faces/images with 6 train, 3 val and 1 held-out picture; landmarks in the images' px."""
    root = tmp_path / "faces"
    names = [f"images/{name}" for name in write_pictures(root / "images", 10)]
    splits = ["train"] * 6 + ["val"] * 3 + ["heldout"]
    write_index(root / "index.csv", list(zip(names, splits)))
    np.savez(root / "landmarks68.npz", files=np.array(names), lm68=landmarks_of(10))
    return root


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "bare", 12)
    return tmp_path / "bare"


def take(iterator, num: int) -> list[Batch]:
    taken = list(itertools.islice(iterator, num))
    iterator.close()
    return taken


def names_of(batch: Batch) -> list[str]:
    return [path.name for path in batch.paths]


class TestReadImage:
    @pytest.mark.parametrize(
        ("mode", "value", "suffix", "expected"),
        [
            ("RGB", (10, 20, 30), ".png", (10, 20, 30)),
            ("RGB", (10, 20, 30), ".bmp", (10, 20, 30)),
            ("RGB", (10, 20, 30), ".tif", (10, 20, 30)),
            ("L", 77, ".png", (77, 77, 77)),
            ("1", 1, ".png", (255, 255, 255)),
            ("LA", (90, 255), ".png", (90, 90, 90)),
            ("RGBA", (10, 20, 30, 255), ".png", (10, 20, 30)),
            ("RGBA", (10, 20, 30, 0), ".png", (128, 128, 128)),
            ("CMYK", (0, 255, 255, 0), ".tif", (255, 0, 0)),
        ],
    )
    def test_kinds(self, tmp_path: Path, mode: str, value, suffix: str, expected: tuple):
        path = tmp_path / f"picture{suffix}"
        Image.new(mode, (20, 30), value).save(path)
        image = read_image(path)
        assert image.shape == (30, 20, 3) and image.dtype == np.uint8
        assert (image == expected).all()

    @pytest.mark.parametrize("suffix", [".jpg", ".webp"])
    def test_lossy_kinds(self, tmp_path: Path, suffix: str):
        Image.new("RGB", (20, 30), (200, 150, 120)).save(tmp_path / f"x{suffix}", quality=95)
        image = read_image(tmp_path / f"x{suffix}").astype(int)
        # measured 1 for JPEG and 2 for WebP: rounding of the colour transform
        assert np.abs(image - (200, 150, 120)).max() <= 3

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_16_bit_grey_keeps_the_upper_byte(self, tmp_path: Path, suffix: str):
        values = np.full((16, 16), 0x40FF, np.uint16)
        values[0, 0] = 0xFFFF
        Image.fromarray(values).save(tmp_path / f"grey{suffix}")
        image = read_image(tmp_path / f"grey{suffix}")
        assert image[0, 0].tolist() == [255] * 3 and image[1, 1].tolist() == [0x40] * 3

    def test_16_bit_color(self, tmp_path: Path):
        cv2 = pytest.importorskip("cv2", reason="only OpenCV writes 16-bit colour here")
        bgr = np.full((16, 16, 3), (0x1000, 0x8000, 0xFF00), np.uint16)
        cv2.imwrite(str(tmp_path / "deep.png"), bgr)
        assert read_image(tmp_path / "deep.png")[3, 3].tolist() == [0xFF, 0x80, 0x10]

    def test_palette_with_and_without_transparency(self, tmp_path: Path):
        picture = Image.new("P", (16, 16), 1)
        picture.putpalette([0, 0, 0, 10, 200, 30])
        picture.save(tmp_path / "plain.png")
        picture.save(tmp_path / "clear.png", transparency=1)
        assert read_image(tmp_path / "plain.png")[0, 0].tolist() == [10, 200, 30]
        assert read_image(tmp_path / "clear.png")[0, 0].tolist() == [128, 128, 128]

    def test_half_transparent_over_mid_grey(self, tmp_path: Path):
        Image.new("RGBA", (16, 16), (255, 128, 0, 128)).save(tmp_path / "half.png")
        got = read_image(tmp_path / "half.png")[0, 0].astype(int)
        assert np.abs(got - (192, 128, 64)).max() <= 1

    def test_exif_orientation(self, tmp_path: Path):
        """A camera held upright: stored 40 wide and 20 high with the top at the left."""
        pixels = np.zeros((20, 40, 3), np.uint8)
        pixels[:, :20] = 255
        exif = Image.Exif()
        exif[0x0112] = 6  # turn by 90 degrees clockwise to show
        Image.fromarray(pixels).save(tmp_path / "turned.jpg", exif=exif, quality=100)
        image = read_image(tmp_path / "turned.jpg")
        assert image.shape == (40, 20, 3)
        assert image[2].min() > 250 and image[-3].max() < 5

    def test_first_frame(self, tmp_path: Path):
        first, second = (Image.new("RGB", (16, 16), c) for c in ((255, 0, 0), (0, 0, 255)))
        first.save(tmp_path / "film.gif", save_all=True, append_images=[second])
        assert read_image(tmp_path / "film.gif")[0, 0].tolist() == [255, 0, 0]

    @pytest.mark.parametrize("size", [(1, 1), (15, 400)])
    def test_too_small(self, tmp_path: Path, size: tuple[int, int]):
        Image.new("RGB", size).save(tmp_path / "dot.png")
        with pytest.raises(ImageError, match=r"dot\.png: the picture is \d+x\d+ px, too small to"):
            read_image(tmp_path / "dot.png")

    def test_damaged(self, tmp_path: Path):
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "whole.jpg")
        whole = (tmp_path / "whole.jpg").read_bytes()
        contents = {
            "cut.jpg": whole[: len(whole) // 2],
            "head.jpg": whole[:30],
            "text.jpg": b"this is no picture",
            "empty.jpg": b"",
        }
        for name, content in contents.items():
            path = tmp_path / name
            path.write_bytes(content)
            with pytest.raises(ImageError) as error:
                read_image(path)
            message = str(error.value)
            assert message.startswith(f"{path}: cannot read this picture: ")
            assert "\n" not in message and message.count(name) == 1

    def test_missing_and_unknown_white(self, tmp_path: Path):
        with pytest.raises(ImageError, match=r"none\.png: no such file$"):
            read_image(tmp_path / "none.png")
        Image.fromarray(np.zeros((16, 16), np.float32)).save(tmp_path / "float.tif")
        with pytest.raises(ImageError, match=r"float\.tif: floating-point pixels have no known wh"):
            read_image(tmp_path / "float.tif")
        Image.fromarray(np.full((16, 16), 70000, np.int32)).save(tmp_path / "int.tif")
        with pytest.raises(ImageError, match=r"int\.tif: 32-bit pixels have no known white"):
            read_image(tmp_path / "int.tif")


class TestResizeSquare:
    def test_same_size_is_untouched(self):
        image = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
        assert (resize_square(image, 20) == image).all()

    def test_takes_the_central_square(self):
        image = np.zeros((10, 30, 3), np.uint8)
        image[:, 10:20] = 200
        assert (resize_square(image, 5) == 200).all()
        assert (resize_square(image.transpose(1, 0, 2), 10) == 200).all()

    def test_is_antialiased(self):
        stripes = np.zeros((64, 64, 3), np.uint8)
        stripes[:, ::2] = 255
        inside = resize_square(stripes, 16)[2:-2, 2:-2].astype(float)
        assert np.abs(inside - 127.5).max() < 2  # nearest pixels would give 0 or 255

    def test_bad_input(self):
        with pytest.raises(ValueError, match=r"image is \[4, 4\] uint8, expected \[H, W, 3\] uint"):
            resize_square(np.zeros((4, 4), np.uint8), 2)
        with pytest.raises(ValueError, match=r"image is \[4, 4, 3\] float64"):
            resize_square(np.zeros((4, 4, 3)), 2)
        with pytest.raises(ValueError, match="size is 0 px"):
            resize_square(np.zeros((4, 4, 3), np.uint8), 0)


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
        points = np.full((1, 68, 2), (10.0, 0.0), np.float32)
        points[0, 1] = (50, 40)
        np.savez(tmp_path / "landmarks68.npz", files=np.array(["wide.png"]), lm68=points)
        landmarks = Photographs(tmp_path, image_size=20)[0].landmarks
        assert landmarks[0].tolist() == [0, 0] and landmarks[1].tolist() == [20, 20]

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
        with pytest.raises(DataError, match=r"no pictures here or in its subfolders \(jpg, "):
            Photographs(tmp_path)

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

    def test_bad_index(self, corpus: Path):
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

    def test_bad_landmarks(self, corpus: Path):
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
        path.write_bytes(path.read_bytes()[:200])
        with pytest.raises(DataError, match="cannot read it as .npz"):
            Photographs(corpus)
        np.save(corpus / "array.npy", good)
        (corpus / "array.npy").replace(path)
        with pytest.raises(DataError, match="no array files and lm68; .* found no named array"):
            Photographs(corpus)


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


class TestMirror:
    def test_swaps_sides(self, corpus: Path):
        sample = Photographs(corpus, image_size=SIDE)[0]
        sample.image[:, :10] = 0
        sample.confidence[36] = 0.25
        other = mirror(sample)
        assert (other.image[:, -10:] == 0).all() and (other.image[:, 0] == color(0)).all()
        # the outer corner of the subject's right eye becomes that of the left eye
        x, y = sample.landmarks[36]
        assert other.landmarks[45].tolist() == pytest.approx([SIDE - x, y])
        assert other.confidence[45] == 0.25 and other.confidence[36] == 1

    def test_twice_is_nothing(self, corpus: Path):
        sample = Photographs(corpus, image_size=SIDE)[0]
        twice = mirror(mirror(sample))
        assert (twice.image == sample.image).all()
        np.testing.assert_allclose(twice.landmarks, sample.landmarks, atol=1e-5)


class TestBatches:
    def test_what_a_batch_holds(self, corpus: Path):
        (batch,) = take(batches(Photographs(corpus, image_size=48), 4, flip=False), 1)
        assert batch.images.shape == (4, 3, 48, 48) and batch.images.dtype == torch.float32
        assert batch.images.is_contiguous()
        assert batch.landmarks.shape == (4, 68, 2) and batch.confidence.shape == (4, 68)
        assert batch.step == 0 and batch.codes is None
        for b, name in enumerate(names_of(batch)):
            number = int(name[5:8])
            expected = torch.tensor(color(number)) / 255
            torch.testing.assert_close(batch.images[b, :, 7, 9], expected)
            expected = torch.from_numpy(landmarks_of(10)[number] * 1.5)
            torch.testing.assert_close(batch.landmarks[b], expected)

    def test_every_epoch_holds_every_picture_once(self, corpus: Path):
        taken = take(batches(Photographs(corpus, image_size=SIDE), 4, seed=1), 9)
        names = [name for batch in taken for name in names_of(batch)]
        epochs = [names[i : i + 6] for i in range(0, 36, 6)]
        assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) > 3

    def test_resumes_where_it_stopped(self, corpus: Path):
        dataset = Photographs(corpus, image_size=SIDE)
        whole = take(batches(dataset, 4, seed=5), 8)
        resumed = take(batches(dataset, 4, seed=5, start_step=3), 5)
        for a, b in zip(whole[3:], resumed):
            assert a.step == b.step and a.paths == b.paths
            assert a.images.equal(b.images) and a.landmarks.equal(b.landmarks)

    def test_seed_decides(self, corpus: Path):
        dataset = Photographs(corpus, image_size=SIDE)
        a, b, c = (
            [names_of(batch) for batch in take(batches(dataset, 3, seed=s), 4)] for s in (0, 0, 1)
        )
        assert a == b != c

    def test_half_is_mirrored(self, corpus: Path):
        dataset = Photographs(corpus, image_size=SIDE)
        plain = landmarks_of(10)
        mirrored = np.stack([SIDE, 0]) + plain[:, list(MIRROR)] * [-1, 1]
        num_mirrored = 0
        for batch in take(batches(dataset, 8), 40):
            for name, landmarks in zip(names_of(batch), batch.landmarks.numpy()):
                number = int(name[5:8])
                is_plain = np.allclose(landmarks, plain[number], atol=1e-4)
                assert is_plain or np.allclose(landmarks, mirrored[number], atol=1e-4)
                num_mirrored += not is_plain
        assert 120 <= num_mirrored <= 200  # expected 160, standard deviation 9

    def test_batch_larger_than_the_data_set(self, corpus: Path):
        (batch,) = take(batches(Photographs(corpus, image_size=SIDE), 13), 1)
        assert len(set(names_of(batch)[:6])) == 6 and len(batch.images) == 13

    def test_unreadable_picture_is_replaced_counted_and_named(self, corpus: Path):
        broken = corpus / "images" / "face_002.png"
        broken.write_bytes(broken.read_bytes()[:60])
        dataset = Photographs(corpus, image_size=SIDE)
        with pytest.warns(UserWarning, match=r"skipped picture 1: .*face_002\.png") as caught:
            taken = take(batches(dataset, 6, seed=2, flip=False), 3)
        assert len(caught) == 1 and dataset.skipped == [str(broken)]
        for batch in taken:
            assert sorted(names_of(batch)) == [f"face_{i:03d}.png" for i in (0, 1, 3, 3, 4, 5)]
        with pytest.warns(UserWarning, match="skipped picture 1"):
            again = Photographs(corpus, image_size=SIDE)
            (resumed,) = take(batches(again, 6, seed=2, start_step=2, flip=False), 1)
        assert resumed.paths == taken[2].paths

    def test_no_readable_picture(self, corpus: Path):
        for path in (corpus / "images").iterdir():
            path.write_bytes(b"")
        with pytest.raises(DataError, match="none of its 6 train pictures is readable"):
            take(batches(Photographs(corpus), 2), 1)

    def test_other_exceptions_come_through(self, corpus: Path):
        class Failing(Photographs):
            def __getitem__(self, index: int):
                raise MemoryError("no room")

        with pytest.raises(MemoryError, match="no room"):
            next(batches(Failing(corpus), 2))

    def test_closing_ends_the_threads(self, corpus: Path):
        before = set(threading.enumerate())
        iterator = batches(Photographs(corpus, image_size=SIDE), 4)
        next(iterator)
        assert len(set(threading.enumerate()) - before) == 2
        iterator.close()
        assert not set(threading.enumerate()) - before

    def test_program_ends_without_closing(self, corpus: Path):
        program = (
            "import sys; from mofa_nvdr.data import Photographs, batches\n"
            "iterator = batches(Photographs(sys.argv[1]), 4); print(next(iterator).step)"
        )
        root = Path(__file__).resolve().parents[2]
        result = subprocess.run(
            [sys.executable, "-c", program, str(corpus)],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        assert (result.returncode, result.stdout.strip(), result.stderr) == (0, "0", "")

    @pytest.mark.parametrize("world_size", [1, 2, 3, 6])
    def test_shares_of_processes_make_the_batch(self, corpus: Path, world_size: int):
        """Each process gets its part, in the order of ranks, whatever their number."""
        dataset = Photographs(corpus, "train", 48)
        with closing(batches(dataset, 6, seed=3, start_step=4)) as stream:
            whole = list(itertools.islice(stream, 3))
        shares = []
        for rank in range(world_size):
            options = {"rank": rank, "world_size": world_size}
            with closing(batches(dataset, 6, seed=3, start_step=4, **options)) as stream:
                shares.append(list(itertools.islice(stream, 3)))
        for k, batch in enumerate(whole):
            assert torch.equal(batch.images, torch.cat([share[k].images for share in shares]))
            assert batch.paths == sum((share[k].paths for share in shares), ())
            assert all(share[k].step == batch.step for share in shares)

    def test_bad_input(self, corpus: Path):
        dataset = Photographs(corpus)
        for name in ("batch_size", "seed", "start_step"):
            with pytest.raises(ValueError, match=f"{name} is -1, expected at least"):
                batches(dataset, **{"batch_size": 1, name: -1})
        write_index(corpus / "index.csv", [("images/face_000.png", "train")])
        with pytest.raises(DataError, match="no val pictures in"):
            batches(Photographs(corpus, "val"), 1)

    def test_ranks_see_together_what_one_process_sees(self, corpus: Path):
        dataset = Photographs(corpus, image_size=SIDE)
        alone = take(batches(dataset, 4, seed=3), 3)
        ranks = [take(batches(dataset, 4, seed=3, rank=r, world_size=2), 3) for r in (0, 1)]
        for whole, first, second in zip(alone, *ranks):
            assert whole.paths == first.paths + second.paths
            assert whole.places == first.places + second.places
            assert whole.images.equal(torch.cat([first.images, second.images]))  # mirrors too
            assert whole.landmarks.equal(torch.cat([first.landmarks, second.landmarks]))

    def test_codes_of_rendered_faces(self, corpus: Path):
        names = [f"images/face_{i:03d}.png" for i in range(9)]
        codes = np.arange(9 * 5, dtype=np.float64).reshape(9, 5)
        np.savez(corpus / "codes.npz", files=np.array(names), codes=codes)
        (batch,) = take(val_batches(Photographs(corpus, "val", SIDE), 3), 1)
        assert batch.codes.dtype == torch.float32 and batch.codes.equal(
            torch.tensor(codes[6:9], dtype=torch.float32)
        )
        assert mirror(Photographs(corpus, "val", SIDE)[0]).code is None
        np.savez(corpus / "codes.npz", files=np.array(names[:7]), codes=codes[:7])
        (batch,) = take(val_batches(Photographs(corpus, "val", SIDE), 3), 1)
        assert batch.codes is None  # two of the three are unknown
        np.savez(corpus / "codes.npz", files=np.array(names), codes=codes[:7])
        with pytest.raises(
            DataError, match=r"codes\.npz: expected files \[N\] .* found files \[9\]"
        ):
            Photographs(corpus)


class TestEpochSampler:
    @pytest.mark.parametrize(("num", "batch", "world"), [(12, 6, 3), (10, 6, 2), (7, 20, 4)])
    def test_every_sample_once_an_epoch_over_all_ranks(self, num: int, batch: int, world: int):
        ranks = [EpochSampler(num, batch, 1, rank, world) for rank in range(world)]
        seen = [index for _ in range(num) for rank in ranks for index in next(rank)]
        epochs = [seen[i : i + num] for i in range(0, len(seen), num)]
        assert len(epochs) == batch
        assert all(sorted(epoch) == list(range(num)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) > 1

    def test_resumes_in_the_middle_of_an_epoch(self):
        straight = EpochSampler(11, 3, 5)
        for _ in range(5):
            next(straight)
        resumed = EpochSampler(11, 3, 5)
        resumed.load_state_dict(straight.state_dict())
        assert [next(straight) for _ in range(9)] == [next(resumed) for _ in range(9)]

    def test_resumes_with_other_ranks(self):
        two = [EpochSampler(11, 4, 5, rank, 2) for rank in (0, 1)]
        one = EpochSampler(11, 4, 5)
        for _ in range(4):
            next(two[0]), next(two[1])
        assert two[0].state_dict() == two[1].state_dict()
        one.load_state_dict(two[0].state_dict())
        assert next(one) == next(two[0]) + next(two[1])

    def test_mistakes(self):
        for name in ("num_samples", "batch_size"):
            with pytest.raises(ValueError, match=f"EpochSampler: {name} is 0, expected at least 1"):
                EpochSampler(**{"num_samples": 3, "batch_size": 1, name: 0})
        for rank, world_size in ((2, 2), (-1, 2), (0, 0), (0, 3)):
            with pytest.raises(
                ValueError, match="4 images for rank .* that the number of processes"
            ):
                EpochSampler(3, 4, rank=rank, world_size=world_size)
        sampler = EpochSampler(11, 4, 5)
        state = sampler.state_dict()
        with pytest.raises(ValueError, match="the saved seed is 6, this run's is 5; resume with"):
            sampler.load_state_dict({**state, "seed": 6})
        with pytest.raises(ValueError, match="the saved num_samples is 10, this run's is 11"):
            sampler.load_state_dict({**state, "num_samples": 10})
        with pytest.raises(ValueError, match="6 samples seen are no whole steps of 4; resume"):
            sampler.load_state_dict({**state, "samples_seen": 6})


class TestValBatches:
    def test_in_order_and_complete(self, corpus: Path):
        taken = list(val_batches(Photographs(corpus, "val", SIDE), 2))
        assert [names_of(batch) for batch in taken] == [
            ["face_006.png", "face_007.png"],
            ["face_008.png"],
        ]
        assert [batch.step for batch in taken] == [0, 1]

    def test_limit_is_evenly_spaced(self, corpus: Path):
        dataset = Photographs(corpus, image_size=SIDE)
        (batch,) = val_batches(dataset, 8, limit=3)
        assert names_of(batch) == ["face_001.png", "face_003.png", "face_005.png"]
        assert len(list(val_batches(dataset, 1, limit=100))) == 6

    def test_processes_share_the_pictures(self, corpus: Path):
        dataset = Photographs(corpus, image_size=SIDE)
        parts = [list(val_batches(dataset, 2, rank=rank, world_size=2)) for rank in (0, 1)]
        names = [[name for batch in part for name in names_of(batch)] for part in parts]
        assert names[0] == ["face_000.png", "face_002.png", "face_004.png"]
        assert names[1] == ["face_001.png", "face_003.png", "face_005.png"]

    def test_shares_of_processes_make_the_split(self, corpus: Path):
        dataset = Photographs(corpus, "train", 48)
        whole = {path for batch in val_batches(dataset, 2, 5) for path in batch.paths}
        shares = [
            [path for batch in val_batches(dataset, 2, 5, rank, 2) for path in batch.paths]
            for rank in (0, 1)
        ]
        assert [len(share) for share in shares] == [3, 2] and set(sum(shares, [])) == whole

    def test_empty_split(self, corpus: Path):
        write_index(corpus / "index.csv", [("images/face_000.png", "train")])
        assert list(val_batches(Photographs(corpus, "val"), 2)) == []

    def test_unreadable_picture_is_left_out(self, corpus: Path):
        (corpus / "images" / "face_007.png").write_bytes(b"")
        dataset = Photographs(corpus, "val", SIDE)
        with pytest.warns(UserWarning, match=r"face_007\.png"):
            (batch,) = val_batches(dataset, 4)
        assert names_of(batch) == ["face_006.png", "face_008.png"]
        (batch,) = val_batches(dataset, 4)  # warns once a file, not once a pass
        assert len(dataset.skipped) == 1

    def test_bad_input(self, corpus: Path):
        with pytest.raises(ValueError, match="val_batches: batch_size is 0"):
            val_batches(Photographs(corpus, "val"), 0)
        with pytest.raises(
            ValueError, match="val_batches: limit is 0, expected at least 1 or None"
        ):
            val_batches(Photographs(corpus, "val"), 1, limit=0)


class TestBatch:
    def test_to(self, corpus: Path):
        (batch,) = take(batches(Photographs(corpus, image_size=SIDE), 2), 1)
        moved = batch.to("meta")
        assert {moved.images.device.type, moved.landmarks.device.type} == {"meta"}
        assert moved.paths == batch.paths and moved.codes is None


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
