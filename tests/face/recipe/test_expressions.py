"""The basis of expressions: it holds the named blendshapes, and the shipped ones move the face as named."""

import numpy as np

from mofa_nvdr.face.recipe.expressions import COMBINATIONS, expression_samples
from tests.helpers.arkit import ARKIT


class TestCombinations:
    def test_use_the_names(self):
        for weights in COMBINATIONS:
            for name in weights:
                assert name in ARKIT or f"{name}Left" in ARKIT, name


class TestBasis:
    def test_named_blendshapes_are_in_the_basis(self, named, face):
        """Measured: 0.8 % of its own norm at most, from the file's steps of 0.001 mm."""
        basis = face["expression_basis"]
        for name, code in zip(face["expression_names"], face["named_expressions"]):
            rest = named[str(name)] - np.tensordot(code, basis, 1)
            assert np.linalg.norm(rest) < 0.02 * np.linalg.norm(named[str(name)]), name

    def test_keeps_the_variance_of_the_set(self, named, face):
        """More than 99 % (the paper, section 3) of the blendshapes and of their combinations."""
        basis = face["expression_basis"].reshape(64, -1).astype(np.float64)
        samples = np.stack(expression_samples(named)).reshape(len(ARKIT) + len(COMBINATIONS), -1)
        orthonormal = np.linalg.qr(basis.T)[0]
        assert ((samples @ orthonormal) ** 2).sum() > 0.999 * (samples**2).sum()

    def test_every_dimension_is_used(self, face):
        rms = np.sqrt((face["expression_basis"] ** 2).sum(2).mean(1))
        assert (rms > 0.01).all()  # mm


class TestExpressions:
    @staticmethod
    def _landmarks(face, *names):
        known = list(face["expression_names"])
        code = sum(face["named_expressions"][known.index(name)] for name in names)
        moved = np.tensordot(code, face["expression_basis"], 1)
        return (face["mean_shape"] + moved)[face["marks"]]

    def test_jaw_opens_the_mouth(self, face):
        rest, open_ = face["mean_shape"][face["marks"]], self._landmarks(face, "jawOpen")
        assert rest[62, 1] - rest[66, 1] < 1.0
        assert open_[62, 1] - open_[66, 1] > 20
        assert open_[8, 1] < rest[8, 1] - 12

    def test_eyes_close(self, face):
        rest = face["mean_shape"][face["marks"]]
        closed = self._landmarks(face, "eyeBlinkLeft", "eyeBlinkRight")
        for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46)):
            assert rest[upper, 1] - rest[lower, 1] > 6
            assert abs(closed[upper, 1] - closed[lower, 1]) < 1.5

    def test_smile_and_brows(self, face):
        rest = face["mean_shape"][face["marks"]]
        smile = self._landmarks(face, "mouthSmileLeft", "mouthSmileRight")
        assert smile[54, 0] - smile[48, 0] > rest[54, 0] - rest[48, 0] + 10
        assert smile[54, 1] > rest[54, 1] + 5
        brows = self._landmarks(face, "browInnerUp")
        assert brows[21, 1] > rest[21, 1] + 4 and brows[22, 1] > rest[22, 1] + 4

    def test_left_is_the_subjects(self, face):
        rest, wink = face["mean_shape"][face["marks"]], self._landmarks(face, "eyeBlinkLeft")
        assert rest[43, 0] > 0 and rest[43, 1] - wink[43, 1] > 4
        assert abs(rest[38, 1] - wink[38, 1]) < 0.5
