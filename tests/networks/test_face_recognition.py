"""Whose face it is: a small network in the real one's place, and the real one if it is here."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from mofa_nvdr.networks.face_chips import SIZE, cut_chips
from mofa_nvdr.networks.face_recognition import MEMBER, SET, FaceRecognition
from mofa_nvdr.networks.identity_mean import identity_mean
from mofa_nvdr.networks.network_sets import from_dlib
from mofa_nvdr.networks.on_request import NetworkMissingError, find_set, network_path
from tests.benchmarks import bm_identity
from tests.benchmarks.bm_identity import likeness, mean_recall, recall, without_means
from tests.helpers.small_dlib import SmallResnet
from tests.networks.test_face_chips import landmarks

DATA = Path(os.environ.get("MOFA_NVDR_DATA", "../shared/data"))


@pytest.fixture
def small():
    return FaceRecognition(SmallResnet(size=SIZE).network())


@pytest.fixture
def chips():
    return torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


class TestForward:
    def test_values(self, small, chips):
        found = small(chips)
        features, embedding = SmallResnet(size=SIZE).reference(chips)
        # Weights in half precision: measured 1.1e-3 of the largest.
        assert (found.features - features).abs().max() < 3e-3 * features.abs().max()
        assert (found.embedding - embedding).abs().max() < 3e-3 * embedding.abs().max()
        assert found.features.min() >= 0

    def test_frozen_and_differentiable(self, chips):
        """Gradients reach the chips, none is kept for the weights; compared with differences in float64."""
        network = FaceRecognition(SmallResnet(size=SIZE).network(), dtype=torch.float64)
        assert not any(p.requires_grad for p in network.parameters()) and not network.training
        x = chips[:1].double().requires_grad_()
        direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).double()
        (slope,) = torch.autograd.grad(network(x).embedding.square().sum(), x)
        with torch.no_grad():
            step = 1e-6
            ahead, behind = (
                network(x + sign * step * direction).embedding.square().sum() for sign in (1, -1)
            )
        expected = (ahead - behind) / (2 * step)
        # Measured 1e-8; a kink of a ReLU or a maximum within the step would be seen here.
        assert ((slope * direction).sum() - expected).abs() < 1e-5 * expected.abs()

    def test_from_a_picture_to_its_landmarks(self, small):
        images = torch.rand(2, 3, 90, 90, generator=torch.Generator().manual_seed(0))
        images.requires_grad_()
        points = torch.cat([landmarks(0.6)] * 2).float().requires_grad_()
        embedding = small.embed(images, points)
        assert torch.equal(embedding, small(cut_chips(images, points)).embedding)
        for slope in torch.autograd.grad(embedding.square().sum(), (images, points)):
            assert slope.isfinite().all() and slope.abs().max() > 0

    def test_a_batch_is_as_one_by_one(self, small, chips):
        whole = small(chips).embedding
        for k in range(3):
            assert (whole[k] - small(chips[k : k + 1]).embedding[0]).abs().max() < 1e-5

    def test_the_same_with_any_number_of_threads(self, small, chips):
        """Bit for bit if repeated, with gradients; up to rounding between numbers of threads."""
        before, results = torch.get_num_threads(), []
        try:
            for count in (1, 2, 3):
                torch.set_num_threads(count)
                both = []
                for _ in range(2):
                    x = chips.clone().requires_grad_()
                    found = small(x)
                    (slope,) = torch.autograd.grad(found.embedding.square().sum(), x)
                    both.append((*found, slope))
                assert all(torch.equal(a, b) for a, b in zip(*both))
                results.append(both[0])
        finally:
            torch.set_num_threads(before)
        for other in results[1:]:
            for a, b in zip(results[0], other):
                assert (a - b).abs().max() < 1e-5 * a.abs().max()  # measured 2e-7

    @pytest.mark.parametrize(("dtype", "most"), [(torch.bfloat16, 0.02), (torch.float16, 0.001)])
    def test_half_precision(self, dtype, most, small, chips):
        """The last layer and what comes out stay float32. Measured 0.007 and 0.0002 of the largest."""
        network = FaceRecognition(SmallResnet(size=SIZE).network(), dtype=dtype)
        for found, wanted in zip(network(chips), small(chips)):
            assert found.dtype == torch.float32
            assert (found - wanted).abs().max() < most * wanted.abs().max()
        assert torch.equal(network(chips.to(dtype)).features, network(chips.to(dtype)).features)

    def test_autocast_changes_nothing(self, small, chips):
        with torch.autocast("cpu", torch.bfloat16):
            found = small(chips)
        assert torch.equal(found.embedding, small(chips).embedding)

    def test_other_chips(self, small):
        with pytest.raises(ValueError, match=r"chips are \[1, 3, 99, 99\] torch.float32, expected"):
            small(torch.zeros(1, 3, 99, 99))
        with pytest.raises(ValueError, match=r"torch.uint8, .*; cut_chips makes them"):
            small(torch.zeros(1, 3, SIZE, SIZE, dtype=torch.uint8))


class TestLoad:
    def test_missing(self, tmp_path, monkeypatch):
        monkeypatch.setenv("MOFA_NVDR_CACHE", str(tmp_path))
        assert not FaceRecognition.is_here()
        with pytest.raises(NetworkMissingError, match="mofa-nvdr networks get identity$"):
            FaceRecognition.load()

    def write(self, small: SmallResnet) -> Path:
        """A small network in the cache, in the real one's place."""
        path = network_path(SET, MEMBER)
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = {"sha256": find_set(SET).members[0].sha256}
        path.write_bytes(from_dlib(small.to_bytes(), facts))
        return path

    def test_a_file_that_is_here(self, tmp_path, monkeypatch, small, chips):
        monkeypatch.setenv("MOFA_NVDR_CACHE", str(tmp_path))
        self.write(SmallResnet(size=SIZE))
        assert FaceRecognition.is_here()
        assert torch.equal(FaceRecognition.load()(chips).embedding, small(chips).embedding)

    def test_damaged(self, tmp_path, monkeypatch):
        monkeypatch.setenv("MOFA_NVDR_CACHE", str(tmp_path))
        path = self.write(SmallResnet(size=30))
        with pytest.raises(
            ValueError, match=r"recognition\.safetensors: damaged \(.*\(30, 30\) px"
        ):
            FaceRecognition.load()
        path = self.write(SmallResnet(size=SIZE))
        data = path.read_bytes()
        path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])  # one bit of a weight
        with pytest.raises(
            ValueError, match=r"recognition\.safetensors: damaged \(its weights are"
        ):
            FaceRecognition.load()
        path.write_bytes(data[:-50])
        with pytest.raises(NetworkMissingError, match="networks get identity$"):
            FaceRecognition.load()


