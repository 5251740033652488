"""The built-in face: mesh, places, modes, and that the committed product is what the recipe gives."""

import importlib.resources

import numpy as np
import pytest
import torch

from mofa_nvdr.face import recipe as face_recipe
from mofa_nvdr.face.landmarks import MIRROR
from mofa_nvdr.face.recipe import product
from mofa_nvdr.face.recipe.modes import principal
from mofa_nvdr.scene.topology import topology


@pytest.fixture(scope="module")
def face() -> dict[str, np.ndarray]:
    return face_recipe.load_product()


@pytest.fixture(scope="module")
def recipe() -> dict[str, np.ndarray]:
    """The whole recipe, run once: about 10 s on one core."""
    pytest.importorskip("scipy")
    return face_recipe.build()


FLIP = np.array([-1, 1, 1], np.float32)


class TestMesh:
    def test_size(self, face):
        assert 23_500 <= len(face["mean_shape"]) <= 24_500
        assert face["shape_basis"].shape == (80, len(face["mean_shape"]), 3)
        assert face["expression_basis"].shape == (64, len(face["mean_shape"]), 3)
        assert face["albedo_basis"].shape == (80, len(face["mean_shape"]), 3)

    def test_manifold_disk(self, face):
        facts = topology(torch.from_numpy(face["triangles"]))
        assert facts.is_manifold and facts.is_oriented
        assert facts.num_components == 1
        assert facts.euler_number == 1  # a disk: pockets are part of the surface

    def test_triangles_look_outwards(self, face):
        corners = face["mean_shape"][face["triangles"]]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        cheek = np.argmin(((corners.mean(1) - [40, 0, 25]) ** 2).sum(1))
        assert normals[cheek, 2] > 0

    def test_topology_is_its_own_mirror_image(self, face):
        mirror = face["mirror_index"]
        assert (mirror[mirror] == np.arange(len(mirror))).all()

        def edges(triangles):
            pairs = np.concatenate(
                [triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]
            )
            return np.unique(np.sort(pairs, axis=1), axis=0)

        assert (edges(face["triangles"]) == edges(mirror[face["triangles"]])).all()


class TestSymmetry:
    def test_mean_and_landmarks(self, face):
        mirror = face["mirror_index"]
        mean = face["mean_shape"]
        assert np.abs(mean[mirror] * FLIP - mean).max() < 1e-3  # mm
        assert np.abs(face["mean_albedo"][mirror] - face["mean_albedo"]).max() < 1e-3
        assert (mirror[face["landmarks"]] == face["landmarks"][list(MIRROR)]).all()

    @pytest.mark.parametrize("basis", ["shape_basis", "expression_basis", "albedo_basis"])
    def test_every_mode_is_even_or_odd(self, face, basis):
        flip = np.ones(3, np.float32) if basis == "albedo_basis" else FLIP
        for mode in face[basis]:
            other = mode[face["mirror_index"]] * flip
            assert min(np.abs(mode - other).max(), np.abs(mode + other).max()) < 0.005


class TestPlaces:
    def test_distances(self, face):
        """Published means of adults: 63 mm between the pupils, mouth 51, face about 137 wide."""
        points = face["mean_shape"][face["landmarks"]]
        eyes = [points[36:42].mean(0), points[42:48].mean(0)]
        assert np.linalg.norm(eyes[0] - eyes[1]) == pytest.approx(63, abs=3)
        assert np.linalg.norm(points[48] - points[54]) == pytest.approx(51, abs=2)
        assert points[42, 0] - points[39, 0] == pytest.approx(32, abs=2)  # inner canthi
        assert np.ptp(face["mean_shape"][:, 0]) == pytest.approx(148, abs=8)
        assert points[30, 2] - points[33, 2] > 8  # the tip stands out before the nose's base

    def test_order(self, face):
        """iBUG's order: from the subject's right (-x) to the left, brows above eyes above mouth."""
        x, y = face["mean_shape"][face["landmarks"], :2].T
        assert (np.diff(x[1:16]) > 0).all() and y[8] == y.min()
        assert x[0] < -70 and x[16] > 70
        assert (np.diff(x[17:27]) > 0).all()
        assert (np.diff(y[27:31]) < 0).all()
        assert (np.diff(x[31:36]) > 0).all()
        for first in (36, 42):
            eye_x, eye_y = x[first : first + 6], y[first : first + 6]
            assert (np.diff(eye_x[:4]) > 0).all() and (np.diff(eye_x[3:]) < 0).all()
            assert eye_y[1:3].min() > eye_y[4:].max()
        assert (np.diff(x[48:55]) > 0).all() and (np.diff(x[54:60]) < 0).all()
        assert y[49:54].min() > y[55:60].max()
        assert (np.diff(x[60:65]) > 0).all() and (np.diff(x[64:68]) < 0).all()
        assert y[17:27].min() > y[36:48].max() > y[48:68].max()

    def test_frontal_region_holds_the_inner_landmarks(self, face):
        assert face["frontal_mask"][face["landmarks"][17:]].all()
        assert 0.7 < face["frontal_mask"].mean() < 1


