"""Eyes and mouths that close: skin from around in the place of what was there, and a line."""

import pytest
import torch

from mofa_nvdr.apply.closed_parts import ClosedParts, OpenParts

SIZE, FACE = 96, 90.0


def openings(*parts: int, height: int = 12) -> torch.Tensor:
    """[3, h, w]: mouth and eyes as boxes of a height."""
    out = torch.zeros(3, SIZE, SIZE)
    for part in parts:
        row, column = ((70, 38), (30, 18), (30, 58))[part]
        out[part, row - height // 2 : row + height // 2, column : column + 20] = 1
    return out


def marks() -> torch.Tensor:
    """[68, 2] px: lines through the middles of the boxes."""
    out = torch.zeros(68, 2)
    for first, count, (row, column) in ((36, 6, (30, 18)), (42, 6, (30, 58)), (60, 8, (70, 38))):
        across = torch.tensor([0.0, 0.33, 0.67, 1.0, 0.67, 0.33] if count == 6 else
                              [0.0, 0.25, 0.5, 0.75, 1.0, 0.75, 0.5, 0.25])  # fmt: skip
        out[first : first + count, 0], out[first : first + count, 1] = column + 20 * across, row
    return out


@pytest.fixture
def places() -> torch.Tensor:
    """Each pixel is where it was."""
    axis = (torch.arange(SIZE) + 0.5) / SIZE * 2 - 1
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)


@pytest.fixture
def before() -> OpenParts:
    return OpenParts(openings(0, 1, 2), FACE)


class TestClosed:
    def test_open_ones_stay(self, before, places):
        assert before.closed(openings(0, 1, 2), places, marks()) is None
        assert before.closed(openings(0, 1, 2, height=10), places, marks()) is None

    @pytest.mark.parametrize(("part", "box"), [(0, (70, 48)), (1, (30, 28)), (2, (30, 68))])
    def test_only_the_one_that_closes(self, before, places, part, box):
        others = [k for k in range(3) if k != part]
        closed = before.closed(openings(*others), places, marks())
        assert closed is not None
        row, column = box
        assert closed.skin[0, row, column] == 1 and closed.line[0, row, column] > 0.3
        elsewhere = torch.ones(SIZE, SIZE, dtype=torch.bool)
        elsewhere[row - 14 : row + 14, column - 20 : column + 20] = False
        assert closed.skin[0, elsewhere].abs().max() < 1e-3
        assert closed.line[0, elsewhere].abs().max() < 1e-3

    def test_half_closed_is_half_painted(self, before, places):
        half = openings(0, 1, 2)
        half[1] = openings(1, height=4)[1]  # two thirds are lost
        closed = before.closed(half, places, marks())
        assert closed is not None and 0.2 < closed.skin[0, 26, 28] < 0.95

    def test_what_was_shut_is_never_painted(self, places):
        shut = OpenParts(torch.zeros(3, SIZE, SIZE), FACE)
        assert shut.closed(torch.zeros(3, SIZE, SIZE), places, marks()) is None


class TestPainting:
    def test_skin_takes_the_place_of_an_eye(self, before, places):
        """A dark eye on skin that grows brighter to the right: gone, but for the line."""
        skin = torch.linspace(0.4, 0.6, SIZE).expand(3, SIZE, SIZE).clone()
        picture = skin.clone()
        picture[:, 24:36, 18:38] = 0.05
        closed = before.closed(openings(0, 2), places, marks())
        assert closed is not None
        painted = ClosedParts(closed.skin, torch.zeros_like(closed.line))(picture)
        assert (painted - skin)[:, 20:40, 14:42].abs().max() < 0.03
        assert torch.equal(painted[:, 60:], picture[:, 60:])
        lined = closed(picture)
        assert lined[0, 30, 28] < 0.7 * skin[0, 30, 28]  # where the lids meet
        assert lined[0, 25, 28] > 0.95 * skin[0, 25, 28]

    def test_nothing_to_paint(self):
        picture = torch.rand(3, 8, 8)
        nothing = torch.zeros(1, 8, 8)
        assert torch.equal(ClosedParts(nothing, nothing)(picture), picture)