class TestRecall:
    """The measure that benchmarks judge renders by."""

    def test_by_hand(self):
        """Five people on a line; the third query is nearer to someone else, the last to all others."""
        gallery = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0], [9.0]])
        queries = torch.tensor([[0.1], [1.2], [2.9], [-5.0]])
        assert recall(queries, gallery, [0, 1, 2, 5]) == (0.5, 0.75)
        assert recall(queries[:2], gallery, np.array([0, 1])) == (1.0, 1.0)

    def test_the_same_for_everyone_is_no_recognition(self):
        gallery = torch.ones(9, 128)
        assert recall(gallery, gallery, range(9)) == (0.0, 0.0)

    def test_mean_of_all_galleries(self):
        """Every choice of three others of seven, counted one by one; with all of them it is `recall`."""
        generator = torch.Generator().manual_seed(0)
        own, others = (torch.randn(n, 2, generator=generator) for n in (6, 7))
        queries = own + 0.3 * torch.randn(6, 2, generator=generator)
        each = [
            recall(queries, torch.cat([own, others[list(some)]]), range(6))
            for some in itertools.combinations(range(7), 3)
        ]
        assert mean_recall(queries, own, others, 9) == pytest.approx(np.mean(each, 0).tolist())
        every = torch.cat([own, others])
        assert mean_recall(queries, own, others, 13) == pytest.approx(
            recall(queries, every, range(6))
        )
        for some in (others, others[:0]):
            assert mean_recall(queries, own, some, 6) == recall(queries, own, range(6))
        assert each[0] != each[-1]
        with pytest.raises(ValueError, match="6 people and 7 others, a gallery of 14"):
            mean_recall(queries, own, others, 14)

    def test_without_means(self):
        """What all queries have in common does not count then."""
        gallery = torch.randn(20, 128, generator=torch.Generator().manual_seed(0))
        queries = 0.5 * gallery + 30 * torch.ones(128)
        assert recall(queries, gallery, range(20))[0] < 0.2
        assert recall(*without_means(queries, gallery), range(20)) == (1.0, 1.0)

    def test_refused(self):
        some = torch.zeros(2, 128)
        with pytest.raises(ValueError, match="embeddings that are not finite"):
            recall(some + float("nan"), some, [0, 1])
        with pytest.raises(ValueError, match=r"same is in 0\.\.2 of 2"):
            recall(some, some, [0, 2])
        with pytest.raises(ValueError, match=r"queries \[2, 128\], gallery \[2, 128\], same 1"):
            recall(some, some, [0])
        with pytest.raises(ValueError, match=r"queries \[0, 128\]"):
            recall(some[:0], some, [])

    def test_likeness(self):
        """About the common mean: renders that are the photograph, at right angles to it, or another's."""
        g = torch.Generator().manual_seed(0)
        axes = torch.linalg.qr(torch.randn(128, 128, generator=g))[0]
        fitted, mean = axes[:4] + identity_mean(), identity_mean()
        other = 0.6 * axes[:4] + 0.8 * axes[4:8] + mean
        same = likeness(fitted, fitted, other)
        # One person's photographs have 0.6, two people's 0.
        assert same.mean == pytest.approx(1, abs=1e-5)
        assert same.to_same == pytest.approx(0.4, abs=1e-5)
        assert same.to_different == pytest.approx(1, abs=1e-5)
        nobody = likeness(axes[9:13] + mean, fitted, other)
        assert nobody.mean == pytest.approx(0, abs=1e-5)
        assert nobody.to_same == pytest.approx(0.6, abs=1e-5)
        assert nobody.to_different == pytest.approx(0, abs=1e-5)
        with pytest.raises(ValueError, match="likeness: 4 renders, 4 and 3 photographs"):
            likeness(fitted, fitted, other[:3])

    def test_of_renders(self, small, monkeypatch, tmp_path):
        """In the renders' place the photographs themselves: each is its own, and no one's other one."""
        monkeypatch.setattr(bm_identity, "network", lambda: small)
        photos = torch.randint(0, 256, (8, 90, 90, 3), generator=torch.Generator().manual_seed(0))
        photos = photos.to(torch.uint8).numpy()
        photos[4:] = np.roll(photos[:4], 1, 0)  # the other photographs show the next person
        names = [f"{kind}_{k}.jpg" for kind in ("portrait", "directory") for k in range(4)]
        people = bm_identity.Portraits(names, photos, np.zeros((8, 478, 2), np.float32))
        people.__dict__["landmarks68"] = np.tile(landmarks(0.6).numpy(), (8, 1, 1))
        (tmp_path / "pairs.csv").write_text(
            "portrait,directory,distance\n"
            + "".join(f"{names[k]},{names[4 + k]},0.3\n" for k in range(4))
        )
        pairs = bm_identity.read_pairs(str(tmp_path / "pairs.csv"))
        renders = bm_identity.embed(photos[:4], people.landmarks68[:4])
        found = bm_identity.recall_of_renders(renders, names[:4], people, pairs)
        assert found.people == 4
        assert found.fitted == (1, 1) and found.fitted_without_means == (1, 1)
        assert found.other == (0, 1) and found.other_without_means == (0, 1)
        with pytest.raises(ValueError, match=r"directory_0\.jpg is in none of the 4 pairs"):
            bm_identity.recall_of_renders(renders, names[4:], people, pairs)


