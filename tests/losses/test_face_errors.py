"""Errors of faces: known distances."""

from __future__ import annotations

import pytest
import torch

from mofa_nvdr import FaceDecoder, FaceModel
from mofa_nvdr.losses.face_errors import (
    centred_distance,
    expression_way,
    face_errors,
    similar_distance,
)
from mofa_nvdr.scene.pose import axis_angle_to_matrix


class TestDistances:
    def test_what_is_compensated(self):
        """Translation and scale in both; a turn in the second alone."""
        a = torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(0))
        moved = 1.7 * a + torch.tensor([3.0, -1.0, 2.0])
        assert centred_distance(a, moved).max() < 1e-5
        turned = moved @ axis_angle_to_matrix(torch.tensor([[0.0, 0.0, 0.2]]))[0].mT
        assert centred_distance(a, turned).min() > 0.1
        assert similar_distance(a, turned).max() < 1e-5

    def test_a_known_distance(self):
        """A square and one with two corners 1 mm higher: nothing else can be compensated."""
        a = torch.tensor([[[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]]) * 10
        b = a + torch.tensor([[[0.0, 0, 1], [0, 0, -1], [0, 0, 1], [0, 0, -1]]])
        torch.testing.assert_close(centred_distance(a, b), torch.ones(1, dtype=torch.float64))


@pytest.fixture(scope="module")
def decoder():
    return FaceDecoder(FaceModel.load("procedural"), 120)


def errors(decoder, code, true):
    return face_errors(decoder, code, true, decoder.geometry(code), decoder.geometry(true))


class TestFaces:
    def test_each_part_has_its_own_error(self, decoder):
        """What is wrong in one part of the code shows in its measures, and in no other's."""
        zero = decoder.code_zero(2)
        shown = {
            "expression": {"geometry", "form", "expression", "landmarks"},
            "shape": {"geometry", "form", "landmarks"},
            "rotation": {"geometry", "landmarks"},
            "albedo": {"albedo"},
            "light": {"light"},
        }
        for part, names in shown.items():
            wrong = zero.replace(**{part: getattr(zero, part) + 0.3})
            found = errors(decoder, wrong, zero)
            assert {name for name, value in found.items() if value.min() > 1e-4} == names, part

    def test_known_numbers(self, decoder):
        zero = decoder.code_zero(1)
        lit = errors(decoder, zero.replace(light=zero.light + 0.25), zero)
        torch.testing.assert_close(lit["light"], torch.tensor([0.25]))
        # 1 mm sideways is focal / distance pixels, a little more for what is nearer than the head's centre.
        aside = zero.replace(translation=zero.translation + torch.tensor([1.0, 0.0, 0.0]))
        camera = decoder.pinhole
        pixels = camera.focal_px / -float(camera.position[2]) * 240 / 120
        assert 1 < float(errors(decoder, aside, zero)["landmarks"]) / abs(pixels) < 1.15

    def test_the_way_of_expressions(self, decoder):
        """Twice the expression moves the face twice as far, whoever's it is."""
        zero = decoder.code_zero(1)
        smile = zero.replace(expression=zero.expression + 0.5)
        way = expression_way(decoder, smile)
        assert way.abs().max() > 0.1
        other = smile.replace(shape=zero.shape + 1, expression=2 * smile.expression)
        torch.testing.assert_close(expression_way(decoder, other), 2 * way, rtol=1e-3, atol=1e-4)
