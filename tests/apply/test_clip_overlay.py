"""Faces over frames: where they are, soft at the outline, and nothing else changed."""

import numpy as np
import pytest
import torch

from mofa_nvdr.apply.clip_overlay import draw_over
from mofa_nvdr.apply.same_person import placed
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.camera import Camera


def at(model, x, y, side, camera):
    """The average face about a place of a frame, and its landmarks."""
    depth = -camera.position[2] * camera.focal_px / 1087.5 * 240 / side
    code = model.layout.zeros()
    place = [
        (x - camera.size[1] / 2) * depth / camera.focal_px,
        -(y - camera.size[0] / 2) * depth / camera.focal_px - camera.position[1],
        -depth - camera.position[2],
    ]
    code = code.replace(translation=torch.tensor([place]).float())
    points = placed(model, camera, code, model.landmarks.long())
    return code, camera.project(points)[0].double().numpy()


class TestDrawOver:
    def test_as_the_decoder_draws(self, face_model):
        camera = Camera(image_size=(200, 300), focal=900.0)
        code, marks = at(face_model, 180, 90, 120, camera)
        frame = np.full((200, 300, 3), 128, np.uint8)
        result = draw_over(frame, face_model, camera, code, marks)
        decoder = FaceDecoder(face_model, camera=camera, smooth_edge=True)
        with torch.no_grad():
            face = decoder.rasterize(decoder.geometry(code))
        mask = face.mask[0, 0].numpy() > 0
        changed = (result != frame).any(2)
        assert not (changed & ~mask).any() and changed.sum() > 0.8 * mask.sum()
        drawn = (face.image[0].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
        off = np.abs(result.astype(float) - drawn).max(2)
        assert (off[mask] <= 1).mean() > 0.6  # all but the soft edge
        assert (frame == 128).all()  # the frame itself stays

    def test_soft_outline(self, face_model):
        """Along a row the face comes in over more than one pixel."""
        camera = Camera(image_size=(400, 400), focal=1800.0)
        code, marks = at(face_model, 200, 200, 300, camera)
        white = np.full((400, 400, 3), 255, np.uint8)
        result = draw_over(white, face_model, camera, code, marks).astype(int)
        row = result[200].min(1)
        edge = np.flatnonzero(row < 255)[0]
        steps = -np.diff(row[edge - 1 : edge + 8])
        assert (steps > 3).sum() >= 2

    @pytest.mark.parametrize(("x", "y"), [(0, 100), (299, 0), (150, 230)])
    def test_partly_outside(self, face_model, x, y):
        camera = Camera(image_size=(200, 300), focal=900.0)
        code, marks = at(face_model, x, y, 120, camera)
        frame = np.zeros((200, 300, 3), np.uint8)
        result = draw_over(frame, face_model, camera, code, marks)
        assert result.shape == frame.shape and (result > 0).any()

    def test_outside(self, face_model):
        camera = Camera(image_size=(200, 300), focal=900.0)
        code, marks = at(face_model, 900, 100, 60, camera)
        frame = np.zeros((200, 300, 3), np.uint8)
        assert draw_over(frame, face_model, camera, code, marks) is frame

    def test_large_faces(self, face_model):
        """A face of 1,500 px is drawn at a part of that, and as large in the frame."""
        camera = Camera(image_size=(1600, 1600), focal=7000.0)
        code, marks = at(face_model, 800, 800, 1500, camera)
        frame = np.zeros((1600, 1600, 3), np.uint8)
        result = draw_over(frame, face_model, camera, code, marks)
        rows = np.flatnonzero(result.any((1, 2)))
        assert marks[8, 1] - 5 < rows[-1] < marks[8, 1] + 110
