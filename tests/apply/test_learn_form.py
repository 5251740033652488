"""Displacements of a surface that are known come back from landmarks in pictures."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mofa_nvdr.apply.learn_form import FormLearner, closed_and_open, fold, kernel
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.camera import Camera
from tests.helpers.small_face import small_face
from tests.helpers.symmetric_face import changed, symmetric_face

ACROSS = torch.tensor([-1.0, 1.0, 1.0])
PEOPLE = 40


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def model() -> FaceModel:
    """With expressions of the upper face, in the plane that pictures from the front show."""
    plain = symmetric_face()
    share = torch.sigmoid((plain.mean_shape[:, 1:2] - 20) / 8) * torch.tensor([1.0, 1.0, 0.0])
    return changed(plain, expression_basis=plain.expression_basis * share)


@pytest.fixture(scope="module")
def code(model) -> Tensor:
    """Codes [40, 257] of people turned to all sides."""
    code = torch.zeros(PEOPLE, model.layout.size)
    code[:, model.layout.slices["rotation"]] = 0.3 * random(PEOPLE, 3)
    return code


def wider(model: FaceModel) -> Tensor:
    """Jaws 3 mm broader on either side and 2 mm lower: what no expression of the cap does."""
    place = model.mean_shape
    share = torch.sigmoid((-place[:, 1:2] - 10) / 12)
    return share * torch.cat([3 * (place[:, :1] / 30).tanh(), -2 + 0 * share, 0 * share], 1)


def narrower(model: FaceModel) -> Tensor:
    """Foreheads 2 mm narrower on either side: another displacement, by which people differ."""
    place = model.mean_shape
    share = torch.sigmoid((place[:, 1:2] - 20) / 12)
    return share * torch.cat([-2 * (place[:, :1] / 30).tanh(), 0 * share, 0 * share], 1)


def seen_points(model: FaceModel, code: Tensor, displacement: Tensor) -> Tensor:
    """Landmarks [B, 478, 2] px of people whose surface is displaced by [B, V, 3] mm."""
    points = []
    for one, moved in zip(code, displacement):
        decoder = FaceDecoder(changed(model, mean_shape=model.mean_shape + moved))
        points.append(decoder.dense_landmarks(decoder.geometry(one[None])))
    return torch.cat(points)


class TestFormLearner:
    def test_residuals(self, model, code):
        """Millimetres in the picture's plane, of every point that has a place."""
        learner = FormLearner(model, Camera())
        decoder = FaceDecoder(model)
        points = decoder.dense_landmarks(decoder.geometry(code))
        away, axes = learner.residuals(code, points)
        assert away.abs().max() < 1e-3 and axes.shape == (PEOPLE, 2, 3)
        shift = torch.zeros_like(code)
        shift[:, model.layout.slices["translation"]] = torch.tensor([1.0, -2.0, 0.0])
        points = decoder.dense_landmarks(decoder.geometry(code + shift))
        away, _ = learner.residuals(code, points)
        torch.testing.assert_close(
            away, torch.tensor([1.0, -2.0]).expand_as(away), atol=0.01, rtol=0
        )

    def test_a_displacement_comes_back(self, model, code):
        truth = wider(model)
        people = random(PEOPLE, 1, 1, seed=1)
        mode = narrower(model)
        points = seen_points(model, code, truth + people * mode)
        lines: list[str] = []
        level = FormLearner(model, Camera()).learn(code, points, 3, lines.append)
        mean = truth + people.mean() * mode
        assert (level.mean - mean).norm() / mean.norm() < 0.4
        first = level.modes[0].flatten()
        alike = torch.nn.functional.cosine_similarity(first, mode.flatten(), dim=0).abs()
        assert alike > 0.85
        assert 0.6 < first.norm() / mode.norm() < 1.3
        before, with_mean, with_modes = level.left
        assert before > 2 * with_mean > 3 * with_modes
        assert lines == [
            f"shape: {before:.2f} mm between points before, {with_mean:.2f} with the mean, "
            f"{with_modes:.2f} with 3 modes"
        ]

    def test_modes_are_even_or_odd(self, model, code):
        places = model.mean_shape
        sway = torch.sigmoid(-places[:, 1:2] / 12) * torch.tensor([3.0, 0, 0])  # chins aside: odd
        share = random(PEOPLE, 2, 1, 1, seed=1)
        moved = share[:, 0] * narrower(model) + share[:, 1] * sway
        level = FormLearner(model, Camera()).learn(code, seen_points(model, code, moved), 4)
        image = level.modes[:, model.mirror_index] * ACROSS
        same = (image - level.modes).flatten(1).norm(dim=1)
        opposite = (image + level.modes).flatten(1).norm(dim=1)
        size = level.modes.flatten(1).norm(dim=1)
        assert (torch.minimum(same, opposite) < 0.02 * size).all()
        assert (same < opposite)[:2].sum() == 1  # one of either kind
        torch.testing.assert_close(
            level.mean, level.mean[model.mirror_index] * ACROSS, atol=0.01, rtol=0
        )

    def test_an_expression_is_no_shape(self, model, code):
        """Everybody smiles: what an expression explains is not what people are born with."""
        smile = 1.5 * model.expression_basis[0]
        points = seen_points(model, code, smile.expand(PEOPLE, -1, -1))
        level = FormLearner(model, Camera()).learn(code, points, 3)
        assert level.mean.norm() < 0.2 * smile.norm()

    def test_a_model_without_places(self):
        with pytest.raises(
            ValueError, match=r"^model learn: face model cap has no places for 478 landmarks"
        ):
            FormLearner(small_face(), Camera())


