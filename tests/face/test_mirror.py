"""The code of a mirrored face."""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr.face.mirror import mirror_signs
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.lighting import directional_light
from tests.helpers.small_face import small_face
from tests.helpers.symmetric_face import symmetric_face


class TestMirrorSigns:
    def test_picture_of_the_mirrored_code(self):
        model = symmetric_face()
        signs = mirror_signs(model)
        decoder = FaceDecoder(model, 64)
        generator = torch.Generator().manual_seed(0)
        code = 0.5 * torch.randn(2, model.layout.size, generator=generator)
        parts = model.layout.slices
        code[:, parts["rotation"]] *= 0.4
        code[:, parts["translation"]] *= 10
        lamp = 0.4 * directional_light(torch.tensor([0.7, 0.2, 0.6])).flatten()
        code[:, parts["light"]] = 0.2 * code[:, parts["light"]] + lamp
        there, back = (decoder(c) for c in (code, code * signs))
        assert there.mask.mean() > 0.2
        # The cap's quadrangles are cut in two one way: pixels differ a little, most of all at its outline.
        mirrored = (there.image.flip(3) - back.image).abs().mean()
        assert mirrored < 0.1 * (there.image - back.image).abs().mean() and mirrored < 3e-3

    @pytest.mark.parametrize("name", ["procedural", "portraits"])
    def test_shipped_faces_have_them(self, name: str):
        signs = mirror_signs(FaceModel.load(name))
        assert signs is not None and signs.shape == (257,)
        assert set(signs.tolist()) == {-1.0, 1.0}

    def test_modes_that_are_neither(self):
        assert mirror_signs(small_face(16)) is None
