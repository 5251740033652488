"""One person of several pictures: whose say counts how much, and that faces stay where they were."""

import dataclasses

import numpy as np
import pytest
import torch

from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.apply.same_person import (
    fit_pose,
    identity_weights,
    placed,
    pose_points,
    share_faces,
    share_identity,
    to_frame_camera,
)
from mofa_nvdr.data.crops.framing import Crop
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.pose import axis_angle_to_matrix
from tests.helpers.moving_faces import landmarks


def some_codes(model, count, seed=0, identity=0.3):
    """Pictures of one person, each predicted with errors of its own."""
    g = torch.Generator().manual_seed(seed)
    zeros = model.layout.zeros(count)

    def normal(part, deviation):
        return deviation * torch.randn(part.shape, generator=g)

    person = normal(zeros.shape[:1], 0.8), normal(zeros.albedo[:1], 0.8)
    code = zeros.replace(
        shape=person[0] + normal(zeros.shape, identity),
        albedo=person[1] + normal(zeros.albedo, identity),
        expression=normal(zeros.expression, 0.3),
        rotation=normal(zeros.rotation, 0.25),
        translation=normal(zeros.translation, 10.0),
        light=normal(zeros.light, 0.1),
    )
    return code, person


class TestIdentityWeights:
    def test_what_counts(self, face_model):
        code = face_model.layout.zeros(4)
        rotation = code.rotation.clone()
        rotation[1, 1] = np.pi / 3  # turned by 60 degrees: half
        code = code.replace(rotation=rotation)
        weights = identity_weights(
            code, np.array([0.8, 0.8, 0.4, np.nan]), np.array([200.0, 200.0, 200.0, 48.0])
        )
        assert weights.sum() == pytest.approx(1)
        # Unknown certainty is 1; half of 96 px counts half.
        np.testing.assert_allclose(weights / weights[0], [1, 0.5, 0.5, 0.625], atol=1e-6)

    def test_from_behind(self, face_model):
        code = face_model.layout.zeros(1)
        code = code.replace(rotation=torch.tensor([[0.0, np.pi, 0.0]]).float())
        assert identity_weights(code, np.array([0.0]), np.array([100.0])) == pytest.approx(1)


class TestShareIdentity:
    def test_closer_to_the_person(self, face_model):
        code, (shape, albedo) = some_codes(face_model, 8)
        shared = share_identity(face_model, Camera(), code, np.full(8, 1 / 8))
        for name, truth in (("shape", shape), ("albedo", albedo)):
            ours, before = getattr(shared, name), getattr(code, name)
            assert (ours == ours[:1]).all()
            # The mean of eight errors: 1 / sqrt(8) = 0.35 of one.
            assert (ours[0] - truth[0]).norm() < 0.45 * (before - truth).norm(dim=1).mean()

    def test_faces_stay_where_they_were(self, face_model):
        decoder = FaceDecoder(face_model)
        code, _ = some_codes(face_model, 6)
        shared = share_identity(face_model, decoder.pinhole, code, np.full(6, 1 / 6))
        only = code.replace(shape=shared.shape)
        before = landmarks(decoder, code)
        moved, kept = (
            np.linalg.norm(landmarks(decoder, c) - before, axis=-1).mean() for c in (only, shared)
        )
        assert kept < 0.75 * moved  # what is left is another face's form
        drift = (landmarks(decoder, shared) - before).mean(1)
        assert np.abs(drift).max() < 0.4

    def test_as_bright_as_before(self, face_model):
        code, _ = some_codes(face_model, 4, identity=0.6)
        decoder = FaceDecoder(face_model, image_size=64)
        shared = share_identity(face_model, decoder.pinhole, code, np.full(4, 1 / 4))

        def means(c):
            face = decoder.rasterize(decoder.geometry(c))
            return (face.image * face.mask).sum((2, 3)) / face.mask.sum((2, 3))

        only = code.replace(shape=shared.shape, albedo=shared.albedo)
        with torch.no_grad():
            off, kept = ((means(c) - means(code)).abs().mean() for c in (only, shared))
        assert kept < 0.4 * off

    def test_weights_choose(self, face_model):
        code, _ = some_codes(face_model, 3)
        shared = share_identity(face_model, Camera(), code, np.array([0.0, 1.0, 0.0]))
        torch.testing.assert_close(shared.shape[0], code.shape[1])


class TestShareFaces:
    @staticmethod
    def faces(model):
        code, _ = some_codes(model, 3)
        return [
            FaceParameters(
                code.map(lambda part, k=k: part[k : k + 1]), Camera(), np.array([0, 0, 200.0]),
                (model.name, model.hash), f"{k}.jpg", certainty=(0.9, 0.5, 0.1)[k],
            )
            for k in range(3)
        ]  # fmt: skip

    def test_each_keeps_its_own(self, face_model):
        faces = self.faces(face_model)
        shared = share_faces(face_model, faces)
        assert [f.source for f in shared] == ["0.jpg", "1.jpg", "2.jpg"]
        for ours, theirs in zip(shared, faces):
            assert torch.equal(ours.code.shape, shared[0].code.shape)
            assert torch.equal(ours.code.albedo, shared[0].code.albedo)
            assert torch.equal(ours.code.expression, theirs.code.expression)
        # The surest counts most.
        away = [(shared[0].code.shape - f.code.shape).norm() for f in faces]
        assert away[0] < away[1] < away[2]

    def test_mistakes(self, face_model):
        with pytest.raises(ValueError, match="share_faces: no faces"):
            share_faces(face_model, [])
        faces = self.faces(face_model)
        faces[1] = dataclasses.replace(faces[1], camera=Camera(image_size=100))
        with pytest.raises(ValueError, match="of different cameras"):
            share_faces(face_model, faces)


