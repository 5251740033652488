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
from mofa_nvdr.data.synthetic.codes import CodePrior, load_lights, random_codes
from mofa_nvdr.data.synthetic.faces import SyntheticFaces
from mofa_nvdr.face.code import CodeLayout, FaceCode
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.lighting import AMBIENT_OFFSET, SH_CONSTANTS
from tests.helpers.small_face import small_face


@pytest.fixture(scope="module")
def faces() -> SyntheticFaces:
    return SyntheticFaces(FaceDecoder(small_face(16), 48), plain=True)


@pytest.fixture(scope="module")
def portraits(face_model) -> SyntheticFaces:
    """The built-in model with everything around it."""
    return SyntheticFaces(FaceDecoder(face_model, 64))


@pytest.fixture(scope="module")
def codes() -> FaceCode:
    return random_codes(CodeLayout(4, 3, 5), 40_000, np.random.default_rng(0))


def _take(
    faces: SyntheticFaces, seed: int, step: int, count: int = 1, size: int = 3
) -> list[Batch]:
    return list(itertools.islice(faces.batches(size, seed, step), count))


class TestRandomCodes:
    @pytest.mark.parametrize(
        ("part", "spread"),
        [
            ("shape", [0.8] * 4),
            # Three faces in ten have a quarter of the expression.
            ("expression", [0.7 * math.sqrt(0.7 + 0.3 / 16)] * 3),
            ("albedo", [1.0] * 5),
            # Cut at 2.5 deviations: 0.978 of the spread. 15 % of the heads turn 1.7 times as far.
            ("rotation", [0.978 * math.radians(a) for a in (13, 14 * math.sqrt(1.2835), 6)]),
            ("translation", [0.978 * a for a in (12.0, 12.0, 69.0)]),
        ],
    )
    def test_spreads(self, codes, part, spread):
        values = getattr(codes, part)
        # 40,000 draws: the standard error of a spread is 0.4 %, of a mean 0.5 % of the spread.
        expected = torch.tensor(spread)
        assert torch.allclose(values.std(0), expected, rtol=0.02)
        assert (values.mean(0).abs() < 0.025 * expected).all()

    def test_light(self, codes):
        """Ambient part: 0.7 (1.45 exp(0.15 n) (1 + 0.05 m) - 1) plus half of what the key light adds."""
        key = 0.4 * 0.5 * SH_CONSTANTS[0]
        mean = 0.7 * (1.45 * math.exp(0.15**2 / 2) - 1) + key
        assert torch.allclose(codes.light[:, 0].mean(0), torch.tensor(mean), atol=0.004)
        # Band 1 has the length of the key light's strength, tinted by a tenth.
        strength = codes.light[:, 1:4].norm(dim=1) / SH_CONSTANTS[1]  # [B, 3]
        assert strength.mean().item() == pytest.approx(0.4, rel=0.02)
        ratio = strength[:, 0] / strength[:, 2]
        assert ratio.log().std().item() == pytest.approx(0.1 * math.sqrt(2), rel=0.1)
        assert (codes.light[:, 4:].std(0) > 0.08 * 0.7 * 1.45).all()

    def test_pose_is_cut(self, codes):
        limit = 2.5 * torch.tensor([13, 1.7 * 14, 6]).deg2rad()
        assert (codes.rotation.abs().amax(0) <= limit + 1e-6).all()
        assert (codes.translation.abs().amax(0) <= 2.5 * torch.tensor([12, 12, 69.0])).all()

    def test_lights_of_probes(self):
        """Half of the faces; turned about the vertical axis, so that y and the ambient part stay."""
        probe = torch.zeros(9, 3)
        probe[0], probe[1], probe[3] = 1.1, 0.3, 0.2
        prior = CodePrior(ambient=0, exposure=1, tint=0)
        codes, plain = (
            random_codes(CodeLayout(4, 3, 5), 1500, np.random.default_rng(0), prior, lights)
            for lights in ([probe], ())
        )
        from_probe = (codes.light != plain.light).flatten(1).any(1)
        assert from_probe.float().mean().item() == pytest.approx(0.5, abs=0.03)
        light = codes.light[from_probe]
        torch.testing.assert_close(light[:, 0], torch.full_like(light[:, 0], 1.1 - AMBIENT_OFFSET))
        assert light[:, 1].mean().item() == pytest.approx(0.3, abs=0.01)  # tilted by 0.15
        assert light[:, 3].std() > 0.1 < light[:, 2].std()
        length = light[:, 1:4].norm(dim=1)
        torch.testing.assert_close(length, torch.full_like(length, math.hypot(0.3, 0.2)))
        for part in ("shape", "expression", "albedo", "rotation", "translation"):
            assert torch.equal(getattr(codes, part), getattr(plain, part))

    def test_folder_of_probes(self, tmp_path, data_dir):
        folder = data_dir / "light_probes"
        if not folder.is_dir():
            pytest.skip(f"no light probes at {folder}")
        lights = load_lights(str(folder))
        assert len(lights) == 6 and all(light.shape == (9, 3) for light in lights)

    def test_no_folder_of_probes(self, tmp_path):
        with pytest.raises(ValueError, match="none: no such folder of .hdr light probes"):
            load_lights(str(tmp_path / "none"))
        with pytest.raises(ValueError, match="no .hdr light probes in this folder"):
            load_lights(str(tmp_path))
        (tmp_path / "x.hdr").write_bytes(b"no")
        with pytest.raises(ValueError, match="x.hdr: not a Radiance .hdr picture"):
            load_lights(str(tmp_path))

    def test_direction_of_the_key_light(self, codes):
        """Order 1 is y, z, x: E sin(e) and E cos(e) cos(a) of normal angles, exp(-s^2 / 2) damped."""
        band = codes.light[:, 1:4, 0]
        band = band[band.norm(dim=1) > 0.05]  # nearly none: its direction means nothing
        towards = band / band.norm(dim=1, keepdim=True)
        y, z, x = towards.mean(0).tolist()
        damped = math.exp(-0.5 * math.radians(25) ** 2)
        assert y == pytest.approx(math.sin(math.radians(20)) * damped, abs=0.01)
        forward = math.cos(math.radians(20)) * damped * math.exp(-0.5 * math.radians(50) ** 2)
        assert z == pytest.approx(forward, abs=0.01)
        assert x == pytest.approx(0, abs=0.015)

    def test_prior(self):
        still = CodePrior(
            shape=0, albedo=0, yaw=0, depth=0, ambient=0, exposure=1, key=(0.0, 0.0), second=0
        )
        codes = random_codes(CodeLayout(4, 3, 5), 50, np.random.default_rng(0), still)
        assert codes.shape.abs().max() == 0 == codes.albedo.abs().max()
        assert codes.rotation[:, 1].abs().max() == 0 == codes.translation[:, 2].abs().max()
        assert codes.light[:, 1:].abs().max() == 0
        assert codes.light[:, 0].abs().max() < 0.25 * AMBIENT_OFFSET  # 5 % of colour are left

    def test_narrower_poses_change_nothing_else(self):
        layout = CodeLayout(3, 2, 4)
        wide = random_codes(layout, 50, np.random.default_rng(3))
        half = random_codes(layout, 50, np.random.default_rng(3), CodePrior().with_pose(0.5))
        torch.testing.assert_close(half.rotation, 0.5 * wide.rotation)
        torch.testing.assert_close(half.translation, 0.5 * wide.translation)
        for name in ("shape", "expression", "albedo", "light"):
            assert torch.equal(getattr(half, name), getattr(wide, name))


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

    def test_processes_share_batches(self, faces):
        with pytest.raises(ValueError, match="3 images for rank 0 of 2 processes"):
            next(faces.batches(3, 0, 0, 0, 2))
        parts = [[b.step for b in faces.val_batches(7, 3, rank, 2)] for rank in (0, 1)]
        assert parts == [[0, 2], [1]]

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
        batch = _take(SyntheticFaces(decoder, plain=True), 0, 0)[0]
        face = decoder(batch.codes, render_mode="raster")
        assert face.mask.sum() > 500
        inside = face.mask.expand_as(batch.images) > 0
        assert torch.equal(batch.images[inside], face.image.clamp(0, 1)[inside])
        assert torch.equal(batch.target, batch.images)
        assert torch.equal(batch.landmarks, face.landmarks)

    def test_the_target_shows_the_face_that_the_image_hides(self, portraits):
        """Behind hair, glasses, occluders and the camera the target holds what the code says."""
        batch = _take(portraits, 0, 0, size=12)[0]
        face = portraits.decoder(batch.codes)
        inside = face.mask.expand_as(batch.images) > 0
        error = (batch.target - face.image.clamp(0, 1)).abs()[inside]
        # The whole mesh is drawn: at the outline of the frontal region it is the nearer one somewhere.
        assert (error > 1e-5).float().mean() < 0.002
        away = (batch.images - batch.target).abs().mean((1, 2, 3))
        assert (away > 0.004).all() and (away < 0.35).all()

    def test_visible_and_frontal(self, portraits):
        rendered = portraits.render(0, range(24))
        visible, frontal = rendered.picture.visible, rendered.frontal
        mask = portraits.decoder(rendered.code).mask
        assert (frontal != mask).float().mean() < 0.002
        assert 0 <= visible.min() and visible.max() <= 1
        hidden = ((1 - visible) * frontal).sum((1, 2, 3)) / frontal.sum((1, 2, 3))
        # Some faces are free but for a hair before an ear, some partly covered, none wholly.
        assert (hidden < 0.01).sum() >= 4 and (hidden > 0.03).sum() >= 4 and hidden.max() < 0.8

    def test_a_face_does_not_depend_on_its_batch(self, portraits):
        """Nor on the number of processes, to the last bit (one thread)."""
        for step in range(3):
            whole = _take(portraits, 0, step, size=4)[0]
            ranks = [next(portraits.batches(4, 0, step, rank, 2)) for rank in (0, 1)]
            assert whole.places == ranks[0].places + ranks[1].places
            for name in ("images", "target", "landmarks", "codes"):
                joined = torch.cat([getattr(part, name) for part in ranks])
                assert torch.equal(getattr(whole, name), joined)

    def test_heads_fill_the_surroundings(self, portraits):
        """Hair, neck and clothes: more of the picture than the background alone is replaced."""
        plain = SyntheticFaces(portraits.decoder, plain=True)
        one, two = portraits.render(0, range(8)), plain.render(0, range(8))
        assert torch.equal(one.code.pack(), two.code.pack())
        outside = 1 - two.picture.visible
        changed = (
            (one.picture.clean - two.picture.image).abs().amax(1, keepdim=True) > 0.02
        ).float()
        share = (changed * outside).sum((1, 2, 3)) / outside.sum((1, 2, 3))
        assert share.min() > 0.1 and share.mean() > 0.3

    def test_backgrounds_vary(self, faces):
        batch = _take(faces, 0, 0, size=8)[0]
        corners = batch.images[:, :, 0, 0]
        assert corners.std(0).min() > 0.1
        assert batch.images[:, :, :6].std(dim=(2, 3)).min() > 0.02  # no plain colour

    def test_photographs_around_the_faces(self, tmp_path):
        """Parts of photographs, of their colours; broken files are passed over and named."""
        for k in range(6):
            picture = np.zeros((64, 64, 3), np.uint8)
            picture[..., 0] = 255  # red above, black below
            picture[32:] = 0
            iio.imwrite(tmp_path / f"{k}.png", picture)
        (tmp_path / "broken.png").write_bytes((tmp_path / "0.png").read_bytes()[:60])
        photographs = Photographs(tmp_path, "train", 64)
        decoder = FaceDecoder(small_face(), 64)
        still = CodePrior(depth=0, sideways=0, pitch=0, yaw=0, roll=0)
        faces = SyntheticFaces(decoder, still, photographs, plain=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the broken file is named, once
            one, again = next(faces.batches(32, 0, 0)), next(faces.batches(32, 0, 0))
        assert len(photographs.skipped) == 1
        assert torch.equal(one.images, again.images)
        border = one.images[:, :, :, :2]  # free of the face
        assert border[:, 1:].max() == 0
        rows = border[:, 0].mean(2)  # [B, 64]
        kept = (rows[:, :32] == 1).all(1) & (rows[:, 32:] == 0).all(1)
        # 15 % as they are; rolled, enlarged and shuffled ones differ from them, and from each other.
        assert 1 <= kept.sum() <= 12
        assert len({tuple(row.tolist()) for row in rows}) > 12

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
        batch = _take(SyntheticFaces(decoder, plain=True), 0, 0, size=64)[0]
        mask = decoder(batch.codes).mask
        mean = (batch.images.mean(1, keepdim=True) * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))
        # Dark and light skin under dim and strong light. Cheeks and foreheads of photographs have a median
        # of 0.65; theirs are brighter than the whole face.
        assert 0.35 < mean.mean() < 0.7
        assert mean.min() > 0.1 and mean.max() < 0.95
        burnt = (batch.images.amin(1, keepdim=True) >= 1).float() * mask
        assert burnt.sum() < 0.02 * mask.sum()
