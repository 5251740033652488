"""Scans whose distances are known: the reconstruction itself, moved, and with known bumps."""

from __future__ import annotations

import numpy as np
import pytest

from mofa_nvdr.apply.parameters import FaceParameters
from mofa_nvdr.apply.scan_error import (
    SEVEN,
    has_scans,
    measure_scans,
    micc_error,
    now_error,
    vertex_error,
)
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.scene.camera import Camera

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("scipy")


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return FaceModel.load("portraits")


@pytest.fixture(scope="module")
def face(model):
    """Vertices, triangles, the seven landmarks and the nose's tip of the mean face."""
    vertices = model.mean_shape.double().numpy()
    marks = model.landmarks.numpy()
    return vertices, model.triangles.numpy(), vertices[marks[list(SEVEN)]], vertices[marks[30]]


def _moved(points: np.ndarray) -> np.ndarray:
    angle = 0.4
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    return 1.1 * points @ turn.T + [5.0, 20.0, -7.0]


def _between(face, model, count: int = 3000) -> np.ndarray:
    """Points on the frontal surface that are no vertices."""
    vertices, triangles, _, _ = face
    rng = np.random.default_rng(0)
    whole = triangles[model.frontal_mask.numpy()[triangles].all(1)]
    chosen = whole[rng.choice(len(whole), count)]
    return (rng.dirichlet([1, 1, 1], count)[:, :, None] * vertices[chosen]).sum(1)


class TestProtocols:
    def test_the_face_itself(self, face, model):
        """Moved, turned and enlarged, with landmarks that are 1 mm off: nothing is left."""
        vertices, triangles, seven, tip = face
        scan = _moved(_between(face, model))
        marks = _moved(seven) + np.random.default_rng(1).normal(0, 1, (7, 3))
        now = now_error(scan, marks, vertices, triangles, seven)
        assert now.mean < 0.02 and now.count == len(scan)  # measured 0.004
        assert now.scale == pytest.approx(1.1, abs=2e-3)
        micc = micc_error(scan, marks, _moved(tip), vertices, triangles, seven)
        assert micc.mean < 0.02 and micc.count < len(scan)
        assert vertex_error(_moved(vertices), vertices).mean < 1e-9

    def test_known_bumps(self, face, model):
        """Half of the points lie 1 mm above the surface and half of them below."""
        vertices, triangles, seven, tip = face
        points = _between(face, model)
        sign = np.where(np.arange(len(points)) % 2, 1.0, -1.0)
        outward = points - [0.0, 0.0, -60.0]
        outward /= np.linalg.norm(outward, axis=1, keepdims=True)
        scan = points + sign[:, None] * outward
        now = now_error(scan, seven, vertices, triangles, seven)
        micc = micc_error(scan, seven, tip, vertices, triangles, seven)
        # Less than 1 where the direction is not the surface's normal: measured 0.79, 0.77.
        assert 0.75 < now.mean < 1.0 and now.mean < 1.2 * micc.mean
        assert now.deviation < 0.45 and 0.7 < now.median < 1.01

    def test_another_person(self, face, model):
        """A head that is 5 % wider is not brought back by any similarity."""
        vertices, triangles, seven, _ = face
        wide = np.array([1.05, 1.0, 1.0])
        scan = _between(face, model) * wide
        assert 0.3 < now_error(scan, seven * wide, vertices, triangles, seven).mean < 2.0
        frontal = model.frontal_mask.numpy()
        assert 0.5 < vertex_error(vertices[frontal] * wide, vertices[frontal]).mean < 2.0

    def test_other_units(self, face):
        vertices, triangles, seven, tip = face
        with pytest.raises(ValueError, match="no point of the scan within 95 mm .* its units mm"):
            micc_error(1000 * vertices + 1e4, seven, tip, vertices, triangles, seven)


class TestMeasureScans:
    @pytest.fixture
    def folder(self, model, face, tmp_path):
        vertices, triangles, seven, _ = face
        parameters = FaceParameters(
            model.layout.zeros(), Camera(240), np.array([0, 0, 240.0]), (model.name, model.hash), "a.jpg",
            face_model_file="portraits",
        )  # fmt: skip
        parameters.save(tmp_path / "a.npz")
        trimesh.Trimesh(_moved(vertices), triangles, process=False).export(tmp_path / "a.ply")
        np.savetxt(tmp_path / "a.txt", _moved(seven))
        return tmp_path

    def test_three_protocols(self, folder):
        measured = measure_scans(folder)
        assert list(measured.rows) == ["now", "micc", "facewarehouse"]
        for row in measured.rows.values():
            assert row["mean"] < 0.02 and row["scans"] == 1
            assert row["scale"] == pytest.approx(1.1, abs=2e-3)
        assert len(measured.protocol) == 4 and "1 scans" in measured.protocol[0]

    def test_without_landmarks(self, folder):
        (folder / "a.txt").unlink()
        assert list(measure_scans(folder).rows) == ["facewarehouse"]

    def test_mistakes(self, folder, tmp_path_factory):
        empty = tmp_path_factory.mktemp("empty")
        assert not has_scans(empty) and not has_scans(empty / "none") and has_scans(folder)
        with pytest.raises(ValueError, match="no scan .* in it"):
            measure_scans(empty)
        (folder / "a.txt").write_text("1 2 3\n")
        with pytest.raises(ValueError, match=r"a.txt: expected seven lines of x y z, got 1x3"):
            measure_scans(folder)
        (folder / "a.txt").write_text("one two three\n")
        with pytest.raises(ValueError, match=r"a.txt: not seven lines of x y z"):
            measure_scans(folder)
        (folder / "a.txt").unlink()
        (folder / "a.ply").write_bytes(b"ply\nformat ascii 1.0\nend")
        with pytest.raises(ValueError, match=r"a.ply: "):
            measure_scans(folder)
        (folder / "a.npz").unlink()
        with pytest.raises(ValueError, match=r"a.ply: no a.npz next to it"):
            measure_scans(folder)

    def test_nothing_that_can_be_measured(self, folder):
        (folder / "a.txt").unlink()
        trimesh.creation.icosphere(2).export(folder / "a.ply")
        with pytest.raises(ValueError, match="nothing was measured"):
            measure_scans(folder)
