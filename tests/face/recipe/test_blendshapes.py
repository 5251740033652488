"""The named blendshapes of the built-in face: names, mirror images, motion, and nothing through anything."""

import numpy as np
import pytest
import torch

from mofa_nvdr import dr
from mofa_nvdr.face.recipe import tables
from mofa_nvdr.face.recipe.mean import eye_position, eyeball_height
from mofa_nvdr.scene.camera import Camera
from tests.helpers.arkit import ARKIT, PARTED, SIDED

FLIP = np.array([-1, 1, 1])


def both(name: str) -> list[str]:
    return [f"{name}Left", f"{name}Right"]


def visible(vertices: np.ndarray, triangles: np.ndarray, size: int = 240) -> np.ndarray:
    """Triangle seen in each covered pixel of a frontal picture."""
    camera = Camera(size)
    points = torch.from_numpy(vertices - tables.HEAD_CENTRE)[None].float()
    points = camera.to_camera(points, torch.eye(3)[None], torch.zeros(1, 3))
    rast, _ = dr.rasterize(
        dr.RasterizeContext(), camera.clip_space(points), torch.from_numpy(triangles), (size, size)
    )
    ids = rast[0, ..., 3].long().numpy() - 1
    return ids[ids >= 0]


def normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    c = vertices[triangles]
    return np.cross(c[:, 1] - c[:, 0], c[:, 2] - c[:, 0])


class TestNames:
    def test_are_arkits(self, named, face):
        assert len(ARKIT) == 52
        assert list(named) == ARKIT
        assert list(face["expression_names"]) == ARKIT


class TestMirror:
    def test_right_is_the_mirror_image_of_left(self, named, grid):
        for name in ARKIT:
            if name.endswith("Left"):
                other = named[name[:-4] + "Right"]
                assert np.array_equal(named[name][grid.mirror] * FLIP, other), name
            elif not name.endswith("Right"):
                assert np.abs(named[name][grid.mirror] * FLIP - named[name]).max() < 1e-9, name

    def test_one_side_leaves_the_other_alone(self, named, mean):
        right = mean[:, 0] < -14
        for name in SIDED:
            if name not in ("jaw", "mouth"):
                assert np.abs(named[f"{name}Left"][right]).max() < 1e-9, name


class TestMotion:
    """Millimetres at full weight against published excursions."""

    @staticmethod
    def _at(named, grid, name, mean, x, upper=True):
        edge = grid.seams["mouth"][0 if upper else 1]
        return named[name][edge[np.argmin(np.abs(mean[edge, 0] - x))]]

    def test_smile_moves_the_commissure(self, named, mean, grid):
        motion = self._at(named, grid, "mouthSmileLeft", mean, 99)
        assert 10 <= np.linalg.norm(motion) <= 14
        assert motion[0] > 5 and motion[1] > 5 and motion[2] < -2

    def test_jaw_opens_about_forty(self, named, mean, grid):
        upper = self._at(named, grid, "jawOpen", mean, 0)
        lower = self._at(named, grid, "jawOpen", mean, 0, upper=False)
        assert 32 <= upper[1] - lower[1] <= 45

    def test_mouth_closes_over_an_open_jaw(self, named, mean, grid):
        total = named["jawOpen"] + named["mouthClose"]
        upper, lower = grid.seams["mouth"]
        assert np.abs((total[upper] - total[lower])[:, 1]).max() < 0.5
        chin = np.argmin(((mean - [0, -98, 0])[:, :2] ** 2).sum(1))
        assert total[chin, 1] < -25

    def test_brows(self, named, mean, grid):
        skin = mean[: grid.num_skin]
        inner = np.argmin(((skin[:, :2] - [12, 18]) ** 2).sum(1))
        outer = np.argmin(((skin[:, :2] - [47, 23]) ** 2).sum(1))
        assert 7 <= named["browInnerUp"][inner, 1] <= 10
        assert 6 <= named["browOuterUpLeft"][outer, 1] <= 10
        assert -7 <= named["browDownLeft"][inner, 1] <= -4

    def test_smile_lifts_the_cheek_and_narrows_the_eye(self, named, mean, grid):
        smile = named["mouthSmileLeft"]
        cheek = np.argmin(((mean[: grid.num_skin, :2] - [36, -32]) ** 2).sum(1))
        assert smile[cheek, 1] > 3 and smile[cheek, 2] > 2
        lids = grid.seams["left_eye"]
        middle = len(lids[0]) // 2
        assert smile[lids[1][middle], 1] - smile[lids[0][middle], 1] > 0.4

    def test_tongue_comes_out(self, named, mean, grid):
        tongue = (mean + named["tongueOut"])[grid.pocket_vertices("mouth")]
        lips = (mean + named["tongueOut"])[: grid.num_skin]
        front = lips[np.abs(lips[:, 1] - tables.MOUTH_ROW + 8) < 10, 2].max()
        assert tongue[:, 2].max() > front + 3


