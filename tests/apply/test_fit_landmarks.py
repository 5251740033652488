"""The landmark term of fitting: distances in deviations by hand, and its rows against the energy."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mofa_nvdr.apply.face_jacobian import FaceJacobian, Pose
from mofa_nvdr.apply.fit_colors import robust
from mofa_nvdr.apply.fit_landmarks import LandmarkTerm
from mofa_nvdr.face.dense_landmarks import DENSE_INNER_LIPS, EYELIDS
from mofa_nvdr.face.landmarks import JAW
from mofa_nvdr.face.model import FaceModel
from mofa_nvdr.render.decoder import FaceDecoder
from mofa_nvdr.scene.camera import Camera
from mofa_nvdr.scene.pose import axis_angle_to_matrix
from tests.helpers.fitted_faces import KnownFaces, known_faces, landmarked_face
from tests.helpers.small_face import small_face

_SIZE = 120
PAIRS = (*EYELIDS, *DENSE_INNER_LIPS)


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return landmarked_face()


@pytest.fixture(scope="module")
def known(model: FaceModel) -> KnownFaces:
    return known_faces(model, count=2, size=_SIZE)


def _term(model: FaceModel, marks: Tensor, size: int = _SIZE) -> LandmarkTerm:
    return LandmarkTerm(model, FaceJacobian(model, Camera(image_size=size)), marks)


def _geometry(model: FaceModel, code: Tensor):
    return FaceDecoder(model, _SIZE).geometry(code)


class TestDeviation:
    def test_by_hand(self, model, known):
        """Spread and floor at right angles: 2 mm are 1.27 px of 120, the floor half a pixel."""
        term = _term(model, known.dense)
        wanted = math.hypot(2 * 1087.5 / 857.9 / 240 * _SIZE, 0.5)
        places = model.dense_landmarks.known
        assert (term.deviation[places] - wanted).abs().max() < 1e-5
        assert term.deviation[~places].isinf().all()

    def test_grows_with_the_size(self, model, known):
        large = _term(model, known.dense, 2 * _SIZE).deviation
        small = _term(model, known.dense).deviation
        places = model.dense_landmarks.known
        torch.testing.assert_close(large[places], 2 * small[places])

    def test_the_jaw_weighs_less(self, model, known):
        """It slides over the skin."""
        deviation = _term(model, known.landmarks68).deviation
        jaw = torch.zeros(68, dtype=torch.bool)
        jaw[list(JAW)] = True
        assert deviation[jaw].min() > 2 * deviation[~jaw].max()


class TestEnergy:
    @pytest.mark.parametrize("kind", ["dense", "landmarks68"])
    def test_exact_landmarks(self, model, known, kind):
        energy = _term(model, getattr(known, kind)).energy(_geometry(model, known.code))
        assert energy.max() < 1e-6

    def test_one_is_off(self, model, known):
        """3 px to the right: robust((3 / deviation)^2)."""
        marks = known.landmarks68.clone()
        marks[1, 30, 0] += 3
        term = _term(model, marks)
        energy = term.energy(_geometry(model, known.code))
        wanted = robust((3 / term.deviation[30]).square()).item()
        assert energy.tolist() == pytest.approx([0, wanted], rel=1e-3, abs=1e-6)

    def test_unknown_ones(self, model, known):
        """NaN, and those without a place on the model."""
        marks = known.dense.clone()
        marks[:, [5, 13]] = torch.nan
        marks[:, ~model.dense_landmarks.known] = 1e4
        term, geometry = _term(model, marks), _geometry(model, known.code)
        assert term.energy(geometry).max() < 1e-6
        pose = Pose(torch.eye(3), geometry.vertices[0], torch.zeros(3))
        known_ones = model.dense_landmarks.known.clone()
        known_ones[[5, 13]] = False
        openings = sum(bool(known_ones[list(pair)].all()) for pair in PAIRS)
        assert 0 < openings < len(PAIRS)
        assert len(term.rows(0, pose, 1.0).weight) == int(known_ones.sum()) + openings

    def test_openings(self, model, known):
        """A mouth that is 4 px wider open: both points are 2 px off, and their distance by 4 counts too."""
        marks = known.dense.clone()
        marks[0, 13, 1] -= 2
        marks[0, 14, 1] += 2
        term = _term(model, marks)
        wanted = robust((4 / term._gap).square())
        wanted = wanted + 2 * robust((2 / term.deviation[13]).square())
        energy = term.energy(_geometry(model, known.code))
        assert energy[0].item() == pytest.approx(wanted.item(), rel=1e-3) and energy[1] < 1e-6
        moved = known.dense + torch.tensor([0.0, 2])  # both alike: no opening
        term = _term(model, moved)
        alone = robust((2 / term.deviation[model.dense_landmarks.known]).square()).sum()
        energy = term.energy(_geometry(model, known.code))
        assert energy[0].item() == pytest.approx(alone.item(), rel=1e-3)

    def test_none_at_all(self, model, known):
        term = _term(model, torch.full_like(known.dense, torch.nan))
        geometry = _geometry(model, known.code)
        assert term.energy(geometry).tolist() == [0, 0]
        pose = Pose(torch.eye(3), geometry.vertices[0], torch.zeros(3))
        assert term.rows(0, pose, 1.0).rows.shape == (0, 2, model.layout.size)


class TestRows:
    def test_of_translation(self, model, known):
        """J^T W r against differences of the energy; all columns: test_fit_problem.py."""
        code = known.code.clone()
        where = model.layout.slices["translation"]
        code[:, where] += torch.tensor([3.0, -2.0, 10.0])
        marks = known.dense.clone()
        marks[:, [13, 145]] += 3.0  # and some openings are others
        term = _term(model, marks)
        geometry = _geometry(model, code)
        rows = term.rows(0, Pose(torch.eye(3), geometry.vertices[0], torch.zeros(3)), 0.7)
        slopes = torch.einsum("nrp,nr,n->p", rows.rows, rows.away, rows.weight)[where]
        wanted = []
        for axis in range(where.start, where.stop):
            move = torch.zeros_like(code)
            move[:, axis] = 0.05
            up, down = (term.energy(_geometry(model, code + w * move))[0] for w in (1, -1))
            wanted.append(0.7 * (up - down) / 0.1)
        torch.testing.assert_close(slopes, torch.stack(wanted), rtol=2e-3, atol=1e-2)


class TestMeeting:
    """Edges of lips that are shut; the small face has none, so any vertices stand for them."""

    EDGES = torch.tensor([[100, 103], [40, 41]])

    @staticmethod
    def _marks(gap: float) -> Tensor:
        """Nothing but the lips, 20 px high and so far apart, px."""
        marks = torch.full((1, 478, 2), torch.nan)
        upper, lower = torch.tensor(DENSE_INNER_LIPS).T
        marks[0, [0, 17]] = torch.tensor([[60.0, 50], [60, 70]])
        marks[0, upper] = torch.tensor([60.0, 60 - gap / 2])
        marks[0, lower] = torch.tensor([60.0, 60 + gap / 2])
        return marks

    def _energies(self, model: FaceModel, gap: float, code: Tensor, *edges: Tensor) -> list[float]:
        jacobian = FaceJacobian(model, Camera(image_size=_SIZE))
        terms = [LandmarkTerm(model, jacobian, self._marks(gap), some) for some in edges]
        return [term.energy(_geometry(model, code)).item() for term in terms]

    def test_by_hand(self, model, known):
        """Laplace's distribution of 0.1 mm, rounded by as much, about lips that overlap by 0.5 mm."""
        code = known.code[:1]
        same = self.EDGES[:, :1].expand(-1, 2)
        found, without = self._energies(model, 1.0, code, self.EDGES, same)
        geometry = _geometry(model, code)
        above, below = Camera(image_size=_SIZE).project(geometry.vertices[0, self.EDGES]).unbind(1)
        off = (below - above) / (1087.5 / 857.9 / 240 * _SIZE)  # mm
        off = (off + torch.tensor([0.0, 0.5])).norm(dim=1)
        wanted = (torch.hypot(off, torch.tensor(0.1)) - 0.1).mean().item() / 0.1
        assert wanted > 10
        assert found - without == pytest.approx(
            wanted - (math.hypot(0.5, 0.1) - 0.1) / 0.1, rel=1e-3
        )

    def test_an_open_mouth(self, model, known):
        """It counts as it did, wherever the edges are."""
        together = self.EDGES[:, :1].expand(-1, 2)
        energies = self._energies(model, 6.0, known.code[:1], self.EDGES, together, None)
        assert energies[0] == energies[1] == energies[2]

    def test_without_edges(self, model, known):
        """A shut mouth of a face model whose edges are unknown counts by the gap that is seen."""
        none, empty = self._energies(model, 1.0, known.code[:1], None, self.EDGES[:0])
        assert none == empty > 0

    @pytest.mark.parametrize("gap", [1.0, 4.5])
    def test_rows(self, model, known, gap):
        """J^T W r by expressions against differences of the energy; shut, and half so."""
        code = known.code[:1]
        where = model.layout.slices["expression"]
        jacobian = FaceJacobian(model, Camera(image_size=_SIZE))
        term = LandmarkTerm(model, jacobian, self._marks(gap), self.EDGES)
        turn = axis_angle_to_matrix(code[:, model.layout.slices["rotation"]])[0]
        pose = Pose(turn, _geometry(model, code).vertices[0], torch.zeros(3))
        rows = term.rows(0, pose, 0.7)
        slopes = torch.einsum("nrp,nr,n->p", rows.rows, rows.away, rows.weight)[where]
        wanted = []
        for axis in range(where.start, where.stop):
            move = torch.zeros_like(code)
            move[:, axis] = 0.02
            up, down = (term.energy(_geometry(model, code + w * move))[0] for w in (1, -1))
            wanted.append(0.7 * (up - down) / 0.04)
        torch.testing.assert_close(slopes, torch.stack(wanted), rtol=2e-3, atol=1e-2)


