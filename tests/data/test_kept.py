"""Samples that stay in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from mofa_nvdr.data.images import ImageError
from mofa_nvdr.data.kept import KeptCorpus
from mofa_nvdr.data.photographs import Photographs
from tests.helpers.picture_folders import SIDE, write_pictures

_BYTES = SIDE * SIDE * 3


@pytest.fixture
def photographs(tmp_path: Path) -> Photographs:
    write_pictures(tmp_path / "images", 6)
    return Photographs(tmp_path / "images", "train", SIDE)


class TestKeptCorpus:
    def test_reads_each_once(self, photographs):
        kept = KeptCorpus(photographs, 1.0)
        assert len(kept) == len(photographs) and kept.files == photographs.files
        first = kept[0]
        photographs.files[0].unlink()
        assert kept[0] is first
        with pytest.raises(ImageError):
            photographs[0]

    def test_full(self, photographs):
        kept = KeptCorpus(photographs, 2.5 * _BYTES / 1e6)
        samples = [kept[k] for k in range(4)]
        assert [kept[k] is samples[k] for k in range(4)] == [True, True, False, False]
        assert (kept[3].image == samples[3].image).all()

    def test_unreadable_pictures_are_reported_by_the_corpus(self, photographs):
        photographs.files[1].write_bytes(b"no picture")
        kept = KeptCorpus(photographs, 1.0)
        with pytest.raises(ImageError):
            kept[1]
        with pytest.warns(UserWarning, match="skipped picture 1"):
            kept.report_skipped(photographs.files[1], "why")
        assert kept.skipped == photographs.skipped == [str(photographs.files[1])]

    def test_at_another_size(self, photographs):
        """As a corpus of that size reads them; what cannot be read is counted in one place."""
        kept = KeptCorpus(photographs, 1.0)
        small = kept.at_size(20)
        want = Photographs(photographs.path, "train", 20)
        assert small[2].image.shape == (20, 20, 3) and (small[2].image == want[2].image).all()
        assert kept[2].image.shape == photographs[2].image.shape == (SIDE, SIDE, 3)
        with pytest.warns(UserWarning, match="skipped picture 1"):
            small.report_skipped(small.files[1], "why")
        assert kept.skipped == [str(photographs.files[1])]
