"""Identity modes: adult variation in millimetres, eyes, lips and the strain of the surface."""

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("scipy")

from mofa_nvdr.face import recipe
from mofa_nvdr.face.recipe import anthropometry, identity, tables
from mofa_nvdr.face.recipe.mean import face_grid


@pytest.fixture(scope="module")
def face() -> dict[str, np.ndarray]:
    return recipe.load_product()


@pytest.fixture(scope="module")
def grid():
    return face_grid()


@pytest.fixture(scope="module")
def mean(face) -> np.ndarray:
    """The mean [V, 3] in the tables' frame."""
    return face["mean_shape"].astype(float) + tables.HEAD_CENTRE


def people(face, vertices: np.ndarray, deviations: float, count: int) -> np.ndarray:
    """Some vertices of random people [count, n, 3]."""
    codes = np.random.default_rng(11).normal(size=(count, 80)).astype(np.float32)
    moved = np.tensordot(deviations * codes, face["shape_basis"][:, vertices], 1)
    return face["mean_shape"][vertices] + moved


@pytest.fixture(scope="module")
def measured(face, grid, mean) -> dict[str, np.ndarray]:
    where = anthropometry.places(mean, grid)
    used = np.unique(np.concatenate(list(where.values())))
    row = {name: np.searchsorted(used, vertices) for name, vertices in where.items()}
    return anthropometry.measure(people(face, used, 1.0, 1000), row)


class TestAnthropometry:
    def test_standard_deviations_over_1000_people(self, measured):
        """Within a fifth of the published ones, those that nothing was matched to included."""
        tables_ = (anthropometry.DISTANCES, anthropometry.PROFILE, anthropometry.DERIVED)
        for name, (_, _, published) in [item for table in tables_ for item in table.items()]:
            assert measured[name].std() == pytest.approx(published, rel=0.2), name

    def test_plain_figures(self, measured):
        """The same, against numbers that stand here: mm, adults of both sexes."""
        for name, low, high in (
            ("face height", 6.0, 8.5),
            ("face breadth", 5.3, 8.0),
            ("jaw breadth", 6.0, 9.0),
            ("nose breadth", 2.7, 4.5),
            ("nose height", 3.4, 4.6),
            ("mouth breadth", 3.3, 4.8),
            ("inner canthi", 2.3, 3.2),
            ("pupils", 2.9, 4.0),
        ):
            assert low < measured[name].std() < high, name

    def test_large_faces_are_large_all_over(self, measured):
        """Height and breadth go together, but not much."""
        assert 0.15 < np.corrcoef(measured["face height"], measured["face breadth"])[0, 1] < 0.6
        assert np.corrcoef(measured["jaw breadth"], measured["face breadth"])[0, 1] > 0.4

    def test_matching_is_exact_to_first_order_and_leaves_the_rest(self, grid, mean):
        rng = np.random.default_rng(0)
        where = anthropometry.places(mean, grid)
        used = np.unique(np.concatenate(list(where.values())))
        modes = np.zeros((40, len(mean), 3))
        modes[:, used] = rng.normal(size=(40, len(used), 3))
        unseen = next(v for v in range(len(mean)) if v not in used)
        modes[39], modes[39, unseen] = 0.0, 1.0  # a mode that no measure sees
        matched = anthropometry.match_deviations(modes, mean, grid)
        for name, (a, b, published) in anthropometry.PROFILE.items():
            out = matched[:, where[a], 2].mean(1) - matched[:, where[b], 2].mean(1)
            assert np.sqrt((out**2).sum()) == pytest.approx(published, rel=1e-6), name
        assert matched[39] == pytest.approx(modes[39])


class TestEyesAndLips:
    def test_pupils_stay_round(self, face, grid, mean):
        """Up to a similarity the pupils hardly change at two standard deviations."""
        off = np.hypot(np.abs(mean[:, 0]) - tables.PUPIL_X, mean[:, 1] - tables.PUPIL_Y)
        pupil = np.flatnonzero(grid.eyes & (off < 2.6) & (mean[:, 0] > 0))
        assert len(pupil) > 15
        rest = mean[pupil, :2] - mean[pupil, :2].mean(0)
        for shape in people(face, pupil, 2.0, 24):
            xy = shape[:, :2] - shape[:, :2].mean(0)
            stretch = np.linalg.svd(np.linalg.lstsq(rest, xy, rcond=None)[0])[1]
            assert stretch[0] / stretch[1] < 1.2  # measured: 1.14 in the worst of 100

    def test_lids_stay_on_the_eyeballs(self, face, grid):
        """Between a lid's edge and what is tucked under it, mm at two standard deviations."""
        rows = grid.pockets["left_eye"]
        for edge, tucked in ((rows[0], rows[1]), (rows[-1], rows[-2])):
            gap = people(face, edge, 2.0, 24) - people(face, tucked, 2.0, 24)
            rest = face["mean_shape"][edge] - face["mean_shape"][tucked]
            assert np.linalg.norm(gap - rest, axis=2).max() < 1.5  # measured: 1.23

    def test_lips_meet_and_carry_the_inside(self, face, grid):
        rows = grid.pockets["mouth"]
        for row in rows[1:]:
            apart = face["shape_basis"][:, row] - face["shape_basis"][:, rows[0]]
            assert np.abs(apart).max() < 0.006  # two steps of the file


class TestStrain:
    def test_a_spike_is_smoothed_and_the_rest_kept(self, grid, mean):
        modes = np.zeros((2, len(mean), 3))
        modes[0, :, 1] = 0.05 * mean[:, 1]  # a stretch of 5 %
        cheek = int(((mean - [40, -40, -15]) ** 2).sum(1).argmin())
        modes[1, cheek, 2] = 3.0
        limited = identity.limit_strain(modes, mean, grid, limit=0.2)
        assert 0 < limited[1, cheek, 2] < 1.0
        far = np.linalg.norm(mean - mean[cheek], axis=1) > 30
        far[grid.pocket_vertices("mouth")] = False  # the mouth's inside follows the lips
        assert limited[0, far] == pytest.approx(modes[0, far])
        assert (limited[1, far] == 0).all()


def test_loads_quickly():
    """Seconds of CPU for the first and a later load in a fresh process; asked: under five and one."""
    program = (
        "import time; from mofa_nvdr.face_model import FaceModel\n"
        "for _ in range(2):\n"
        "    start = time.process_time(); FaceModel.load('default')\n"
        "    print(time.process_time() - start)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    cold, warm = (float(line) for line in done.stdout.split())
    assert cold < 5 and warm < 1  # measured: 0.17 and 0.16
