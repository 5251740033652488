"""Where a detector's points lie on a face model: a detector that knows where they are, and what it misses."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mofa_nvdr.apply import landmark_places as module
from mofa_nvdr.apply.landmark_places import (
    PlacesNotFoundError,
    place_dense_landmarks,
    place_detected_landmarks,
    place_in_file,
)
from mofa_nvdr.data.synthetic.faces import SyntheticFaces
from mofa_nvdr.face import ibug_points
from mofa_nvdr.face.dense_landmarks import DENSE_MIRROR, MIDDLE, NUM_DENSE
from mofa_nvdr.face.landmarks import MIRROR
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.networks.landmark_detector import LandmarkDetector
from mofa_nvdr.networks.on_request import NetworkMissingError
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.camera import Camera
from tests.helpers.small_face import small_face

_ROWS = 13  # odd: there is a middle column
_COUNT = 8
_BESIDE, _SCATTERED, _RARE = (
    40,
    41,
    42,
)  # points of the subject's right; their twins are on the left


@pytest.fixture(scope="module", autouse=True)
def small_pictures():
    """Renderings of a quarter of the pixels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SIZE", 96)
        patch.setattr(module, "_BATCH", 4)
        yield


@pytest.fixture(scope="module")
def cap() -> FaceModel:
    """The small cap, which faces of a mean shape are mirror-symmetric."""
    return small_face(_ROWS)


@pytest.fixture(scope="module")
def truth() -> torch.Tensor:
    """The vertex [478] that each point is; none of the outermost, and twins on both sides of the face."""
    index = torch.arange(_ROWS * _ROWS).view(_ROWS, _ROWS)
    generator = torch.Generator().manual_seed(0)
    vertices = torch.zeros(NUM_DENSE, dtype=torch.long)
    for k, other in enumerate(DENSE_MIRROR):
        row, column = (int(torch.randint(2, n, (1,), generator=generator)) for n in (11, 6))
        column = _ROWS // 2 if k in MIDDLE else column
        if k <= other:
            vertices[k], vertices[other] = index[row, column], index[row, _ROWS - 1 - column]
    return vertices