class TestFitPose:
    def test_finds_a_pose_again(self, face_model):
        camera = Camera(image_size=(480, 640), focal=900.0)
        code, _ = some_codes(face_model, 5)
        index = pose_points(face_model)
        places = camera.project(placed(face_model, camera, code, index))
        # Nearer than the fit begins, and turned by up to half a radian.
        start = code.replace(rotation=code.rotation * 0, translation=code.translation * 0)
        rotation, translation = fit_pose(face_model, camera, start, places, index)
        turns = axis_angle_to_matrix(rotation) @ axis_angle_to_matrix(code.rotation).mT
        angle = torch.acos(((turns.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1))
        # Four steps from far away: measured 0.002 rad and 0.3 mm.
        assert angle.max() < 0.02 and (translation - code.translation).norm(dim=1).max() < 3


class TestToFrameCamera:
    @pytest.mark.parametrize("focal", [700.0, 1400.0, 3000.0])
    def test_landmarks_stay(self, face_model, focal):
        """A crop anywhere in the frame; the landmarks fall where the crop's camera puts them."""
        own = Camera()
        code, _ = some_codes(face_model, 4)
        crops = [Crop(50, 80, 300), Crop(700, 20, 250), Crop(400, 500, 260), Crop(300, 300, 280)]
        frame = Camera(image_size=(800, 1000), focal=focal, far=1e5)
        moved = to_frame_camera(face_model, own, code, crops, frame)
        before = landmarks(FaceDecoder(face_model, camera=own), code)
        after = landmarks(FaceDecoder(face_model, camera=frame), moved)
        for k, crop in enumerate(crops):
            away = np.linalg.norm(after[k] - crop.to_source(before[k], 240), axis=1)
            # Perspective differs with the focal length (the crops' own are 1133 to 1359 px), most where it
            # is half of that: measured 1.8 % of the crop's side, 0.9 % at the others.
            assert away.mean() < (0.022 if focal < 1000 else 0.012) * crop.side
        assert torch.equal(moved.shape, code.shape)

    def test_of_the_same_camera_nothing_changes(self, face_model):
        code, _ = some_codes(face_model, 3)
        own = Camera()
        moved = to_frame_camera(face_model, own, code, [Crop(0, 0, 240)] * 3, own)
        for name in ("rotation", "translation", "light"):
            torch.testing.assert_close(
                getattr(moved, name), getattr(code, name), atol=2e-3, rtol=1e-4
            )

    def test_light_turns_with_the_line_of_sight(self, face_model):
        """Far from the frame's middle the face looks as in its crop, shading included."""
        code, _ = some_codes(face_model, 1)
        light = code.light.clone()
        light[:, 2], light[:, 3] = 0.5, 0.6
        code = code.replace(light=light)
        frame = Camera(image_size=(240, 1440))  # 60 degrees wide
        crop = Crop(1200, 0, 240)
        moved = to_frame_camera(face_model, Camera(), code, [crop], frame)
        own = FaceDecoder(face_model)
        wide = FaceDecoder(face_model, camera=frame)
        with torch.no_grad():
            a = own.rasterize(own.geometry(code))

            def away(c):
                b = wide.rasterize(wide.geometry(c))
                both = a.mask * b.mask[..., 1200:]
                assert both.sum() > 0.95 * a.mask.sum()
                return float(((a.image - b.image[..., 1200:]).abs() * both).sum() / both.sum() / 3)

            # Measured 0.050, which wide angles do to the form, and 0.139 where the light stays.
            assert away(moved) < 0.07 and away(moved.replace(light=code.light)) > 0.1


def test_a_person_who_is_known(face_model):
    """Shape and albedo are taken, with the faces where they were; weights are asked for them."""
    code, _ = some_codes(face_model, 3)
    camera, weights = Camera(), np.array([0.2, 0.3, 0.5])
    layout = face_model.layout
    person = torch.full((1, layout.num_shape), 0.1), torch.full((1, layout.num_albedo), -0.2)
    shared = share_identity(face_model, camera, code, weights, person)
    assert torch.equal(shared.shape, person[0].expand(3, -1))
    assert torch.equal(shared.albedo, person[1].expand(3, -1))
    index = pose_points(face_model)
    before, after = (camera.project(placed(face_model, camera, c, index)) for c in (code, shared))
    # Of other forms: measured 1.5 px of 240 on average.
    assert (before - after).norm(dim=2).mean() < 3
