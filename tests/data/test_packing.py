"""Packing crops into tar shards: plain archives, the same bytes again, nothing half written."""

from __future__ import annotations

import io
import json
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mofa_nvdr.data import (
    DataError,
    Shards,
    write_shards,
)
from tests.helpers.picture_folders import SIDE


class TestFormat:
    def test_plain_ustar_in_webdataset_naming(self, crops: Path, shards: Path):
        kinds = {}
        for path in sorted(shards.glob("*.tar")):
            assert path.read_bytes()[257:263] == b"ustar\0"
            with tarfile.open(path) as tar:
                for member in tar:
                    assert member.isfile() and member.mtime == 0
                    key, _, kind = member.name.partition(".")
                    kinds.setdefault(key, {})[kind] = tar.extractfile(member).read()
        assert len(kinds) == 12
        for parts in kinds.values():
            row = json.loads(parts["json"])
            file = crops / row["file"]
            assert parts["png"] == file.read_bytes() and row["source"].endswith(".jpg")
            assert parts["mask.png"] == (crops / "masks" / file.name).read_bytes()
            assert np.load(io.BytesIO(parts["code.npy"])).shape == (7,)
            assert ("npy" in parts) == (file.name != "f.11.png")

    def test_webdataset_reads_it(self, shards: Path):
        webdataset = pytest.importorskip("webdataset", reason="a check for developers alone")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            urls = [str(path) for path in sorted(shards.glob("train-*.tar"))]
            stream = webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8")
            samples = list(stream)
        assert len(samples) == 9
        assert all(s["png"].shape == (SIDE, SIDE, 3) for s in samples)
        assert all(s["json"]["split"] == "train" for s in samples)
        assert {s["npy"].shape for s in samples if "npy" in s} == {(68, 3)}

    def test_same_bytes_again_and_nothing_written_twice(self, crops: Path, shards: Path):
        before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in shards.iterdir()}
        write_shards(crops, str(shards), 0.02)
        assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in shards.iterdir()} == before
        other = shards.parent / "other"
        write_shards(crops, str(other), 0.02)
        for path, (data, _) in before.items():
            assert path.suffix == ".index" or (other / path.name).read_bytes() == data

    def test_what_changed_is_written_anew(self, crops: Path, shards: Path):
        names = {p.name for p in shards.glob("*.tar")}
        Image.new("RGB", (SIDE, SIDE), (9, 8, 7)).save(crops / "images" / "f.00.png")
        write_shards(crops, str(shards), 0.02)
        assert any(
            (image == (9, 8, 7)).all()
            for image in (s.image for s in map(Shards(shards, "train", SIDE).__getitem__, range(9)))
        )
        write_shards(crops, str(shards), 10)  # one shard a split: the others go
        assert {p.name for p in shards.glob("*.tar")} == {"train-00000.tar", "val-00000.tar"}
        assert {p.name for p in shards.glob("*.index")} < {Path(n).stem + ".index" for n in names}


class TestMistakes:
    def test_bad_arguments(self, crops: Path, tmp_path: Path):
        with pytest.raises(ValueError, match="shards: size is 0 MB, expected more than 0"):
            write_shards(crops, str(tmp_path / "s"), 0)
        with pytest.raises(DataError, match="no such folder"):
            write_shards(tmp_path / "none", str(tmp_path / "s"))

    def test_nothing_is_half_written(self, crops: Path, tmp_path: Path, monkeypatch):
        out = tmp_path / "out"
        monkeypatch.setattr(
            tarfile.TarFile,
            "addfile",
            lambda *a: (_ for _ in ()).throw(OSError(28, "No space left")),
        )
        with pytest.raises(OSError, match="No space left"):
            write_shards(crops, str(out))
        assert list(out.iterdir()) == []
