"""Turned squares of a picture, and points back to it."""

import math

import pytest
import torch

from mofa_nvdr.networks.face_crops import cut_squares, to_picture, turn


def ramps(height: int, width: int) -> torch.Tensor:
    """Bytes [3, H, W]: x, y and 100."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y, torch.full_like(x, 100)]).to(torch.uint8)


class TestCutSquares:
    @pytest.mark.parametrize("roll", [0.0, 0.5, math.pi / 2, -2.5])
    @pytest.mark.parametrize("side", [20.0, 40.0, 90.0])
    def test_pixels_are_where_to_picture_says(self, roll, side):
        """Every pixel of the crop shows the place that its point goes back to."""
        squares = torch.tensor([[110.0, 90.0, side, roll]])
        (crop,) = cut_squares(ramps(180, 220), squares, 32)
        axis = torch.arange(32) + 0.5
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        places = to_picture(torch.stack([x, y], -1).reshape(1, -1, 2), squares, 32)[0]
        values = crop[:2].flatten(1).T + 0.5  # pixel k has its centre at k + 0.5
        # Bytes of the reduced copy are rounded.
        assert (values - places).abs().max() < (0.01 if side <= 40 else 0.6)
        assert (crop[2] - 100).abs().max() < 0.01

    def test_beyond_the_edge(self):
        (crop,) = cut_squares(ramps(50, 60), torch.tensor([[0.0, 0.0, 40.0, 0.0]]), 20)
        assert crop[0, :, :9].abs().max() < 1e-3 and crop[1, :9].abs().max() < 1e-3
        assert crop[2].min() > 99.99
        (far,) = cut_squares(ramps(50, 60), torch.tensor([[500.0, -300.0, 40.0, 0.3]]), 20)
        assert far[0].min() > 58.99 and far[1].max() < 0.01

    def test_antialiased(self):
        board = (torch.arange(800)[:, None] + torch.arange(800)) % 2 * 255
        picture = board.to(torch.uint8).expand(3, -1, -1)
        (crop,) = cut_squares(picture, torch.tensor([[400.0, 400.0, 640.0, 0.4]]), 64)
        assert (crop - 127.5).abs().max() < 2

    def test_none(self):
        assert cut_squares(ramps(5, 5), torch.zeros(0, 4), 8).shape == (0, 3, 8, 8)


def test_to_picture_by_hand():
    """A quarter turn clockwise: what is right in the crop is below in the picture."""
    squares = torch.tensor([[100.0, 50.0, 20.0, math.pi / 2]])
    found = to_picture(torch.tensor([[[10.0, 5.0, 3.0], [5.0, 5.0, 0.0]]]), squares, 10)
    assert torch.allclose(
        found, torch.tensor([[[100.0, 60.0, 6.0], [100.0, 50.0, 0.0]]]), atol=1e-4
    )


def test_turn_is_from_x_to_y():
    assert torch.allclose(
        turn(torch.tensor([1.0, 0.0]), torch.tensor(math.pi / 2)),
        torch.tensor([0.0, 1.0]),
        atol=1e-6,
    )
