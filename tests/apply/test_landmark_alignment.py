"""Moving a fitted mesh onto detected landmarks: exact there, smooth between, and never far."""

import numpy as np
import pytest
import torch

from mofa_nvdr.apply.landmark_alignment import alignment, detected_points
from mofa_nvdr.face.dense_landmarks import OVAL
from mofa_nvdr.networks.landmark_detector import LandmarkDetector
from tests.helpers.fake_landmarks import KnownLandmarks, install_fake_detector
from tests.helpers.fitted_faces import landmarked_face
from tests.helpers.portraits import mirrored_cap, portrait

SIDE = 200.0


@pytest.fixture(scope="module")
def model():
    return landmarked_face()


@pytest.fixture(scope="module")
def fitted(model):
    """Places of the model's landmarks, px: seen from the front."""
    return model.dense_landmarks.of(model.mean_shape[None])[0, :, :2] + 100


class TestAlignment:
    def test_nothing_to_move(self, model, fitted):
        assert alignment(model, fitted, fitted, SIDE).abs().max() == 0

    def test_all_moved_alike(self, model, fitted):
        shift = torch.tensor([2.0, -1.0])
        moved = alignment(model, fitted, fitted + shift, SIDE)
        assert moved.shape == (model.num_vertices, 2)
        # Landmarks are everywhere on this small mesh; its border is smoothed over.
        assert (moved - shift).norm(dim=1).median() < 0.1

    def test_opposite_sides_move_apart(self, model, fitted):
        """A smooth field: left to the left, right to the right."""
        shift = torch.zeros_like(fitted)
        shift[:, 0] = 3 * (fitted[:, 0] - 100).sign()
        moved = alignment(model, fitted, fitted + shift, SIDE)
        x = model.mean_shape[:, 0]
        assert moved[x > 30, 0].mean() > 1.5 and moved[x < -30, 0].mean() < -1.5

    def test_what_is_far_off_is_detected_wrongly(self, model, fitted):
        moved = alignment(model, fitted, fitted + 500, SIDE)
        assert moved.norm(dim=1).max() <= 0.06 * SIDE * 1.01

    def test_the_outline_does_not_count(self, model, fitted):
        shifted = fitted.clone()
        shifted[list(OVAL)] += 5
        assert alignment(model, fitted, shifted, SIDE).abs().max() == 0

    def test_a_model_without_places(self, fitted):
        plain = mirrored_cap()
        assert (alignment(plain, fitted, fitted + 5, SIDE) == 0).all()


class TestDetectedPoints:
    @pytest.fixture
    def here(self, monkeypatch):
        monkeypatch.setattr(LandmarkDetector, "is_here", staticmethod(lambda: True))
        return install_fake_detector(monkeypatch)

    def _known(self, x, y):
        points = np.zeros((478, 3))
        points[:, :2] = np.random.default_rng(0).uniform(-20, 20, (478, 2)) + [x, y]
        return KnownLandmarks(points, points[:68, :2])

    def test_of_the_fitted_face(self, here):
        """Of two faces the one in the crop, in px of the photograph."""
        photo, face = portrait(mirrored_cap(), 300, 300, (150.0, 100.0, 64.0))
        part = photo[84:180, 134:230]  # the crop and a quarter around it
        photo[84, 134] = (1, 2, 3)
        here.know(part, [self._known(5, 5), self._known(46, 48)])
        points = detected_points(photo, face)
        assert points.shape == (478, 2)
        assert points.mean(0).tolist() == pytest.approx([180, 132], abs=2)

    def test_another_persons_face(self, here):
        photo, face = portrait(mirrored_cap(), 300, 300, (150.0, 100.0, 64.0))
        photo[84, 134] = (1, 2, 3)
        here.know(photo[84:], [self._known(5, 5)])
        assert detected_points(photo, face) is None

    def test_no_face(self, here):
        photo, face = portrait(mirrored_cap())
        assert detected_points(photo, face) is None

    def test_outside_of_the_photograph(self, here):
        photo, face = portrait(mirrored_cap())
        away = type(face)(**{**vars(face), "crop": np.array([500.0, 0, 64])})
        assert detected_points(photo, away) is None

    def test_without_the_networks(self, monkeypatch):
        monkeypatch.setattr(LandmarkDetector, "is_here", staticmethod(lambda: False))
        photo, face = portrait(mirrored_cap())
        assert detected_points(photo, face) is None
