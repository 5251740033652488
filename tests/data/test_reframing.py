"""Pictures framed otherwise, and what is known of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mofa_nvdr import FaceDecoder, FaceModel
from mofa_nvdr.data.augmentation import Augmentation
from mofa_nvdr.data.random_numbers import Draws, random_generator
from mofa_nvdr.data.reframing import Framing, reframe
from mofa_nvdr.data.synthetic.faces import SyntheticFaces

SIDE = 128


@pytest.fixture(scope="module")
def faces() -> SyntheticFaces:
    return SyntheticFaces(FaceDecoder(FaceModel.load("procedural"), SIDE), plain=True)


def _frame(faces, batch, most=0.15):
    d = faces.decoder
    return reframe(batch, Augmentation(frame=most), 3, d.model.layout, d.pinhole)


class TestReframe:
    def test_codes_say_where_the_face_is(self, faces):
        batch = next(faces.batches(6, 0, 0))
        framed = _frame(faces, batch)
        code = faces.decoder.model.layout.unpack(framed.codes)
        there = faces.decoder.landmarks(faces.decoder.geometry(code))
        moved = (framed.landmarks - batch.landmarks).norm(dim=2).mean()
        away = (there - framed.landmarks).norm(dim=2).mean() * (240 / SIDE)
        assert moved > 5
        assert away < 1.5  # px at 240: perspective

    def test_turns_are_exact(self, faces):
        batch = next(faces.batches(4, 0, 0))
        ones, turn = torch.ones(4), torch.tensor([0.3, -0.5, 0.1, 1.0])
        framing = Framing(ones, turn, torch.zeros(4, 2))
        d = faces.decoder
        codes = framing.of_codes(batch.codes, d.model.layout, d.pinhole)
        face = d.rasterize(d.geometry(d.model.layout.unpack(codes)))
        points = framing.of_points(batch.landmarks, SIDE)
        torch.testing.assert_close(face.landmarks, points, atol=2e-2, rtol=0)
        before = d.rasterize(d.geometry(d.model.layout.unpack(batch.codes)))
        turned = framing.of_images(before.image)
        inside = (framing.of_images(before.mask) > 0.99) & (face.mask > 0)
        assert inside.float().mean() > 0.2
        away = ((turned - face.image).abs() * inside).sum() / (3 * inside.sum())
        assert away < 0.01  # the light turns too

    def test_pixels_move_with_the_points(self):
        picture = torch.zeros(1, 3, SIDE, SIDE)
        picture[:, :, 30:33, 90:93] = 1
        framing = Framing(torch.tensor([1.2]), torch.tensor([0.2]), torch.tensor([[0.05, -0.04]]))
        (x, y) = framing.of_points(torch.tensor([[[91.5, 31.5]]]), SIDE)[0, 0]
        moved = framing.of_images(picture)[0, 0]
        grid = torch.arange(SIDE) + 0.5
        total = moved.sum()
        assert abs((moved.sum(0) * grid).sum() / total - x) < 0.1
        assert abs((moved.sum(1) * grid).sum() / total - y) < 0.1

    def test_unknown_codes_stay_unknown(self, faces):
        batch = next(faces.batches(2, 0, 0))
        codes = batch.codes.clone()
        codes[1] = torch.nan
        framed = _frame(faces, replace(batch, codes=codes))
        assert framed.codes[0].isfinite().all() and framed.codes[1].isnan().all()
        assert _frame(faces, replace(batch, codes=None)).codes is None

    def test_off_is_the_same_batch(self, faces):
        batch = next(faces.batches(2, 0, 0))
        assert _frame(faces, batch, 0.0) is batch

    def test_same_places_same_framing(self, faces):
        batch = next(faces.batches(4, 0, 0))
        half = replace(
            batch, images=batch.images[2:], landmarks=batch.landmarks[2:], codes=batch.codes[2:],
            clean=batch.clean[2:], dense=None, places=batch.places[2:],
        )  # fmt: skip
        torch.testing.assert_close(_frame(faces, half).images, _frame(faces, batch).images[2:])

    def test_validation_is_refused(self, faces):
        batch = next(faces.val_batches(2, 2))
        with pytest.raises(ValueError, match="reframe: 0 places for 2 pictures"):
            _frame(faces, replace(batch, places=()))


class TestFraming:
    def test_draws_within_range(self):
        d = Draws([random_generator(1, 6, k) for k in range(200)], torch.device("cpu"))
        framing = Framing.draw(0.2, d)
        assert framing.size.log().abs().max() <= 0.2 and framing.size.log().std() > 0.08
        assert framing.shift.abs().max() <= 0.1 and framing.turn.abs().max() <= 0.3
