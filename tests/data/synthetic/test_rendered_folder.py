"""Folders of rendered faces, chunk by chunk."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mofa_nvdr.data.photographs import Photographs
from mofa_nvdr.data.synthetic.faces import SyntheticFaces
from mofa_nvdr.data.synthetic.rendered_folder import (
    CHUNK,
    FOLDERS,
    chunks_to_do,
    one_thread,
    remove_unfinished,
    write_chunk,
    write_tables,
)
from mofa_nvdr.data.synthetic.resampling import Resampling
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.system.files import make_folders
from tests.helpers.small_face import small_face


@pytest.fixture
def faces():
    return SyntheticFaces(FaceDecoder(small_face(16), 32), plain=True)


@pytest.fixture
def folder(tmp_path):
    return make_folders(str(tmp_path / "faces"), *FOLDERS)


class TestChunks:
    def test_until_all_are_done(self, faces, folder):
        """The last one has fewer faces; a damaged one is to be done again; more faces need more."""
        assert chunks_to_do(folder, CHUNK + 3) == [(0, CHUNK), (1, 3)]
        for chunk, count in chunks_to_do(folder, CHUNK + 3):
            assert write_chunk(folder, faces, 0, chunk, count) == count
        assert chunks_to_do(folder, CHUNK + 3) == []
        assert chunks_to_do(folder, CHUNK + 4) == [(1, 4)]
        (folder / "parts/000000.npz").write_bytes(b"PK")
        assert chunks_to_do(folder, CHUNK) == [(0, CHUNK)]

    def test_reads_as_a_corpus(self, faces, folder):
        write_chunk(folder, faces, 3, 0, 5)
        layout = faces.decoder.model.layout
        write_tables(folder, 5, layout, "abc", "here seed 3")
        rows = (folder / "index.csv").read_text().splitlines()
        assert rows[2].startswith("images/0000001.jpg,") and rows[2].endswith(",here seed 3 face 1")
        both = [Photographs(folder, split, 32) for split in ("train", "val")]
        assert sum(map(len, both)) == 5 and both[0].codes_of == "abc"
        sample = both[0][0]
        number = int(sample.path.stem)
        expected = faces.render(3, range(CHUNK))
        np.testing.assert_array_equal(sample.code, expected.code.pack()[number].numpy())
        picture = expected.picture.image[number].permute(1, 2, 0).numpy() * 255
        assert np.abs(sample.image - picture).mean() < 4  # JPEG

    def test_around_known_codes(self, faces, folder):
        """Without deviations each face is one of them, seen in the place of a face at random."""
        layout = faces.decoder.model.layout
        known = 0.1 * torch.randn(3, layout.size, generator=torch.Generator().manual_seed(0))
        around = Resampling(known, torch.zeros(layout.size))
        write_chunk(folder, faces, 0, 0, CHUNK, 9, around)
        with np.load(folder / "parts/000000.npz") as part:
            codes = torch.from_numpy(part["codes"])
        assert ((codes[:, None] - known).abs().amax(2) < 1e-6).any(1).all()
        deviations = faces.deviations()
        assert deviations.shape == (layout.size,) and deviations.isfinite().all()
        # Of 256 faces of the prior: 0.8 for shapes.
        assert abs(deviations[layout.slices["shape"]].mean() - 0.8) < 0.1

    def test_remove_unfinished(self, folder):
        (folder / "images/a.jpg.tmp").write_bytes(b"half")
        (folder / "images/b.jpg").write_bytes(b"whole")
        remove_unfinished(folder)
        assert [p.name for p in (folder / "images").iterdir()] == ["b.jpg"]


def test_one_thread():
    before = torch.get_num_threads()
    with pytest.raises(KeyError), one_thread():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == before
