"""Depth and normals in a photograph's pixels, and their files."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mofa_nvdr.apply.export_maps import FaceMaps, face_maps, map_contents
from mofa_nvdr.apply.export_view import View, view_of_code
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.intrinsics_camera import IntrinsicsCamera
from mofa_nvdr.system.marks import read_mark
from tests.helpers.exported_faces import some_face
from tests.helpers.small_face import small_face


@pytest.fixture
def face(tmp_path):
    return some_face(small_face(), tmp_path / "face.npz")


class TestFaceMaps:
    def test_as_the_renderer_draws(self, face):
        """The decoder's own mask and normals, and depths that unproject onto the mesh."""
        model = small_face()
        maps = face_maps(model, face.code, view_of_code(face.code, face.camera))
        decoder = FaceDecoder(model, camera=face.camera, frontal_only=False)
        geometry = decoder.geometry(face.code)
        drawn = decoder.rasterize(geometry)
        mask = drawn.mask[0, 0].numpy() > 0
        assert mask.mean() > 0.1
        assert ((maps.depth > 0) != mask).mean() < 1e-3
        both = mask & (maps.depth > 0)
        normals = drawn.normal[0].permute(1, 2, 0).numpy()[both]
        np.testing.assert_allclose(maps.normals[both], normals, atol=2e-3)
        row, column = np.nonzero(both)
        rays = (
            np.stack([column + 0.5, row + 0.5, np.ones(len(row))], 1)
            @ np.linalg.inv(maps.intrinsics).T
        )
        points = rays * maps.depth[both][:, None] * [1, -1, -1]
        # mm to the nearest vertex, at most half of a triangle's longest side (20 mm) and its sag
        away = torch.cdist(torch.from_numpy(points[::50]).float(), geometry.vertices[0]).amin(1)
        assert away.max() < 14

    def test_a_part_of_a_large_photograph(self, face):
        """The same face, at its place in the pixels of a photograph that it fills little of."""
        model = small_face()
        view = view_of_code(face.code, face.camera)
        small = face_maps(model, face.code, view)
        f = face.camera.focal_px
        camera = IntrinsicsCamera((500, 700), f, f, 120 + 300.0, 120 + 200.0)
        large = face_maps(model, face.code, View(view.rotation, view.shift, camera))
        assert large.depth.shape == (500, 700) and large.normals.shape == (500, 700, 3)
        part = large.depth[200:440, 300:540]
        # Pixels at the outline may fall to either side: measured, 3 of 57,600.
        away = np.abs(part - small.depth)
        assert (away > 0.02).mean() < 5e-4 and (part > 0).mean() > 0.1
        assert (large.depth > 0).sum() >= (small.depth > 0).sum()
        assert large.intrinsics.tolist() == [[f, 0, 420], [0, f, 320], [0, 0, 1]]

    def test_outside_of_the_picture(self, face):
        f = face.camera.focal_px
        camera = IntrinsicsCamera((100, 100), f, f, 5000.0, 50.0)
        view = view_of_code(face.code, face.camera)
        maps = face_maps(small_face(), face.code, View(view.rotation, view.shift, camera))
        assert not maps.depth.any() and not maps.normals.any()

    def test_no_face_is_zero(self, face):
        view = view_of_code(face.code, Camera(240))
        maps = face_maps(small_face(), face.code, view)
        empty = maps.depth == 0
        assert empty.any() and (maps.normals[empty] == 0).all()


class TestMapContents:
    def _maps(self, depth=812.34):
        depths, normals = np.zeros((4, 5), np.float32), np.zeros((4, 5, 3), np.float32)
        depths[1, 2], normals[1, 2] = depth, [0.6, -0.8, 0]
        return FaceMaps(depths, normals, np.eye(3))

    def test_png(self, tmp_path):
        """Tenths of a millimetre, and (n + 1) / 2 of 65535 in red, green, blue; 0 elsewhere."""
        contents = map_contents(self._maps(), tmp_path / "face", "png", "mofa-nvdr source x")
        assert [path.name for path in contents] == ["face_depth.png", "face_normals.png"]
        for path, data in contents.items():
            path.write_bytes(data)
            assert b"mofa-nvdr source x" in data
        depth, normals = (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in contents)
        assert depth.dtype == normals.dtype == np.uint16
        assert depth[1, 2] == 8123 and depth.sum() == 8123
        # 0.8, 0.1 and 0.5 of 65535.
        np.testing.assert_allclose(normals[1, 2, ::-1].astype(int), [52428, 6553, 32768], atol=1)
        assert normals.sum() == normals[1, 2].sum()
        # They are never taken for photographs.
        assert [read_mark(path) for path in contents] == ["depth map", "normal map"]

    def test_npz(self):
        contents = map_contents(self._maps(), Path("face"), "npz", "mofa-nvdr source x")
        ((path, data),) = contents.items()
        assert path.name == "face_maps.npz" and b"mofa-nvdr source x" in data
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            assert file["depth"][1, 2] == np.float32(812.34)
            np.testing.assert_allclose(file["normals"][1, 2], [0.6, -0.8, 0], rtol=1e-6)
            assert np.array_equal(file["intrinsics"], np.eye(3))

    def test_too_far_for_16_bits(self):
        with pytest.raises(ValueError, match=r"the face is 9.0 m away, expected at most 6.6 m"):
            map_contents(self._maps(9000.0), Path("face"), "png", "")
        assert map_contents(self._maps(9000.0), Path("face"), "npz", "")
