"""Other expressions in photographs: rendered ones become what is rendered with the new expression."""

import dataclasses

import numpy as np
import pytest
import torch

from mofa_nvdr.apply.expression_warp import ExpressionWarper, mouth_photo
from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.camera import Camera
from tests.helpers.portraits import WALL, mirrored_cap, portrait


@pytest.fixture(scope="module")
def model():
    return mirrored_cap()


def _drawn(model, code, size, photo):
    """The face drawn over a photograph of the same size."""
    decoder = FaceDecoder(model, size, frontal_only=False)
    with torch.no_grad():
        face = decoder(code)
    pixels = (face.image[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    return np.where(face.mask[0, 0, ..., None].numpy() > 0, pixels, photo)


def _apart(a, b):
    return float(np.abs(a.astype(float) - b).mean())


@pytest.fixture(scope="module")
def people():
    """The built-in face: its model, and its photographs and parameters with a closed and an open mouth."""
    model = FaceModel.load("portraits")
    wall = np.full((120, 120, 3), WALL, np.uint8)

    def photo(code):
        face = FaceParameters(
            code, Camera(120), np.array([0.0, 0, 120]), (model.name, model.hash), "a.png"
        )
        return _drawn(model, code, 120, wall), face

    closed = model.layout.zeros()
    opened = closed.replace(expression=0.7 * model.named_expressions["jawOpen"][None])
    return model, photo(closed), photo(opened)


class TestExpressionWarper:
    def test_its_own_expression_gives_the_same_bytes(self, model):
        photo, face = portrait(model)
        again = ExpressionWarper(photo, face, model)(face.code)
        assert np.abs(again.astype(int) - photo).max() <= 1

    def test_becomes_the_other_rendering(self, model):
        """Inside of the face, where nothing new appears."""
        photo, face = portrait(model, 96, 96, (0.0, 0.0, 96.0))
        code = face.code.replace(expression=torch.tensor([[3.0, -2.0, 2.0]]))
        truth = _drawn(model, code, 96, photo)
        changed = ExpressionWarper(photo, face, model)(code)
        inside = slice(25, 71)
        before, after = (_apart(p[inside, inside], truth[inside, inside]) for p in (photo, changed))
        assert before > 2 and after < 0.3 * before  # 0.13 measured

    def test_pose_light_and_albedo_stay_the_photographs(self, model):
        photo, face = portrait(model)
        other = face.code.replace(
            rotation=torch.ones(1, 3), light=torch.ones(1, 9, 3), albedo=face.code.albedo + 1
        )
        again = ExpressionWarper(photo, face, model)(other)
        assert np.abs(again.astype(int) - photo).max() <= 1

    def test_pixels_far_away_stay(self, model):
        photo, face = portrait(model, 300, 300, (20.0, 20.0, 64.0))
        photo[150:] = np.random.default_rng(0).integers(0, 255, (150, 300, 3))
        code = face.code.replace(expression=torch.ones(1, 3))
        changed = ExpressionWarper(photo, face, model)(code)
        assert (changed != photo).any()
        assert np.array_equal(changed[150:], photo[150:])
        assert np.array_equal(changed[:, 150:], photo[:, 150:])

    def test_larger_than_the_maps(self, model):
        """The same change in a photograph twice as large, whose shifts are made at half its size."""
        photo, face = portrait(model, 192, 192, (0.0, 0.0, 192.0))
        code = face.code.replace(expression=torch.tensor([[3.0, -2.0, 2.0]]))
        plain = ExpressionWarper(photo, face, model)(code)
        coarse = ExpressionWarper(photo, face, model, finest=96)(code)
        inside = slice(50, 142)
        gap = _apart(plain[inside, inside], coarse[inside, inside])
        assert gap < 0.3 * _apart(plain[inside, inside], photo[inside, inside])

    def test_landmarks_move_the_mesh(self, model):
        """Detected to the right of the fit: what is moved is what is there."""
        from tests.helpers.fitted_faces import landmarked_face

        marked = landmarked_face()
        photo, face = portrait(marked)
        decoder = FaceDecoder(marked, camera=face.camera)
        points = decoder.dense_landmarks(decoder.geometry(face.code))[0] + torch.tensor([18.0, 16])
        code = face.code.replace(expression=torch.ones(1, 3))
        plain = ExpressionWarper(photo, face, marked)(code)
        assert (ExpressionWarper(photo, face, marked, points)(code) != plain).any()

    def test_a_face_outside_of_the_photograph(self, model):
        photo, face = portrait(model)
        for left in (500.0, 88.0):
            away = dataclasses.replace(face, crop=np.array([left, 500.0, 64.0]))
            with pytest.raises(ValueError, match="lies outside of the photograph"):
                ExpressionWarper(photo, away, model)


class TestMouth:
    """With the built-in face, whose mouth has an inside."""

    def _hole(self, picture):
        """The darkest pixels about the mouth, of 0 to 1."""
        return np.sort(picture[75:105, 45:75].mean(2).ravel())[:20].mean() / 255

    def test_a_closed_mouth_opens(self, people):
        model, (photo, face), (_, other) = people
        changed = ExpressionWarper(photo, face, model)(other.code)
        assert self._hole(changed) < 0.6 * self._hole(photo)

    def test_an_open_mouth_closes(self, people):
        model, (_, other), (photo, face) = people
        changed = ExpressionWarper(photo, face, model)(other.code)
        assert self._hole(changed) > 1.5 * self._hole(photo)

    def test_its_inside_is_another_photographs(self, people):
        """A green mouth there is a green mouth here; lips and skin are not."""
        model, (photo, face), (other_photo, other) = people
        green = other_photo.copy()
        hole = green.mean(2) < 60
        hole[:75], hole[105:], hole[:, :45], hole[:, 75:] = False, False, False, False
        green[hole] = (0, 200, 0)
        mouth = mouth_photo(green, other, model)
        changed = ExpressionWarper(photo, face, model)(other.code, mouth)
        is_green = (changed[..., 1] > 1.3 * changed[..., 0]) & (changed[..., 1] > changed[..., 2])
        assert is_green[75:105, 45:75].sum() > 0.3 * hole.sum()
        assert not is_green[:60].any()

    def test_a_mouth_that_does_not_open_takes_none(self, people):
        model, (photo, face), (other_photo, other) = people
        mouth = mouth_photo(np.full_like(other_photo, 255), other, model)
        warp = ExpressionWarper(photo, face, model).warp(face.code, mouth)
        assert (warp.share == 0).all()
