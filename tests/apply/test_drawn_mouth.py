"""Mouths in pictures: darker at the lips, bright in the middle, nothing else of the face changed."""

import pytest
import torch

from mofa_nvdr.apply.drawn_mouth import inner_mouth, lips_shade, shaded_mouth
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from tests.helpers.small_face import small_face


@pytest.fixture(scope="module")
def model():
    return FaceModel.load("portraits")


@pytest.fixture(scope="module")
def smile(model):
    code = model.layout.zeros()
    code.expression[:] = 0.8 * model.named_expressions["jawOpen"]
    with torch.no_grad():
        return FaceDecoder(model, 240)(code)


class TestLipsShade:
    def test_slits_are_dark_and_open_mouths_bright(self):
        slit, wide = torch.zeros(2, 1, 1, 60, 60).unbind()
        slit[..., 30, 10:50] = 1
        wide[..., 20:40, 10:50] = 1
        for opened, bright in ((slit, False), (wide, True)):
            soft, shade = lips_shade(opened, 150.0)
            assert soft.min() >= 0 and soft.max() <= 1
            assert (shade[0, 0, 30, 30] > 0.9) == bright
        assert shade[0, 0, 20, 30] < 0.6  # at the lip


class TestShadedMouth:
    def test_only_the_mouth_changes(self, model, smile):
        inner = inner_mouth(model)
        opened = smile.interpolate(inner) > 0.5
        drawn = shaded_mouth(smile, inner, 150.0)
        changed = ((drawn - smile.image).abs().amax(1, keepdim=True) > 1e-4).float()
        near = torch.nn.functional.max_pool2d(opened.float(), 9, 1, 4)
        assert opened.sum() > 300 and changed.sum() > 300
        assert not (changed * (1 - near)).any()
        assert drawn[opened.expand_as(drawn)].mean() < smile.image[opened.expand_as(drawn)].mean()

    def test_teeth_are_less_blue_in_blue_light(self, model):
        code = model.layout.zeros()
        code.expression[:] = 0.8 * model.named_expressions["jawOpen"]
        code.light[:, 0, 2] += 0.8  # the blue channel's constant
        with torch.no_grad():
            face = FaceDecoder(model, 240)(code)
        teeth = model.in_regions("teeth").float()[:, None]
        seen = (face.interpolate(teeth) > 0.9).expand_as(face.image)
        lit = face.image[seen].view(3, -1).mean(1)
        drawn = shaded_mouth(face, inner_mouth(model), 150.0)[seen].view(3, -1).mean(1)
        assert lit[2] > lit[0] and drawn[2] / drawn[0] < 0.8 * lit[2] / lit[0]

    def test_models_without_regions_keep_their_picture(self):
        model = small_face(16)
        face = FaceDecoder(model, 48)(model.layout.zeros())
        assert shaded_mouth(face, inner_mouth(model), 30.0) is face.image
