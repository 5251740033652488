"""Folders of pictures that several tests of data read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mofa_nvdr.data import write_shards
from tests.helpers.picture_folders import corpus_of, landmarks_of, write_index, write_pictures


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
def crops(tmp_path: Path) -> Path:
    return corpus_of(tmp_path / "crops")


@pytest.fixture
def shards(crops: Path, tmp_path: Path) -> Path:
    write_shards(crops, str(tmp_path / "shards"), megabytes=0.02)
    return tmp_path / "shards"
