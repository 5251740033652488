"""Faces from random codes: reproducible, new at every step, and exactly what their codes say."""

import itertools
import math
import warnings

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from mofa_nvdr.data.images import ImageError
from mofa_nvdr.data.photographs import Photographs
from mofa_nvdr.data.sampling import Batch
from mofa_nvdr.data.synthetic import CodePrior, SyntheticFaces, random_codes
from mofa_nvdr.decoder import FaceDecoder
from mofa_nvdr.face_code import CodeLayout, FaceCode
from mofa_nvdr.lighting import AMBIENT_OFFSET, SH_CONSTANTS
from tests.small_face import small_face


@pytest.fixture(scope="module")
def faces() -> SyntheticFaces:
    return SyntheticFaces(FaceDecoder(small_face(16), 48))


@pytest.fixture(scope="module")
def codes() -> FaceCode:
    return random_codes(CodeLayout(4, 3, 5), 40_000, torch.Generator().manual_seed(0))


def _take(
    faces: SyntheticFaces, seed: int, step: int, count: int = 1, size: int = 3
) -> list[Batch]:
    return list(itertools.islice(faces.batches(size, seed, step), count))


class TestRandomCodes:
    @pytest.mark.parametrize(
        ("part", "spread"),
        [
            ("shape", [0.8] * 4),
            ("expression", [0.7] * 3),
            ("albedo", [1.0] * 5),
            ("rotation", [math.radians(a) for a in (8, 14, 5)]),
            ("translation", [8.0, 8.0, 50.0]),
        ],
    )
    def test_spreads(self, codes, part, spread):
        values = getattr(codes, part)
        # 40,000 draws: the standard error of a spread is 0.4 %, of a mean 0.5 % of the spread.
        expected = torch.tensor(spread)
        assert torch.allclose(values.std(0), expected, rtol=0.02)
        assert (values.mean(0).abs() < 0.025 * expected).all()

    def test_light(self, codes):
        """Ambient part: 0.7 (1.3 exp(0.25 n) (1 + 0.05 m) - 1) plus half of what the key light adds."""
        key = 0.4 * 0.5 * SH_CONSTANTS[0]
        mean = 0.7 * (1.3 * math.exp(0.25**2 / 2) - 1) + key
        assert torch.allclose(codes.light[:, 0].mean(0), torch.tensor(mean), atol=0.003)
        power = math.exp(2 * 0.25**2) * (1 + 0.05**2) - math.exp(0.25**2)  # variance of the product
        variance = (0.7 * 1.3) ** 2 * power + (0.5 * SH_CONSTANTS[0]) ** 2 * 0.8**2 / 12
        assert torch.allclose(
            codes.light[:, 0].std(0), torch.tensor(math.sqrt(variance)), rtol=0.02
        )
        # The key light is white, and its band 1 has the length of its strength.
        assert torch.equal(codes.light[:, 1:, 0], codes.light[:, 1:, 2])
        strength = codes.light[:, 1:4, 0].norm(dim=1) / SH_CONSTANTS[1]
        assert 0 <= strength.min() and strength.max() <= 0.8 + 1e-6
        assert strength.mean().item() == pytest.approx(0.4, rel=0.02)

    def test_direction_of_the_key_light(self, codes):
        """Order 1 is y, z, x: E sin(e) and E cos(e) cos(a) of normal angles, exp(-s^2 / 2) damped."""
        towards = codes.light[:, 1:4, 0] / codes.light[:, 1:4, 0].norm(dim=1, keepdim=True)
        y, z, x = towards.mean(0).tolist()
        damped = math.exp(-0.5 * math.radians(25) ** 2)
        assert y == pytest.approx(math.sin(math.radians(20)) * damped, abs=0.01)
        forward = math.cos(math.radians(20)) * damped * math.exp(-0.5 * math.radians(50) ** 2)
        assert z == pytest.approx(forward, abs=0.01)
        assert x == pytest.approx(0, abs=0.015)

    def test_prior(self):
        still = CodePrior(shape=0, albedo=0, yaw=0, depth=0, ambient=0, exposure=1, key=(0.0, 0.0))
        codes = random_codes(CodeLayout(4, 3, 5), 50, torch.Generator().manual_seed(0), still)
        assert codes.shape.abs().max() == 0 == codes.albedo.abs().max()
        assert codes.rotation[:, 1].abs().max() == 0 == codes.translation[:, 2].abs().max()
        assert codes.light[:, 1:].abs().max() == 0
        assert codes.light[:, 0].abs().max() < 0.25 * AMBIENT_OFFSET  # 5 % of colour are left


