"""The model-space loss of InverseFaceNet: against what really moves."""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.losses.model_space import model_space_distance, model_space_weights
from mofa_nvdr.scene.lighting import icosahedron, sh_basis
from mofa_nvdr.scene.pose import axis_angle_to_matrix
from tests.helpers.small_face import small_face


@pytest.fixture(scope="module")
def face():
    return small_face(10)


def squared(points: torch.Tensor) -> float:
    """Mean squared length."""
    return points.square().sum(-1).mean().item()


class TestModelSpaceDistance:
    @pytest.mark.parametrize(("part", "unit"), [("shape", 2.0), ("expression", 2.0)])
    def test_of_one_mode_is_what_its_vertices_move(self, face, part, unit):
        """Half a standard deviation of the second mode: the mean squared way of the vertices, in 2 mm."""
        true = face.layout.zeros()
        changed = getattr(true, part).clone()
        changed[0, 1] = 0.5
        code = true.replace(**{part: changed})
        moved = face.vertices(code.shape, code.expression) - face.vertices(
            true.shape, true.expression
        )
        distance = model_space_distance(code, true, model_space_weights(face)).item()
        assert distance == pytest.approx(squared(moved) / unit**2, rel=1e-5)

    def test_of_one_mode_of_albedo(self, face):
        true = face.layout.zeros()
        code = true.replace(albedo=torch.eye(5)[:1] * 0.3)
        moved = face.albedo(code.albedo) - face.albedo(true.albedo)
        distance = model_space_distance(code, true, model_space_weights(face)).item()
        assert distance == pytest.approx(squared(moved) / 0.05**2, rel=1e-5)

    def test_of_a_small_turn(self, face):
        """About the vertical: points move by their distance from it."""
        true = face.layout.zeros()
        code = true.replace(rotation=torch.tensor([[0.0, 1e-2, 0.0]]))
        matrix = axis_angle_to_matrix(code.rotation)[0]
        moved = face.mean_shape @ matrix.T - face.mean_shape
        distance = model_space_distance(code, true, model_space_weights(face)).item()
        assert distance == pytest.approx(squared(moved) / 2**2, rel=1e-3)

    def test_of_a_shift(self, face):
        """8 mm sideways count as 40 mm in depth: one each."""
        true = face.layout.zeros(2)
        code = true.replace(translation=torch.tensor([[8.0, 0, 0], [0, 0, 40.0]]))
        distance = model_space_distance(code, true, model_space_weights(face))
        torch.testing.assert_close(distance, torch.ones(2))

    def test_of_light(self, face):
        """One coefficient: the irradiance that it adds on what faces the camera."""
        true = face.layout.zeros()
        light = torch.zeros(1, 9, 3)
        light[0, 2, 0] = 0.2  # red, from the front
        normals = icosahedron().float()
        added = sh_basis(normals[normals[:, 2] >= 0])[:, 2] * 0.2
        distance = model_space_distance(
            true.replace(light=light), true, model_space_weights(face)
        ).item()
        assert distance == pytest.approx(added.square().mean().item() / 0.15**2, rel=1e-5)

    def test_parts_add_up_and_true_codes_cost_nothing(self, face):
        weights = model_space_weights(face)
        g = torch.Generator().manual_seed(0)
        a, b = (face.layout.unpack(torch.randn(3, face.layout.size, generator=g)) for _ in "ab")
        alone = [
            model_space_distance(b.replace(**{part: getattr(a, part)}), b, weights)
            for part in weights
        ]
        torch.testing.assert_close(model_space_distance(a, b, weights), sum(alone))
        assert model_space_distance(a, a, weights).abs().max() == 0

    def test_gradcheck(self, face):
        weights = {name: weight.double() for name, weight in model_space_weights(face).items()}
        layout, g = face.layout, torch.Generator().manual_seed(0)
        codes = [torch.randn(2, layout.size, generator=g).double().requires_grad_() for _ in "ab"]
        assert torch.autograd.gradcheck(
            lambda a, b: model_space_distance(layout.unpack(a), layout.unpack(b), weights), codes
        )

    def test_codes_must_agree(self, face):
        with pytest.raises(ValueError, match="model_space_distance: 2 codes of .*, 1 true ones"):
            model_space_distance(
                face.layout.zeros(2), CodeLayout(2, 2, 2).zeros(), model_space_weights(face)
            )
