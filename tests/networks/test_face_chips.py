"""Chips of faces: where their pixels come from, gradients, what is refused."""

import math

import pytest
import torch

from mofa_nvdr.networks.face_chips import INDEX, SIZE, chip_similarity, cut_chips


def landmarks(scale: float = 1.0, turn: float = 0.0, shift: tuple[float, float] = (0.0, 0.0)):
    """68 points of a face that fits its chip exactly, then scaled and turned about (0, 0) and moved."""
    from mofa_nvdr.networks.face_chips import _PLACES

    points = torch.zeros(1, 68, 2, dtype=torch.float64)
    points[:, list(INDEX)] = (torch.tensor(_PLACES, dtype=torch.float64) + 0.25) * 100
    cos, sin = scale * math.cos(turn), scale * math.sin(turn)
    rotation = torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float64)
    return points @ rotation + torch.tensor(shift, dtype=torch.float64)


def ramps(height: int, width: int) -> torch.Tensor:
    """[1, 3, H, W]: x and y of each pixel's centre, and 100."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x + 0.5, y + 0.5, torch.full_like(x, 100.0, dtype=torch.float)])[None]


class TestSimilarity:
    @pytest.mark.parametrize("scale", [0.5, 1.0, 2.5])
    @pytest.mark.parametrize("turn", [0.0, 0.4, math.pi / 2, -2.5])
    def test_of_an_exact_face(self, scale, turn):
        found = chip_similarity(landmarks(scale, turn, (30.0, -7.0)))[0]
        cos, sin = scale * math.cos(turn), scale * math.sin(turn)
        wanted = torch.tensor([[cos, -sin, 30], [sin, cos, -7]], dtype=torch.float64)
        assert torch.allclose(found, wanted, atol=1e-9)

    def test_the_nearest_of_any_face(self):
        """No other turn, scale and shift is nearer: the derivatives are 0."""
        generator = torch.Generator().manual_seed(0)
        points = landmarks() + 8 * torch.randn(1, 68, 2, generator=generator, dtype=torch.float64)
        found = chip_similarity(points)[0]
        chip = torch.cat([landmarks()[0, list(INDEX)], torch.ones(33, 1, dtype=torch.float64)], 1)
        numbers = torch.stack([found[0, 0], found[1, 0], found[0, 2], found[1, 2]])
        numbers = numbers.detach().requires_grad_()
        cos, sin, x, y = numbers
        matrix = torch.stack([torch.stack([cos, -sin, x]), torch.stack([sin, cos, y])])
        away = (chip @ matrix.T - points[0, list(INDEX)]).square().sum()
        (slope,) = torch.autograd.grad(away, numbers)
        assert away > 100 and slope.abs().max() < 1e-6 * away

    def test_other_landmarks_do_not_matter(self):
        points = landmarks()
        others = sorted(set(range(68)) - set(INDEX))
        assert {0, 8, 16, 17, 26, 57, 66} <= set(others)
        points[:, others] += 50
        assert torch.equal(chip_similarity(points), chip_similarity(landmarks()))

    def test_shape(self):
        with pytest.raises(ValueError, match=r"landmarks are \[1, 5, 2\], expected \[B, 68, 2\]"):
            chip_similarity(torch.zeros(1, 5, 2))


class TestCutChips:
    @pytest.mark.parametrize("samples", [1, 2, 3])
    @pytest.mark.parametrize("turn", [0.0, 0.4, -2.5])
    def test_pixels_are_where_the_similarity_says(self, samples, turn):
        points = landmarks(0.6, turn, (150.0, 140.0))
        (chip,) = cut_chips(ramps(300, 320), points, samples)
        axis = torch.arange(SIZE) + 0.5
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        places = torch.stack([x, y, torch.ones_like(x)], -1) @ chip_similarity(points.float())[0].T
        inside = ((places > 1) & (places < torch.tensor([319.0, 299.0]))).all(-1)
        assert inside.float().mean() > 0.9 and chip.shape == (3, SIZE, SIZE)
        assert (chip[:2].permute(1, 2, 0) - places)[inside].abs().max() < 1e-3
        assert (chip[2] - 100).abs().max() < 1e-4

    def test_beyond_the_edge_its_pixels_go_on(self):
        (chip,) = cut_chips(ramps(80, 90), landmarks(1.0, 0.0, (-60.0, 20.0)))
        assert (chip[0, :, :59] - 0.5).abs().max() < 1e-4
        assert (chip[1, 62:] - 79.5).abs().max() < 1e-4
        assert (chip[2] - 100).abs().max() < 1e-4

    def test_two_samples_are_means_of_what_is_finer(self):
        """A board of single pixels in a face of twice a chip's size is grey, not a pattern."""
        board = ((torch.arange(400)[:, None] + torch.arange(400)) % 2).float().expand(1, 3, -1, -1)
        points = landmarks(2.0, 0.0, (20.0, 20.0))
        assert (cut_chips(board, points, 2) - 0.5).abs().max() < 0.01

    def test_gradients(self):
        """Of the picture and of the landmarks, on a smooth picture (bilinear sampling has kinks)."""
        generator = torch.Generator().manual_seed(0)
        y, x = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
        images = torch.stack([x * 0.3 + y, x - 2 * y, y], 0)[None].double().requires_grad_()
        points = (landmarks(0.05, 0.2, (2.0, 1.5))).requires_grad_()
        direction = torch.randn(1, 3, SIZE, SIZE, generator=generator, dtype=torch.float64)
        function = lambda i, p: (cut_chips(i, p, 1) * direction).sum()  # noqa: E731
        assert torch.autograd.gradcheck(function, (images, points), eps=1e-5, atol=1e-5)
        (slope,) = torch.autograd.grad(function(images, points), points)
        assert slope[0, list(INDEX)].abs().min() > 1e-3 and slope[0, 0].abs().max() == 0

    def test_a_batch_is_as_one_by_one(self):
        images = torch.rand(3, 3, 200, 180, generator=torch.Generator().manual_seed(0))
        points = torch.cat([landmarks(1 + 0.1 * k, 0.1 * k, (20.0, 9.0)) for k in range(3)])
        whole = cut_chips(images, points)
        for k in range(3):
            assert torch.equal(whole[k : k + 1], cut_chips(images[k : k + 1], points[k : k + 1]))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision(self, dtype):
        """Places stay exact, whatever the picture's precision, and under autocast."""
        images = torch.rand(1, 3, 200, 180, generator=torch.Generator().manual_seed(0)).to(dtype)
        points = landmarks(1.1, 0.3, (60.0, 9.0))
        found = cut_chips(images, points)
        assert found.dtype == torch.float32
        assert torch.equal(found, cut_chips(images.float(), points))
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(found, cut_chips(images, points))

    def test_refused(self):
        with pytest.raises(ValueError, match=r"images are \[1, 9, 9, 3\] torch.float32, expected"):
            cut_chips(torch.zeros(1, 9, 9, 3), landmarks())
        with pytest.raises(ValueError, match=r"torch.uint8, expected floats \[B, 3, H, W\]"):
            cut_chips(torch.zeros(1, 3, 9, 9, dtype=torch.uint8), landmarks())
        with pytest.raises(ValueError, match=r"landmarks are \[1, 68, 2\] for 2 images, 2 samples"):
            cut_chips(torch.zeros(2, 3, 9, 9), landmarks())
        with pytest.raises(ValueError, match="1 images, 0 samples"):
            cut_chips(torch.zeros(1, 3, 9, 9), landmarks(), 0)
