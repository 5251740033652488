"""Faces drawn into their photographs: in their place, softly, and nothing beside them touched."""

import numpy as np
import pytest
import torch

from mofa_nvdr.apply.drawn_mouth import inner_mouth
from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.apply.photo_pictures import (
    PhotoPainter,
    contact_sheet,
    sheet_cells,
    soft_mask,
    soft_overlay,
)
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.camera import Camera


@pytest.fixture(scope="module")
def decoder(face_model):
    return FaceDecoder(face_model, camera=Camera(96))


def parameters(decoder, crop):
    code = decoder.model.layout.zeros()
    return FaceParameters(code, decoder.pinhole, np.array(crop, float), ("a", "0"), "a.png")


class TestSoftMask:
    def test_zero_at_the_outline_and_one_inside(self):
        mask = torch.zeros(1, 1, 40, 40)
        mask[..., 10:30, 10:30] = 1
        soft = soft_mask(mask, 2.0)
        assert soft[0, 0, 20, 20] == pytest.approx(1, abs=1e-3)
        assert soft[0, 0, 20, 10] < 0.2 and not soft[mask == 0].any()
        # It rises from the outline inwards.
        assert (soft[0, 0, 20, 10:20].diff() >= 0).all()

    def test_a_face_that_the_picture_cuts_stays_covered(self):
        assert soft_mask(torch.ones(1, 1, 20, 20), 3.0).min() == pytest.approx(1, abs=1e-5)


class TestPhotoPainter:
    def test_in_its_place(self, decoder):
        """The crop of the painted photograph is the crop's own overlay, but for its finer pixels."""
        photo = np.full((200, 260, 3), 40, np.uint8)
        one = parameters(decoder, (110, 30, 96))
        mask = PhotoPainter(decoder.model).paint(photo, [one])
        with torch.no_grad():
            face = decoder.finer(1)(one.code)
        want = face.mask[0, 0].numpy()
        inside = mask[30:126, 110:206] / 255
        assert not mask[:30].any() and not mask[:, :110].any() and not mask[:, 206:].any()
        assert np.array_equal(photo[mask == 0], np.full_like(photo[mask == 0], 40))
        # Full inside; the softened band is at the outline alone.
        assert (inside[want == 0] <= 0.1).all()
        assert inside.sum() == pytest.approx(want.sum(), rel=0.12) and inside.max() == 1
        full = inside == 1
        drawn = photo[30:126, 110:206][full] / 255
        image = face.image[0].clamp(0, 1).permute(1, 2, 0).numpy()[full]
        assert np.median(np.abs(drawn - image)) < 0.01

    def test_beyond_the_edges(self, decoder):
        photo = np.zeros((80, 80, 3), np.uint8)
        mask = PhotoPainter(decoder.model).paint(
            photo, [parameters(decoder, (40, -30, 96)), parameters(decoder, (300, 300, 50))]
        )
        assert mask.any() and not mask[:, :40].any()

    def test_a_large_face_is_enlarged(self, decoder):
        photo = np.zeros((1700, 1700, 3), np.uint8)
        mask = PhotoPainter(decoder.model).paint(photo, [parameters(decoder, (50, 50, 1600))])
        assert mask[850, 850] == 255 and photo[850, 850].max() > 50


class TestSheet:
    def test_as_high_as_wide(self, decoder):
        with torch.no_grad():
            face = decoder(decoder.code_zero(2))
        photo = torch.full((2, 3, 96, 96), 0.2)
        inner = inner_mouth(decoder.model)
        assert torch.equal(
            soft_overlay(photo, face, inner)[face.mask.expand_as(photo) == 0].unique(),
            photo[0, 0, :1, 0],
        )
        cells = sheet_cells(photo, face, inner)
        assert cells.shape == (2, 128, 384, 3)
        assert contact_sheet(list(cells) * 6).shape == (6 * 128, 2 * 384, 3)
        assert contact_sheet([cells[0]] * 400).shape == (30 * 128, 10 * 384, 3)