class TestNothingThroughAnything:
    def test_few_triangles_flip(self, named, mean, grid):
        """Measured: 2 at most on the skin (jawOpen), but for blinks, whose lids unfold their crease."""
        skin = grid.triangles[(grid.triangles < grid.num_skin).all(1)]
        rest = normals(mean, skin)
        for name, motion in named.items():
            if name == "mouthClose":
                motion = motion + named["jawOpen"]
            moved = normals(mean + motion, skin)
            flipped = (moved * rest).sum(1) < 0
            if name.startswith("eyeBlink"):
                flipped &= moved[:, 2] < 0  # an unfolded crease still looks outwards
            assert flipped.sum() < 20, (name, int(flipped.sum()))

    def test_closed_lips_hide_the_mouth(self, named, mean, grid):
        inside = (grid.triangles >= grid.num_skin).any(1)
        eyes = grid.eyes[grid.triangles].any(1)
        # A few pixels on the line between the lips see past them on the average face too.
        allowed = (inside & ~eyes)[visible(mean, grid.triangles)].sum() + 2
        assert allowed <= 8
        stems = {name.removesuffix("Left").removesuffix("Right") for name in ARKIT}
        for stem in sorted(stems - {*PARTED, "jaw", "mouth"}):
            names = [stem] if stem in named else both(stem)
            seen = visible(mean + sum(named[name] for name in names), grid.triangles)
            assert (inside & ~eyes)[seen].sum() <= allowed, stem
        for names in (["jawLeft"], ["mouthRight"], ["jawOpen", "mouthClose"],
                      ["mouthPucker", *both("eyeBlink")], ["mouthRollUpper", "mouthRollLower"]):  # fmt: skip
            seen = visible(mean + sum(named[name] for name in names), grid.triangles)
            assert (inside & ~eyes)[seen].sum() <= allowed, names

    def test_parted_lips_show_teeth(self, named, mean, grid):
        inside = (grid.triangles >= grid.num_skin).any(1) & ~grid.eyes[grid.triangles].any(1)
        for names in (["jawOpen"], both("mouthUpperUp"), both("mouthLowerDown"), ["mouthFunnel"]):
            seen = visible(mean + sum(named[name] for name in names), grid.triangles)
            assert inside[seen].sum() > 40, names

    def test_blink_hides_the_eyes(self, named, mean, grid):
        eyes = grid.eyes[grid.triangles].any(1)
        assert eyes[visible(mean, grid.triangles)].sum() > 400
        for more in ([], both("cheekSquint"), both("mouthSmile"), both("browDown")):
            names = both("eyeBlink") + more
            seen = visible(mean + sum(named[name] for name in names), grid.triangles)
            assert eyes[seen].sum() <= 4, more

    @pytest.mark.parametrize("weight", [0.25, 0.5, 0.7, 0.85, 1.0])
    @pytest.mark.parametrize("also", [None, "eyeSquintLeft", "browDownLeft", "mouthSmileLeft"])
    def test_lids_stay_before_the_eyeball(self, named, mean, grid, weight, also):
        motion = weight * named["eyeBlinkLeft"] + (named[also] if also else 0)
        x, y, z = (mean + motion)[: grid.num_skin].T
        ball, near = eyeball_height(x, y)
        s = eye_position(x, grid)
        lid = (x > 0) & (s > 0.08) & (s < 0.92) & (near < 0.9)
        assert lid.sum() > 300
        assert (z - ball)[
            lid
        ].min() > 0.2  # mm; the cornea stands out by 0.35 where the lid has 0.6


class TestGaze:
    @pytest.mark.parametrize("name", ["eyeLookUp", "eyeLookDown", "eyeLookIn", "eyeLookOut"])
    def test_iris_stays_round(self, named, mean, grid, name):
        motion = named[f"{name}Left"]
        index = grid.pockets["left_eye"][2:-2].ravel()
        from_pupil = mean[index, :2] - [tables.PUPIL_X, tables.PUPIL_Y]
        iris = index[np.hypot(*from_pupil.T) < tables.IRIS_RADIUS]
        moved = motion[iris, :2]
        assert 3 < np.linalg.norm(moved.mean(0)) < 6
        assert np.abs(moved - moved.mean(0)).max() < 0.15

    def test_slides_on_the_eyeball(self, named, mean, grid):
        index = grid.pockets["left_eye"][4:-4, 8:-8].ravel()
        for name in ("eyeLookUp", "eyeLookDown", "eyeLookIn", "eyeLookOut"):
            place = (mean + named[f"{name}Left"])[index]
            off = place[:, 2] - eyeball_height(place[:, 0], place[:, 1])[0]
            assert np.abs(off).max() < 0.5, name  # the cornea is 0.35 high

    def test_lids_follow(self, named, grid):
        upper = grid.seams["left_eye"][0]
        middle = upper[len(upper) // 2]
        assert named["eyeLookDownLeft"][middle, 1] < -2 and named["eyeLookUpLeft"][middle, 1] > 0.8
