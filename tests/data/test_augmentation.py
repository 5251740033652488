"""Augmentation: a function of seed and place; what the encoder sees and what the loss compares with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mofa_nvdr.cli import main
from mofa_nvdr.data.augmentation import Augmentation, augment
from mofa_nvdr.data.sampling import Batch
from mofa_nvdr.runs.options import TrainConfig, replace_options
from mofa_nvdr.scene.lighting import total_light
from tests.helpers.objective import loss_terms

FULL = Augmentation(color=0.3, blur=0.5, noise=0.05, jpeg=0.5, occlude=0.5)
MORE = replace(FULL, camera=0.3, gray=0.3, coarse=0.5)
ALONE = {
    name: Augmentation(**{name: 0.5})
    for name in ("color", "blur", "noise", "jpeg", "occlude", "camera", "gray", "coarse")
}


def batch_of(count: int = 8, first: int = 0, size: int = 48) -> Batch:
    """Smooth pictures, each of its own."""
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    phase = torch.arange(first, first + count).view(-1, 1, 1, 1) * 0.7
    waves = torch.stack([x, y, x + y])[None] * 9
    return Batch(
        images=0.5 + 0.3 * torch.sin(waves + phase),
        landmarks=torch.zeros(count, 68, 2),
        confidence=torch.ones(count, 68),
        step=0,
        places=tuple(range(first, first + count)),
    )


def changed(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a - b).abs().amax((1, 2, 3)) > 1e-6


class TestAugment:
    def test_off_is_nothing(self):
        batch = batch_of()
        assert augment(batch, Augmentation(), 0) is batch

    def test_depends_on_seed_and_place_alone(self):
        whole = augment(batch_of(8, size=160), MORE, 3)
        torch.manual_seed(5)
        state = torch.get_rng_state()
        parts = [augment(batch_of(4, first, 160), MORE, 3) for first in (0, 4)]
        assert torch.equal(torch.get_rng_state(), state)
        for name in ("images", "target"):
            joined = torch.cat([getattr(part, name) for part in parts])
            assert torch.equal(getattr(whole, name), joined)  # to the last bit
        again = augment(batch_of(8, size=160), MORE, 3)
        assert again.images.equal(whole.images) and again.target.equal(whole.target)
        assert not augment(batch_of(8, size=160), MORE, 4).images.equal(whole.images)
        other = augment(replace(batch_of(8, size=160), places=tuple(range(8, 16))), MORE, 3)
        assert not other.images.equal(whole.images)

    @pytest.mark.parametrize("name", ALONE)
    def test_input_and_target(self, name: str):
        """Colour changes both alike; what stands between camera and face changes the input alone."""
        batch = batch_of(64, size=160)  # blur is in px at 240: smaller pictures get too little
        out = augment(batch, ALONE[name], 0)
        assert out.images.shape == batch.images.shape and out.images.dtype == torch.float32
        assert out.images.min() >= 0 and out.images.max() <= 1
        num_changed = int(changed(out.images, batch.images).sum())
        if name == "color":
            assert out.images.equal(out.target) and num_changed == 64
        else:
            assert out.target.equal(batch.images)
            every = name in ("noise", "camera")
            expected = (64, 64) if every else (20, 44)  # share 0.5: 32, deviation 4
            assert expected[0] <= num_changed <= expected[1]
        assert out.landmarks is batch.landmarks and out.places == batch.places

    def test_one_option_does_not_change_the_draws_of_another(self):
        batch = batch_of(32, size=160)
        alone = changed(augment(batch, ALONE["blur"], 0).images, batch.images)
        without = augment(batch, replace(FULL, blur=0), 0).images
        assert changed(augment(batch, FULL, 0).images, without)[alone].all()
        # JPEG's rounding may hide nothing where nothing was blurred.
        assert not changed(augment(batch, FULL, 0).images, without)[~alone].any()

    def test_blur_keeps_the_mean_and_lowers_detail(self):
        noise = torch.rand(16, 3, 160, 160, generator=torch.Generator().manual_seed(0))
        batch = replace(batch_of(16), images=noise)
        out = augment(batch, Augmentation(blur=1), 0).images
        assert (out.std((1, 2, 3)) < noise.std((1, 2, 3))).all()
        torch.testing.assert_close(out.mean((1, 2, 3)), noise.mean((1, 2, 3)), atol=0.01, rtol=0)

    def test_noise_is_as_strong_as_said(self):
        batch = replace(batch_of(64), images=torch.full((64, 3, 48, 48), 0.5))
        spread = augment(batch, Augmentation(noise=0.1), 0).images.std((1, 2, 3))
        assert spread.max() <= 0.103 and spread.mean().item() == pytest.approx(0.05, abs=0.012)

    def test_patches_are_patches(self):
        batch = batch_of(64, size=64)
        out = augment(batch, Augmentation(occlude=1), 0)
        share = ((out.images - batch.images).abs().amax(1) > 1e-4).float().mean((1, 2))
        assert 0 < share.min() and share.max() < 0.35  # (2 x 0.28)^2 at most
        assert 0.04 < share.mean() < 0.2

    def test_another_camera(self):
        """Gray has no colours; coarse keeps the mean and loses details; codes are what they were."""
        noise = torch.rand(16, 3, 160, 160, generator=torch.Generator().manual_seed(0))
        codes = torch.randn(16, 30)
        batch = replace(batch_of(16), images=noise, codes=codes)
        gray = augment(batch, Augmentation(gray=1), 0)
        assert (gray.images - gray.images[:, :1]).abs().max() == 0 and gray.codes is codes
        coarse = augment(batch, Augmentation(coarse=1), 0).images
        lost = noise.std((1, 2, 3)) / coarse.std((1, 2, 3))
        assert lost.min() > 1.2 and lost.max() < 6
        torch.testing.assert_close(coarse.mean((1, 2, 3)), noise.mean((1, 2, 3)), atol=0.01, rtol=0)
        camera = augment(batch, Augmentation(camera=0.3), 0)
        assert camera.codes is codes and camera.target is batch.images
        gain = camera.images.mean((1, 2, 3)) / 0.5
        assert gain.min() > 0.4 and gain.max() < 1.7 and gain.std() > 0.1

    def test_known_codes_follow_the_brightness(self):
        """Pictures with known codes get a gain and a balance, and their light the same; nothing else."""
        codes = 0.1 * torch.arange(2.0)[:, None] + torch.linspace(-0.1, 0.1, 30)
        codes[1] = torch.nan
        dark = 0.3 * batch_of(2).images
        batch = replace(batch_of(2), images=dark, codes=codes)
        out = augment(batch, Augmentation(color=0.3), 0)
        gain = (out.target / dark)[0].flatten(1)
        assert torch.allclose(gain, gain[:, :1].expand_as(gain), rtol=1e-4)
        light, before = (total_light(c[0, -27:].view(9, 3)) for c in (out.codes, codes))
        torch.testing.assert_close(light, before * gain[:, 0])
        assert out.codes[0, :3].equal(codes[0, :3]) and out.codes[1].isnan().all()
        free = (out.target / dark)[1].flatten(1)  # without a code: gamma and contrast too
        assert not torch.allclose(free, free[:, :1].expand_as(free), rtol=1e-2)

    def test_a_clean_target_stays_one(self):
        """A rendered face behind an occluder of its own: the target is recoloured, not re-occluded."""
        batch = batch_of(4)
        covered = replace(batch, images=torch.zeros_like(batch.images), clean=batch.images)
        out = augment(covered, Augmentation(noise=0.1), 0)
        assert out.target.equal(batch.images) and out.images.mean() < 0.1

    def test_only_batches_of_training(self):
        with pytest.raises(
            ValueError, match="augment: 0 places for 8 pictures; only batches of tra"
        ):
            augment(replace(batch_of(), places=()), FULL, 0)


class TestTraining:
    def test_the_loss_compares_with_the_target(self, face_model):
        from mofa_nvdr.networks.encoder import build_encoder
        from mofa_nvdr.render.decoder import FaceDecoder

        config = replace_options(
            TrainConfig(),
            {"data.image_size": 48, "encoder.network": "mobilenet_v3_large", "encoder.size": 64},
        )
        decoder = FaceDecoder(face_model, 48)
        encoder = build_encoder("mobilenet_v3_large", face_model.layout, None, None, 64).eval()
        batch = batch_of(2)
        plain = loss_terms(config, encoder, decoder, batch, 1)
        covered = replace(batch, images=torch.zeros_like(batch.images), clean=batch.images)
        # The last layer is zero: both inputs give code zero.
        assert loss_terms(config, encoder, decoder, covered, 1)["loss"] == plain["loss"]
        other = replace(batch, clean=torch.zeros_like(batch.images))
        assert loss_terms(config, encoder, decoder, other, 1)["loss"] != plain["loss"]

    def test_command(self, tmp_path: Path, capsys):
        args = ["train", "--config", "smoke", "--steps", "2", "--out", str(tmp_path / "run")]
        more = ["--augment.noise", "0.05", "--augment.occlude", "0.5", "--augment.jpeg", "0.5"]
        assert main([*args, *more]) == 0
        assert "finished at step 2" in capsys.readouterr().out
        assert main([*args, "--augment.jpeg", "1.5"]) == 2
        assert "--augment.jpeg is 1.5, expected 0 to 1" in capsys.readouterr().err
        assert main([*args, "--augment.noise", "-1"]) == 2
        assert "--augment.noise is -1.0, expected 0 or more" in capsys.readouterr().err