class TestRoll:
    @pytest.mark.parametrize(("pair", "count"), [((36, 45), 68), ((33, 263), 478)])
    def test_by_hand(self, model, pair, count):
        """The subject's left eye to the right of the right one; lower in the picture: clockwise."""
        marks = torch.full((4, count, 2), torch.nan)
        marks[:, pair[0]] = 10.0
        offsets = torch.tensor([[5.0, 0], [5, 5], [0, -3], [-4, 0]])
        marks[:, pair[1]] = 10 + offsets
        quarter = math.pi / 4
        wanted = [0, quarter, -2 * quarter, 4 * quarter]
        assert _term(model, marks).roll().tolist() == pytest.approx(wanted)

    def test_unknown(self, model):
        assert _term(model, torch.full((1, 478, 2), torch.nan)).roll().tolist() == [0]


class TestDistance:
    def test_by_hand(self, model, known):
        """Two known landmarks, 3 and 4 px off; without a known one there is no distance."""
        marks = torch.full_like(known.dense, torch.nan)
        marks[0, 33] = known.dense[0, 33] + torch.tensor([3.0, 0])
        marks[0, 263] = known.dense[0, 263] - torch.tensor([0, 4.0])
        found = _term(model, marks).distance(_geometry(model, known.code))
        assert found[0].item() == pytest.approx(3.5, abs=1e-3) and found[1].isnan()


class TestRefused:
    def test_another_number(self, model):
        with pytest.raises(ValueError, match="^fit: 7 landmarks, expected 5, 68 or 478$"):
            _term(model, torch.zeros(1, 7, 2))

    def test_a_model_without_places(self):
        with pytest.raises(
            ValueError,
            match="^fit: face model cap has no places for 478 landmarks; give 68, or import",
        ):
            _term(small_face(), torch.zeros(1, 478, 2))
        _term(small_face(), torch.zeros(1, 68, 2))
