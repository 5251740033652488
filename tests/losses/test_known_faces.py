"""Distances of known faces: of codes, and of what they decode to."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mofa_nvdr.face.code import CodeLayout
from mofa_nvdr.losses.known_faces import FacePoints, code_distance, decoded_distance
from mofa_nvdr.scene.camera import Camera

CAMERA = Camera(240)


def face_points(count: int = 3, seed: int = 0, num: int = 80) -> FacePoints:
    """Random faces of `num` points, the first 68 of them the landmarks."""
    g = torch.Generator().manual_seed(seed)
    form = torch.randn(count, num, 3, generator=g, dtype=torch.float64) * 40
    points = form + form.new_tensor([5.0, -8.0, -860.0])
    albedo = torch.rand(count, num, 3, generator=g, dtype=torch.float64)
    light = torch.rand(count, 8, 3, generator=g, dtype=torch.float64)
    return FacePoints(CAMERA.project(points[:, :68]), points, form, albedo, light)


class TestDecodedDistance:
    def test_is_zero_for_the_true_faces(self):
        f = face_points()
        assert decoded_distance(f, f, 240).abs().max() == 0

    @pytest.mark.parametrize(
        ("part", "change", "expected"),
        [
            ("landmarks", [10.0, 0.0], 0.35 * 4.5),  # 5 units of 2 px: Huber's function is 4.5
            ("points", [0, 0, 60.0], 0.5 * 2.5),  # 3 units of depth; the form is centred
            ("form", [4.0, 0, 0], 2 * 1.5),  # 2 units, of the landmarks and of the others
            ("irradiance", [0, 0, 0.4], None),
            ("albedo", [0.2, 0, 0], None),
        ],
    )
    def test_each_part_alone(self, part, change, expected):
        f = face_points(1)
        value = getattr(f, part)
        other = dataclasses.replace(f, **{part: value + value.new_tensor(change)})
        distance = decoded_distance(other, f, 240).item()
        if expected is None:  # the tone changes too: twice Huber's function of the product's change
            change = value.new_tensor(change)
            partner = f.albedo if part == "irradiance" else f.irradiance
            tone = (change * partner.mean((0, 1))).norm().item() / 0.1
            expected = 1.5 + 2 * (0.5 * tone**2 if tone < 1 else tone - 0.5)
        assert distance == pytest.approx(expected)

    def test_pixels_count_at_240(self):
        f = face_points(1)
        double = dataclasses.replace(f, landmarks=2 * f.landmarks)
        moved = dataclasses.replace(f, landmarks=2 * f.landmarks + 20)
        expected = decoded_distance(dataclasses.replace(f, landmarks=f.landmarks + 10), f, 240)
        torch.testing.assert_close(decoded_distance(moved, double, 480), expected)

    def test_gradcheck(self):
        a, b = face_points(2, 1), face_points(2, 2)
        parts = [getattr(a, f.name).requires_grad_() for f in dataclasses.fields(a)]
        assert torch.autograd.gradcheck(
            lambda *p: decoded_distance(FacePoints(*p), b, 240), parts, fast_mode=True
        )


class TestCodeDistance:
    def test_by_hand(self):
        true = CodeLayout(2, 2, 2).zeros(2)
        code = true.replace(
            rotation=torch.tensor(
                [[0.05, 0.0, 0.0], [0.0, 0.0, 0.0]]
            ),  # half a unit: 1/8, of 3 numbers
            translation=torch.tensor([[0.0, 0.0, 0.0], [0.0, 16.0, 0.0]]),  # two units: 3/2, of 3
            shape=torch.tensor([[0.0, 0.0], [1.0, 1.0]]),  # one unit each: 1/2, weight 0.2
        )
        torch.testing.assert_close(code_distance(code, true), torch.tensor([1 / 24, 0.5 + 0.1]))

    def test_a_part_without_numbers_costs_nothing(self):
        """A face model without expressions: the mean over no numbers would be NaN."""
        true = CodeLayout(2, 0, 2).zeros()
        code = true.replace(shape=torch.ones(1, 2))  # one unit each: 1/2, weight 0.2
        torch.testing.assert_close(code_distance(code, true), torch.tensor([0.1]))