def flipped_triangles(face: dict[str, np.ndarray], deviations: float, count: int) -> np.ndarray:
    """Flipped triangles [count] of people with shape codes N(0, deviations^2)."""
    rng = np.random.default_rng(5)
    basis = face["shape_basis"].reshape(80, -1)

    def normals(shape: np.ndarray) -> np.ndarray:
        a, b, c = (shape[face["triangles"][:, k]] for k in range(3))
        return np.cross(b - a, c - a)

    outwards = normals(face["mean_shape"])
    flips = []
    for _ in range(count):
        moved = (deviations * rng.normal(size=80).astype(np.float32)) @ basis
        turned = normals(face["mean_shape"] + moved.reshape(-1, 3))
        flips.append(int(((turned * outwards).sum(1) < 0).sum()))
    return np.array(flips)


class TestModes:
    def test_adult_variation(self, face):
        """Standard deviations in mm: overall a few millimetres a vertex, the first modes strongest."""
        rms = np.sqrt((face["shape_basis"] ** 2).sum(2).mean(1))
        assert (np.diff(rms) < 1e-4).all()
        assert 4 < np.sqrt((rms**2).sum()) < 6.5

    def test_modes_are_smooth(self, face):
        """No mode tears the mesh: neighbours move alike."""
        triangles = face["triangles"]
        edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]]])
        length = np.linalg.norm(np.diff(face["mean_shape"][edges], axis=1)[:, 0], axis=1)
        for mode in face["shape_basis"][:40]:
            stretch = np.linalg.norm(np.diff(mode[edges], axis=1)[:, 0], axis=1)
            assert (stretch < 1.0 + 1.0 * length).all()

    @pytest.mark.parametrize(("deviations", "most"), [(1, 5), (2, 20)])
    def test_few_triangles_flip(self, face, deviations, most):
        """Triangles of 47,542 that look the other way than in the mean, per person; 100 people."""
        flips = flipped_triangles(face, deviations, 100)
        # Measured: 0.1 at one, 15.7 at two standard deviations (559 in the worst), 199 at three.
        assert flips.mean() < most

    def test_albedo_stays_a_reflectance(self, face):
        mean = face["mean_albedo"]
        assert 0 <= mean.min() and mean.max() <= 1
        for mode in face["albedo_basis"]:
            for sign in (-2, 2):
                assert (mean + sign * mode).min() > -0.001 and (mean + sign * mode).max() < 1.001

    def test_first_albedo_mode_moves_skin_tone(self, face):
        cheek = face["landmarks"][[2, 14]]
        light = (face["mean_albedo"] - 2.5 * face["albedo_basis"][0])[cheek].mean()
        dark = (face["mean_albedo"] + 2.5 * face["albedo_basis"][0])[cheek].mean()
        assert light > 0.75 and dark < 0.35


class TestPrincipal:
    def test_signs_do_not_hang_on_rounding(self):
        """Mirror-symmetric modes peak twice with opposite signs; noise must not choose between the two."""
        rng = np.random.default_rng(0)
        half = rng.normal(size=(4, 30, 3))
        fields = np.concatenate([half, half * FLIP], axis=1)  # symmetric
        none = np.zeros((0, 60, 3))
        modes = principal(fields, none, 4)
        for seed in range(5):
            noise = 1e-12 * np.random.default_rng(seed).normal(size=fields.shape)
            assert principal(fields + noise, none, 4) == pytest.approx(modes, abs=1e-6)
        rms = np.sqrt((modes**2).sum((1, 2)))
        assert (np.diff(rms) < 0).all()
        assert (modes**2).sum() == pytest.approx(
            (fields**2).sum()
        )  # nothing of the variance is lost


