"""Relighting: which way lights turn, and how bright a face is under each."""

import math

import numpy as np
import pytest
import torch

from mofa_nvdr.apply.relighting import relight
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.light_sources import light_presets, load_light
from mofa_nvdr.scene.lighting import ambient_light, directional_light, total_light
from tests.helpers.lit_faces import BACKGROUND, SIZE, lit_face
from tests.helpers.small_face import small_face


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return small_face(24)


class TestRelight:
    @pytest.fixture(scope="class")
    @classmethod
    def decoder(cls, model):
        return FaceDecoder(model, SIZE, frontal_only=False)

    def test_own_light_gives_the_decoders_image(self, model, decoder):
        face = lit_face(model, seed=4)
        with torch.no_grad():
            rendering = decoder(face.code)
        picture = relight(decoder, face, total_light(face.code.light)[0])
        assert picture.shape == (1, SIZE, SIZE, 3) and picture.dtype == np.uint8
        covered = rendering.mask[0, 0] > 0
        expected = (rendering.image[0].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
        assert np.array_equal(picture[0][covered.numpy()], expected[covered])
        assert (picture[0][~covered.numpy()] == BACKGROUND).all()

    def test_twice_the_light_is_twice_as_bright(self, model, decoder):
        dim, bright = (relight(decoder, lit_face(model), ambient_light(e))[0] for e in (0.2, 0.4))
        assert np.abs(2.0 * dim - bright)[dim != BACKGROUND].max() <= 2

    @pytest.mark.parametrize(
        ("quarter", "side"), [(1, (0, 1)), (3, (0, -1))], ids=["picture's right", "picture's left"]
    )
    def test_light_goes_from_the_front_to_the_pictures_right(self, model, decoder, quarter, side):
        light = directional_light(torch.tensor([0.0, 0.0, 1.0]))
        turns = torch.tensor([0.0, quarter * math.pi / 2])
        still, turned = relight(decoder, lit_face(model), light, turns).astype(float).mean(-1)
        gain = turned[:, SIZE // 2 :].mean() - turned[:, : SIZE // 2].mean()
        before = still[:, SIZE // 2 :].mean() - still[:, : SIZE // 2].mean()
        assert (gain - before) * side[1] > 5
        assert turned.mean() < still.mean()

    def test_turned_light_is_the_light_from_there(self, model, decoder):
        face = lit_face(model)
        front = directional_light(torch.tensor([0.0, 0.3, 1.0]))
        right = directional_light(torch.tensor([1.0, 0.3, 0.0]))
        turned = relight(decoder, face, front, torch.tensor([math.pi / 2]))
        assert np.abs(turned.astype(int) - relight(decoder, face, right)).max() <= 1

    def test_full_turn_comes_back(self, model, decoder):
        light = light_presets()["key_left"]
        a, b = relight(decoder, lit_face(model), light, torch.tensor([0.0, 2 * math.pi]))
        assert np.abs(a.astype(int) - b).max() <= 1


class TestExposure:
    """The average face of the built-in model is neither black nor burnt out under any light."""

    def _brightness(self, face_model: FaceModel, light: torch.Tensor) -> tuple[float, float]:
        """Mean brightness of the face, and the share of its pixels that are burnt out."""
        decoder = FaceDecoder(face_model, 96, frontal_only=False)
        face = lit_face(face_model, camera=Camera(96))
        picture = relight(decoder, face, light)[0]
        with torch.no_grad():
            covered = decoder(face.code).mask[0, 0].numpy() > 0
        pixels = picture[covered] / 255
        return pixels.mean(), (pixels.min(-1) >= 1).mean()

    @pytest.mark.parametrize("preset", sorted(light_presets()))
    def test_presets(self, face_model, preset):
        mean, burnt = self._brightness(face_model, light_presets()[preset])
        # 0.21 (rim) to 0.35 (warm_cool) were measured, for probes 0.25 to 0.33, nothing burnt out.
        assert 0.15 < mean < 0.7 and burnt < 0.03

    def test_probes(self, face_model, data_dir):
        probes = sorted((data_dir / "light_probes").glob("*.hdr"))
        assert probes
        for probe in probes:
            mean, burnt = self._brightness(face_model, load_light(str(probe)))
            assert 0.15 < mean < 0.7 and burnt < 0.03, probe.name
