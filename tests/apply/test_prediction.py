"""Batches of faces: framed again by what is predicted, unless landmarks or the user framed them."""

import numpy as np
import pytest
import torch

from mofa_nvdr.apply.face_search import BY_DETECTOR, WHOLE, Candidate
from mofa_nvdr.apply.prediction import Predictor, with_frames
from mofa_nvdr.data.crops.finder import cut_excerpt
from mofa_nvdr.data.crops.framing import Crop, crop_from_landmarks
from mofa_nvdr.data.decoding import Excerpt
from mofa_nvdr.runs.trained import Reconstructor
from tests.helpers.photos_to_reconstruct import smooth_picture

CROP = Crop(30.0, 20.0, 60.0)


@pytest.fixture(scope="module")
def run(smoke_run):
    return Reconstructor.load(smoke_run[0], smoke_run[1], "cpu")


@pytest.fixture
def candidate(run):
    part = Excerpt(smooth_picture(120, 150, seed=2), 0, 0, 1)
    size = run.decoder.camera.size[0]

    def make(found_by):
        return Candidate(CROP, (120, 150), found_by, cut_excerpt(part, CROP, size), part)

    return make


class TestPredictor:
    def test_framed_again_by_the_predicted_landmarks(self, run, candidate):
        size = run.decoder.camera.size[0]
        found = Predictor(run)([candidate(BY_DETECTOR), candidate(WHOLE)])
        again, whole = found.parameters
        first = torch.from_numpy(candidate(WHOLE).pixels).permute(2, 0, 1)[None] / 255
        code = run(first)
        torch.testing.assert_close(whole.code.pack(), code.pack(), atol=1e-6, rtol=1e-5)
        assert whole.crop.tolist() == [30, 20, 60]
        with torch.no_grad():
            marks = run.decoder(code).landmarks[0].double().numpy()
        crop = crop_from_landmarks(CROP.to_source(marks, size))
        assert again.crop == pytest.approx([crop.left, crop.top, crop.side], abs=1e-3)
        # The very crop: of one that is 1e-6 px beside it a byte of the picture may be rounded otherwise.
        crop = Crop(*map(float, again.crop))
        pixels = torch.from_numpy(candidate(BY_DETECTOR).cut(crop, size)).permute(2, 0, 1)
        code = run(pixels[None] / 255)
        torch.testing.assert_close(again.code.pack(), code.pack(), atol=1e-5, rtol=1e-4)

    def test_a_framing_that_went_astray_is_not_taken(self, run, candidate, monkeypatch):
        predictor = Predictor(run)
        for marks in (
            np.full((1, 68, 2), np.nan),
            np.random.default_rng(0).random((1, 68, 2)) * 900,
        ):
            monkeypatch.setattr(predictor, "_landmarks", lambda _, marks=marks: marks)
            (face,) = predictor([candidate(BY_DETECTOR)]).parameters
            assert face.crop.tolist() == [30, 20, 60]

    def test_codes_that_are_refined(self, run, candidate):
        def refine(candidates, crops, code):
            assert len(candidates) == 2 and crops == [CROP, CROP]
            return code.replace(translation=code.translation + 1)

        plain = Predictor(run)([candidate(WHOLE)] * 2).parameters[1].code
        better = Predictor(run, refine)([candidate(WHOLE)] * 2).parameters[1].code
        torch.testing.assert_close(better.translation, plain.translation + 1)


class TestWithFrames:
    def test_points_fall_where_the_crop_shows_them(self, run, candidate):
        found = Predictor(run)([candidate(WHOLE)])
        focal = run.decoder.pinhole.focal_px * CROP.side / run.decoder.camera.size[0]
        intrinsics = np.array([[focal, 0, 75], [0, focal, 60], [0, 0, 1.0]])
        (face,) = with_frames(found.parameters, found.points, (120, 150), intrinsics, "given")
        assert face.frame.error < 0.1
        model = run.decoder.model
        with torch.no_grad():
            vertices = model.vertices(face.code.shape, face.code.expression)[0].double()
        marks = face.frame.place(vertices[model.landmarks].numpy())
        got = face.frame.camera().project(torch.from_numpy(marks)).numpy()
        np.testing.assert_allclose(got, face.landmarks68, atol=0.5)
