"""Rounds of fitting and learning on rendered people of a model that is known."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import torch

from mofa_nvdr.apply import learning as module
from mofa_nvdr.apply.fitting import FaceFitter, FitOptions
from mofa_nvdr.apply.learning import _LANDMARKS, Faces, LearnOptions, ModelLearner
from mofa_nvdr.face.model import FaceModel
from tests.helpers.fitted_faces import SIZE, known_faces
from tests.helpers.symmetric_face import changed, symmetric_face

COUNT = 10
OPTIONS = LearnOptions(rounds=1, form_modes=3, albedo_modes=6, kept_modes=(1, 3), batch=4)


class Kept(dict):
    """Steps in memory, and the names of those that were made."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.made: list[str] = []

    def __call__(self, name, make):
        if name not in self:
            self.made.append(name)
            self[name] = make()
        return self[name]


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Fits at fewer pixels and points."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FitOptions", partial(FitOptions, size=SIZE, points=200))
        yield


@pytest.fixture(scope="module")
def first() -> FaceModel:
    return symmetric_face(regions=True)


@pytest.fixture(scope="module")
def truth(first) -> FaceModel:
    """People have redder cheeks than the model that is fitted first, and shorter, thinner noses."""
    place = first.mean_shape
    share = (-(place[:, :1].square() + (place[:, 1:2] + 15).square()) / (2 * 18**2)).exp()
    nose = share * torch.cat([-5 * (place[:, :1] / 12).tanh(), 5 + 0 * share, 0 * share], 1)
    cheeks = ((place[:, :1].abs() - 35).square() + (place[:, 1:2] + 5).square()) / (2 * 14**2)
    color = (-cheeks).exp() * torch.tensor([0.1, -0.12, -0.1])
    return changed(
        first, mean_shape=place + nose, mean_albedo=(first.mean_albedo + color).clamp(0, 1)
    )


@pytest.fixture(scope="module")
def faces(truth) -> Faces:
    known = known_faces(truth, COUNT, scale=0.5)
    photo = (known.photo * 255).round().byte().permute(0, 2, 3, 1).numpy()
    whole = np.ones((COUNT, SIZE, SIZE), bool)
    return Faces(photo, whole, known.dense.numpy(), np.arange(COUNT))


@pytest.fixture(scope="module")
def learned(first, faces):
    """The learned model, its steps, and the batches that were told."""
    kept, told = Kept(), []
    learner = ModelLearner(first, faces, OPTIONS, kept, after=lambda *words: told.append(words))
    return learner(), kept, told


def _relative(model: FaceModel) -> torch.Tensor:
    return model.mean_albedo / model.mean_albedo.mean()


class TestModelLearner:
    def test_closer_to_the_people(self, learned, first, truth):
        """Up to one factor for all albedo, which light holds as well."""
        model = learned[0]
        away = [(m.mean_shape - truth.mean_shape).norm() for m in (first, model)]
        assert away[1] < 0.8 * away[0]
        away = [(_relative(m) - _relative(truth)).norm() for m in (first, model)]
        assert away[1] < 0.8 * away[0]

    def test_sizes_and_identity(self, learned, first):
        model = learned[0]
        assert model.layout.num_shape == first.layout.num_shape
        assert model.layout.num_albedo == 6
        assert torch.equal(model.albedo_basis[:2], first.albedo_basis[[1, 3]])
        assert torch.equal(model.expression_basis, first.expression_basis)
        assert model.hash != first.hash and not model.has_codes_of(first.hash)
        assert model.dense_landmarks is not None and model.region_names == first.region_names
        mouth = model.regions == 1
        torch.testing.assert_close(model.mean_albedo[mouth], first.mean_albedo[mouth])

    def test_tells_every_batch(self, learned):
        told = learned[2]
        for step in ("landmarks", "light", "colors 1"):
            assert sum(count for name, count, _ in told if name == step) == COUNT
        assert {total for *_, total in told} == {COUNT}

    def test_kept_steps_are_not_made_again(self, learned, first, faces):
        model, kept, _ = learned
        half = Kept({name: kept[name] for name in kept.made[:-2]})
        again = ModelLearner(first, faces, OPTIONS, half)()
        assert half.made == kept.made[-2:]
        assert again.hash == model.hash
        whole = Kept(kept)
        assert ModelLearner(first, faces, OPTIONS, whole)().hash == model.hash
        assert whole.made == []

    def test_any_number_of_threads(self, first, faces):
        some = Faces(faces.photo[:4], faces.known[:4], faces.points[:4], faces.person[:4])
        before, hashes = torch.get_num_threads(), []
        try:
            for threads in (1, 2):
                torch.set_num_threads(threads)
                hashes.append(ModelLearner(first, some, OPTIONS)().hash)
        finally:
            torch.set_num_threads(before)
        assert hashes[0] == hashes[1]


class TestBatches:
    @pytest.mark.parametrize(
        ("person", "sizes"),
        [(range(10), [4, 4, 2]), ([0, 1, 2, 3, 3, 3, 4, 5, 6, 7], [6, 4]), ([0] * 10, [10])],
    )
    def test_a_person_stays_together(self, first, faces, person, sizes):
        own = Faces(faces.photo, faces.known, faces.points, np.array(person))
        learner = ModelLearner(first, own, OPTIONS)
        assert [len(batch) for batch in learner._batches(np.arange(COUNT))] == sizes


class TestExposure:
    def test_highlights_come_together(self, first, faces):
        """0.7 of the brightness in logarithms, all of the colour, and no more than a factor of 1.4."""
        photo = faces.photo[[0, 0, 0, 0]].astype(float)
        light = np.array([[0.8, 0.8, 0.8], [0.64, 0.64, 0.64], [0.2, 0.2, 0.2], [0.8, 0.8, 0.7]])
        photo = (photo * light[:, None, None]).round().astype(np.uint8)
        own = Faces(photo, faces.known[:4], faces.points[[0, 0, 0, 0]], np.arange(4))
        learner = ModelLearner(first, own, OPTIONS)
        code = learner._fits("landmarks", _landmark_fitter(first, learner), None)[0]
        gain = learner._exposure(code)
        assert gain[1] / gain[0] == pytest.approx(1.25**0.7, rel=0.03)
        assert gain[2] == pytest.approx(1.4)
        ratio = gain[3] / gain[0]
        assert float(ratio[2] / ratio[0]) == pytest.approx(8 / 7, rel=0.03)


def _landmark_fitter(model, learner):
    return FaceFitter(model, FitOptions(stages=_LANDMARKS), camera=learner.camera)


class TestPhoto:
    def test_what_is_not_known(self, first, faces):
        """Beyond the edges, and where a channel is saturated."""
        photo, known = faces.photo.copy(), faces.known.copy()
        photo[0, 3, 4], known[0, 5, 6] = (255, 9, 9), False
        learner = ModelLearner(first, Faces(photo, known, faces.points, faces.person), OPTIONS)
        learner.gain[0] = 0.5
        seen = learner._photo(np.array([0]))
        assert seen[0, :, 3, 4].isnan().all() and seen[0, :, 5, 6].isnan().all()
        assert float(seen[0, 1, 8, 9]) == pytest.approx(photo[0, 8, 9, 1] / 255 / 2)
