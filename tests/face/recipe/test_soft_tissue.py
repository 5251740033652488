"""Soft tissue: what follows what, and what stays where it is."""

import numpy as np
import pytest

from mofa_nvdr.face.recipe.mean import Lids, eye_position, eyeball_height
from mofa_nvdr.face.recipe.soft_tissue import JAW_HINGE, Tissue, slit_side

FLIP = np.array([-1, 1, 1])


class TestTissue:
    def test_slit_side(self):
        """One at the upper edge's middle, minus one at the lower; none at the ends and far away."""
        along = np.array([0.0, 0.0, 0.6, 1.0, 1.5, 0.0])
        across = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 9.0])
        upper = np.array([True, False, True, True, True, True])
        side = slit_side(along, across, upper)
        assert np.allclose(side, [1, -1, 0.8, 0, 0, 0], atol=1e-3)

    def test_places_move_as_told(self, mean, grid):
        tissue = Tissue(mean, grid)
        field = tissue.drag({"corner": (3.0, 2.0, -1.0), "chin": (0.0, 1.0, 0.0)})
        corner = grid.seams["mouth"][0][-1]
        assert np.allclose(field[corner], [3, 2, -1], atol=0.1)
        assert np.allclose(field[grid.mirror] * FLIP, field)

    def test_a_lip_drags_the_other_little(self, mean, grid):
        tissue = Tissue(mean, grid)
        field = tissue.drag({"upper_lip": (0.0, 5.0, 0.0)})
        upper, lower = (edge[len(edge) // 2] for edge in grid.seams["mouth"])
        assert field[upper, 1] > 4.8 and field[lower, 1] < 1.0

    def test_unknown_place(self, mean, grid):
        with pytest.raises(KeyError, match="elbow"):
            Tissue(mean, grid).drag({"elbow": (1.0, 0.0, 0.0)})


@pytest.fixture(scope="module")
def tissue(mean, grid) -> Tissue:
    return Tissue(mean, grid)


class TestJaw:
    def test_turn_by_hand(self, tissue, mean):
        """A right angle: what lies 1 mm before the hinge comes 1 mm below it; x stays; a shift adds."""
        moved = mean + tissue.turn_jaw(np.pi / 2, (1.0, 2.0, 3.0)) - [1, 2, 3]
        before, after = mean - JAW_HINGE, moved - JAW_HINGE
        assert after == pytest.approx(np.stack([before[:, 0], -before[:, 2], before[:, 1]], 1))

    def test_lips_part_or_stay_together(self, tissue, mean, grid):
        upper, lower = grid.seams["mouth"]
        middle, motion = len(upper) // 2, tissue.turn_jaw(0.3)
        free = tissue.follow_jaw(motion, 0.0)
        assert np.abs(free[upper[middle]]).max() < 1e-6  # the upper lip stands
        assert free[lower[middle]] == pytest.approx(motion[lower[middle]], abs=1e-5)
        together = tissue.follow_jaw(motion, 0.5)
        # measured 0.004 mm of 22
        assert np.abs(together[upper] - together[lower]).max() < 0.02
        assert together[upper[middle]] == pytest.approx(0.5 * motion[upper[middle]], rel=0.02)

    def test_teeth_stand_on_their_bones(self, tissue, grid):
        """In the middle of the mouth the lower ones move with the jaw, the upper ones not at all."""
        motion = tissue.turn_jaw(0.3)
        field = tissue.follow_jaw(motion, 0.0)
        rows = grid.pockets["mouth"]
        middle = rows.shape[1] // 2
        upper, lower = (
            rows[5, middle],
            rows[13, middle],
        )  # rows of teeth in MOUTH_BAG, after the edge
        assert np.abs(field[upper]).max() < 1e-6
        assert field[lower] == pytest.approx(motion[lower], abs=1e-5)


class TestSeal:
    def test_edges_pass_each_other_by_the_overlap(self, tissue, mean, grid):
        upper, lower = grid.seams["mouth"]
        field = np.zeros_like(mean)
        field[lower[1:-1], 1] = -4.0
        sealed = tissue.seal(field, overlap=0.3)
        m = mean[upper, 0] / grid.mouth_half_width
        apart = (sealed[upper] - sealed[lower])[:, 1]
        # measured 0.013 mm: the edges lie up to 0.013 mm off the line
        assert apart == pytest.approx(-0.3 * np.sqrt(np.clip(1 - m**2, 0, 1)), abs=0.03)
        middle = len(upper) // 2
        assert sealed[upper[middle], 1] == pytest.approx(-2.15, abs=0.02)  # each gives half


class TestEyes:
    def test_lids_as_they_are_move_nothing(self, tissue):
        assert (tissue.lids(Lids()) == 0).all()

    def test_look_moves_pupils_along_the_eyeball(self, tissue, mean, grid):
        """Outwards on either side, and up; what is no eye stays."""
        assert (tissue.look(0.0, 0.0) == 0).all()
        field = tissue.look(2.0, 1.0)
        assert (field[~grid.eyes] == 0).all()
        for name, sign in (("left_eye", 1), ("right_eye", -1)):
            inner = grid.pockets[name][2:-2].ravel()
            pupil = inner[np.hypot(*(mean[inner, :2] - [sign * 31.5, 0.2]).T) < 2.0]
            assert len(pupil) > 5
            assert field[pupil, :2] == pytest.approx(np.tile([sign * 2.0, 1.0], (len(pupil), 1)))
            was, now = (
                eyeball_height(p[:, 0], p[:, 1])[0] for p in (mean[pupil], (mean + field)[pupil])
            )
            assert field[pupil, 2] == pytest.approx(now - was)

    def test_clear_eyes_brings_lids_out_of_the_eyeball(self, tissue, mean, grid):
        field = np.zeros_like(mean)
        field[: grid.num_skin, 2] = -3.0
        skin = (mean + tissue.clear_eyes(field))[: grid.num_skin]
        ball, near = eyeball_height(skin[:, 0], skin[:, 1], 0.75)
        s = eye_position(skin[:, 0], grid)
        over = (near < 0.9) & (s > 0.06) & (s < 0.94)
        assert over.sum() > 300 and (skin[over, 2] - ball[over]).min() > -1e-9
        assert (field[: grid.num_skin, 2][~over] == -3.0).all()


class TestSides:
    def test_left_fades_over_the_midline(self, tissue, mean):
        weight = tissue.left(5.0)[:, 0]
        assert (weight[mean[:, 0] <= -5] == 0).all() and (weight[mean[:, 0] >= 5] == 1).all()
        assert weight[mean[:, 0] == 0] == pytest.approx(0.5)

    def test_calm_is_zero_at_the_cut_edges(self, tissue, mean):
        back = (mean[:, 1] > 76) | (mean[:, 2] < -84)
        front = (mean[:, 1] < 50) & (mean[:, 2] > -52)
        assert (tissue.calm[back] == 0).all() and (tissue.calm[front] == 1).all()
        assert back.any() and front.any()

    def test_bump(self, tissue, mean, grid):
        hill = tissue.bump(36.0, -32.0, 9.0, 7.0)
        top = int(hill.argmax())
        assert abs(mean[top, 0]) == pytest.approx(36, abs=1) and mean[top, 1] == pytest.approx(
            -32, abs=1
        )
        assert hill[top] > 0.99 and hill[grid.mirror[top]] == pytest.approx(hill[top])
        assert (hill[grid.num_skin :] == 0).all()
