"""A run opened for use: its encoder, its decoder, its newest checkpoint."""

from __future__ import annotations

import shutil

import imageio.v3 as iio
import pytest
import torch

from mofa_nvdr.apply.parameters import load_parameters
from mofa_nvdr.apply.reconstruction import ReconstructOptions, reconstruct_files
from mofa_nvdr.data.images import resize_square
from mofa_nvdr.face.mirror import mirror_signs
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.runs.checkpoint import list_checkpoints, read_checkpoint, save_checkpoint
from mofa_nvdr.runs.trained import Reconstructor
from tests.helpers.photos_to_reconstruct import SIZE


@pytest.fixture
def run(smoke_run):
    return smoke_run[0]


class TestReconstructor:
    def test_equals_encoder_and_decoder_by_hand(self, run, cap, photos, tmp_path):
        options = ReconstructOptions(crops=True)
        (written,) = reconstruct_files(
            [photos / "a.png"], run, tmp_path / "out", cap, "cpu", options=options
        )
        from mofa_nvdr.networks.encoder import build_encoder

        model = FaceModel.load(cap)
        tensors, metadata = read_checkpoint(list_checkpoints(run)[-1])
        options = metadata["options"]["encoder"]
        encoder = build_encoder(
            options["network"], model.layout, None, options["scale"], options["size"]
        ).eval()
        encoder.load_state_dict(
            {k.removeprefix("encoder/"): v for k, v in tensors.items() if k.startswith("encoder/")}
        )
        photo = torch.from_numpy(resize_square(iio.imread(photos / "a.png"), SIZE))
        with torch.no_grad():
            vector = encoder(photo.permute(2, 0, 1)[None].float() / 255)
        assert vector.abs().max() > 0
        torch.testing.assert_close(
            load_parameters(written).code.pack(), vector, atol=1e-4, rtol=1e-4
        )

    def test_both_ways_knows_no_left_and_right(self):
        """The mirrored picture has the mirrored code."""
        trained = Reconstructor.load(device="cpu")
        images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
        signs = mirror_signs(trained.decoder.model)
        one, other = (trained(x, both_ways=True).pack() for x in (images, images.flip(3)))
        torch.testing.assert_close(one, signs * other, rtol=1e-4, atol=1e-4)  # measured 1e-5
        plain = (trained(x).pack() for x in (images, images.flip(3)))
        torch.testing.assert_close(one, sum(c * s for c, s in zip(plain, (0.5, 0.5 * signs))))
        assert (one - trained(images).pack()).abs().max() > 0.01

    def test_newest_checkpoint_or_the_one_named(self, run, cap):
        images = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
        newest = Reconstructor.load(run, cap, "cpu")(images).pack()
        older, last = (Reconstructor.load(p, cap, "cpu")(images) for p in list_checkpoints(run))
        assert torch.equal(newest, last.pack())
        assert not torch.equal(newest, older.pack())

    def test_computes_in_float32_whatever_the_training_did(self, run, cap, tmp_path):
        _, metadata = read_checkpoint(list_checkpoints(run)[-1])
        metadata["options"]["encoder"]["precision"] = "bfloat16"
        path = tmp_path / "other.safetensors"
        save_checkpoint(path, Reconstructor.load(run, cap, "cpu").encoder, None, metadata)
        images = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
        codes = (Reconstructor.load(p, cap, "cpu")(images).pack() for p in (run, path))
        assert torch.equal(*codes)

    def test_does_not_need_the_training_weights_file(self, run, cap, tmp_path):
        """A run folder that was carried to another machine."""
        shutil.copytree(run, tmp_path / "moved")
        assert not Reconstructor.load(tmp_path / "moved", cap, "cpu").encoder.training
