"""How certain a picture is to show the rendered face: closed forms, and the pictures that it is for."""

import math

import pytest
import torch

from mofa_nvdr.apply.certainty import face_certainty
from mofa_nvdr.render.decoder import FaceDecoder, face_image
from tests.helpers.small_face import small_face


@pytest.fixture(scope="module")
def face():
    """Two rendered faces, of a model whose albedo varies at the size of features."""
    model = small_face(24)
    decoder = FaceDecoder(model, 64)
    code = 0.5 * torch.randn(2, model.layout.size, generator=torch.Generator().manual_seed(1))
    code[:, model.layout.slices["rotation"]] *= 0.1
    code[:, model.layout.slices["light"]] *= 0.1
    with torch.no_grad():
        return decoder(code)


class TestFaceCertainty:
    def test_the_rendering_itself(self, face):
        """r = g = 1."""
        certainty = face_certainty(face_image(face, 0.4), face)
        expected = 1 / (1 + math.exp(-(1.5 - 0.15) / 0.06))
        assert certainty.tolist() == pytest.approx([expected] * 2, abs=1e-6)

    @pytest.mark.parametrize("grey", [0.0, 0.5, 1.0])
    def test_a_page(self, face, grey):
        """r = 0, g = -1."""
        certainty = face_certainty(torch.full((2, 3, 64, 64), grey), face)
        expected = 1 / (1 + math.exp((0.5 + 0.15) / 0.06))
        assert certainty.tolist() == pytest.approx([expected] * 2, rel=1e-2)

    def test_noise(self, face):
        noise = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        assert face_certainty(noise, face).max() < 0.5

    def test_the_negative(self, face):
        """r = -1: its structure is the opposite."""
        negative = 1 - face_image(face, 0.4)
        assert face_certainty(negative, face).max() < 1e-4

    def test_light_and_gain_do_not_count_as_structure(self, face):
        """A brighter picture of the face has the same r; a slope over the picture alone has none."""
        slope = torch.linspace(0.2, 0.8, 64).expand(2, 3, 64, 64)
        assert face_certainty(slope, face).max() < 0.5
        brighter = face_image(face, 0.4) * 0.9 + 0.05
        assert face_certainty(brighter, face).min() > 0.99

    def test_no_face_in_the_picture(self, face):
        model = small_face(24)
        decoder = FaceDecoder(model, 64)
        code = model.layout.zeros()
        away = code.replace(translation=torch.tensor([[5000.0, 0.0, 0.0]]))
        with torch.no_grad():
            empty = decoder(away)
        assert face_certainty(torch.rand(1, 3, 64, 64), empty).tolist() == [0.0]

    def test_each_picture_by_itself(self, face):
        photo = face_image(face, 0.4).clone()
        photo[1] = 1.0
        together = face_certainty(photo, face)
        assert together[0] > 0.99 and together[1] < 0.01
