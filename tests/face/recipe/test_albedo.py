"""Albedo: where which colour is, the mean's colours and the modes that change them."""

import numpy as np
import pytest

from mofa_nvdr.face.recipe import tables
from mofa_nvdr.face.recipe.albedo import _blend, albedo_modes, mean_albedo, region_weights


@pytest.fixture(scope="module")
def weights(mean, grid):
    return region_weights(mean, grid)


@pytest.fixture(scope="module")
def colors(mean, grid):
    return mean_albedo(mean, grid)


@pytest.fixture(scope="module")
def modes(mean, grid, colors):
    return albedo_modes(mean, grid, colors)


class TestBlend:
    def test_by_hand(self):
        """Nothing, half and all of the way; weights beyond [0, 1] are cut."""
        start, weight = np.tile([0.0, 0.2, 1.0], (5, 1)), np.array([0, 0.5, 1, 1.7, -1])
        got = _blend(start, [1.0, 0.6, 0.0], weight)
        assert got[1] == pytest.approx([0.5, 0.4, 0.5])
        assert got[[0, 4]] == pytest.approx(start[[0, 4]])
        assert got[2:4] == pytest.approx(np.tile([1.0, 0.6, 0.0], (2, 1)))


class TestRegionWeights:
    def test_are_weights_of_the_skin(self, weights, grid):
        for name, weight in weights.items():
            assert weight.min() == 0 and 0.9 < weight.max() <= 1, name
            assert (weight[grid.num_skin :] == 0).all(), name
            assert np.abs(weight[grid.mirror] - weight).max() < 1e-9, name

    @pytest.mark.parametrize(
        ("region", "inside", "outside"),
        [
            ("lip", [62, 66, 57], [33, 8, 30]),
            ("seam", [48, 54, 62, 66], [51, 57]),
            ("brow", [19, 24], [27, 30, 36]),
            ("lashes", [36, 45], [8, 30]),
            ("nose_tip", [30], [27, 36, 8]),
            ("beard", [2, 8, 14], [19, 30, 36]),
        ],
    )
    def test_where_they_are(self, weights, face, region, inside, outside):
        """At landmarks, in iBUG's numbers."""
        weight = weights[region][face["marks"]]
        assert weight[inside].min() > 0.7 and weight[outside].max() < 0.1


class TestMeanAlbedo:
    def test_is_the_shipped_one(self, colors, face):
        assert np.abs(colors - face["mean_albedo"]).max() < 0.001  # two steps of the file

    def test_is_a_mirror_symmetric_reflectance(self, colors, grid):
        assert 0 < colors.min() and colors.max() < 1
        assert np.abs(colors[grid.mirror] - colors).max() < 1e-9  # measured 2.5e-14

    def test_features_stand_out(self, mean, colors, grid, face):
        """Brows and pupils are dark, lips redder than the chin, and what no region touches is skin."""
        marks = colors[face["marks"]]
        assert marks[[19, 24]].mean() < 0.3 < 0.5 < marks[8].mean()
        assert marks[57, 1] / marks[57, 0] < marks[8, 1] / marks[8, 0] - 0.08
        off = np.hypot(np.abs(mean[:, 0]) - tables.PUPIL_X, mean[:, 1] - tables.PUPIL_Y)
        assert colors[grid.eyes & (off < 1.5)].max() < 0.05
        forehead = int(((mean - [40, 55, -15]) ** 2).sum(1).argmin())
        assert colors[forehead] == pytest.approx(tables.SKIN, abs=0.02)


class TestAlbedoModes:
    def test_melanin_comes_first_and_only_darkens(self, modes, colors):
        assert next(iter(modes)) == "melanin"
        assert modes["melanin"].max() <= 0
        assert (colors + modes["melanin"] >= 0.6 * colors - 1e-12).all()

    def test_melanin_keeps_the_contrast_of_skin(self, modes, colors, face):
        """In proportion to the colour: a cheek, a nose and a dark brow lose about one share."""
        vertices = face["marks"][[2, 30, 19]]
        share = modes["melanin"][vertices] / colors[vertices]
        assert share == pytest.approx(np.tile(share[0], (3, 1)), rel=0.25)

    @pytest.mark.parametrize(
        ("name", "region"), [("brow_dark", "brow"), ("lip_red", "lip"), ("blush", "cheek")]
    )
    def test_stay_in_their_region(self, modes, weights, name, region):
        changed = np.abs(modes[name]).max(1) > 0
        assert changed.any() and (weights[region][changed] > 0).all()

    def test_irises_alone_change_their_colour(self, modes, grid):
        for name in ("iris_light", "iris_blue"):
            assert np.abs(modes[name][grid.eyes]).max() > 0.05
            assert (modes[name][~grid.eyes] == 0).all()
        assert (modes["iris_blue"].min(0) < 0).tolist() == [True, False, False]

    def test_are_mirror_symmetric(self, modes, grid):
        for name, mode in modes.items():
            assert np.abs(mode[grid.mirror] - mode).max() < 1e-9, name


class TestShippedModes:
    def test_albedo_stays_a_reflectance(self, face):
        mean = face["mean_albedo"]
        assert 0 <= mean.min() and mean.max() <= 1
        for mode in face["albedo_basis"]:
            for sign in (-2, 2):
                assert (mean + sign * mode).min() > -0.001 and (mean + sign * mode).max() < 1.001

    def test_first_albedo_mode_moves_skin_tone(self, face):
        cheek = face["marks"][[2, 14]]
        light = (face["mean_albedo"] - 2.5 * face["albedo_basis"][0])[cheek].mean()
        dark = (face["mean_albedo"] + 2.5 * face["albedo_basis"][0])[cheek].mean()
        assert light > 0.75 and dark < 0.35
