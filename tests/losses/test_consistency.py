"""Terms without labels: closed forms, what they are blind to, and gradients."""

import dataclasses
import math

import pytest
import torch

from mofa_nvdr.face.landmarks import MIRROR
from mofa_nvdr.losses.consistency import Placement, mean_placement_anchor, mirror_consistency
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.pose import axis_angle_to_matrix

CAMERA = Camera(240)


def placement(count: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64) -> Placement:
    """Random faces, projected by the camera."""
    g = torch.Generator().manual_seed(seed)
    points = torch.randn(count, 68, 3, generator=g, dtype=dtype) * 40
    rotation = torch.randn(count, 3, generator=g, dtype=dtype) * 0.2
    points = points @ axis_angle_to_matrix(rotation).mT + points.new_tensor([5.0, -8.0, -860.0])
    return Placement(CAMERA.project(points), points, rotation)


def mirrored(face: Placement) -> Placement:
    """The face in the mirrored picture."""
    points = face.points[:, list(MIRROR)] * face.points.new_tensor([-1, 1, 1])
    return Placement(
        CAMERA.project(points), points, face.rotation * face.rotation.new_tensor([1, -1, -1])
    )


def moved(face: Placement, **parts) -> Placement:
    return dataclasses.replace(face, **{k: getattr(face, k) + v for k, v in parts.items()})


class TestMeanPlacementAnchor:
    def test_is_zero_for_the_same_faces(self):
        assert mean_placement_anchor(placement(), placement(), 240).item() == 0

    def test_units(self):
        face = placement()
        shift = face.landmarks.new_tensor([2.0, 0])
        assert mean_placement_anchor(
            moved(face, landmarks=shift), face, 240
        ).item() == pytest.approx(1)
        turn = face.rotation.new_tensor([0, 0.04, 0])
        assert mean_placement_anchor(moved(face, rotation=turn), face, 240).item() == pytest.approx(
            1
        )
        centre = face.landmarks.mean(1, keepdim=True)
        larger = dataclasses.replace(
            face, landmarks=centre + (face.landmarks - centre) * math.exp(0.03)
        )
        assert mean_placement_anchor(larger, face, 240).item() == pytest.approx(1)

    def test_pixels_count_at_240(self):
        face = placement()
        shift = face.landmarks.new_tensor([1.0, 0])  # 2 px at 240
        assert mean_placement_anchor(
            moved(face, landmarks=shift), face, 120
        ).item() == pytest.approx(1)

    def test_leaves_each_image_free(self):
        face = placement(2)
        apart = torch.stack([torch.full((68, 2), 7.0), torch.full((68, 2), -7.0)]).double()
        turns = torch.tensor([[0.3, 0, 0], [-0.3, 0, 0]]).double()
        other = moved(face, landmarks=apart, rotation=turns)
        assert mean_placement_anchor(other, face, 240).item() == pytest.approx(0, abs=1e-12)

    def test_offset_is_where_the_mean_rests(self):
        """4 px to the right and 6 % larger than the teacher: two units each."""
        face = placement()
        centre = face.landmarks.mean(1, keepdim=True)
        grown = (face.landmarks - centre) * math.exp(0.06) + centre
        other = dataclasses.replace(face, landmarks=grown + face.landmarks.new_tensor([4.0, 0]))
        offset = face.landmarks.new_tensor([2.0, 0, 2, 0, 0, 0])
        assert mean_placement_anchor(other, face, 240, offset).item() == pytest.approx(0, abs=1e-12)
        assert mean_placement_anchor(face, face, 240, offset).item() == pytest.approx(8)

    def test_teacher_gets_no_gradient(self):
        teacher, student = placement(seed=1), placement(seed=2)
        for part in (teacher.landmarks, student.landmarks):
            part.requires_grad_()
        mean_placement_anchor(student, teacher, 240).backward()
        assert teacher.landmarks.grad is None and student.landmarks.grad.abs().sum() > 0

    def test_gradcheck(self):
        student, teacher = placement(seed=1), placement(seed=2)

        def loss(landmarks, rotation):
            face = dataclasses.replace(student, landmarks=landmarks, rotation=rotation)
            return mean_placement_anchor(face, teacher, 240)

        inputs = student.landmarks.requires_grad_(), student.rotation.requires_grad_()
        assert torch.autograd.gradcheck(loss, inputs)

    def test_counts_must_agree(self):
        with pytest.raises(ValueError, match="the student has 3 faces, the teacher 2"):
            mean_placement_anchor(placement(3), placement(2), 240)


class TestMirrorConsistency:
    def test_is_zero_for_what_is_consistent(self):
        face = placement()
        assert mirror_consistency(face, mirrored(face), 240).abs().max() < 1e-18

    def test_units(self):
        face = placement(1)
        other = moved(mirrored(face), landmarks=face.landmarks.new_tensor([0, 6.0]))  # 3 units
        assert mirror_consistency(face, other, 240).item() == pytest.approx(2.5)
        other = moved(mirrored(face), points=face.points.new_tensor([0, 0, 10.0]))  # half a unit
        assert mirror_consistency(face, other, 240).item() == pytest.approx(0.125)

    def test_a_face_that_ignores_the_mirror_is_found_out(self):
        face = placement()
        assert (mirror_consistency(face, face, 240) > 1).all()

    def test_gradcheck(self):
        face, other = placement(2, seed=1), mirrored(placement(2, seed=2))

        def loss(landmarks, points):
            return mirror_consistency(Placement(landmarks, points, face.rotation), other, 240)

        inputs = face.landmarks.requires_grad_(), face.points.requires_grad_()
        assert torch.autograd.gradcheck(loss, inputs)

    def test_counts_must_agree(self):
        with pytest.raises(ValueError, match="3 photographs, 2 mirrored ones"):
            mirror_consistency(placement(3), placement(2), 240)
