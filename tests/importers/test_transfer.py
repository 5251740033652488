"""Landmarks and albedo carried over from the built-in face: maps and matches by hand."""

import numpy as np
import pytest

from mofa_nvdr.importers.formats import import_model
from mofa_nvdr.importers.transfer import (
    SurfaceMatch,
    Warp,
    closest_on_triangles,
    complete_landmarks,
    nose_tip,
    similarity,
    transfer_albedo,
)
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


def turned(angle: float) -> np.ndarray:
    """About z."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


class TestSimilarity:
    def test_is_found_again(self):
        points = np.random.default_rng(0).normal(size=(9, 3))
        scale, rotation, shift = similarity(points, 2.5 * points @ turned(0.7).T + [1, 2, 3])
        assert scale == pytest.approx(2.5)
        np.testing.assert_allclose(rotation, turned(0.7), atol=1e-12)
        np.testing.assert_allclose(shift, [1, 2, 3], atol=1e-12)

    def test_never_mirrors(self):
        points = np.random.default_rng(0).normal(size=(9, 3))
        _, rotation, _ = similarity(points, points * [-1, 1, 1])
        assert np.linalg.det(rotation) == pytest.approx(1)


class TestWarp:
    def test_takes_points_to_points(self):
        rng = np.random.default_rng(0)
        source = rng.normal(size=(30, 3)) * 40
        target = 1.1 * source @ turned(0.2).T + rng.normal(size=(30, 3))
        warp = Warp(source, target)
        # 1.2e-7 mm measured: the smoothing
        np.testing.assert_allclose(warp(source), target, atol=1e-3)

    def test_a_similarity_stays_one(self):
        """Between and beyond the points too."""
        rng = np.random.default_rng(0)
        source, others = rng.normal(size=(12, 3)) * 40, rng.normal(size=(50, 3)) * 90
        warp = Warp(source, 0.9 * source @ turned(0.4).T + [5, 0, 0])
        np.testing.assert_allclose(
            warp(others), 0.9 * others @ turned(0.4).T + [5, 0, 0], atol=1e-9
        )


class TestClosestOnTriangles:
    @pytest.mark.parametrize(
        ("point", "weights"),
        [
            ((1, 1, 5), (0.5, 0.25, 0.25)),  # the foot of the perpendicular
            ((2, -3, 1), (0.5, 0.5, 0)),  # an edge
            ((3, 3, 0), (0, 0.5, 0.5)),  # the slanted one
            ((-1, -2, 4), (1, 0, 0)),  # a corner
            ((9, -1, 0), (0, 1, 0)),
        ],
    )
    def test_by_hand(self, point, weights):
        triangle = np.array([[[0, 0, 0], [4, 0, 0], [0, 4, 0]]], float)
        found = closest_on_triangles(np.array([point], float), triangle)
        np.testing.assert_allclose(found, [weights], atol=1e-12)

    def test_a_triangle_without_area(self):
        line = np.array([[[0, 0, 0], [2, 0, 0], [4, 0, 0]]], float)
        found = closest_on_triangles(np.array([[3.0, 1, 0]]), line)
        np.testing.assert_allclose((found[:, :, None] * line).sum(1), [[3, 0, 0]], atol=1e-12)


class TestSurfaceMatch:
    def test_linear_values_are_kept(self):
        """On a flat grid: the value under each point, and its height."""
        x, y = np.meshgrid(np.arange(6.0), np.arange(6.0))
        vertices = np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], 1)
        index = np.arange(36).reshape(6, 6)
        a, b, c, d = (
            v.ravel() for v in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:])
        )
        triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([b, d, c], 1)])
        points = np.random.default_rng(0).uniform(0.1, 4.9, (40, 3)) * [1, 1, 0.2]
        match = SurfaceMatch(vertices, triangles, points, np.tile([0, 0, 1.0], (40, 1)))
        np.testing.assert_allclose(match.distance, points[:, 2], atol=1e-12)
        values = np.stack([vertices[:, :2] @ [2, 3], vertices[:, 0]], 1)
        want = np.stack([points[:, :2] @ [2, 3], points[:, 0]], 1)
        np.testing.assert_allclose(match(values), want, atol=1e-9)
        assert match(np.stack([values] * 3)).shape == (3, 40, 2)


class TestTransferAlbedo:
    def test_onto_itself(self, face_model):
        """Every vertex finds itself, but for the speckles that are smoothed."""
        own = {name: value.numpy() for name, value in face_model.named_buffers()}
        mean, modes = transfer_albedo(own, own, 2)
        assert modes.shape == (2, face_model.num_vertices, 3)
        off = np.abs(mean - own["mean_albedo"]).max(1)
        # 7e-9 at 99 in a hundred was measured, and 7e-5 on average, which the speckles make.
        assert np.quantile(off, 0.99) < 1e-6 and off.mean() < 5e-4
        assert np.quantile(np.abs(modes - own["albedo_basis"][:2]), 0.9) < 1e-6


class TestCompleteLandmarks:
    def test_of_the_built_in_face(self, face_model):
        """Nine are known, one of them somewhere else: it stays, and the others are found."""
        own = {
            "mean_shape": face_model.mean_shape.numpy(),
            "landmarks": face_model.landmarks.numpy(),
        }
        known = {k: int(own["landmarks"][k]) for k in (0, 8, 16, 27, 30, 36, 45, 48, 54)}
        found = complete_landmarks(known, own["mean_shape"], face_model.triangles.numpy(), own)
        away = np.linalg.norm(
            own["mean_shape"][found] - own["mean_shape"][own["landmarks"]], axis=1
        )
        assert away.max() < 1e-6
        known[30] = int(own["landmarks"][29])
        found = complete_landmarks(known, own["mean_shape"], face_model.triangles.numpy(), own)
        assert found[30] == own["landmarks"][29]


class TestNoseTip:
    def test_foremost_near_the_middle(self):
        points = np.array([[-80, 0, 0], [80, 0, 0], [3, 1, 50], [-9, 0, 40], [40, 0, 90.0]])
        assert nose_tip(points).tolist() == [3, 1, 50]
        assert nose_tip(points[:2]).tolist() == [-80, 0, 0]  # none is near: any foremost one