class TestExpressions:
    @staticmethod
    def _landmarks(face, *names):
        known = list(face["expression_names"])
        code = sum(face["named_expressions"][known.index(name)] for name in names)
        moved = np.tensordot(code, face["expression_basis"], 1)
        return (face["mean_shape"] + moved)[face["landmarks"]]

    def test_jaw_opens_the_mouth(self, face):
        rest, open_ = face["mean_shape"][face["landmarks"]], self._landmarks(face, "jawOpen")
        assert rest[62, 1] - rest[66, 1] < 1.0
        assert open_[62, 1] - open_[66, 1] > 20
        assert open_[8, 1] < rest[8, 1] - 12

    def test_eyes_close(self, face):
        rest = face["mean_shape"][face["landmarks"]]
        closed = self._landmarks(face, "eyeBlinkLeft", "eyeBlinkRight")
        for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46)):
            assert rest[upper, 1] - rest[lower, 1] > 6
            assert abs(closed[upper, 1] - closed[lower, 1]) < 1.5

    def test_smile_and_brows(self, face):
        rest = face["mean_shape"][face["landmarks"]]
        smile = self._landmarks(face, "mouthSmileLeft", "mouthSmileRight")
        assert smile[54, 0] - smile[48, 0] > rest[54, 0] - rest[48, 0] + 10
        assert smile[54, 1] > rest[54, 1] + 5
        brows = self._landmarks(face, "browInnerUp")
        assert brows[21, 1] > rest[21, 1] + 4 and brows[22, 1] > rest[22, 1] + 4

    def test_left_is_the_subjects(self, face):
        rest, wink = face["mean_shape"][face["landmarks"]], self._landmarks(face, "eyeBlinkLeft")
        assert rest[43, 0] > 0 and rest[43, 1] - wink[43, 1] > 4
        assert abs(rest[38, 1] - wink[38, 1]) < 0.5


class TestProduct:
    def test_file_is_small(self):
        file = importlib.resources.files("mofa_nvdr.assets") / product.PRODUCT_FILE
        assert len(file.read_bytes()) < 8_000_000

    @pytest.mark.slow
    def test_is_what_the_recipe_gives(self, face, recipe):
        """Up to the file's steps; eigenvectors of nearly equal variance may differ between LAPACKs."""
        for name in ("triangles", "landmarks", "mirror_index", "frontal_mask", "expression_names"):
            assert (face[name] == recipe[name]).all(), name
        assert (face["region_names"] == recipe["region_names"]).all()
        assert (face["regions"] != recipe["regions"]).mean() < 1e-3  # thresholds of floating point
        assert np.abs(face["uv"] - recipe["uv"]).max() < 5e-5  # 1/20 of a texel at 1024
        assert np.abs(face["mean_shape"] - recipe["mean_shape"]).max() < 0.002  # mm
        assert np.abs(face["mean_albedo"] - recipe["mean_albedo"]).max() < 0.001
        some = np.random.default_rng(0).choice(len(face["mean_shape"]), 300, replace=False)
        for name, tolerance in (
            ("shape_basis", 0.05),
            ("expression_basis", 0.05),
            ("albedo_basis", 1e-3),
        ):
            a, b = (
                arrays[name][:, some].reshape(len(arrays[name]), -1) for arrays in (face, recipe)
            )
            # The covariance that a basis spans does not depend on the choice of eigenvectors.
            assert np.abs(a.T @ a - b.T @ b).max() < tolerance, name

    @pytest.mark.slow
    def test_round_trip(self, recipe, tmp_path, monkeypatch):
        face_recipe.write_product(tmp_path / product.PRODUCT_FILE, recipe)
        monkeypatch.setattr(importlib.resources, "files", lambda _: tmp_path)
        again = face_recipe.load_product()
        assert np.abs(again["shape_basis"] - recipe["shape_basis"]).max() < 0.0021
        assert np.abs(again["albedo_basis"] - recipe["albedo_basis"]).max() < 0.0003
        assert (again["triangles"] == recipe["triangles"]).all()

    def test_too_fine_a_step(self):
        with pytest.raises(ValueError, match="a step of 1e-09 is too fine for int16"):
            product._encode(np.ones((1, 2, 3)), 1e-9, np.int16)
