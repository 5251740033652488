"""Fitting of a few steps from a prediction: nearer to the photograph, with landmarks and without."""

import numpy as np
import pytest
import torch

from mofa_nvdr.apply.face_search import BY_DETECTOR, Candidate
from mofa_nvdr.apply.largest_face import FIT_SIZE
from mofa_nvdr.apply.refinement import Refiner
from mofa_nvdr.data.crops.framing import Crop
from mofa_nvdr.data.decoding import Excerpt
from mofa_nvdr.render.decoder import FaceDecoder, face_image
from mofa_nvdr.render.pictures import to_uint8

CROP = Crop(0.0, 0.0, 240.0)


@pytest.fixture(scope="module")
def known(face_model):
    """A rendered face as a candidate, its code, and one that a poor encoder might predict."""
    decoder = FaceDecoder(face_model, image_size=FIT_SIZE)
    rng = np.random.default_rng(4)
    truth = face_model.layout.zeros().replace(
        rotation=torch.tensor([[0.05, 0.2, 0.0]]),
        albedo=torch.from_numpy(rng.normal(size=(1, 80)).astype(np.float32)),
    )
    with torch.no_grad():
        face = decoder(truth)
    pixels = to_uint8(face_image(face, 0.35))[0]
    candidate = Candidate(
        CROP, (240, 240), BY_DETECTOR, pixels, Excerpt(pixels, 0, 0, 1),
        points68=face.landmarks[0].double().numpy(),
    )  # fmt: skip
    start = face_model.layout.zeros().replace(translation=torch.tensor([[3.0, -3.0, 15.0]]))
    return decoder, candidate, start, face


class TestRefiner:
    def test_nearer_to_the_photograph(self, known, face_model):
        decoder, candidate, start, face = known
        refined = Refiner(face_model, decoder.pinhole)([candidate], [CROP], start)
        with torch.no_grad():
            before, after = decoder(start), decoder(refined)
        for one, other in (("image", 0.5), ("landmarks", 0.7)):
            target = getattr(face, one)
            was, now = ((getattr(f, one) - target).abs().mean() for f in (before, after))
            assert now < other * was, (one, was.item(), now.item())
