"""Squares that detectors see, their rows, and one row for each face."""

import numpy as np
import pytest
import torch

from mofa_nvdr.networks.face_boxes import (
    COLUMNS,
    SPECS,
    BoxDetector,
    letterbox,
    merge,
    overlaps,
    resize,
)
from tests.helpers.drawn_heads import draw_head, stand_in_boxes


def rows(*boxes: tuple[float, float, float, float, float]) -> torch.Tensor:
    """Detections from (left, top, right, bottom, score); their points at 0."""
    found = torch.zeros(len(boxes), COLUMNS)
    for row, box in zip(found, boxes):
        row[:4], row[-1] = torch.tensor(box[:4]), box[4]
    return found


class TestLetterbox:
    @pytest.mark.parametrize(("height", "width"), [(90, 160), (160, 90), (33, 33), (1, 500)])
    @pytest.mark.parametrize("share", [1.0, 0.5])
    def test_whole_and_in_the_middle(self, height, width, share):
        picture = torch.full((3, height, width), 255, dtype=torch.uint8)
        square, place = letterbox(picture, 64, share)
        assert square.shape == (3, 64, 64)
        white = (square[0] == 1).nonzero()
        size = white.amax(0) - white.amin(0) + 1
        assert size.max() == 64 * share and ((square == 1) | (square == -1)).all()
        assert (white.amin(0) - (63 - white.amax(0))).abs().max() <= 1
        corners = rows(
            (place.left, place.top, place.left + size[1].item(), place.top + size[0].item(), 1)
        )
        back = place.to_picture(corners)[0, :4]
        assert (back - torch.tensor([0, 0, width, height])).abs().max() <= max(
            height, width
        ) / 64 / share

    def test_antialiased(self):
        """A fine checkerboard becomes grey, whatever the size of the picture."""
        board = (torch.arange(640)[:, None] + torch.arange(640)) % 2 * 255
        square, _ = letterbox(board.to(torch.uint8).expand(3, -1, -1), 64)
        assert square[:, 8:-8, 8:-8].abs().max() < 0.02


def test_resize_of_bytes_and_floats_agree():
    picture = torch.randint(0, 256, (3, 40, 50), generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.interpolate(
        picture[None].float(), (17, 23), mode="bilinear", antialias=True
    )
    assert (resize(picture.to(torch.uint8), 17, 23) - expected[0]).abs().max() <= 1.01


class TestBoxDetector:
    def test_a_drawn_head(self):
        picture = np.full((192, 192, 3), 30, np.uint8)
        eyes = draw_head(picture, 100, 80, 40)
        square = torch.from_numpy(picture).permute(2, 0, 1)[None] / 127.5 - 1
        (found,) = stand_in_boxes()(square, 0.5)
        assert found.shape == (1, COLUMNS)
        # Measured: 0.1 px.
        assert np.abs(found[0, :4].numpy() - [60, 40, 140, 120]).max() < 0.5
        assert (
            np.abs(found[0, 4:8].numpy() - np.concatenate([eyes["right"], eyes["left"]])).max()
            < 0.5
        )
        assert found[0, -1] == pytest.approx(torch.tensor(4.0).sigmoid().item(), rel=1e-3)

    @pytest.mark.parametrize(
        ("name", "count"), [("front", 896), ("back", 896), ("full_range", 2304)]
    )
    def test_anchors(self, name, count):
        """As many as the published networks have rows; cell by cell, the finer map first."""
        spec = SPECS[name]
        anchors = BoxDetector(lambda x: x, spec)._anchors_of(spec.size, torch.device("cpu"))
        assert anchors.shape == (count, 1, 2)
        cell, repeats = spec.maps[0]
        assert anchors[0].tolist() == [[cell / 2, cell / 2]]
        assert anchors[repeats].tolist() == [[1.5 * cell, cell / 2]]

    def test_boxes_inside_out_are_left_out(self):
        def network(images):
            boxes = torch.zeros(1, 2304, 16)
            boxes[0, 5, 2:4], boxes[0, 6, 2:4] = torch.tensor([10.0, -1]), torch.tensor([10.0, 10])
            return boxes, torch.full((1, 2304, 1), 3.0)

        (found,) = BoxDetector(network, SPECS["full_range"])(torch.zeros(1, 3, 192, 192), 0.5)
        assert len(found) == 1


class TestMerge:
    def test_overlaps_by_hand(self):
        boxes = torch.tensor([[0.0, 0, 2, 2]])
        others = torch.tensor([[1.0, 0, 3, 2], [5, 5, 6, 6], [0, 0, 2, 2]])
        assert overlaps(boxes, others)[0].tolist() == pytest.approx([1 / 3, 0, 1])

    def test_mean_by_score(self):
        found = merge(rows((0, 0, 10, 10, 0.75), (2, 0, 12, 10, 0.25)))
        assert found.shape == (1, COLUMNS)
        assert found[0, :4].tolist() == pytest.approx([0.5, 0, 10.5, 10])
        assert found[0, -1] == 0.75

    def test_neighbours_stay_two(self):
        assert len(merge(rows((0, 0, 10, 10, 0.9), (7, 0, 17, 10, 0.9)))) == 2

    def test_nothing_and_empty_boxes(self):
        assert merge(rows()).shape == (0, COLUMNS)
        assert len(merge(rows((3, 3, 3, 3, 0.5)))) == 1
