"""Landmarks and albedo carried over from the built-in face: maps and matches by hand."""

import numpy as np

from mofa_nvdr.importers.formats import import_model
from tests.helpers import foreign_files as ff


class TestLocateLandmarks:
    def test_landmarks_are_located_by_geometry_alone(self, face_model, tmp_path, capsys):
        """The built-in face itself, moved and without a word about its landmarks: within 1 mm."""
        m = ff.SmallForeign()
        m.mean = face_model.mean_shape.numpy().astype(np.float64) + [3.0, 40.0, -25.0]
        m.triangles = face_model.triangles.numpy().astype(np.int64)
        m.shape = face_model.shape_basis[:2].numpy()
        m.color = face_model.mean_albedo.numpy()
        m.albedo = face_model.albedo_basis[:2].numpy()
        model, notes = import_model("lyhm", ff.write_lyhm(tmp_path / "a.mat", m))
        assert any("located by geometry alone" in note for note in notes)
        own = face_model.mean_shape[face_model.landmarks]
        found = model.mean_shape[model.landmarks]
        assert (found - own).norm(dim=1).max() < 1.0
        assert (model.mean_shape - face_model.mean_shape).abs().max() < 1.0
        # The rule for any face against the mask that was drawn for this one.
        agreed = (model.frontal_mask == face_model.frontal_mask).float().mean()
        assert agreed > 0.85, agreed


class TestSpeckles:
    def test_speckles_take_their_neighbours_colour(self):
        """A strip of six triangles in a ramp of greys; vertex 4 is white, vertex 0 the ramp's end."""
        from mofa_nvdr.importers.transfer import _speckles

        triangles = np.array([[0, 1, 2], [1, 3, 2], [2, 3, 4], [3, 5, 4], [4, 5, 6], [5, 7, 6]])
        colors = np.linspace(0.3, 0.37, 8)[:, None] * np.ones(3)
        colors[4] = 1.0
        odd, around = _speckles(colors, triangles)
        assert odd.tolist() == [4]
        np.testing.assert_allclose(around @ colors, colors[[2, 3, 5, 6]].mean(0, keepdims=True))
