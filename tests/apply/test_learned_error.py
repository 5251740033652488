"""What learned counterparts are measured on: codes that nothing draws, and pictures that nothing saw."""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr import FaceDecoder, FaceModel
from mofa_nvdr.apply.learned_error import seen_by, unseen_codes
from mofa_nvdr.apply.learned_pictures import drawn_codes
from mofa_nvdr.data.crop_tables import DataError
from mofa_nvdr.runs.trained import Reconstructor
from tests.helpers.photos_to_reconstruct import write_photos


class TestUnseenCodes:
    def test_the_same_ones_and_no_training_s(self, cap):
        model = FaceModel.load(cap)
        decoder = FaceDecoder(model, image_size=32)
        codes = unseen_codes(decoder, 6)
        assert codes.shape == (6, model.layout.size)
        assert torch.equal(codes, unseen_codes(decoder, 6))
        for seed in range(3):
            drawn = drawn_codes(model, 6, seed, 0)
            assert (drawn[:, None] != codes).any(2).all()


class TestSeenBy:
    def test_pictures_codes_and_colours(self, tmp_path):
        folder = write_photos(tmp_path / "faces")
        (folder / "index.csv").write_text("file,split\na.png,train\nb.JPG,val\nmore/c.png,val\n")
        run = Reconstructor.load(device="cpu")
        (seen,) = seen_by(run, str(folder), 32, 0)
        assert seen.photo.shape == (2, 3, 32, 32) and seen.code.batch_size == 2
        assert torch.equal(seen.solved.shape, seen.code.shape)  # colours alone are solved for
        assert not torch.allclose(seen.solved.light, seen.code.light, atol=1e-3)

    def test_nothing_to_watch(self, tmp_path):
        folder = write_photos(tmp_path / "faces")
        (folder / "index.csv").write_text(
            "file,split\na.png,train\nb.JPG,train\nmore/c.png,train\n"
        )
        with pytest.raises(DataError, match="no validation picture; index.csv says which are"):
            next(seen_by(Reconstructor.load(device="cpu"), str(folder), 32, 0))
