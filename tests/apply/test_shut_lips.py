"""Shut mouths by hand, and fits of one whose detected lips seem to be apart."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mofa_nvdr.apply.fitting import FaceFitter, FitOptions, Observed
from mofa_nvdr.apply.shut_lips import lip_edges, lips_down, shut_share
from mofa_nvdr.face.dense_landmarks import DENSE_INNER_LIPS, NUM_DENSE
from mofa_nvdr.face.model import FaceModel
from tests.helpers.small_face import small_face

_HEIGHT = 20.0  # px of both lips
_SIZE = 240


def _mouths(*gaps: float) -> Tensor:
    """Points [B, 478, 2] of lips that are so far apart, px."""
    marks = torch.zeros(len(gaps), NUM_DENSE, 2)
    marks[:, 17, 1] = _HEIGHT
    upper, lower = torch.tensor(DENSE_INNER_LIPS).T
    half = torch.tensor(gaps)[:, None] / 2
    marks[:, upper, 1], marks[:, lower, 1] = _HEIGHT / 2 - half, _HEIGHT / 2 + half
    return marks


@pytest.fixture(scope="module")
def portraits() -> FaceModel:
    return FaceModel.load("portraits")


@pytest.fixture(scope="module")
def gaps(portraits: FaceModel) -> dict[str, float]:
    """How far the upper lip's edge is above the lower one's in the middle of fits, mm."""
    options = FitOptions(stages=FitOptions().stages[:2])
    fitter = FaceFitter(portraits, options)
    decoder = fitter.decoder_of(_SIZE)
    code = torch.zeros(2, portraits.layout.size)
    code[1, portraits.layout.slices["expression"]] = 0.4 * portraits.named_expressions["jawOpen"]
    with torch.no_grad():
        vertices = decoder.geometry(code).vertices
    marks = decoder.camera.project(portraits.dense_landmarks.of(vertices))
    marks = torch.cat([marks, marks[:1]])
    for upper, lower in DENSE_INNER_LIPS:  # a shut mouth as the network often sees it
        marks[0, upper, 1] -= 0.7
        marks[0, lower, 1] += 0.7
        marks[2, upper, 1] -= 4
        marks[2, lower, 1] += 4
    photo = torch.full((3, 3, _SIZE, _SIZE), 0.5)
    fit = fitter(Observed(photo, marks))
    with torch.no_grad():
        after = decoder.geometry(fit.code.pack()).vertices
    middle = lip_edges(portraits)
    middle = middle[portraits.mean_shape[middle[:, 0], 0].abs().argmin()]

    def apart(faces: Tensor) -> list[float]:
        return (faces[:, middle[0], 1] - faces[:, middle[1], 1]).tolist()

    names = ("shut", "open", "shut, seen 8 px wider")
    out = dict(zip(names, apart(after)))
    out["open, truth"] = apart(vertices)[1]
    return out


class TestShutShare:
    def test_by_hand(self):
        """Shut up to 0.2 of the lips' height, half at 0.225, open from 0.25 on; lips may overlap."""
        share = shut_share(_mouths(-1.0, 0.0, 4.0, 4.5, 5.0, 12.0))
        assert share.tolist() == pytest.approx([1, 1, 1, 0.5, 0, 0], abs=1e-5)

    def test_turned_and_larger(self):
        marks = _mouths(1.0, 4.5, 9.0)
        c, s = math.cos(0.6), math.sin(0.6)
        turned = 3 * marks @ torch.tensor([[c, s], [-s, c]]) + 50
        torch.testing.assert_close(shut_share(turned), shut_share(marks), rtol=0, atol=1e-4)

    def test_unknown(self):
        marks = _mouths(0.0, 0.0, 0.0)
        marks[0, 13], marks[1, 17] = torch.nan, torch.nan
        assert shut_share(marks).tolist() == [0, 0, 1]

    @pytest.mark.parametrize("count", [5, 68])
    def test_other_points(self, count):
        """Nothing is known of how annotators place shut lips."""
        assert shut_share(torch.zeros(2, count, 2)).tolist() == [0, 0]


class TestLipsDown:
    def test_by_hand(self):
        marks = _mouths(1.0, 1.0)
        marks[1, 17] = torch.tensor([3.0, 4.0])
        torch.testing.assert_close(lips_down(marks), torch.tensor([[0.0, 1], [0.6, 0.8]]))


class TestLipEdges:
    def test_portraits(self, portraits):
        """Both lips in one place, from one corner of the mouth to the other, and apart when the jaw opens."""
        edges = lip_edges(portraits)
        one, other = portraits.mean_shape[edges.T]
        assert (one - other).norm(dim=1).max() < 1e-3
        assert one[:, 0].min() < -20 and one[:, 0].max() > 20
        opened = portraits.vertices(
            torch.zeros(1, portraits.layout.num_shape),
            portraits.named_expressions["jawOpen"][None],
        )[0, edges]
        assert (opened[:, 0] - opened[:, 1])[:, 1].min() > 1  # the upper lip's first

    def test_a_face_without_lips(self):
        assert lip_edges(small_face()).shape == (0, 2)


class TestFits:
    """Landmarks alone, of the mean person: what a detector sees of lips, and what is fitted."""

    def test_shut_lips_meet(self, gaps):
        """Seen 1.4 px wider than it is; apart by 1 mm where the seen gap is fitted."""
        assert -1 < gaps["shut"] < 0

    def test_an_open_mouth_stays_open(self, gaps):
        assert gaps["open, truth"] > 5
        assert gaps["open"] == pytest.approx(gaps["open, truth"], rel=0.15)

    def test_a_wide_gap_is_believed(self, gaps):
        assert gaps["shut, seen 8 px wider"] > 3