class TestKernel:
    def test_variance_and_distance(self):
        places = torch.tensor([[0.0, 0, 0], [500.0, 0, 0], [12.0, 0, 0]])
        covariance = kernel(places, places)
        assert covariance[0, 0] == pytest.approx(2.0**2 + 0.8**2)
        assert covariance[0, 1] < 1e-6
        assert covariance[0, 2] == pytest.approx(3.772 + 0.388, abs=0.01)


class TestClosedAndOpen:
    def test_lips_part(self, face_model):
        """The way of the chin where the mouth opens is long, that of the forehead is none."""
        both = closed_and_open(face_model)
        assert both.shape == (face_model.num_vertices, 6)
        way = both[face_model.landmarks, 3:].norm(dim=1)
        assert way[8] > 5 and way[27] < 1

    def test_without_such_an_expression(self, model):
        assert (closed_and_open(model)[:, 3:] == 0).all()


class TestFold:
    def test_keeps_the_variance(self):
        """Of three modes in two dimensions nothing is lost; of more the least."""
        basis = random(2, 50, 3)
        folded = fold(basis, 2 * basis[:1])
        before = torch.cat([basis, 2 * basis[:1]]).flatten(1)
        torch.testing.assert_close(
            folded.flatten(1).T @ folded.flatten(1), before.T @ before, atol=1e-4, rtol=1e-4
        )

    def test_drops_the_least(self):
        basis, more = torch.zeros(2, 4, 3), torch.zeros(1, 4, 3)
        basis[0, 0, 0], basis[1, 1, 0], more[0, 2, 0] = 3.0, 1.0, 2.0
        sizes = fold(basis, more).abs()
        assert sizes[0, 0, 0] == pytest.approx(3) and sizes[1, 2, 0] == pytest.approx(2)
        assert sizes.sum() == pytest.approx(5)

    def test_any_number_of_threads(self):
        before, folded = torch.get_num_threads(), []
        basis, more = random(80, 24_416, 3), random(30, 24_416, 3, seed=1)  # as the built-in face
        try:
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                folded.append(fold(basis, more))
        finally:
            torch.set_num_threads(before)
        assert torch.equal(folded[0], folded[1])
        assert torch.equal(folded[0], folded[2])  # differed by 2e-7 mm as one product