# Of `test_dlibs_own_numbers`, by dlib 20.0.1.
DLIB = (-0.04876, 0.13137, 0.02094, -0.02926, -0.06114, -0.04357, -0.07861, 0.00566)

needs_network = pytest.mark.skipif(
    not FaceRecognition.is_here(),
    reason="the recognition network is not here: mofa-nvdr networks get identity",
)


@pytest.fixture(scope="module")
def network():
    return FaceRecognition.load()


@needs_network
class TestRealNetwork:
    def test_what_it_is(self, network):
        graph = network.network.graph
        convolutions = [o for o in graph.operations if o.kind == "conv"]
        assert len(convolutions) == 30  # 29, and the last matrix
        assert sum(p.numel() for p in network.parameters()) == 5_607_616
        found = network(torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)))
        assert found.features.shape == (2, 256) and found.embedding.shape == (2, 128)

    def test_dlibs_own_numbers(self, network):
        """A chip of two ramps and a disc; the first numbers that dlib 20.0.1 gives for it."""
        y, x = np.mgrid[:SIZE, :SIZE]
        chip = np.stack([x, y, 255 * ((x - 75) ** 2 + (y - 75) ** 2 < 2500)], 2).astype(np.uint8)
        found = network(torch.from_numpy(chip).permute(2, 0, 1)[None] / 255).embedding[0]
        # Half-precision weights: measured 1e-4.
        assert (found[:8] - torch.tensor(DLIB)).abs().max() < 1e-3

    def test_two_photographs_of_one_person(self, network):
        """A portrait is nearer to itself, smaller and darker, than to anyone else's."""
        from mofa_nvdr.data.images import read_image
        from mofa_nvdr.networks.landmark_detector import LandmarkDetector

        folder = DATA / "portraits/images"
        if not folder.is_dir():
            pytest.skip(f"no portraits in {folder}: set MOFA_NVDR_DATA")
        if not LandmarkDetector.is_here():
            pytest.skip("the landmark networks are not here: mofa-nvdr networks get landmarks")
        detector = LandmarkDetector.load()
        embeddings = []
        for path in sorted(folder.glob("portrait_*.jpg"))[:6]:
            picture = read_image(path)
            points = torch.from_numpy(detector(picture)[0].landmarks68).float()[None]
            image = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255
            small = torch.nn.functional.interpolate(image, scale_factor=0.5, mode="area")
            embeddings.append(
                [network.embed(image, points), network.embed(small * 0.8, points / 2)]
            )
        first, second = (torch.cat(group) for group in zip(*embeddings))
        away = torch.cdist(first, second)
        assert away.diagonal().max() < 0.3  # measured below 0.2
        assert away[~torch.eye(6, dtype=torch.bool)].min() > 0.5
