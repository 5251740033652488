"""Weights of ARKit's blendshapes: their names, their bounds, and known weights found again."""

import csv
import io

import numpy as np
import pytest
import torch

from mofa_nvdr.apply.arkit import (
    BLENDSHAPES,
    NEVER_SEEN,
    arkit_expressions,
    arkit_weights,
    arrays,
    csv_text,
)
from mofa_nvdr.face.model import FaceModel
from tests.helpers.arkit import ARKIT
from tests.helpers.arkit_cap import NAMES, arkit_cap
from tests.helpers.small_face import small_face, textured_face


class TestNames:
    def test_arkits(self):
        assert list(BLENDSHAPES) == ARKIT and len(BLENDSHAPES) == 52

    def test_the_built_in_face_has_all(self, face_model):
        assert tuple(arkit_expressions(face_model)) == BLENDSHAPES

    def test_halves(self):
        """As ICT-FaceKit writes them: eyeBlink_L is a side, browInnerUp_L a half."""
        plain = textured_face()
        buffers = {name: value.numpy() for name, value in plain.named_buffers()}
        rows = {
            "eyeBlink_L": [1.0, 0, 0],
            "browInnerUp_L": [0, 1.0, 0],
            "browInnerUp_R": [0, 0, 2.0],
        }
        model = FaceModel(
            buffers, {"name": "cap"}, {k: np.array(v) for k, v in rows.items()}, ["right", "left"]
        )
        found = arkit_expressions(model)
        assert found.keys() == {"eyeBlinkLeft", "browInnerUp"}
        assert found["browInnerUp"].tolist() == [0, 1, 2]


class TestArkitWeights:
    def test_known_weights(self, face_model):
        """15 % of the blendshapes, 51 of 52, at any strength: found again from their motion."""
        generator = torch.Generator().manual_seed(1)
        wanted = torch.rand(40, 52, generator=generator)
        wanted *= torch.rand(40, 52, generator=generator) < 0.15
        wanted[:, BLENDSHAPES.index("tongueOut")] = 0
        rows = torch.stack(list(arkit_expressions(face_model).values()))
        found = arkit_weights(face_model, wanted @ rows)
        off = np.abs(found.weights - wanted.numpy())
        # Measured over 200: 0.0021 in the mean, 0.020 at the 99th percentile.
        assert off.mean() < 0.005 and np.percentile(off, 99) < 0.05
        assert (found.left_mm < 0.02).all() and found.motion_mm.mean() > 2

    def test_bounds_and_the_tongue(self, face_model):
        """Of any code: nothing below 0, above 1, or of a tongue."""
        generator = torch.Generator().manual_seed(2)
        found = arkit_weights(face_model, 2 * torch.randn(20, 64, generator=generator))
        assert found.weights.shape == (20, 52) and found.weights.dtype == np.float32
        assert found.weights.min() >= 0 and found.weights.max() <= 1
        assert (found.weights == 1).any()  # the bound is reached
        assert (
            NEVER_SEEN == ("tongueOut",)
            and (found.weights[:, BLENDSHAPES.index("tongueOut")] == 0).all()
        )

    def test_the_best_within_the_bounds(self):
        """No weight that is moved by a little comes closer: the optimum of a convex problem."""
        model, code = arkit_cap(), torch.tensor([[2.0, -1.0, 0.5]])
        found = arkit_weights(model, code)
        named = torch.stack([model.named_expressions[name] for name in NAMES])

        def left(weights):
            motion = torch.tensordot(code[0] - weights @ named, model.expression_basis, 1)
            return float(motion.square().sum(1).mean())

        best = torch.tensor([found.named()[name] for name in NAMES])
        assert float(np.sqrt(left(best))) == pytest.approx(found.left_mm[0], rel=1e-4)
        for k in range(3):
            for step in (-0.02, 0.02):
                other = best.clone()
                other[k] = (other[k] + step).clamp(0, 1)
                # The price of a weight is 0.001 mm^2.
                assert (
                    left(other) + 0.001 * float(other.sum())
                    > left(best) + 0.001 * float(best.sum()) - 1e-6
                )

    def test_neutral_is_zero(self, face_model):
        found = arkit_weights(face_model, torch.zeros(1, 64))
        assert (found.weights == 0).all() and found.left_mm[0] == found.motion_mm[0] == 0
        assert set(found.named()) == set(BLENDSHAPES)

    def test_a_model_without_them(self):
        with pytest.raises(ValueError, match="face model cap has none of ARKit's 52 blendshapes"):
            arkit_weights(small_face(), torch.zeros(1, 3))


class TestArrays:
    def test_of_a_file(self):
        model = arkit_cap()
        found = arrays(model, torch.zeros(2, 3))
        assert found["arkit_weights"].shape == (2, 52)
        assert found["arkit_names"].tolist() == list(BLENDSHAPES)

    def test_without_blendshapes_nothing(self):
        assert arrays(small_face(), torch.zeros(1, 3)) == {}


def test_csv_reads_back():
    weights = np.random.default_rng(0).random((2, 52))
    columns = {"frame": np.array([3, 4]), "time_s": np.array([0.12, 0.1600001])}
    rows = list(csv.DictReader(io.StringIO(csv_text(columns, weights, "mofa-nvdr source x"))))
    assert list(rows[0]) == ["frame", "time_s", *BLENDSHAPES, "origin"]
    assert [row["frame"] for row in rows] == ["3", "4"] and rows[0]["time_s"] == "0.12"
    read = [[float(row[name]) for name in BLENDSHAPES] for row in rows]
    np.testing.assert_allclose(read, weights, atol=5.1e-5)
