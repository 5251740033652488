"""The distribution of codes that fitting starts from: its mean and precision by hand and by draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mofa_nvdr.apply import fit_prior as module
from mofa_nvdr.apply.fit_prior import FitPrior, fit_prior
from mofa_nvdr.data.synthetic.codes import CodePrior
from mofa_nvdr.data.synthetic.habits import ExpressionHabits
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.scene.lighting import AMBIENT_OFFSET
from tests.helpers.small_face import small_face

_PEOPLE = CodePrior(shape=0.8, albedo=0.5, expression=0.4, exposure=1.2)


@pytest.fixture(scope="module")
def cap() -> tuple[FaceModel, FitPrior]:
    """A model without named expressions."""
    model = small_face()
    return model, fit_prior(model, _PEOPLE)


class TestFitPrior:
    def test_energy(self):
        """Half the squared distance in deviations: ((2 / 0.5)^2 + (1 / 2)^2) / 2."""
        prior = FitPrior(torch.tensor([1.0, 0.0]), torch.diag(torch.tensor([4.0, 0.25])))
        codes = torch.tensor([[3.0, 1.0], [1.0, 0.0]])
        assert prior.energy(codes).tolist() == [8.125, 0]

    def test_energy_of_what_depends_on_each_other(self):
        prior = FitPrior(torch.zeros(2), torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
        assert prior.energy(torch.tensor([[1.0, 1.0], [1.0, -1.0]])).tolist() == [3, 1]


class TestOfAModel:
    @pytest.mark.parametrize(
        ("part", "deviation"),
        [
            ("shape", 0.8),
            ("albedo", 0.5),
            ("expression", 0.4),
            ("rotation", 1.0),
            ("translation", 300.0),
        ],
    )
    def test_independent_parts(self, cap, part, deviation):
        model, prior = cap
        where = model.layout.slices[part]
        assert (prior.mean[where] == 0).all()
        own = prior.precision[where]
        wanted = torch.zeros_like(own)
        wanted[:, where] = torch.eye(len(own)) / deviation**2
        torch.testing.assert_close(own, wanted)

    def test_light(self, cap):
        """The median exposure; channels vary together, and by less each on its own."""
        model, prior = cap
        where = model.layout.slices["light"]
        mean = prior.mean[where].view(9, 3)
        torch.testing.assert_close(mean[0], torch.full((3,), AMBIENT_OFFSET * 0.2))
        assert (mean[1:] == 0).all()
        covariance = torch.linalg.inv(prior.precision[where, where].double())
        ambient = AMBIENT_OFFSET * 1.2 * np.array(module._AMBIENT)
        for k, (common, colour) in enumerate(
            [ambient] + 3 * [module._FIRST] + 5 * [module._SECOND]
        ):
            block = covariance[3 * k : 3 * k + 3, 3 * k : 3 * k + 3]
            average = torch.full((3,), 1 / 3, dtype=torch.float64)
            apart = torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64)
            assert (average @ block @ average).sqrt().item() == pytest.approx(common, rel=1e-4)
            assert (apart @ block @ apart / 2).sqrt().item() == pytest.approx(colour, rel=1e-4)

    def test_expressions_of_the_built_in_face(self, face_model):
        """Mean and covariance of what people do, by other draws than the prior's."""
        prior = fit_prior(face_model)
        where = face_model.layout.slices["expression"]
        habits = ExpressionHabits.of(face_model.named_expressions)
        assert habits is not None
        generator = np.random.default_rng(5)
        drawn = habits.draw([generator] * 1500)
        away = (drawn.mean(0) - prior.mean[where]).norm() / drawn.std(0).norm()
        assert away < 0.1  # measured 0.03
        # Of draws of the distribution itself the expected energy is half their number of dimensions, less
        # what single modes have of their own.
        codes = prior.mean.repeat(len(drawn), 1)
        codes[:, where] = drawn
        energy = prior.energy(codes).mean()
        assert 0.3 < energy / (drawn.shape[1] / 2) < 1.1  # measured

    def test_precision_is_positive_and_symmetric(self, face_model, cap):
        for prior in (fit_prior(face_model), cap[1]):
            torch.testing.assert_close(prior.precision, prior.precision.T)
            assert torch.linalg.eigvalsh(prior.precision.double()).min() > 0
            assert prior.mean.dtype == prior.precision.dtype == torch.float32

    def test_the_same_every_time(self, face_model):
        one, other = fit_prior(face_model), fit_prior(face_model)
        assert torch.equal(one.mean, other.mean) and torch.equal(one.precision, other.precision)

    def test_without_expressions(self, face_model):
        """The rest is the same, and nothing is known of them."""
        whole, part = fit_prior(face_model), fit_prior(face_model, with_expression=False)
        where = face_model.layout.slices["expression"]
        others = torch.ones(len(whole.mean), dtype=torch.bool)
        others[where] = False
        assert torch.equal(whole.mean[others], part.mean[others])
        assert torch.equal(whole.precision[others], part.precision[others])
        assert (part.precision[where] == 0).all() and (part.mean[where] == 0).all()
