"""Tar shards: a sample comes back at any place, from archives of any program; damage is named, not fatal."""

from __future__ import annotations

import io
import itertools
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mofa_nvdr.data import (
    DataError,
    ImageError,
    Photographs,
    Shards,
    batches,
    open_corpus,
    write_shards,
)
from mofa_nvdr.data.shards import index_path, open_shard, read_members, scan_shard
from tests.helpers.landmarked_photographs import mesh_of
from tests.helpers.picture_folders import SIDE, corpus_of, landmarks_of


def by_picture(corpus) -> dict[bytes, tuple]:
    return {
        s.image.tobytes(): (s.landmarks, s.confidence, s.code)
        for s in (corpus[i] for i in range(len(corpus)))
    }


class TestRoundTrip:
    def test_samples_come_back(self, crops: Path, shards: Path):
        assert len(list(shards.glob("train-*.tar"))) > 1
        for split in ("train", "val"):
            one, two = Photographs(crops, split, SIDE), open_corpus(shards, split, SIDE)
            assert isinstance(two, Shards) and len(one) == len(two) == (
                9 if split == "train" else 3
            )
            assert one.has_landmarks and two.has_landmarks
            found, known = by_picture(two), by_picture(one)
            assert found.keys() == known.keys()
            for key, parts in known.items():
                for a, b in zip(parts, found[key]):
                    np.testing.assert_array_equal(a, b)

    def test_dense_landmarks(self, tmp_path: Path):
        """Those of some pictures, of which one point is not known."""
        crops = corpus_of(tmp_path / "crops", codes=False)
        names = [f"images/f.{i:02d}.png" for i in (0, 4)]
        points = mesh_of(landmarks_of(11)[[0, 4]]).astype(np.float32)
        points[0, 477] = np.nan
        np.savez(crops / "landmarks478.npz", files=names, lm478=points)
        write_shards(crops, str(tmp_path / "shards"))
        one, two = (
            Photographs(crops, "train", SIDE),
            open_corpus(tmp_path / "shards", "train", SIDE),
        )
        assert one.has_dense and two.has_dense
        known = {s.image.tobytes(): s.dense for s in (one[i] for i in range(len(one)))}
        found = {s.image.tobytes(): s.dense for s in (two[i] for i in range(len(two)))}
        assert sum(dense is not None for dense in known.values()) == 2
        for key, dense in known.items():
            np.testing.assert_array_equal(dense, found[key])

    def test_without_codes_and_landmarks(self, tmp_path: Path):
        crops = corpus_of(tmp_path / "crops", codes=False)
        (crops / "landmarks68.npz").unlink()
        write_shards(crops, str(tmp_path / "shards"))
        corpus = open_corpus(tmp_path / "shards", "val", SIDE)
        assert not corpus.has_landmarks and not corpus.has_dense
        assert np.isnan(corpus[0].landmarks).all() and corpus[0].code is None

    def test_a_folder_of_crops_is_opened_as_such(self, crops: Path):
        assert isinstance(open_corpus(crops, "train", SIDE), Photographs)

    def test_batches_shuffle_resume_and_split_over_ranks(self, shards: Path):
        corpus = open_corpus(shards, "train", SIDE)
        take = lambda *args, **more: list(  # noqa: E731
            itertools.islice(batches(corpus, *args, **more), 6)
        )
        whole = take(4, 7)
        paths = [path for batch in whole for path in batch.paths]
        assert sorted(paths[:9]) == sorted(corpus.files) == sorted(paths[9:18])
        resumed = list(itertools.islice(batches(corpus, 4, 7, start_step=3), 3))
        for a, b in zip(whole[3:], resumed):
            assert a.images.equal(b.images) and a.landmarks.nan_to_num().equal(
                b.landmarks.nan_to_num()
            )
        ranks = [take(4, 7, rank=rank, world_size=2) for rank in (0, 1)]
        for a, b, c in zip(whole, *ranks):
            assert a.images.equal(torch.cat([b.images, c.images]))


