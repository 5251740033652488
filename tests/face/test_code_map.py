from __future__ import annotations

import pytest
import torch

from mofa_nvdr.face.code_map import code_map
from mofa_nvdr.face.model import FaceModel
from tests.helpers.small_face import small_face


def changed(model: FaceModel, **arrays: torch.Tensor) -> FaceModel:
    every = dict(model.named_buffers()) | arrays
    return FaceModel({name: value.numpy() for name, value in every.items()}, model.metadata)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class TestCodeMap:
    def test_of_itself_nothing_changes(self):
        maps = code_map(small_face(), small_face())
        for part in maps.values():
            assert torch.equal(part.matrix, torch.eye(len(part.offset)))
            assert not part.offset.any() and part.left == 0

    def test_turned_modes_and_another_mean(self):
        """A model of the same faces: its modes are sums of the first's, and its mean is one of its faces."""
        model = small_face()
        turn = torch.linalg.qr(random(5, 5)).Q
        away = 0.7 * model.albedo_basis[1] - 0.4 * model.albedo_basis[3]
        other = changed(
            model,
            mean_albedo=model.mean_albedo + away,
            albedo_basis=torch.einsum("ij,jvc->ivc", turn, model.albedo_basis),
        )
        step = code_map(model, other)["albedo"]
        code = random(6, 5, seed=1)
        torch.testing.assert_close(other.albedo(step(code)), model.albedo(code), atol=2e-3, rtol=0)
        assert step.left < 2e-3

    def test_what_it_cannot_say_is_told(self):
        """Of four modes of shape three are there: what is left is the fourth's size."""
        model = small_face()
        other = changed(model, shape_basis=model.shape_basis[:3])
        step = code_map(model, other)["shape"]
        assert step.matrix.shape == (3, 4)
        code = random(2000, 4, seed=2)
        none = torch.zeros(2000, 3)
        away = other.vertices(step(code), none) - model.vertices(code, none)
        measured = away.square().sum(2).mean().sqrt()
        assert step.left == pytest.approx(float(measured), rel=0.05)
        assert 1.0 < step.left < 6.0

    def test_a_model_without_expressions(self):
        model = small_face()
        other = changed(model, expression_basis=model.expression_basis[:0])
        step = code_map(model, other)["expression"]
        assert step(random(2, 3)).shape == (2, 0)

    def test_other_meshes(self):
        with pytest.raises(ValueError, match="have other meshes, 144 and 100 vertices") as error:
            code_map(small_face(), small_face(rows=10))
        assert "\n" not in str(error.value)