class _Detector:
    """Finds every vertex where it is, after a face that is not there."""

    def __init__(self, model: FaceModel, truth: torch.Tensor, found: int = _COUNT) -> None:
        self._decoder = FaceDecoder(model, camera=Camera(image_size=96), frontal_only=False)
        self._faces, self._truth, self._found, self._done = (
            SyntheticFaces(self._decoder),
            truth,
            found,
            0,
        )
        self._noise = np.random.default_rng(0)

    def __call__(self, pictures: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        assert pictures[0].shape == (96, 96, 3) and pictures[0].dtype == np.uint8
        places = range(self._done, self._done + len(pictures))
        self._done += len(pictures)
        with torch.no_grad():
            geometry = self._decoder.geometry(self._faces.render(0, places).code)
            points = self._decoder.camera.project(geometry.vertices)[:, self._truth].numpy()
        return [self._faces_of(p, number) for p, number in zip(points, places)]

    def _faces_of(self, points: np.ndarray, number: int) -> list[np.ndarray]:
        points = np.concatenate([points, np.zeros((NUM_DENSE, 1))], 1).astype(np.float32)
        left, right = points[:, 0].min() - 25, points[:, 0].max() + 25  # next to the face
        points[[_BESIDE, DENSE_MIRROR[_BESIDE]], 0] = left, right
        for k in (_SCATTERED, DENSE_MIRROR[_SCATTERED]):
            points[k, :2] += 12 * self._noise.normal(size=2)
        if number:
            points[_RARE, 0] = left
        decoy = points * 0.2
        return [decoy, points] if number < self._found else [decoy]


@pytest.fixture(scope="module")
def places(cap, truth, small_pictures):
    return place_dense_landmarks(cap, _Detector(cap, truth), _COUNT)


class TestPlaceDenseLandmarks:
    def test_finds_them(self, cap, truth, places):
        """Within a millimetre: a pixel of these pictures is 2.5 mm."""
        known = places.known
        points = places.of(cap.mean_shape[None])[0]
        away = (points - cap.mean_shape[truth]).norm(dim=1)
        assert known.sum() >= NUM_DENSE - 6
        assert away[known].max() < 1.0  # measured 0.00
        assert places.spread[known].max() < 1.0
        torch.testing.assert_close(places.weights[known].sum(1), torch.ones(int(known.sum())))

    def test_both_sides_are_alike(self, cap, places):
        mirror = list(DENSE_MIRROR)
        assert torch.equal(places.spread, places.spread[mirror])
        points = places.of(cap.mean_shape[None])[0]
        other = points[mirror] * torch.tensor([-1.0, 1, 1])
        torch.testing.assert_close(points[places.known], other[places.known], atol=1e-3, rtol=0)

    def test_what_has_no_place(self, places):
        """What misses the face, what scatters too far; a point that one side shows is known on both."""
        for k in (_BESIDE, _SCATTERED):
            assert places.spread[[k, DENSE_MIRROR[k]]].tolist() == [0, 0]
            assert (places.weights[k] == 0).all()
        assert (places.spread[[_RARE, DENSE_MIRROR[_RARE]]] > 0).all()

    def test_a_detector_that_finds_no_face(self, cap, truth):
        with pytest.raises(
            PlacesNotFoundError,
            match="^dense landmarks: the detector finds a face in 1 of 8 renderings of cap; ",
        ):
            place_dense_landmarks(cap, _Detector(cap, truth, found=1), _COUNT)

    def test_points_of_the_lips_that_hit_the_teeth(self, face_model):
        """Triangles behind the skin are those of eyes, teeth and the mouth's inside."""
        behind = module._behind(face_model)
        names = {face_model.region_names[k] for k in _labels(face_model, behind)}
        assert {"eyes", "teeth", "mouth"} <= names and 0 < behind.mean() < 0.5
        assert not module._behind(small_face()).any()


class TestPlaceDetectedLandmarks:
    def test_finds_them(self, cap, truth, monkeypatch):
        """Landmarks that are points of the mesh lie where these do, the same on both sides."""
        first = list(ibug_points._FIRST)
        monkeypatch.setattr(module, "ibug_landmarks", lambda points: points[first])
        found = place_detected_landmarks(cap, _Detector(cap, truth), _COUNT)
        assert found.shape == (68, 3)
        away = np.linalg.norm(found - cap.mean_shape[truth[first]].numpy(), axis=1)
        assert np.nanmax(away) < 1.0 and np.isfinite(away).sum() >= 66
        np.testing.assert_allclose(found[list(MIRROR)] * (-1, 1, 1), found, atol=1e-9)


class TestEdges:
    """Points of the lips' inner edges: from open mouths, whatever they hit there."""

    @pytest.fixture
    def mouths(self, face_model):
        """Twelve open mouths, whose points are at known vertices, a tenth of them elsewhere."""
        code = torch.zeros(12, face_model.layout.size)
        parts = face_model.layout.slices
        code[:, parts["expression"]] = face_model.named_expressions["jawOpen"]
        code[:, parts["rotation"]] = 0.2 * torch.randn(12, 3, generator=torch.manual_seed(0))
        decoder = FaceDecoder(face_model, camera=Camera(image_size=240))
        pixels = decoder.camera.project(decoder.geometry(code).vertices).numpy()
        points = pixels[:, self.truth(face_model)]
        points[0] += 40
        return [module._Mouth(p, x, 0.8) for p, x in zip(points, pixels)]

    def truth(self, model: FaceModel) -> list[int]:
        """The vertices that the shipped model has for them, the same on both sides."""
        places = model.dense_landmarks
        best = places.weights.argmax(1, keepdim=True)
        return places.vertices.gather(1, best)[torch.from_numpy(module._EDGES), 0].tolist()

    def test_finds_them(self, face_model, mouths):
        found = module._edges(mouths, face_model)
        truth = self.truth(face_model)
        away = face_model.mean_shape[[found[int(k)][0] for k in module._EDGES]]
        assert (away - face_model.mean_shape[truth]).norm(dim=1).max() < 1.0
        # Half of the 24 pictures of a point and of its twin's are within the middle.
        assert all(spread < 0.5 for _, spread in found.values())

    def test_too_few_mouths(self, face_model, mouths):
        assert module._edges(mouths[: module._LEAST_MOUTHS - 1], face_model) == {}

    def test_of_the_built_in_face(self, face_model):
        """The jaw takes the lower edge with it and leaves the upper one: all once lay on the upper lip."""
        opened = torch.einsum(
            "e,evd->vd", face_model.named_expressions["jawOpen"], face_model.expression_basis
        )
        moved = face_model.dense_landmarks.of(opened[None])[0].norm(dim=1)
        upper, lower = (moved[list(k)] for k in zip(*module.DENSE_INNER_LIPS))
        assert upper.max() < 6
        assert lower.min() > 20

    def test_opening(self):
        landmarks = np.zeros((68, 2))
        landmarks[:2] = [[0, 0], [100, 100]]
        landmarks[[61, 62, 63]] = [[40, 50], [50, 50], [60, 50]]
        landmarks[[67, 66, 65]] = [[40, 54], [50, 56], [60, 54]]
        assert module._opening(landmarks) == pytest.approx(14 / 300)


def _labels(model: FaceModel, triangles: np.ndarray) -> set[int]:
    assert model.regions is not None
    return set(model.regions.numpy()[model.triangles.numpy()[triangles]].ravel().tolist())


class TestPlaceInFile:
    @pytest.fixture
    def path(self, cap, tmp_path):
        small_face(_ROWS).save(tmp_path / "cap.safetensors")
        return tmp_path / "cap.safetensors"

    def test_writes_them(self, cap, truth, path, monkeypatch, capsys):
        detect = _Detector(cap, truth)
        faces = SimpleNamespace(
            detect=lambda pictures: [
                [SimpleNamespace(points=points) for points in every] for every in detect(pictures)
            ]
        )
        monkeypatch.setattr(LandmarkDetector, "load", lambda: faces)
        before = FaceModel.load(path)
        assert place_in_file(path, _COUNT)
        after = FaceModel.load(path)
        assert before.dense_landmarks is None and after.dense_landmarks is not None
        assert before.hash == after.hash
        known = int(after.dense_landmarks.known.sum())
        printed = capsys.readouterr()
        assert printed.out.startswith(f"dense landmarks: {known} points, spread 0.")
        assert printed.err == ""

    def test_without_networks(self, path, monkeypatch, capsys):
        """One note with the command; the file stays."""

        def load():
            raise NetworkMissingError(
                "the networks 'landmarks' are not in /c; get them with mofa-nvdr networks get landmarks"
            )

        monkeypatch.setattr(LandmarkDetector, "load", load)
        before = path.read_bytes()
        assert not place_in_file(path)
        assert path.read_bytes() == before
        assert capsys.readouterr().err == (
            "note: no dense landmarks: the networks 'landmarks' are not in /c; get them with "
            "mofa-nvdr networks get landmarks, and import again\n"
        )

    def test_a_face_that_no_detector_knows(self, path, monkeypatch, capsys):
        nothing = SimpleNamespace(detect=lambda pictures: [[] for _ in pictures])
        monkeypatch.setattr(LandmarkDetector, "load", lambda: nothing)
        before = path.read_bytes()
        assert not place_in_file(path, 4)
        assert path.read_bytes() == before
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("note: no dense landmarks: the detector finds a face in 0 of 4 ")

    def test_no_model(self, tmp_path):
        with pytest.raises(ValueError, match="no such file"):
            place_in_file(tmp_path / "none.safetensors")