class TestFormat:
    def test_shards_of_others(self, tmp_path: Path):
        """Any names, PAX headers, folders within; val by a hash of the key."""
        with tarfile.open(tmp_path / "000.tar", "w", format=tarfile.PAX_FORMAT) as tar:
            for i in range(30):
                stream = io.BytesIO()
                Image.new("RGB", (SIDE, SIDE), (i, 0, 0)).save(stream, "JPEG", quality=100)
                name = f"people/{'é' * 60}{i:03d}"
                for kind, data in (("JPG", stream.getvalue()), ("cls", b"3")):
                    info = tarfile.TarInfo(f"{name}.{kind}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        parts = [open_corpus(tmp_path, split, SIDE) for split in ("train", "val")]
        assert len(parts[0]) + len(parts[1]) == 30 and len(parts[1]) >= 1
        reds = sorted(
            int(s.image[0, 0, 0]) for c in parts for s in map(c.__getitem__, range(len(c)))
        )
        assert np.abs(np.array(reds) - np.arange(30)).max() <= 2


class TestIndex:
    def test_places_are_the_archives(self, shards: Path):
        for path in shards.glob("*.tar"):
            indexed, scanned = open_shard(path), scan_shard(path)
            assert indexed.samples == scanned.samples and not scanned.damage

    @pytest.mark.parametrize("harm", ["missing", "half", "size", "other", "text"])
    def test_made_anew(self, shards: Path, harm: str):
        path = sorted(shards.glob("train-*.tar"))[0]
        index = index_path(path)
        whole = by_picture(Shards(shards, "train", SIDE)).keys()
        lines = index.read_text().splitlines(keepends=True)
        if harm == "missing":
            index.unlink()
        elif harm == "half":
            index.write_text("".join(lines[:-1]) + lines[-1][:20])
        elif harm == "size":
            index.write_text(json.dumps({**json.loads(lines[0]), "bytes": 5}) + "\n")
        elif harm == "other":  # of the same size, but its places are not this shard's
            row = json.loads(lines[-1])
            row["members"] = {
                kind: [at + 512, *more] for kind, (at, *more) in row["members"].items()
            }
            index.write_text("".join(lines[:-1]) + json.dumps(row) + "\n")
        else:
            index.write_bytes(b"\xff\x00 no index")
        assert by_picture(Shards(shards, "train", SIDE)).keys() == whole
        rows = [json.loads(line) for line in index.read_text().splitlines()]
        assert rows[0]["bytes"] == path.stat().st_size and rows[0]["samples"] == len(rows) - 1

    def test_a_folder_that_cannot_be_written(self, shards: Path, monkeypatch):
        for index in shards.glob("*.index"):
            index.unlink()

        def fail(shard):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("mofa_nvdr.data.shards.write_index", fail)
        assert len(Shards(shards, "train", SIDE)) == 9
        assert not list(shards.glob("*.index"))


class TestDamage:
    def test_truncated_shard(self, shards: Path):
        path = sorted(shards.glob("train-*.tar"))[0]
        samples = scan_shard(path).samples
        offset, size, _ = next(iter(samples[-1][1].values()))
        for cut in (offset + size // 2, offset, offset - 100):
            data = path.read_bytes()
            path.write_bytes(data[:cut])
            with pytest.warns(UserWarning, match="skipped picture 1: .*cut short behind its first"):
                corpus = Shards(shards, "train", SIDE)
            assert corpus.skipped == [str(path)]
            assert len(corpus) == 9 - 1
            list(itertools.islice(batches(corpus, 4), 4))  # all that is left can be read
            path.write_bytes(data)
        assert len(Shards(shards, "train", SIDE)) == 9  # copied anew: the index fits again

    def test_empty_shard(self, shards: Path):
        path = sorted(shards.glob("train-*.tar"))[0]
        lost = len(scan_shard(path).samples)
        path.write_bytes(b"")
        with pytest.warns(UserWarning, match="behind its first 0 samples; the rest is skipped"):
            assert len(Shards(shards, "train", SIDE)) == 9 - lost

    def test_damaged_header_without_an_index(self, shards: Path):
        path = sorted(shards.glob("train-*.tar"))[0]
        samples = scan_shard(path).samples
        data = bytearray(path.read_bytes())
        start = min(offset for offset, _, _ in samples[1][1].values()) - 512
        data[start : start + 512] = b"x" * 512
        path.write_bytes(bytes(data))
        index_path(path).unlink()
        with pytest.warns(UserWarning, match="damaged behind its first 1 samples"):
            corpus = Shards(shards, "train", SIDE)
        assert len(corpus) == 9 - len(samples) + 1

    def test_damaged_sample_under_an_index(self, shards: Path):
        """Named, skipped and counted, as an unreadable file is; the next readable one stands in."""
        path = sorted(shards.glob("train-*.tar"))[0]
        samples = open_shard(path).samples
        data = bytearray(path.read_bytes())
        start = min(offset for offset, _, _ in samples[0][1].values()) - 512
        data[start : start + 512] = b"x" * 512
        offset, size, _ = samples[1][1]["png"]
        data[offset + 40 : offset + size] = bytes(size - 40)
        path.write_bytes(bytes(data))
        corpus = Shards(shards, "train", SIDE)
        with pytest.raises(
            ImageError, match="not where the index says; .* delete train-00000.index"
        ):
            corpus[0]
        with pytest.raises(
            ImageError, match=rf"train-00000\.tar/{samples[1][0]}\.png: cannot read"
        ):
            corpus[1]
        with pytest.warns(UserWarning, match="skipped picture [12]: .*train-00000.tar") as caught:
            taken = list(itertools.islice(batches(corpus, 9), 2))
        assert len(caught) == 2
        assert len(corpus.skipped) == 2
        assert all(len(batch.images) == 9 for batch in taken)

    @pytest.mark.parametrize(
        ("member", "expected"), [("npy", r"\[68, 3\]"), ("dense.npy", r"\[478, 2\]")]
    )
    def test_broken_landmarks(self, tmp_path: Path, member: str, expected: str):
        for k, data in enumerate((b"no array", None)):
            stream = io.BytesIO()
            np.save(stream, np.zeros((5, 2)))
            parts = {"jpg": io.BytesIO(), member: io.BytesIO(data or stream.getvalue())}
            Image.new("RGB", (SIDE, SIDE)).save(parts["jpg"], "JPEG")
            with tarfile.open(tmp_path / f"train-{k}.tar", "w") as tar:
                for kind, part in parts.items():
                    info = tarfile.TarInfo(f"a.{kind}")
                    info.size = len(part.getvalue())
                    part.seek(0)
                    tar.addfile(info, part)
        corpus = Shards(tmp_path, "train", SIDE)
        with pytest.raises(
            ImageError, match=f"train-0.tar/a.{member}: cannot read it as .npy without pi"
        ):
            corpus[0]
        with pytest.raises(
            ImageError, match=rf"a.{member}: holds \[5, 2\], expected landmarks {expected}"
        ):
            corpus[1]

    @pytest.mark.parametrize("columns", [2, 3])
    def test_landmarks_in_another_frame(self, tmp_path: Path, columns: int):
        """The picture is refused, not trained on."""
        good = np.concatenate([landmarks_of(1)[0], np.ones((68, 1))], 1)[:, :columns]
        wrong = good.copy()
        wrong[:, :2] = good[:, 1::-1]
        with tarfile.open(tmp_path / "train-0.tar", "w") as tar:
            for key, points in (("a", good), ("b", wrong), ("c", good / SIDE)):
                parts = {"jpg": io.BytesIO(), "npy": io.BytesIO()}
                Image.new("RGB", (SIDE, SIDE)).save(parts["jpg"], "JPEG")
                np.save(parts["npy"], points)
                for kind, part in parts.items():
                    info = tarfile.TarInfo(f"{key}.{kind}")
                    info.size = len(part.getvalue())
                    part.seek(0)
                    tar.addfile(info, part)
        corpus = Shards(tmp_path, "train", SIDE)
        np.testing.assert_allclose(corpus[0].landmarks, good[:, :2], rtol=1e-5)
        with pytest.raises(
            ImageError, match=r"train-0.tar/b: its landmarks look like rows of y and x"
        ):
            corpus[1]
        with pytest.raises(
            ImageError, match=r"train-0.tar/c: its landmarks look normalised to \[0, 1"
        ):
            corpus[2]


class TestMistakes:
    def test_nothing_to_read(self, tmp_path: Path):
        with pytest.raises(DataError, match="no .tar shards in this folder"):
            Shards(tmp_path)
        with tarfile.open(tmp_path / "val-00000.tar", "w"):
            pass
        with pytest.raises(DataError, match="no samples for training in 1 shards"):
            Shards(tmp_path)
        assert len(Shards(tmp_path, "val")) == 0

    def test_bad_arguments(self, tmp_path: Path):
        with pytest.raises(ValueError, match="Shards: split is 'test'"):
            Shards(tmp_path, "test")


class TestHostileIndex:
    @pytest.mark.parametrize(
        "place",
        [
            [512, 2**62, 1],
            [-(2**62), 4, 1],
            ["a", "b", "c"],
            [512.5, 4, 1],
            [True, 4, 1],
            [512, 4],
            None,
            3,
        ],
    )
    def test_is_made_again(self, tmp_path, place):
        """Places outside of the shard, and what is no place: the shard tells where things are."""
        path = tmp_path / "train-00000.tar"
        stream = io.BytesIO()
        Image.new("RGB", (32, 32)).save(stream, "PNG")
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for name in ("a.png", "b.png"):
                info = tarfile.TarInfo(name)
                info.size = len(stream.getvalue())
                tar.addfile(info, io.BytesIO(stream.getvalue()))
        samples = open_shard(path).samples
        head, first, last = index_path(path).read_text().splitlines()
        edited = {**json.loads(first), "members": {"png": place} if place != 3 else 3}
        index_path(path).write_text("\n".join([head, json.dumps(edited), last]) + "\n")
        assert open_shard(path).samples == samples


class TestGone:
    def test_a_shard_that_vanishes_or_is_no_file(self, tmp_path, monkeypatch):
        path = tmp_path / "train-00000.tar"
        path.mkdir()
        with pytest.raises(DataError, match=r"train-00000\.tar: cannot read the shard \("):
            open_shard(path)
        message = r"train-00001\.tar/a: cannot read \(No such file or directory\)"
        with pytest.raises(ImageError, match=message):
            read_members(tmp_path / "train-00001.tar", "a", {"png": (512, 4, 1)})