class TestSyntheticFaces:
    def test_depends_on_seed_and_step_alone(self, faces):
        straight = _take(faces, seed=3, step=0, count=4)
        torch.manual_seed(99)
        resumed = _take(faces, seed=3, step=2, count=2)
        for a, b in zip(straight[2:], resumed):
            assert a.step == b.step
            assert torch.equal(a.images, b.images) and torch.equal(a.codes, b.codes)

    @pytest.mark.parametrize("around", [False, True])
    def test_shares_of_processes_make_the_batch(self, tmp_path, around):
        """Codes, faces, surroundings and noise are those of the whole batch, on any number of processes."""
        rng = np.random.default_rng(0)
        for k in range(3):
            iio.imwrite(tmp_path / f"{k}.png", rng.integers(0, 255, (48, 48, 3)).astype(np.uint8))
        photographs = Photographs(tmp_path, "train", 48) if around else None
        faces = SyntheticFaces(FaceDecoder(small_face(16), 48), photographs=photographs)
        (whole,) = _take(faces, 1, 5, size=4)
        shares = [next(faces.batches(4, 1, 5, rank, 2)) for rank in (0, 1)]
        for name in ("images", "codes", "landmarks", "confidence"):
            both = torch.cat([getattr(share, name) for share in shares])
            torch.testing.assert_close(both, getattr(whole, name), rtol=0, atol=1e-5)
        with pytest.raises(ValueError, match="4 images for rank 0 of 3 processes"):
            next(faces.batches(4, 1, 5, 0, 3))
        val = [list(faces.val_batches(6, 2, rank, 2)) for rank in (0, 1)]
        assert [[batch.step for batch in share] for share in val] == [[0, 2], [1]]

    def test_every_seed_and_step_is_new(self, faces):
        codes = [_take(faces, seed, step)[0].codes for seed in (0, 1, 2) for step in (0, 1, 7)]
        codes += [batch.codes for batch in faces.val_batches(6, 3)]
        for a, b in itertools.combinations(torch.cat(codes), 2):
            assert not torch.equal(a, b)

    def test_seed_beyond_32_bits(self, faces):
        big = _take(faces, seed=2**40 + 1, step=0)[0]
        assert not torch.equal(big.codes, _take(faces, seed=1, step=0)[0].codes)

    def test_leaves_the_global_random_state_alone(self, faces):
        state = torch.get_rng_state()
        _take(faces, 0, 0)
        assert torch.equal(torch.get_rng_state(), state)

    def test_validation(self, faces):
        batches = list(faces.val_batches(7, 3))
        assert [len(batch.images) for batch in batches] == [3, 3, 1]
        assert [batch.step for batch in batches] == [0, 1, 2]
        again = torch.cat([batch.images for batch in faces.val_batches(7, 3)])
        assert torch.equal(torch.cat([batch.images for batch in batches]), again)

    def test_batch(self, faces):
        batch = _take(faces, 0, 5, size=4)[0]
        assert batch.images.shape == (4, 3, 48, 48) and batch.images.dtype == torch.float32
        assert batch.codes.shape == (4, faces.decoder.model.layout.size)
        assert batch.images.min() >= 0 and batch.images.max() <= 1
        assert batch.step == 5
        assert torch.equal(batch.confidence, torch.ones(4, 68))
        assert not batch.images.requires_grad and not batch.codes.requires_grad

    @pytest.mark.parametrize("mode", ["raster", "vertex"])
    def test_codes_and_landmarks_are_the_images(self, mode):
        decoder = FaceDecoder(small_face(16), 48, mode)
        batch = _take(SyntheticFaces(decoder), 0, 0)[0]
        face = decoder(batch.codes, render_mode="raster")
        assert face.mask.sum() > 500
        inside = face.mask.expand_as(batch.images) > 0
        assert torch.equal(batch.images[inside], face.image.clamp(0, 1)[inside])
        assert torch.equal(batch.landmarks, face.landmarks)

    def test_backgrounds_vary(self, faces):
        batch = _take(faces, 0, 0, size=8)[0]
        corners = batch.images[:, :, 0, 0]
        assert corners.std(0).min() > 0.1
        assert batch.images[:, :, :6].std(dim=(2, 3)).min() > 0.02  # no plain colour

    def test_photographs_around_the_faces(self, tmp_path):
        """Even places keep their photograph, odd ones have it rolled; broken files are passed over."""
        for k in range(6):
            picture = np.zeros((64, 64, 3), np.uint8)
            picture[:32] = 255  # white above, black below
            iio.imwrite(tmp_path / f"{k}.png", picture)
        (tmp_path / "broken.png").write_bytes((tmp_path / "0.png").read_bytes()[:60])
        photographs = Photographs(tmp_path, "train", 64)
        decoder = FaceDecoder(small_face(), 64)
        faces = SyntheticFaces(decoder, CodePrior(depth=0, sideways=0), photographs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the broken file is named, once
            batches = [next(faces.batches(4, 0, step)) for step in range(4)]
            again = next(faces.batches(4, 0, 2))
        assert torch.equal(batches[2].images, again.images)
        for batch in batches:
            assert batch.images.min() >= 0 and batch.images.max() <= 1
            rows = batch.images[:, :, :, :3].mean((1, 3))  # the left border, free of the face
            above, below = rows[:, 4:20].mean(1), rows[:, -20:-4].mean(1)
            assert ((above > below) == torch.tensor([True, False, True, False])).all()

    def test_no_readable_photograph(self, tmp_path):
        for k in range(3):
            (tmp_path / f"{k}.png").write_bytes(b"not a picture")
        photographs = Photographs(tmp_path, "train", 64)
        faces = SyntheticFaces(FaceDecoder(small_face(), 64), photographs=photographs)
        with warnings.catch_warnings(), pytest.raises(ImageError):
            warnings.simplefilter("ignore")
            next(faces.batches(2, 0, 0))

    def test_exposure(self, face_model):
        """Mean brightness of 64 random faces of the built-in model."""
        decoder = FaceDecoder(face_model, 48)
        batch = _take(SyntheticFaces(decoder), 0, 0, size=64)[0]
        mask = decoder(batch.codes).mask
        mean = (batch.images.mean(1, keepdim=True) * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))
        # Dark and light skin under dim and strong light; photographs have 0.47 on average.
        assert 0.35 < mean.mean() < 0.65
        assert mean.min() > 0.1 and mean.max() < 0.95
        burnt = (batch.images.amin(1, keepdim=True) >= 1).float() * mask
        assert burnt.sum() < 0.02 * mask.sum()
