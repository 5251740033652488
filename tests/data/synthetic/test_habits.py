"""Expressions of people in portraits: named blendshapes drawn by habit."""

import itertools

import numpy as np
import pytest
import torch

from mofa_nvdr.data.synthetic.codes import CodePrior, random_codes
from mofa_nvdr.data.synthetic.faces import SyntheticFaces
from mofa_nvdr.data.synthetic.habits import ExpressionHabits
from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.render.decoder import FaceDecoder
from tests.helpers.small_face import small_face


def draws(names: list[str], count: int = 4000) -> dict[str, np.ndarray]:
    """Weights of blendshapes: a matrix that is the identity gives them back."""
    habits = ExpressionHabits.of(dict(zip(names, torch.eye(len(names)))))
    assert habits is not None
    generator = np.random.default_rng(0)
    table = habits.draw([generator] * count).numpy()
    return dict(zip(names, table.T))


@pytest.fixture(scope="module")
def drawn(face_model) -> dict[str, np.ndarray]:
    return draws(list(face_model.named_expressions))


class TestExpressionHabits:
    def test_weights_are_those_of_blendshapes(self, drawn):
        for name, weights in drawn.items():
            assert weights.min() >= 0 and weights.max() <= 1, name

    def test_many_at_once_are_those_drawn_one_by_one(self):
        names = ["jawOpen", "mouthSmileLeft", "mouthSmileRight", "eyeBlinkLeft", "eyeLookUpLeft"]
        habits = ExpressionHabits.of(dict(zip(names, torch.rand(len(names), 7))))
        one_by_one, at_once = np.random.default_rng(3), np.random.default_rng(3)
        want = torch.cat([habits.draw([one_by_one]) for _ in range(50)])
        assert torch.equal(habits.draw([at_once] * 50), want)
        assert one_by_one.random() == at_once.random()

    def test_shares(self, drawn):
        """4,000 faces: the standard error of a share of a half is 0.8 %."""
        assert (drawn["mouthSmileLeft"] > 0).mean() == pytest.approx(0.55, abs=0.03)
        assert (drawn["browDownRight"] > 0).mean() == pytest.approx(0.25, abs=0.03)
        assert (drawn["eyeBlinkLeft"] > 0.8).mean() == pytest.approx(0.04, abs=0.012)
        assert (drawn["jawOpen"] > 0.4).mean() == pytest.approx(0.11, abs=0.02)
        assert drawn["tongueOut"].max() == drawn["jawForward"].max() == 0

    def test_sides_go_together_but_not_exactly(self, drawn):
        left, right = drawn["mouthSmileLeft"], drawn["mouthSmileRight"]
        assert ((left > 0) == (right > 0)).all() and (left != right).any()
        assert np.corrcoef(left, right)[0, 1] > 0.9

    def test_smiles_have_company(self, drawn):
        smiling = drawn["mouthSmileLeft"] > 0.5
        assert drawn["cheekSquintLeft"][smiling].min() > 0
        assert drawn["cheekSquintLeft"][drawn["mouthSmileLeft"] == 0].max() == 0
        assert (drawn["mouthUpperUpLeft"][smiling] > 0.1).mean() > 0.6

    def test_both_eyes_look_the_same_way(self, drawn):
        aside = drawn["eyeLookOutLeft"] > 0.1
        assert drawn["eyeLookInRight"][aside].min() > 0
        assert drawn["eyeLookInLeft"][aside].max() == drawn["eyeLookOutRight"][aside].max() == 0
        assert not ((drawn["eyeLookUpLeft"] > 0) & (drawn["eyeLookDownLeft"] > 0)).any()

    def test_missing_and_unknown_names(self):
        weights = draws(["jawOpen", "mouthSmileLeft", "mouthSmileRight", "wink"], 200)
        assert weights["wink"].max() == 0 < weights["jawOpen"].max()

    def test_a_model_without_a_smile_has_none(self):
        assert ExpressionHabits.of({}) is None
        assert ExpressionHabits.of({"jawOpen": torch.zeros(3)}) is None


class TestInCodes:
    def test_coefficients_are_of_the_blendshapes(self):
        """With deviations of zero a code lies in the span of the named ones; pose, light and shape stay."""
        layout = CodeLayout(3, 4, 2)
        smile = torch.tensor([3.0, 0, 0, 0])
        habits = ExpressionHabits.of(
            {
                "mouthSmileLeft": smile,
                "mouthSmileRight": smile,
                "jawOpen": torch.tensor([0, 2.0, 0, 0]),
            }
        )
        prior = CodePrior(unnamed=0, neutral=0)
        with_names, plain = (
            random_codes(layout, 300, np.random.default_rng(2), prior, (), h)
            for h in (habits, None)
        )
        expression = with_names.expression
        assert expression[:, 2:].abs().max() == 0 and expression.min() >= 0
        assert expression[:, 0].max() > 3 and 0 < expression[:, 1].max() <= 2
        for part in ("shape", "rotation", "translation", "light"):
            assert torch.equal(getattr(with_names, part), getattr(plain, part))

    def test_rendered_faces_smile_where_the_model_can(self, face_model):
        codes = [
            torch.cat([batch.codes for batch in itertools.islice(faces.batches(50, 0, 0), 1)])
            for faces in (
                SyntheticFaces(FaceDecoder(face_model, 32), plain=True),
                SyntheticFaces(FaceDecoder(small_face(16), 32), plain=True),
            )
        ]
        names = list(face_model.named_expressions)
        matrix = torch.stack([face_model.named_expressions[name] for name in names])
        expression = face_model.layout.unpack(codes[0]).expression
        weights = torch.linalg.lstsq(matrix.T, expression.T).solution[names.index("mouthSmileLeft")]
        # 55 % smile, three in ten of them at a quarter; the noise beside it is 0.05.
        assert 0.2 < (weights > 0.15).float().mean() < 0.6
        assert codes[1].isfinite().all()
